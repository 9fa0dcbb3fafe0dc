"""Bindings of service instances to apps, and keys that belong to nobody (reference 3.5)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

from sqlalchemy import ColumnElement, false, or_, select
from sqlalchemy.orm import joinedload

from controller.access import Right
from controller.database.applications import App
from controller.database.services import ServiceCredentialBinding, ServiceInstance
from controller.v3 import metadata, service_instances
from controller.v3.api import Api
from controller.v3.bodies import Body, Name, ToOne
from controller.v3.call import Call, Reply
from controller.v3.errors import not_authorized, unprocessable
from controller.v3.listing import Listing, among
from controller.v3.metadata import MetadataBody
from controller.v3.presenting import common, to_one, with_included
from controller.v3.service_instances import done

api = Api("Service credential bindings")
INCLUDES: Final = ("app", "service_instance")


def _nothing(_values: list[str]) -> ColumnElement[bool]:
    """Plans and offerings are a marketplace's."""
    return false()


LISTING = Listing(
    ServiceCredentialBinding,
    {
        "names": among(ServiceCredentialBinding.name),
        "type": among(ServiceCredentialBinding.type),
        "app_guids": among(App.guid),
        "app_names": among(App.name),
        "service_instance_guids": among(ServiceInstance.guid),
        "service_instance_names": among(ServiceInstance.name),
        "service_plan_guids": _nothing,
        "service_plan_names": _nothing,
        "service_offering_guids": _nothing,
        "service_offering_names": _nothing,
    },
    includes=INCLUDES,
)


class Relationships(Body):
    service_instance: ToOne
    app: ToOne | None = None


class Create(Body):
    type: Literal["app", "key"]
    name: Name | None = None
    parameters: dict[str, Any] | None = None
    strategy: Literal["single", "multiple"] | None = None
    relationships: Relationships
    metadata: MetadataBody | None = None


class Update(Body):
    metadata: MetadataBody | None = None


def present(binding: ServiceCredentialBinding, call: Call) -> dict[str, Any]:
    path = f"/v3/service_credential_bindings/{binding.guid}"
    instance = binding.service_instance
    relationships = {"service_instance": to_one(instance.guid)}
    links = {
        "self": call.link(path),
        "details": call.link(f"{path}/details"),
        "service_instance": call.link(f"/v3/service_instances/{instance.guid}"),
    }
    if binding.app is not None:
        relationships["app"] = to_one(binding.app.guid)
        links["app"] = call.link(f"/v3/apps/{binding.app.guid}")
    return {
        **common(binding),
        "name": binding.name,
        "type": binding.type,
        "last_operation": binding.last_operation,
        "relationships": relationships,
        "metadata": metadata.shown(binding),
        "links": links,
    }


def _visible(call: Call) -> ColumnElement[bool]:
    of_instance = select(ServiceInstance.id).where(call.access.spaces(Right.READ_SPACE, ServiceInstance.space_id))
    of_app = select(App.id).where(call.access.spaces(Right.READ_SPACE, App.space_id))
    return or_(
        ServiceCredentialBinding.service_instance_id.in_(of_instance), ServiceCredentialBinding.app_id.in_(of_app)
    )


def _found(call: Call, guid: str) -> ServiceCredentialBinding:
    return call.find(ServiceCredentialBinding, guid, _visible(call), called="Service credential binding")


@api.get("/v3/service_credential_bindings", listing=LISTING)
def list_bindings(call: Call) -> dict[str, Any]:
    """List bindings."""
    statement = (
        select(ServiceCredentialBinding)
        .join(ServiceCredentialBinding.service_instance)
        .outerjoin(ServiceCredentialBinding.app)
        .options(joinedload(ServiceCredentialBinding.app))
    )
    return LISTING.page(
        call,
        lambda row: present(row, call),
        _visible(call),
        statement=statement,
        included=lambda rows: _included(rows, call),
    )


@api.get("/v3/service_credential_bindings/{guid}", includes=INCLUDES)
def get_binding(call: Call, guid: str) -> dict[str, Any]:
    """Get a binding."""
    binding = _found(call, guid)
    return with_included(present(binding, call), _included([binding], call))


@api.post("/v3/service_credential_bindings")
def create_binding(call: Call, body: Create) -> dict[str, Any]:
    """Bind a service instance to an app, or make a key."""
    instance = _instance(call, body.relationships.service_instance.data.guid)
    if body.parameters:
        raise unprocessable("Binding parameters are not supported for user-provided service instances")
    app = _app(call, body, instance)
    if app is None:
        raise unprocessable(
            "Service credential bindings of type 'key' are not supported for user-provided service instances."
        )
    binding = add(call, instance, app, body.name)
    metadata.merge(binding, body.metadata)
    call.session.flush()
    return present(binding, call)


