"""Service instances (reference 3.5): those that users bring themselves. There is no marketplace here yet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from sqlalchemy import ColumnElement, delete, or_, select
from sqlalchemy.orm import aliased

from controller.access import Right
from controller.database.applications import App
from controller.database.base import now
from controller.database.services import (
    ServiceCredentialBinding,
    ServiceInstance,
    ServiceInstanceShare,
    ServiceRouteBinding,
)
from controller.database.tenancy import Organization, Space
from controller.v3 import metadata, spaces
from controller.v3.api import Api
from controller.v3.bodies import Body, Name, Text, ToMany, ToOne
from controller.v3.call import Call, Reply
from controller.v3.errors import bad_query, not_authorized, unprocessable
from controller.v3.listing import Listing, among, ignoring_case, values
from controller.v3.metadata import MetadataBody
from controller.v3.presenting import common, moment, to_many, to_one, with_included

api = Api("Service instances")
USER_PROVIDED: Final = "user-provided"
MAX_TAGS: Final = 2048
_owner = aliased(Organization)
_SPACE_FIELDS: Final = ("guid", "name", "relationships.organization")
_ORGANIZATION_FIELDS: Final = ("guid", "name")
_NOTHING: Final = ("guid", "name", "relationships.service_offering", "relationships.service_broker")


def _of_no_plan(_values: list[str]) -> ColumnElement[bool]:
    """Plans are a marketplace's: whoever asks for those of one gets none."""
    return ServiceInstance.type == "managed"


LISTING = Listing(
    ServiceInstance,
    {
        "names": ignoring_case(ServiceInstance.name),
        "type": among(ServiceInstance.type),
        "space_guids": lambda guids: or_(
            Space.guid.in_(guids),
            ServiceInstance.id.in_(
                select(ServiceInstanceShare.service_instance_id).where(
                    ServiceInstanceShare.space_id.in_(select(Space.id).where(Space.guid.in_(guids)))
                )
            ),
        ),
        "organization_guids": among(_owner.guid),
        "service_plan_guids": _of_no_plan,
        "service_plan_names": _of_no_plan,
    },
    orders=("name",),
    fields={
        "space": _SPACE_FIELDS,
        "space.organization": _ORGANIZATION_FIELDS,
        "service_plan": _NOTHING,
        "service_plan.service_offering": _NOTHING,
        "service_plan.service_offering.service_broker": _NOTHING,
    },
)


class Relationships(Body):
    space: ToOne
    service_plan: ToOne | None = None


class Create(Body):
    type: Literal["user-provided", "managed"]
    name: Name
    tags: list[Text] | None = None
    credentials: dict[str, Any] | None = None
    syslog_drain_url: Text | None = None
    route_service_url: Text | None = None
    parameters: dict[str, Any] | None = None
    relationships: Relationships
    metadata: MetadataBody | None = None


class Update(Body):
    name: Name | None = None
    tags: list[Text] | None = None
    credentials: dict[str, Any] | None = None
    syslog_drain_url: Text | None = None
    route_service_url: Text | None = None
    metadata: MetadataBody | None = None


def present(instance: ServiceInstance, call: Call) -> dict[str, Any]:
    path = f"/v3/service_instances/{instance.guid}"
    listed = f"service_instance_guids={instance.guid}"
    return {
        **common(instance),
        "name": instance.name,
        "type": instance.type,
        "tags": instance.tags,
        "last_operation": instance.last_operation,
        "syslog_drain_url": instance.syslog_drain_url,
        "route_service_url": instance.route_service_url,
        "relationships": {"space": to_one(instance.space.guid)},
        "metadata": metadata.shown(instance),
        "links": {
            "self": call.link(path),
            "space": call.link(f"/v3/spaces/{instance.space.guid}"),
            "credentials": call.link(f"{path}/credentials"),
            "service_credential_bindings": call.link(f"/v3/service_credential_bindings?{listed}"),
            "service_route_bindings": call.link(f"/v3/service_route_bindings?{listed}"),
        },
    }


def done(kind: str, resource_created: Any = None) -> dict[str, Any]:
    """A last operation that ended at once, as all of user-provided services do."""
    time = moment(now())
    return {
        "type": kind,
        "state": "succeeded",
        "description": "Operation succeeded",
        "created_at": moment(resource_created) or time,
        "updated_at": time,
    }


def visible(call: Call) -> ColumnElement[bool]:
    """In spaces that the caller may read, or shared into one."""
    shared = select(ServiceInstanceShare.service_instance_id).where(
        call.access.spaces(Right.READ_SPACE, ServiceInstanceShare.space_id)
    )
    return or_(call.access.spaces(Right.READ_SPACE, ServiceInstance.space_id), ServiceInstance.id.in_(shared))


def found(call: Call, guid: str) -> ServiceInstance:
    """Raises ApiError (ResourceNotFound)."""
    return call.find(ServiceInstance, guid, visible(call), called="Service instance")


def changeable(call: Call, guid: str) -> ServiceInstance:
    """Raises ApiError: not there, or not the caller's to change."""
    instance = found(call, guid)
    call.require_in_space(Right.DEVELOP, instance.space)
    return instance


