"""Organizations, spaces, people, domains and routes (reference 3.1)."""

from __future__ import annotations

from typing import Final

from controller.v3.openapi.shapes import (
    ACTION,
    COMMON,
    LINK,
    METADATA,
    MOMENT,
    TO_MANY,
    TO_ONE,
    TO_ONE_OR_NONE,
    Maybe,
    Resource,
    Values,
    links,
)

ORGANIZATION: Final = Resource(
    "Organization",
    {
        **COMMON,
        "name": str,
        "suspended": bool,
        "relationships": {"quota": TO_ONE},
        "metadata": METADATA,
        "links": links("domains", "default_domain", "quota"),
    },
)
SPACE: Final = Resource(
    "Space",
    {
        **COMMON,
        "name": str,
        "suspended": bool,
        "relationships": {"organization": TO_ONE, "quota": TO_ONE_OR_NONE},
        "metadata": METADATA,
        "links": links("organization", "features", "quota?", apply_manifest=ACTION),
    },
)
USER: Final = Resource(
    "User",
    {
        **COMMON,
        "username": str | None,
        "presentation_name": str,
        "origin": str | None,
        "metadata": METADATA,
        "links": links(),
    },
)
ROLE: Final = Resource(
    "Role",
    {
        **COMMON,
        "type": (
            "organization_user",
            "organization_auditor",
            "organization_manager",
            "organization_billing_manager",
            "space_developer",
            "space_auditor",
            "space_manager",
            "space_supporter",
        ),
        "relationships": {"user": TO_ONE, "organization": TO_ONE_OR_NONE, "space": TO_ONE_OR_NONE},
        "links": links("user", "organization?", "space?"),
    },
)
DOMAIN: Final = Resource(
    "Domain",
    {
        **COMMON,
        "name": str,
        "internal": bool,
        "router_group": Maybe({"guid": str}),
        "supported_protocols": [("http", "tcp")],
        "relationships": {"organization": TO_ONE_OR_NONE, "shared_organizations": TO_MANY},
        "metadata": METADATA,
        "links": links("route_reservations", "organization?", "shared_organizations?", "router_group?"),
    },
)
DESTINATION: Final = Resource(
    "Destination",
    {
        "guid": str,
        "created_at": MOMENT,
        "updated_at": MOMENT,
        "app": {"guid": str, "process": {"type": str}},
        "weight": int | None,
        "port": int,
        "protocol": ("http1", "http2", "tcp"),
    },
)
DESTINATIONS: Final = {"destinations": [DESTINATION], "links": {"self": LINK, "route": LINK}}
ROUTE: Final = Resource(
    "Route",
    {
        **COMMON,
        "protocol": ("http", "tcp"),
        "host": str,
        "path": str,
        "port": int | None,
        "url": str,
        "destinations": [DESTINATION],
        "options": Values(str),
        "relationships": {"space": TO_ONE, "domain": TO_ONE},
        "metadata": METADATA,
        "links": links("space", "destinations", "domain"),
    },
)
INCLUDED: Final = {
    "users?": [USER],
    "organizations?": [ORGANIZATION],
    "spaces?": [SPACE],
    "domains?": [DOMAIN],
}
USED: Final = {
    **dict.fromkeys(
        (
            "started_instances",
            "memory_in_mb",
            "routes",
            "service_instances",
            "reserved_ports",
            "per_app_tasks",
            "service_keys",
        ),
        int,
    ),
    "domains?": int,
}
USAGE: Final = {"usage_summary": USED, "links": links("organization?", "space?")}
FEATURE: Final = {"name": str, "description": str, "enabled": bool}
LIMITS: Final = {
    "apps": dict.fromkeys(
        (
            "total_memory_in_mb",
            "per_process_memory_in_mb",
            "total_instances",
            "per_app_tasks",
            "log_rate_limit_in_bytes_per_second",
        ),
        int | None,
    ),
    "services": {
        "paid_services_allowed": bool,
        "total_service_instances": int | None,
        "total_service_keys": int | None,
    },
    "routes": {"total_routes": int | None, "total_reserved_ports": int | None},
}
ORGANIZATION_QUOTA: Final = Resource(
    "OrganizationQuota",
    {
        **COMMON,
        "name": str,
        **LIMITS,
        "domains": {"total_domains": int | None},
        "relationships": {"organizations": TO_MANY},
        "links": links(),
    },
)
SPACE_QUOTA: Final = Resource(
    "SpaceQuota",
    {
        **COMMON,
        "name": str,
        **LIMITS,
        "relationships": {"organization": TO_ONE, "spaces": TO_MANY},
        "links": links("organization"),
    },
)
