"""Routes (reference 3.1): an address in a domain, owned by a space."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import Field
from sqlalchemy import ColumnElement, delete, func, or_, select
from sqlalchemy.orm import Session, aliased, selectinload

from controller import route_changes
from controller.access import Right
from controller.database.applications import App
from controller.database.bookkeeping import Job
from controller.database.routing import Destination, Domain, Route, RouterGroup, RouteShare
from controller.database.tenancy import Organization, Space
from controller.ports import reservable
from controller.v3 import destinations, domains, metadata, organizations, route_rules, spaces
from controller.v3.api import Api
from controller.v3.bodies import Body, Text, ToMany, ToOne
from controller.v3.call import Call, Reply
from controller.v3.errors import unprocessable
from controller.v3.listing import Listing, among, among_numbers
from controller.v3.metadata import MetadataBody
from controller.v3.presenting import common, to_many, to_one, with_included

api = Api("Routes")
INCLUDES: Final = ("domain", "space", "space.organization")
_app = aliased(App)
_owner = aliased(Organization)


def _of_apps(guids: list[str]) -> ColumnElement[bool]:
    return Route.id.in_(
        select(Destination.route_id).join(_app, Destination.app_id == _app.id).where(_app.guid.in_(guids))
    )


LISTING = Listing(
    Route,
    {
        "hosts": lambda hosts: Route.host.in_([host.lower() for host in hosts]),
        "paths": lambda paths: Route.path.in_([path.lower() for path in paths]),
        "ports": among_numbers(Route.port),
        "domain_guids": among(Domain.guid),
        "space_guids": among(Space.guid),
        "organization_guids": among(_owner.guid),
        "app_guids": _of_apps,
    },
    includes=INCLUDES,
)


class HashOptions(Body):
    loadbalancing: Literal["round-robin", "least-connection", "hash"] | None = None
    hash_header: Annotated[Text | None, Field(max_length=128)] = None
    hash_balance: Text | float | None = None


class Relationships(Body):
    space: ToOne
    domain: ToOne


class Create(Body):
    host: Text | None = None
    path: Text | None = None
    port: Annotated[int | None, Field(ge=0, le=65535)] = None
    options: HashOptions | None = None
    relationships: Relationships
    metadata: MetadataBody | None = None


class Update(Body):
    options: HashOptions | None = None
    metadata: MetadataBody | None = None


def present(route: Route, call: Call) -> dict[str, Any]:
    path = f"/v3/routes/{route.guid}"
    return {
        **common(route),
        "protocol": "tcp" if route.domain.router_group_guid is not None else "http",
        "host": route.host,
        "path": route.path,
        "port": route.port or None,
        "url": route_rules.url(route),
        "destinations": [destinations.present(one) for one in route.destinations],
        "options": route.options,
        "relationships": {"space": to_one(route.space.guid), "domain": to_one(route.domain.guid)},
        "metadata": metadata.shown(route),
        "links": {
            "self": call.link(path),
            "space": call.link(f"/v3/spaces/{route.space.guid}"),
            "destinations": call.link(f"{path}/destinations"),
            "domain": call.link(f"/v3/domains/{route.domain.guid}"),
        },
    }


def visible(call: Call) -> ColumnElement[bool]:
    seen = call.access.spaces(Right.READ_ROUTES, Route.space_id)
    shared = select(RouteShare.route_id).where(call.access.spaces(Right.READ_ROUTES, RouteShare.space_id))
    return or_(seen, Route.id.in_(shared))


def found(call: Call, guid: str) -> Route:
    """Raises ApiError (ResourceNotFound)."""
    return call.find(Route, guid, visible(call), called="Route")


def changeable(call: Call, guid: str, right: Right = Right.OPERATE) -> Route:
    """Raises ApiError: not there, not the caller's to change, or suspended."""
    route = found(call, guid)
    call.require_in_space(right, route.space, route.guid)
    return route


def _statement() -> Any:
    return (
        select(Route)
        .join(Route.domain)
        .join(Route.space)
        .join(_owner, Space.organization_id == _owner.id)
        .options(selectinload(Route.destinations))
    )


@api.get("/v3/routes", listing=LISTING)
def list_routes(call: Call) -> dict[str, Any]:
    """List routes."""
    return LISTING.page(
        call,
        lambda row: present(row, call),
        visible(call),
        statement=_statement(),
        included=lambda rows: included(rows, call),
    )