@api.get("/v3/service_instances", listing=LISTING)
def list_service_instances(call: Call) -> dict[str, Any]:
    """List service instances."""
    check_fields(call)
    statement = select(ServiceInstance).join(ServiceInstance.space).join(_owner, Space.organization_id == _owner.id)
    return LISTING.page(
        call,
        lambda row: present(row, call),
        visible(call),
        statement=statement,
        included=lambda rows: _fields(rows, call),
    )


@api.get("/v3/service_instances/{guid}", query=tuple(f"fields[{name}]" for name in LISTING.fields))
def get_service_instance(call: Call, guid: str) -> dict[str, Any]:
    """Get a service instance."""
    check_fields(call)
    instance = found(call, guid)
    return with_included(present(instance, call), _fields([instance], call))


@api.post("/v3/service_instances")
def create_service_instance(call: Call, body: Create) -> dict[str, Any]:
    """Create a service instance."""
    call.require_flag("service_instance_creation")
    space = spaces.related(call, body.relationships.space.data.guid)
    call.require_in_space(Right.DEVELOP, space)
    if body.type == "managed":
        raise unprocessable(
            "Invalid service plan. Ensure that the service plan exists, is available, and you have access to it."
        )
    if body.parameters is not None:
        raise unprocessable("Unknown field(s): 'parameters'")
    _check_urls(body.syslog_drain_url, body.route_service_url)
    instance = ServiceInstance(
        name=body.name,
        type=body.type,
        space=space,
        tags=_checked_tags(body.tags),
        credentials=body.credentials or {},
        syslog_drain_url=body.syslog_drain_url,
        route_service_url=body.route_service_url,
        last_operation=done("create"),
        labels={},
        annotations={},
    )
    metadata.merge(instance, body.metadata)
    with call.refusing("uq_service_instances_space_id_name", _taken(body.name)):
        call.session.add(instance)
    _recorded(call, "create", instance)
    return present(instance, call)


@api.patch("/v3/service_instances/{guid}")
def update_service_instance(call: Call, guid: str, body: Update) -> dict[str, Any]:
    """Change a service instance."""
    instance = changeable(call, guid)
    given = body.model_fields_set
    _check_urls(body.syslog_drain_url, body.route_service_url)
    with call.refusing("uq_service_instances_space_id_name", _taken(body.name or "")):
        instance.name = body.name if body.name is not None else instance.name
    if "tags" in given:
        instance.tags = _checked_tags(body.tags)
    if "credentials" in given:
        instance.credentials = body.credentials or {}
    if "syslog_drain_url" in given:
        instance.syslog_drain_url = body.syslog_drain_url
    if "route_service_url" in given and body.route_service_url != instance.route_service_url:
        instance.route_service_url = body.route_service_url
        for binding in _route_bindings(call, instance):
            binding.route_service_url = body.route_service_url or ""
            call.route_changed(binding.route.guid)
    metadata.merge(instance, body.metadata)
    instance.last_operation = done("update", instance.created_at)
    call.session.flush()
    _recorded(call, "update", instance)
    return present(instance, call)


@api.delete("/v3/service_instances/{guid}", query=("purge",))
def delete_service_instance(call: Call, guid: str) -> Reply:
    """Delete a service instance that nothing is bound to."""
    instance = changeable(call, guid)
    bound = select(ServiceCredentialBinding.id).where(ServiceCredentialBinding.service_instance_id == instance.id)
    if call.session.scalars(bound).first() is not None or _route_bindings(call, instance):
        raise unprocessable(
            "Please delete the service_bindings, service_keys, and routes associations for your service_instance."
        )
    shares = select(ServiceInstanceShare.id).where(ServiceInstanceShare.service_instance_id == instance.id)
    if call.session.scalars(shares).first() is not None:
        raise unprocessable(
            "Service instances must be unshared before they can be deleted. "
            f"Unsharing {instance.name} will automatically delete any bindings that have been made to applications "
            "in other spaces."
        )
    _recorded(call, "delete", instance)
    call.session.delete(instance)
    return Reply(204)


@api.get("/v3/service_instances/{guid}/credentials")
def get_credentials(call: Call, guid: str) -> dict[str, Any]:
    """Get the credentials of a user-provided service instance."""
    instance = found(call, guid)
    if not call.access.in_space(Right.READ_SECRETS, instance.space):
        raise not_authorized()
    return dict(instance.credentials)


@api.get("/v3/service_instances/{guid}/parameters")
def get_parameters(call: Call, guid: str) -> dict[str, Any]:
    """User-provided ones have none."""
    found(call, guid)
    raise unprocessable("This service does not support fetching service instance parameters.")


@api.get("/v3/service_instances/{guid}/permissions")
def get_permissions(call: Call, guid: str) -> dict[str, Any]:
    """What the caller may do with an instance."""
    instance = call.find(ServiceInstance, guid, called="Service instance")
    return {
        "manage": call.access.in_space(Right.DEVELOP, instance.space),
        "read": call.access.in_space(Right.READ_SPACE, instance.space),
    }


