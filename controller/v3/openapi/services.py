"""Service instances and their bindings (reference 3.5)."""

from __future__ import annotations

from typing import Final

from controller.v3.openapi.applications import APP
from controller.v3.openapi.shapes import COMMON, METADATA, MOMENT, TO_ONE, Resource, links
from controller.v3.openapi.tenancy import ROUTE

_OPERATION: Final = {
    "type": ("create", "update", "delete"),
    "state": ("initial", "in progress", "succeeded", "failed"),
    "description": str,
    "created_at": MOMENT,
    "updated_at": MOMENT,
}
SERVICE_INSTANCE: Final = Resource(
    "ServiceInstance",
    {
        **COMMON,
        "name": str,
        "type": ("user-provided", "managed"),
        "tags": [str],
        "last_operation": _OPERATION,
        "syslog_drain_url": str | None,
        "route_service_url": str | None,
        "relationships": {"space": TO_ONE},
        "metadata": METADATA,
        "links": links("space", "credentials", "service_credential_bindings", "service_route_bindings"),
    },
)
_PART: Final = {"guid?": str, "name?": str, "relationships?": dict}
INSTANCE_INCLUDED: Final = {
    f"{kind}?": [_PART] for kind in ("spaces", "organizations", "service_plans", "service_offerings", "service_brokers")
}
PERMISSIONS: Final = {"manage": bool, "read": bool}
CREDENTIAL_BINDING: Final = Resource(
    "ServiceCredentialBinding",
    {
        **COMMON,
        "name": str | None,
        "type": ("app", "key"),
        "last_operation": _OPERATION,
        "relationships": {"service_instance": TO_ONE, "app?": TO_ONE},
        "metadata": METADATA,
        "links": links("details", "service_instance", "app?"),
    },
)
CREDENTIAL_INCLUDED: Final = {"apps?": [APP], "service_instances?": [SERVICE_INSTANCE]}
DETAILS: Final = {"credentials": dict, "syslog_drain_url?": str, "volume_mounts": [dict]}
ROUTE_BINDING: Final = Resource(
    "ServiceRouteBinding",
    {
        **COMMON,
        "route_service_url": str | None,
        "last_operation": _OPERATION,
        "relationships": {"service_instance": TO_ONE, "route": TO_ONE},
        "metadata": METADATA,
        "links": links("service_instance", "route"),
    },
)
ROUTE_INCLUDED: Final = {"routes?": [ROUTE], "service_instances?": [SERVICE_INSTANCE]}
