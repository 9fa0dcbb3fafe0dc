"""Routes whose requests pass a service first (reference 3.5, 1.6): the router's route services."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import joinedload

from controller.access import Right
from controller.database.routing import Route
from controller.database.services import ServiceInstance, ServiceRouteBinding
from controller.v3 import metadata, routes, service_instances
from controller.v3.api import Api
from controller.v3.bodies import Body, ToOne
from controller.v3.call import Call, Reply
from controller.v3.errors import ApiError, unprocessable
from controller.v3.listing import Listing, among
from controller.v3.metadata import MetadataBody
from controller.v3.presenting import common, to_one, with_included
from controller.v3.service_instances import done

api = Api("Service route bindings")
INCLUDES: Final = ("route", "service_instance")
LISTING = Listing(
    ServiceRouteBinding,
    {
        "route_guids": among(Route.guid),
        "service_instance_guids": among(ServiceInstance.guid),
        "service_instance_names": among(ServiceInstance.name),
    },
    includes=INCLUDES,
)


class Relationships(Body):
    route: ToOne
    service_instance: ToOne


class Create(Body):
    relationships: Relationships
    parameters: dict[str, Any] | None = None
    metadata: MetadataBody | None = None


class Update(Body):
    metadata: MetadataBody | None = None


def present(binding: ServiceRouteBinding, call: Call) -> dict[str, Any]:
    path = f"/v3/service_route_bindings/{binding.guid}"
    instance, route = binding.service_instance.guid, binding.route.guid
    return {
        **common(binding),
        "route_service_url": binding.route_service_url,
        "last_operation": binding.last_operation,
        "relationships": {"service_instance": to_one(instance), "route": to_one(route)},
        "metadata": metadata.shown(binding),
        "links": {
            "self": call.link(path),
            "service_instance": call.link(f"/v3/service_instances/{instance}"),
            "route": call.link(f"/v3/routes/{route}"),
        },
    }


def _visible(call: Call) -> ColumnElement[bool]:
    seen = select(Route.id).where(call.access.spaces(Right.READ_SPACE, Route.space_id))
    return ServiceRouteBinding.route_id.in_(seen)


def _changeable(call: Call, guid: str) -> ServiceRouteBinding:
    binding = call.find(ServiceRouteBinding, guid, _visible(call), called="Service route binding")
    call.require_in_space(Right.DEVELOP, binding.route.space)
    return binding


@api.get("/v3/service_route_bindings", listing=LISTING)
def list_bindings(call: Call) -> dict[str, Any]:
    """List bindings of routes."""
    statement = select(ServiceRouteBinding).join(ServiceRouteBinding.route).join(ServiceRouteBinding.service_instance)
    if "route" in call.includes:
        statement = statement.options(joinedload(ServiceRouteBinding.route).selectinload(Route.destinations))
    return LISTING.page(
        call,
        lambda row: present(row, call),
        _visible(call),
        statement=statement,
        included=lambda rows: _included(rows, call),
    )


@api.get("/v3/service_route_bindings/{guid}", includes=INCLUDES)
def get_binding(call: Call, guid: str) -> dict[str, Any]:
    """Get a binding of a route."""
    binding = call.find(ServiceRouteBinding, guid, _visible(call), called="Service route binding")
    return with_included(present(binding, call), _included([binding], call))


@api.post("/v3/service_route_bindings")
def create_binding(call: Call, body: Create) -> dict[str, Any]:
    """Send a route's requests through a service first."""
    relations = body.relationships
    guid = relations.service_instance.data.guid
    refusal = unprocessable(f"The service instance could not be found: {guid}")
    instance = call.related(ServiceInstance, guid, service_instances.visible(call), refusal=refusal)
    guid = relations.route.data.guid
    refusal = unprocessable(f"The route could not be found: {guid}")
    route = call.related(Route, guid, routes.visible(call), refusal=refusal)
    for space in (route.space, instance.space):
        call.require_in_space(Right.DEVELOP, space)
    if route.space_id != instance.space_id:
        raise unprocessable("The service instance and the route are in different spaces.")
    if route.domain.internal or route.domain.router_group_guid is not None:
        raise unprocessable("Route services cannot be bound to internal or TCP routes.")
    if not instance.route_service_url:
        raise unprocessable("This service instance does not support route binding.")
    if body.parameters:
        raise unprocessable("Binding parameters are not supported for user-provided service instances")
    present_already = (
        call.session.scalars(select(ServiceRouteBinding).where(ServiceRouteBinding.route_id == route.id))
        .unique()
        .one_or_none()
    )
    if present_already is not None and present_already.service_instance_id == instance.id:
        raise ApiError("ServiceInstanceAlreadyBoundToSameRoute", "The route and service instance are already bound.")
    binding = ServiceRouteBinding(
        service_instance=instance,
        route=route,
        route_service_url=instance.route_service_url,
        last_operation=done("create"),
        labels={},
        annotations={},
    )
    metadata.merge(binding, body.metadata)
    taken = unprocessable("A route may only be bound to a single service instance")
    with call.refusing("uq_service_route_bindings_route_id", taken):
        call.session.add(binding)
    call.route_changed(route.guid)
    target = (instance.guid, "user_provided_service_instance", instance.name)
    data = {"route_guid": route.guid}
    call.record("audit.user_provided_service_instance.bind_route", target, space=instance.space, data=data)
    return present(binding, call)


@api.patch("/v3/service_route_bindings/{guid}")
def update_binding(call: Call, guid: str, body: Update) -> dict[str, Any]:
    """Change the metadata of a binding of a route."""
    binding = _changeable(call, guid)
    metadata.merge(binding, body.metadata)
    call.session.flush()
    return present(binding, call)


@api.delete("/v3/service_route_bindings/{guid}")
def delete_binding(call: Call, guid: str) -> Reply:
    """Send a route's requests straight to its apps again."""
    binding = _changeable(call, guid)
    call.route_changed(binding.route.guid)
    instance = binding.service_instance
    target = (instance.guid, "user_provided_service_instance", instance.name)
    call.record("audit.user_provided_service_instance.unbind_route", target, space=instance.space)
    call.session.delete(binding)
    return Reply(204)


def _included(bindings: Sequence[ServiceRouteBinding], call: Call) -> dict[str, Any]:
    more: dict[str, Any] = {}
    if "route" in call.includes:
        more["routes"] = [routes.present(binding.route, call) for binding in bindings]
    if "service_instance" in call.includes:
        instances = {binding.service_instance.id: binding.service_instance for binding in bindings}
        more["service_instances"] = [service_instances.present(one, call) for one in instances.values()]
    return more
