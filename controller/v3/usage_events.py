"""Usage events (reference 3.6), which bills are made of: none is recorded here, so that the lists are empty."""

from __future__ import annotations

from typing import Any, Final

from controller.v3.api import Api
from controller.v3.call import Call
from controller.v3.catalogues import Catalogue
from controller.v3.errors import not_found

api = Api("Usage events")
OF_APPS: Final = Catalogue("after_guid", orders=("created_at",), changing=False)
OF_SERVICES: Final = Catalogue(
    "after_guid", "service_instance_types", "service_offering_guids", orders=("created_at",), changing=False
)


@api.get("/v3/app_usage_events", listing=OF_APPS)
def list_app_usage(call: Call) -> dict[str, Any]:
    """List app usage events."""
    return OF_APPS.page(call)


@api.get("/v3/app_usage_events/{guid}")
def get_app_usage(_call: Call, guid: str) -> dict[str, Any]:
    """Get an app usage event."""
    raise not_found("App usage event")


@api.get("/v3/service_usage_events", listing=OF_SERVICES)
def list_service_usage(call: Call) -> dict[str, Any]:
    """List service usage events."""
    return OF_SERVICES.page(call)


@api.get("/v3/service_usage_events/{guid}")
def get_service_usage(_call: Call, guid: str) -> dict[str, Any]:
    """Get a service usage event."""
    raise not_found("Service usage event")