@api.get("/v3/apps/{guid}/routes", listing=LISTING)
def list_app_routes(call: Call, guid: str) -> dict[str, Any]:
    """List the routes that lead to an app."""
    app = call.find(App, guid, call.access.spaces(Right.READ_SPACE, App.space_id), called="App")
    return LISTING.page(
        call,
        lambda row: present(row, call),
        Route.id.in_(select(Destination.route_id).where(Destination.app_id == app.id)),
        statement=_statement(),
        included=lambda rows: included(rows, call),
    )


@api.get("/v3/routes/{guid}", includes=INCLUDES)
def get_route(call: Call, guid: str) -> dict[str, Any]:
    """Get a route."""
    route = found(call, guid)
    return with_included(present(route, call), included([route], call))


@api.post("/v3/routes")
def create_route(call: Call, body: Create) -> dict[str, Any]:
    """Create a route."""
    call.require_flag("route_creation")
    space = spaces.related(call, body.relationships.space.data.guid)
    refusal = unprocessable("Invalid domain. Ensure that the domain exists and you have access to it.")
    domain = call.related(Domain, body.relationships.domain.data.guid, domains.visible(call), refusal=refusal)
    call.require_in_space(Right.OPERATE, space)
    options = options_of(body.options)
    route = add(call, space, domain, body.host or "", body.path or "", body.port or 0, options)
    metadata.merge(route, body.metadata)
    call.session.flush()
    return present(route, call)


def add(
    call: Call, space: Space, domain: Domain, host: str, path: str, port: int = 0, options: dict[str, Any] | None = None
) -> Route:
    """A new route, within all rules and quotas. Raises ApiError."""
    usable = select(Domain.id).where(Domain.id == domain.id, domains.usable_by(call, space.organization))
    if call.session.scalars(usable).first() is None:
        raise unprocessable(
            f"Invalid domain. Domain '{domain.name}' is not available in organization '{space.organization.name}'."
        )
    host, path = host.lower(), path.lower()
    route_rules.check(domain, host, path, port, call.settings, is_admin=call.caller.is_admin)
    if domain.router_group_guid is not None:
        port = _tcp_port(call, domain, port)
    _refuse_foreign_host(call, domain, host, space)
    _refuse_beyond_quota(call, space)
    route = Route(
        host=host, path=path, port=port, domain=domain, space=space, options=options or {}, labels={}, annotations={}
    )
    with call.refusing("uq_routes_address", route_rules.taken(domain, host, path, port)):
        call.session.add(route)
    call.record("audit.route.create", _target(route), space=space, data={"request": {"url": route_rules.url(route)}})
    return route


@api.patch("/v3/routes/{guid}")
def update_route(call: Call, guid: str, body: Update) -> dict[str, Any]:
    """Change a route's options and metadata."""
    route = changeable(call, guid)
    if body.options is not None:
        given = body.options.model_dump(exclude_unset=True)
        merged = {key: value for key, value in {**route.options, **given}.items() if value is not None}
        route.options = options_of(HashOptions.model_validate(merged))
        call.route_changed(route.guid)
    metadata.merge(route, body.metadata)
    call.session.flush()
    call.record("audit.route.update", _target(route), space=route.space)
    return present(route, call)


@api.delete("/v3/routes/{guid}", 202)
def delete_route(call: Call, guid: str) -> Reply:
    """Delete a route; a job."""
    route = changeable(call, guid)
    call.record("audit.route.delete-request", _target(route), space=route.space)
    return call.begin("route.delete", ("route", route.guid))


def delete_one(session: Session, job: Job) -> None:
    """The job behind it."""
    session.execute(delete(Route).where(Route.guid == job.resource_guid))
    route_changes.note(session, job.resource_guid or route_changes.ANY)


@api.delete("/v3/spaces/{guid}/routes", 202, query=("unmapped",))
def delete_unmapped_routes(call: Call, guid: str) -> Reply:
    """Delete the routes of a space that lead nowhere; a job."""
    space = spaces.visible(call, guid)
    if call.query.get("unmapped") != "true":
        raise unprocessable(
            "Mass delete not supported for routes. Use 'unmapped=true' parameter to delete all unmapped routes."
        )
    call.require_in_space(Right.OPERATE, space)
    return call.begin("space.delete_unmapped_routes", ("space", space.guid))