def add(call: Call, instance: ServiceInstance, app: App, name: str | None) -> ServiceCredentialBinding:
    """A new binding of an app. Raises ApiError."""
    binding = ServiceCredentialBinding(
        type="app",
        name=name,
        service_instance=instance,
        app=app,
        credentials=dict(instance.credentials),
        last_operation=done("create"),
        labels={},
        annotations={},
    )
    bound = unprocessable("The app is already bound to the service instance")
    named = unprocessable(
        "The binding name is invalid. App binding names must be unique. "
        f"The app already has a binding with name '{name}'."
    )
    with (
        call.refusing("uq_service_credential_bindings_app", bound),
        call.refusing("uq_service_credential_bindings_app_id_name", named),
    ):
        call.session.add(binding)
    data = {"request": {"app_guid": app.guid, "service_instance_guid": instance.guid}}
    call.record(
        "audit.service_binding.create", (binding.guid, "service_binding", name or ""), space=app.space, data=data
    )
    return binding


@api.patch("/v3/service_credential_bindings/{guid}")
def update_binding(call: Call, guid: str, body: Update) -> dict[str, Any]:
    """Change a binding's metadata."""
    binding = _found(call, guid)
    _may_change(call, binding)
    metadata.merge(binding, body.metadata)
    call.session.flush()
    return present(binding, call)


@api.delete("/v3/service_credential_bindings/{guid}")
def delete_binding(call: Call, guid: str) -> Reply:
    """Unbind."""
    binding = _found(call, guid)
    _may_change(call, binding)
    space = binding.app.space if binding.app is not None else binding.service_instance.space
    call.record("audit.service_binding.delete", (binding.guid, "service_binding", binding.name or ""), space=space)
    call.session.delete(binding)
    return Reply(204)


@api.get("/v3/service_credential_bindings/{guid}/details")
def get_details(call: Call, guid: str) -> dict[str, Any]:
    """The credentials of a binding."""
    binding = _found(call, guid)
    space = binding.app.space if binding.app is not None else binding.service_instance.space
    if not call.access.in_space(Right.READ_SECRETS, space):
        raise not_authorized()
    details: dict[str, Any] = {"credentials": binding.credentials, "volume_mounts": []}
    if binding.service_instance.syslog_drain_url:
        details["syslog_drain_url"] = binding.service_instance.syslog_drain_url
    return details


@api.get("/v3/service_credential_bindings/{guid}/parameters")
def get_parameters(call: Call, guid: str) -> dict[str, Any]:
    """User-provided ones have none."""
    _found(call, guid)
    raise unprocessable("This service does not support fetching service bindings parameters.")


def _instance(call: Call, guid: str) -> ServiceInstance:
    refusal = unprocessable(f"The service instance could not be found: '{guid}'")
    return call.related(ServiceInstance, guid, service_instances.visible(call), refusal=refusal)


def _app(call: Call, body: Create, instance: ServiceInstance) -> App | None:
    """The app to bind, in which the caller may work. Raises ApiError."""
    if body.type == "key":
        return None
    if body.relationships.app is None:
        raise unprocessable("Relationships app can't be blank")
    guid = body.relationships.app.data.guid
    seen = call.access.spaces(Right.READ_SPACE, App.space_id)
    app = call.related(App, guid, seen, refusal=unprocessable(f"The app could not be found: '{guid}'"))
    call.require_in_space(Right.OPERATE, app.space)
    if instance.space_id != app.space_id:
        raise unprocessable("The service instance and the app are in different spaces")
    return app


def _may_change(call: Call, binding: ServiceCredentialBinding) -> None:
    """Raises ApiError (NotAuthorized, suspended)."""
    space = binding.app.space if binding.app is not None else binding.service_instance.space
    right = Right.OPERATE if binding.type == "app" else Right.DEVELOP
    call.require_in_space(right, space)


def _included(bindings: Sequence[ServiceCredentialBinding], call: Call) -> dict[str, Any]:
    more: dict[str, Any] = {}
    if "app" in call.includes:
        from controller.v3 import apps  # noqa: PLC0415 - apps show their bindings in their environment

        rows = {binding.app.id: binding.app for binding in bindings if binding.app is not None}
        more["apps"] = [apps.present(app, call) for app in rows.values()]
    if "service_instance" in call.includes:
        instances = {binding.service_instance.id: binding.service_instance for binding in bindings}
        more["service_instances"] = [service_instances.present(one, call) for one in instances.values()]
    return more
