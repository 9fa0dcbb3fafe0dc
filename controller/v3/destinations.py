"""Destinations (reference 3.1): the apps that a route leads to.

Whatever changes here changes what routers serve: the reconciler is told when the transaction is committed.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import Field
from sqlalchemy import select

from controller.access import Right
from controller.database.applications import App
from controller.database.routing import Destination, Route, RouteShare
from controller.v3.api import Api
from controller.v3.bodies import Body, Text
from controller.v3.call import Call, Reply
from controller.v3.errors import not_authorized, unprocessable
from controller.v3.listing import values
from controller.v3.presenting import moment

api = Api("Destinations")
MAX_DESTINATIONS: Final = 100
MAX_PORTS: Final = 10
DEFAULT_PORT: Final = 8080
WEB: Final = "web"


class ProcessNamed(Body):
    type: Annotated[Text, Field(min_length=1, max_length=255)]


class AppNamed(Body):
    guid: Text
    process: ProcessNamed | None = None


class Wanted(Body):
    app: AppNamed
    port: Annotated[int | None, Field(ge=1024, le=65535)] = None
    protocol: Literal["http1", "http2", "tcp"] | None = None
    weight: Annotated[int | None, Field(ge=1, le=100)] = None


class Many(Body):
    destinations: Annotated[list[Wanted], Field(min_length=1, max_length=MAX_DESTINATIONS)]


class All(Body):
    destinations: Annotated[list[Wanted], Field(max_length=MAX_DESTINATIONS)]


class Update(Body):
    protocol: Literal["http1", "http2", "tcp"] | None = None


def present(destination: Destination) -> dict[str, Any]:
    return {
        "guid": destination.guid,
        "created_at": moment(destination.created_at),
        "updated_at": moment(destination.updated_at),
        "app": {"guid": destination.app.guid, "process": {"type": destination.process_type}},
        "weight": destination.weight,
        "port": destination.port or DEFAULT_PORT,
        "protocol": destination.protocol,
    }


def _shown(route: Route, call: Call) -> dict[str, Any]:
    path = f"/v3/routes/{route.guid}"
    return {
        "destinations": [present(one) for one in route.destinations],
        "links": {"self": call.link(f"{path}/destinations"), "route": call.link(path)},
    }


def _route(call: Call, guid: str, *, to_change: bool) -> Route:
    """Raises ApiError: not there, or not the caller's to change."""
    from controller.v3 import routes  # noqa: PLC0415 - routes show their destinations

    return routes.changeable(call, guid) if to_change else routes.found(call, guid)


@api.get("/v3/routes/{guid}/destinations", query=("guids", "app_guids"))
def list_destinations(call: Call, guid: str) -> dict[str, Any]:
    """List where a route leads."""
    route = _route(call, guid, to_change=False)
    shown = _shown(route, call)
    if "guids" in call.query:
        wanted = values(call.query["guids"])
        shown["destinations"] = [one for one in shown["destinations"] if one["guid"] in wanted]
    if "app_guids" in call.query:
        wanted = values(call.query["app_guids"])
        shown["destinations"] = [one for one in shown["destinations"] if one["app"]["guid"] in wanted]
    return shown


@api.post("/v3/routes/{guid}/destinations", 200)
def add_destinations(call: Call, guid: str, body: Many) -> dict[str, Any]:
    """Lead a route to more apps; those it leads to already stay as they are."""
    route = _route(call, guid, to_change=True)
    if any(wanted.weight is not None for wanted in body.destinations):
        raise unprocessable("Destinations cannot be inserted when there are weighted destinations already configured.")
    if any(one.weight is not None for one in route.destinations):
        raise unprocessable("Destinations cannot be inserted when there are weighted destinations already configured.")
    add(call, route, body.destinations)
    return _shown(route, call)


@api.patch("/v3/routes/{guid}/destinations")
def replace_destinations(call: Call, guid: str, body: All) -> dict[str, Any]:
    """Lead a route to exactly these."""
    route = _route(call, guid, to_change=True)
    weights = [wanted.weight for wanted in body.destinations]
    if any(weight is not None for weight in weights):
        if None in weights:
            raise unprocessable("Destinations cannot contain both weighted and unweighted destinations.")
        if sum(weight or 0 for weight in weights) != 100:
            raise unprocessable("Destinations must have weights that add up to 100.")
    kept = {_key(wanted) for wanted in body.destinations}
    for one in list(route.destinations):
        if (one.app.guid, one.process_type, one.port) not in kept:
            remove(call, route, one)
    call.session.flush()
    add(call, route, body.destinations)
    return _shown(route, call)