def delete_unmapped(session: Session, job: Job) -> None:
    """The job behind it."""
    owned = select(Space.id).where(Space.guid == job.resource_guid).scalar_subquery()
    mapped = select(Destination.route_id)
    session.execute(delete(Route).where(Route.space_id == owned, Route.id.not_in(mapped)))


JOBS = {"route.delete": delete_one, "space.delete_unmapped_routes": delete_unmapped}


# Whose a route is -----------------------------------------------------------------------------------------------------


@api.patch("/v3/routes/{guid}/relationships/space")
def move_route(call: Call, guid: str, body: ToOne) -> dict[str, Any]:
    """Give a route to another space."""
    call.require_flag("route_sharing")
    route = changeable(call, guid, Right.DEVELOP)
    space = _receiving(call, [body.data.guid], route, "transfer", Right.DEVELOP)[0]
    usable = select(Domain.id).where(Domain.id == route.domain_id, domains.usable_by(call, space.organization))
    if call.session.scalars(usable).first() is None:
        raise unprocessable(
            f"Unable to transfer owner of route '{route_rules.url(route)}' to space '{space.name}'. "
            "Target space does not have access to route's domain"
        )
    former = route.space
    route.space = space
    call.session.execute(delete(RouteShare).where(RouteShare.route_id == route.id, RouteShare.space_id == space.id))
    call.session.add(RouteShare(route_id=route.id, space_id=former.id))
    call.session.flush()
    call.record("audit.route.transfer-owner", _target(route), space=former, data={"target_space_guid": space.guid})
    return {"status": "ok"}


@api.get("/v3/routes/{guid}/relationships/shared_spaces")
def list_route_shares(call: Call, guid: str) -> dict[str, Any]:
    """The spaces that a route is shared with."""
    return to_many(_shared_with(call, found(call, guid)))


@api.post("/v3/routes/{guid}/relationships/shared_spaces", 200)
def share_route(call: Call, guid: str, body: ToMany) -> dict[str, Any]:
    """Let apps of other spaces use a route."""
    call.require_flag("route_sharing")
    route = changeable(call, guid)
    already = set(call.session.scalars(select(RouteShare.space_id).where(RouteShare.route_id == route.id)))
    for space in _receiving(call, body.guids, route, "share"):
        if space.id == route.space_id:
            raise unprocessable(
                f"Unable to share route '{route_rules.url(route)}' with space '{space.name}'. "
                "Routes cannot be shared into the space where they were created."
            )
        if space.id not in already:
            call.session.add(RouteShare(route_id=route.id, space_id=space.id))
    call.session.flush()
    call.record("audit.route.share", _target(route), space=route.space, data={"target_space_guids": body.guids})
    return to_many(_shared_with(call, route))


@api.delete("/v3/routes/{guid}/relationships/shared_spaces/{space_guid}")
def unshare_route(call: Call, guid: str, space_guid: str) -> Reply:
    """End that, and the destinations in that space."""
    call.require_flag("route_sharing")
    route = changeable(call, guid)
    (space,) = _receiving(call, [space_guid], route, "unshare")
    if space.id == route.space_id:
        raise unprocessable(f"Unable to unshare route '{route_rules.url(route)}' from the space that owns it.")
    call.session.execute(delete(RouteShare).where(RouteShare.route_id == route.id, RouteShare.space_id == space.id))
    apps = select(App.id).where(App.space_id == space.id)
    call.session.execute(delete(Destination).where(Destination.route_id == route.id, Destination.app_id.in_(apps)))
    call.record("audit.route.unshare", _target(route), space=route.space, data={"target_space_guid": space.guid})
    call.route_changed(route.guid)
    return Reply(204)


def _shared_with(call: Call, route: Route) -> list[str]:
    statement = (
        select(Space.guid)
        .join(RouteShare, RouteShare.space_id == Space.id)
        .where(RouteShare.route_id == route.id)
        .order_by(RouteShare.id)
    )
    return list(call.session.scalars(statement))


