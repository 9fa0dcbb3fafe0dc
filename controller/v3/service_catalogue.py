"""Service brokers, offerings and plans (reference 3.5): there are none, and what there is not answers so.

Lists are empty and as strict as ever; a broker that is to be registered is checked, and then refused in words.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal, NoReturn

from pydantic import AfterValidator

from controller.access import Right
from controller.v3 import flags, spaces
from controller.v3.api import Api
from controller.v3.bodies import Body, Name, Text, ToOne
from controller.v3.call import Call
from controller.v3.catalogues import Catalogue
from controller.v3.errors import not_authenticated, not_authorized, not_found, unprocessable
from controller.v3.metadata import MetadataBody

api = Api("Service brokers, offerings and plans")
_ORDERS: Final = ("created_at", "updated_at", "name")
_TRUTH: Final = {"available": ("true", "false")}
_OF_BROKER: Final = ("guid", "name")
_URL: Final = re.compile(r"https?://[^\s/@]+(/\S*)?", re.IGNORECASE)

BROKERS: Final = Catalogue("names", "space_guids", orders=_ORDERS, labelled=True)
OFFERINGS: Final = Catalogue(
    "names",
    "available",
    "service_broker_guids",
    "service_broker_names",
    "space_guids",
    "organization_guids",
    orders=_ORDERS,
    labelled=True,
    choices=_TRUTH,
    fields={"service_broker": _OF_BROKER},
)
PLANS: Final = Catalogue(
    "names",
    "available",
    "broker_catalog_ids",
    "organization_guids",
    "space_guids",
    "service_offering_guids",
    "service_offering_names",
    "service_broker_guids",
    "service_broker_names",
    "service_instance_guids",
    orders=_ORDERS,
    labelled=True,
    includes=("space.organization", "service_offering"),
    choices=_TRUTH,
    fields={"service_offering.service_broker": _OF_BROKER},
)


def _url(value: str) -> str:
    if not _URL.fullmatch(value):
        raise ValueError("must be a valid url")
    return value


class Credentials(Body):
    username: Name
    password: Name


class Authentication(Body):
    type: Literal["basic"]
    credentials: Credentials


class Relationships(Body):
    space: ToOne | None = None


class CreateBroker(Body):
    name: Name
    url: Annotated[Text, AfterValidator(_url)]
    authentication: Authentication
    relationships: Relationships | None = None
    metadata: MetadataBody | None = None


@api.get("/v3/service_brokers", listing=BROKERS)
def list_brokers(call: Call) -> dict[str, Any]:
    """List service brokers."""
    return BROKERS.page(call)


@api.post("/v3/service_brokers", 202)
def create_broker(call: Call, body: CreateBroker) -> NoReturn:
    """Register a service broker."""
    relation = body.relationships.space if body.relationships is not None else None
    if relation is None:
        call.require_admin()
    else:
        call.require_flag("space_scoped_private_broker_creation")
        if not call.access.in_space(Right.DEVELOP, spaces.related(call, relation.data.guid)):
            raise not_authorized()
    raise unprocessable(
        "Service brokers are not available here. Services that exist elsewhere can be brought as user-provided service "
        "instances."
    )


@api.get("/v3/service_brokers/{guid}")
def get_broker(_call: Call, guid: str) -> NoReturn:
    """Get a service broker."""
    raise not_found("Service broker")


@api.patch("/v3/service_brokers/{guid}")
def update_broker(_call: Call, guid: str) -> NoReturn:
    """Change a service broker."""
    raise not_found("Service broker")


@api.delete("/v3/service_brokers/{guid}", 202)
def delete_broker(_call: Call, guid: str) -> NoReturn:
    """Delete a service broker."""
    raise not_found("Service broker")


@api.get("/v3/service_offerings", listing=OFFERINGS, anonymous=True)
def list_offerings(call: Call) -> dict[str, Any]:
    """List service offerings."""
    _may_browse(call)
    return OFFERINGS.page(call)


@api.get("/v3/service_offerings/{guid}", query=("fields[service_broker]",))
def get_offering(_call: Call, guid: str) -> NoReturn:
    """Get a service offering."""
    raise not_found("Service offering")


@api.patch("/v3/service_offerings/{guid}")
def update_offering(_call: Call, guid: str) -> NoReturn:
    """Change a service offering."""
    raise not_found("Service offering")


@api.delete("/v3/service_offerings/{guid}", query=("purge",))
def delete_offering(_call: Call, guid: str) -> NoReturn:
    """Delete a service offering."""
    raise not_found("Service offering")


@api.get("/v3/service_plans", listing=PLANS, anonymous=True)
def list_plans(call: Call) -> dict[str, Any]:
    """List service plans."""
    _may_browse(call)
    return PLANS.page(call)


@api.get(
    "/v3/service_plans/{guid}",
    query=("fields[service_offering.service_broker]",),
    includes=("space.organization", "service_offering"),
)
def get_plan(_call: Call, guid: str) -> NoReturn:
    """Get a service plan."""
    raise not_found("Service plan")


@api.patch("/v3/service_plans/{guid}")
def update_plan(_call: Call, guid: str) -> NoReturn:
    """Change a service plan."""
    raise not_found("Service plan")


@api.delete("/v3/service_plans/{guid}")
def delete_plan(_call: Call, guid: str) -> NoReturn:
    """Delete a service plan."""
    raise not_found("Service plan")


@api.get("/v3/service_plans/{guid}/visibility")
def get_visibility(_call: Call, guid: str) -> NoReturn:
    """Who may use a service plan."""
    raise not_found("Service plan")


@api.patch("/v3/service_plans/{guid}/visibility")
def replace_visibility(_call: Call, guid: str) -> NoReturn:
    """Say who may use a service plan."""
    raise not_found("Service plan")


@api.post("/v3/service_plans/{guid}/visibility", 200)
def extend_visibility(_call: Call, guid: str) -> NoReturn:
    """Let more organizations use a service plan."""
    raise not_found("Service plan")


def _may_browse(call: Call) -> None:
    """The marketplace is for everybody, unless a flag hides it from those without a token. Raises ApiError."""
    if not call.caller.guid and flags.is_on(call.session, "hide_marketplace_from_unauthenticated_users"):
        raise not_authenticated()