@api.patch("/v3/routes/{guid}/destinations/{destination_guid}")
def update_destination(call: Call, guid: str, destination_guid: str, body: Update) -> dict[str, Any]:
    """Change the protocol that a destination is spoken to with."""
    route = _route(call, guid, to_change=True)
    one = _destination(route, destination_guid)
    if body.protocol is not None:
        _check_protocol(route, body.protocol)
        one.protocol = body.protocol
    call.session.flush()
    call.route_changed(route.guid)
    return present(one)


@api.delete("/v3/routes/{guid}/destinations/{destination_guid}")
def delete_destination(call: Call, guid: str, destination_guid: str) -> Reply:
    """Lead a route there no more."""
    route = _route(call, guid, to_change=True)
    one = _destination(route, destination_guid)
    if one.weight is not None:
        raise unprocessable("Weighted destinations cannot be deleted individually.")
    remove(call, route, one)
    return Reply(204)


def add(call: Call, route: Route, wanted: list[Wanted]) -> None:
    """Within all rules; what is there already only takes over protocol and weight. Raises ApiError."""
    present_already = {(one.app.guid, one.process_type, one.port): one for one in route.destinations}
    apps = _apps(call, route, {one.app.guid for one in wanted})
    default = "tcp" if route.domain.router_group_guid is not None else "http1"
    for each in wanted:
        protocol = each.protocol or default
        _check_protocol(route, protocol)
        known = present_already.get(_key(each))
        if known is not None:
            known.weight = each.weight
            known.protocol = each.protocol or known.protocol
            continue
        app = apps[each.app.guid]
        one = Destination(
            route=route,
            app=app,
            process_type=_type(each),
            port=each.port or 0,
            protocol=protocol,
            weight=each.weight,
        )
        call.session.add(one)
        present_already[_key(each)] = one
        data = {"route_guid": route.guid, "process_type": one.process_type, "app_port": one.port or DEFAULT_PORT}
        call.record("audit.app.map-route", (app.guid, "app", app.name), space=app.space, data=data)
    call.session.flush()
    for app in apps.values():
        _check_ports(call, app)
    call.route_changed(route.guid)


def remove(call: Call, route: Route, one: Destination) -> None:
    app = one.app
    data = {"route_guid": route.guid, "process_type": one.process_type, "app_port": one.port or DEFAULT_PORT}
    call.record("audit.app.unmap-route", (app.guid, "app", app.name), space=app.space, data=data)
    route.destinations.remove(one)
    call.session.delete(one)
    call.route_changed(route.guid)


def _key(wanted: Wanted) -> tuple[str, str, int]:
    return wanted.app.guid, _type(wanted), wanted.port or 0


def _type(wanted: Wanted) -> str:
    return wanted.app.process.type if wanted.app.process is not None else WEB


def _apps(call: Call, route: Route, guids: set[str]) -> dict[str, App]:
    """Those of the route's space, or of one that it is shared with. Raises ApiError."""
    seen = call.access.spaces(Right.READ_SPACE, App.space_id)
    apps = {app.guid: app for app in call.session.scalars(select(App).where(App.guid.in_(guids), seen)).unique()}
    missing = sorted(guids - apps.keys())
    if missing:
        listed = ", ".join(f'"{guid}"' for guid in missing)
        raise unprocessable(f"App(s) with guid(s) {listed} do not exist or you do not have access.")
    shared = set(call.session.scalars(select(RouteShare.space_id).where(RouteShare.route_id == route.id)))
    for app in apps.values():
        if app.space_id != route.space_id and app.space_id not in shared:
            raise unprocessable("Routes destinations must be in either the route's space or the route's shared spaces")
        if not call.access.in_space(Right.OPERATE, app.space):
            raise not_authorized()
    return apps


def _check_protocol(route: Route, protocol: str) -> None:
    is_tcp = route.domain.router_group_guid is not None
    if is_tcp != (protocol == "tcp"):
        allowed = "tcp" if is_tcp else "http1, http2"
        raise unprocessable(f"Destination protocol must be one of: {allowed}")


def _check_ports(call: Call, app: App) -> None:
    ports = set(call.session.scalars(select(Destination.port).where(Destination.app_id == app.id)))
    if len(ports) > MAX_PORTS:
        raise unprocessable(f"Process must have at most {MAX_PORTS} exposed ports.")


def _destination(route: Route, guid: str) -> Destination:
    for one in route.destinations:
        if one.guid == guid:
            return one
    raise unprocessable("Unable to unmap route from destination. Ensure the route has a destination with this guid.")