def _receiving(call: Call, guids: Sequence[str], route: Route, what: str, right: Right = Right.OPERATE) -> list[Space]:
    """The spaces of these guids, in which the caller may work, too. Raises ApiError."""
    seen = call.access.spaces(Right.READ_SPACE)
    spaces_found = call.session.scalars(select(Space).where(Space.guid.in_(guids), seen)).unique().all()
    missing = sorted(set(guids) - {space.guid for space in spaces_found})
    named = f"Unable to {what} route '{route_rules.url(route)}'"
    if missing:
        listed = ", ".join(f"'{guid}'" for guid in missing)
        raise unprocessable(
            f"{named} with spaces [{listed}]. Ensure the spaces exist and that you have access to them."
        )
    for space in spaces_found:
        if not call.access.in_space(right, space):
            raise unprocessable(
                f"{named} with space '{space.guid}'. Write permission is required in order to {what} a route with "
                "a space."
            )
    return list(spaces_found)


# Parts ----------------------------------------------------------------------------------------------------------------


def options_of(options: HashOptions | None) -> dict[str, Any]:
    """As they are stored and registered. Raises ApiError (UnprocessableEntity)."""
    if options is None:
        return {}
    given = options.model_dump(exclude_none=True)
    if given.get("loadbalancing") != "hash":
        if {"hash_header", "hash_balance"} & given.keys():
            raise unprocessable("Hash header and hash balance can only be set when loadbalancing is hash")
        return given
    if not given.get("hash_header"):
        raise unprocessable("Hash header must be present when loadbalancing is set to hash.")
    if "hash_balance" in given:
        try:
            balance = float(given["hash_balance"])
        except ValueError:
            balance = -1.0
        if balance and not 1.1 <= balance <= 10:
            raise unprocessable("Hash balance must be either 0 or between 1.1 and 10.0")
        given["hash_balance"] = f"{balance:g}"
    return given


def included(routes: Sequence[Route], call: Call) -> dict[str, Any]:
    more: dict[str, Any] = {}
    if "domain" in call.includes:
        more["domains"] = domains.presented([route.domain for route in routes], call)
    if {"space", "space.organization"} & call.includes:
        more["spaces"] = spaces.presented([route.space for route in routes], call)
    if "space.organization" in call.includes:
        owners = {route.space.organization.id: route.space.organization for route in routes}
        more["organizations"] = [organizations.present(row, call) for row in owners.values()]
    return more


def _tcp_port(call: Call, domain: Domain, port: int) -> int:
    """The port that is asked for, or a free one. Raises ApiError."""
    group = call.session.scalars(select(RouterGroup).where(RouterGroup.guid == domain.router_group_guid)).one_or_none()
    if group is None:
        raise unprocessable("Router group of the domain is not there any more.")
    allowed = reservable(group.reservable_ports)
    if port:
        if port not in allowed:
            raise unprocessable(f"Port '{port}' is not available. Try a different port or use a different domain.")
        return port
    used = set(call.session.scalars(select(Route.port).where(Route.domain_id == domain.id)))
    free = sorted(set(allowed) - used)
    if not free:
        raise unprocessable(
            f"There are no more ports available for router group: {group.name}. "
            "Please contact your administrator for more information."
        )
    return random.choice(free)


def _refuse_foreign_host(call: Call, domain: Domain, host: str, space: Space) -> None:
    """On a shared domain a host is one space's, whatever the path. Raises ApiError."""
    if domain.organization_id is not None or not host:
        return
    statement = select(Route.id).where(Route.domain_id == domain.id, Route.host == host, Route.space_id != space.id)
    if call.session.scalars(statement).first() is not None:
        raise unprocessable("Routes for this host and domain have been reserved for another space.")


def _refuse_beyond_quota(call: Call, space: Space) -> None:
    organization = space.organization
    most = organization.quota.total_routes
    if most is not None:
        have = call.session.scalar(
            select(func.count(Route.id)).join(Route.space).where(Space.organization_id == organization.id)
        )
        if (have or 0) >= most:
            raise unprocessable(f"Routes quota exceeded for organization '{organization.name}'.")
    if space.quota is not None and space.quota.total_routes is not None:
        have = call.session.scalar(select(func.count(Route.id)).where(Route.space_id == space.id))
        if (have or 0) >= space.quota.total_routes:
            raise unprocessable(f"Routes quota exceeded for space '{space.name}'.")


def _target(route: Route) -> tuple[str, str, str]:
    return route.guid, "route", route.host
