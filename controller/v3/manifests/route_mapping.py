"""The routes that a manifest wants for an app: found or made, and mapped.

Routes are only taken away where it says ``no_route``.
"""

from __future__ import annotations

import random
import re
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.orm import selectinload

from controller.database.applications import App
from controller.database.routing import Destination, Domain, Route, RouteShare
from controller.v3 import destinations, domains, route_rules, routes
from controller.v3.call import Call
from controller.v3.errors import ApiError, unprocessable
from controller.v3.manifests.random_words import two_words
from controller.v3.manifests.route_strings import RouteString
from controller.v3.manifests.wishes import RouteWish, Wish

_RANDOM_ATTEMPTS: Final = 5


def apply(call: Call, app: App, wish: Wish) -> None:
    """Raises ApiError. The caller of this holds the lock of the app."""
    if wish.no_route:
        for one in _destinations(call, app):
            destinations.remove(call, one.route, one)
        call.session.flush()
    elif wish.routes is not None:
        _map_all(call, app, wish.routes)
    elif (wish.random_route or wish.default_route) and not _destinations(call, app):
        _map_first(call, app, with_words=wish.random_route)


def _destinations(call: Call, app: App) -> list[Destination]:
    statement = select(Destination).where(Destination.app_id == app.id).options(selectinload(Destination.route))
    return list(call.session.scalars(statement).unique())


def _map_all(call: Call, app: App, wishes: list[RouteWish]) -> None:
    """First all routes, so that a wrong one is told before anything is mapped."""
    found: list[tuple[RouteWish, Route]] = []
    for wish in wishes:
        try:
            found.append((wish, _route(call, app, wish.address, wish.options)))
        except ApiError as error:
            raise _about_route(wish.text, error) from None
    for wish, route in found:
        try:
            _map(call, app, route, wish.protocol)
        except ApiError as error:
            raise _about_route(wish.text, error) from None


def _about_route(text: str, error: ApiError) -> ApiError:
    named = [detail if detail.startswith("The route ") else f"For route '{text}': {detail}" for detail in error.details]
    return ApiError(error.name, *named)


def _map(call: Call, app: App, route: Route, protocol: str | None) -> None:
    """To the app's web process; what is mapped already takes over the protocol, if one is given."""
    there = [one for one in route.destinations if one.app_id == app.id and one.process_type == destinations.WEB]
    if not there and any(one.weight is not None for one in route.destinations):
        raise unprocessable("Destinations cannot be inserted when there are weighted destinations already configured.")
    named = destinations.AppNamed.model_construct(guid=app.guid)
    wanted = [
        destinations.Wanted.model_construct(app=named, protocol=protocol, port=one.port or None, weight=one.weight)
        for one in there
        if protocol not in (None, one.protocol)
    ]
    if not there:
        wanted = [destinations.Wanted.model_construct(app=named, protocol=protocol)]
    if wanted:
        destinations.add(call, route, wanted)


def _route(call: Call, app: App, address: RouteString, options: dict[str, Any] | None) -> Route:
    """The route of this address, made if it is not there. Raises ApiError."""
    host, domain = _place(call, app, address)
    if domain.router_group_guid is not None and not address.port:
        raise unprocessable("Routes with protocol 'tcp' must specify a port.")
    statement = select(Route).where(
        Route.domain_id == domain.id, Route.host == host, Route.path == address.path, Route.port == address.port
    )
    route = call.session.scalars(statement.options(selectinload(Route.destinations))).unique().one_or_none()
    if route is None:
        call.require_flag("route_creation")
        route = routes.add(call, app.space, domain, host, address.path, address.port, options)
        route.destinations = []
        return route
    if route.space_id != app.space_id and not _is_shared(call, route, app):
        raise unprocessable("Routes cannot be mapped to destinations in different spaces")
    if options is not None and options != route.options:
        route.options = {**route.options, **options}
        call.session.flush()
        call.route_changed(route.guid)
    return route


def _is_shared(call: Call, route: Route, app: App) -> bool:
    statement = select(RouteShare.id).where(RouteShare.route_id == route.id, RouteShare.space_id == app.space_id)
    return call.session.scalars(statement).first() is not None


def _place(call: Call, app: App, address: RouteString) -> tuple[str, Domain]:
    """Host and domain: the longest domain that is there and the app's organization may use. Raises ApiError."""
    candidates = address.candidates()
    usable = domains.usable_by(call, app.space.organization)
    statement = select(Domain).where(Domain.name.in_([domain for _, domain in candidates]), usable)
    known = {domain.name: domain for domain in call.session.scalars(statement).unique()}
    for host, name in candidates:
        if name in known:
            return host, known[name]
    raise unprocessable(f"The route '{address}' did not match any existing domains.")


def _map_first(call: Call, app: App, *, with_words: bool) -> None:
    """The one route of an app that has none and wants one without saying which. Raises ApiError."""
    domain = domains.default_of(call.session, app.space.organization)
    if domain is None:
        raise unprocessable("No default domain available for the app's organization")
    label = host_of(app.name)
    if not with_words:
        if not label:
            raise unprocessable(f"Failed to create default route from app name '{app.name}'")
        _map(call, app, _route(call, app, RouteString(f"{label}.{domain.name}", 0, ""), None), None)
        return
    for _ in range(_RANDOM_ATTEMPTS):
        words = two_words(random)
        host = f"{label[: route_rules.MAX_HOST - len(words) - 1]}-{words}".strip("-")
        taken = select(Route.id).where(Route.domain_id == domain.id, Route.host == host)
        if call.session.scalars(taken).first() is None:
            _map(call, app, _route(call, app, RouteString(f"{host}.{domain.name}", 0, ""), None), None)
            return
    raise unprocessable("No random route was free; try again")


def host_of(name: str) -> str:
    """A name as a label of DNS; the empty text where nothing of it can stand in one."""
    label = re.sub(r"[^a-z0-9-]", "", re.sub(r"[\s_.]", "-", name.lower()))
    return label[: route_rules.MAX_HOST].strip("-")