# Sharing --------------------------------------------------------------------------------------------------------------


@api.get("/v3/service_instances/{guid}/relationships/shared_spaces")
def list_shares(call: Call, guid: str) -> dict[str, Any]:
    """The spaces that an instance is shared with."""
    return to_many(_shared_with(call, found(call, guid)))


@api.post("/v3/service_instances/{guid}/relationships/shared_spaces", 200)
def share(call: Call, guid: str, body: ToMany) -> dict[str, Any]:
    """User-provided ones cannot be shared; what is not there cannot either."""
    call.require_flag("service_instance_sharing")
    instance = changeable(call, guid)
    raise unprocessable(f"User-provided services cannot be shared: {instance.name} with {', '.join(body.guids)}")


@api.delete("/v3/service_instances/{guid}/relationships/shared_spaces/{space_guid}")
def unshare(call: Call, guid: str, space_guid: str) -> Reply:
    """End sharing, and the bindings in that space."""
    instance = changeable(call, guid)
    space = spaces.visible(call, space_guid)
    call.session.execute(
        delete(ServiceInstanceShare).where(
            ServiceInstanceShare.service_instance_id == instance.id, ServiceInstanceShare.space_id == space.id
        )
    )
    apps = select(App.id).where(App.space_id == space.id)
    call.session.execute(
        delete(ServiceCredentialBinding).where(
            ServiceCredentialBinding.service_instance_id == instance.id, ServiceCredentialBinding.app_id.in_(apps)
        )
    )
    return Reply(204)


def _shared_with(call: Call, instance: ServiceInstance) -> list[str]:
    statement = (
        select(Space.guid)
        .join(ServiceInstanceShare, ServiceInstanceShare.space_id == Space.id)
        .where(ServiceInstanceShare.service_instance_id == instance.id)
        .order_by(ServiceInstanceShare.id)
    )
    return list(call.session.scalars(statement))


# Parts ----------------------------------------------------------------------------------------------------------------


def check_fields(call: Call) -> None:
    """Raises ApiError (BadQueryParameter): a field that cannot be selected."""
    for name, known in LISTING.fields.items():
        text = call.query.get(f"fields[{name}]")
        if text is not None and (wrong := [field for field in values(text) if field not in known]):
            listed = ", ".join(repr(field) for field in known)
            raise bad_query(f"Fields[{name}] valid values are: {listed}; not '{wrong[0]}'")


def _fields(instances: Sequence[ServiceInstance], call: Call) -> dict[str, Any]:
    """What ``fields[...]`` selects."""
    more: dict[str, Any] = {}
    places = {instance.space.id: instance.space for instance in instances}
    if "fields[space]" in call.query:
        wanted = values(call.query["fields[space]"])
        more["spaces"] = [_selected(space, wanted) for space in places.values()]
    if "fields[space.organization]" in call.query:
        wanted = values(call.query["fields[space.organization]"])
        owners = {space.organization.id: space.organization for space in places.values()}
        more["organizations"] = [_selected(owner, wanted) for owner in owners.values()]
    for name, key in (
        ("service_plan", "service_plans"),
        ("service_plan.service_offering", "service_offerings"),
        ("service_plan.service_offering.service_broker", "service_brokers"),
    ):
        if f"fields[{name}]" in call.query:
            more[key] = []
    return more


def _selected(row: Space | Organization, wanted: Sequence[str]) -> dict[str, Any]:
    shown: dict[str, Any] = {name: getattr(row, name) for name in ("guid", "name") if name in wanted}
    if "relationships.organization" in wanted and isinstance(row, Space):
        shown["relationships"] = {"organization": to_one(row.organization.guid)}
    return shown


def _taken(name: str) -> Any:
    return unprocessable(f"The service instance name is taken: {name}.")


def _checked_tags(tags: Sequence[str] | None) -> list[str]:
    if sum(map(len, tags or ())) > MAX_TAGS:
        raise unprocessable(f"Tags combined length of tags must be {MAX_TAGS} characters or less")
    return list(tags or ())


def _check_urls(drain: str | None, route_service: str | None) -> None:
    """Raises ApiError (UnprocessableEntity)."""
    if drain and urlsplit(drain).scheme not in ("syslog", "syslog-tls", "https"):
        raise unprocessable(
            "Syslog drain url must be a valid URL that begins with syslog://, syslog-tls:// or https://"
        )
    if route_service:
        parts = urlsplit(route_service)
        if parts.scheme != "https" or not parts.hostname:
            raise unprocessable("Route service url must be https")


def _route_bindings(call: Call, instance: ServiceInstance) -> list[ServiceRouteBinding]:
    statement = select(ServiceRouteBinding).where(ServiceRouteBinding.service_instance_id == instance.id)
    return list(call.session.scalars(statement).unique())


def _recorded(call: Call, what: str, instance: ServiceInstance) -> None:
    target = (instance.guid, "user_provided_service_instance", instance.name)
    call.record(f"audit.user_provided_service_instance.{what}", target, space=instance.space)
