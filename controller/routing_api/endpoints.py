"""The Routing API's HTTP face (gorouter reference 1.7), at /routing/v1.

A batch is one transaction: all of its routes are registered, or none is and the answer names what was wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final
from urllib.parse import quote_plus

import orjson
import trio
from fastapi import APIRouter, Request, Response
from sqlalchemy.exc import OperationalError

from controller.context import Context
from controller.routing_api import groups, store
from controller.routing_api.errors import RoutingApiError, bad_request, refusal
from controller.routing_api.said import HTTP, TCP, Said, http_route, tcp_route_mapping
from controller.routing_api.service import RoutingApi
from controller.routing_api.stream import EventStream
from controller.v3.errors import ApiError

MOST_ROUTES: Final = 5000
"""In one call."""
MOST_BYTES: Final = 4 * 1024 * 1024
READ_ROUTES: Final = "routing.routes.read"
WRITE_ROUTES: Final = "routing.routes.write"
READ_GROUPS: Final = "routing.router_groups.read"
WRITE_GROUPS: Final = "routing.router_groups.write"

router = APIRouter(prefix="/routing/v1", tags=["Routing API"], include_in_schema=False)


@router.get("/routes")
async def list_routes(request: Request) -> Response:
    """List HTTP routes."""
    return await _respond(request, READ_ROUTES, lambda context, _: _listed(context, HTTP, None))


@router.post("/routes", status_code=201)
async def register_routes(request: Request) -> Response:
    """Register HTTP routes, or register them again."""
    return await _respond(request, WRITE_ROUTES, _register_http, changes=True)


@router.delete("/routes", status_code=204)
async def unregister_routes(request: Request) -> Response:
    """Unregister HTTP routes."""
    return await _respond(request, WRITE_ROUTES, _unregister_http, changes=True)


@router.get("/events")
async def watch_routes(request: Request) -> Response:
    """Watch HTTP routes come and go, as server-sent events."""
    return await _watch(request, HTTP)


@router.get("/tcp_routes")
async def list_tcp_routes(request: Request) -> Response:
    """List TCP routes, perhaps of some isolation segments."""
    segments = request.query_params.getlist("isolation_segment") or None
    return await _respond(request, READ_ROUTES, lambda context, _: _listed(context, TCP, segments))


@router.post("/tcp_routes/create", status_code=201)
async def register_tcp_routes(request: Request) -> Response:
    """Register TCP routes, or register them again."""
    return await _respond(request, WRITE_ROUTES, _register_tcp, changes=True)


@router.post("/tcp_routes/delete", status_code=204)
async def unregister_tcp_routes(request: Request) -> Response:
    """Unregister TCP routes."""
    return await _respond(request, WRITE_ROUTES, _unregister_tcp, changes=True)


@router.get("/tcp_routes/events")
async def watch_tcp_routes(request: Request) -> Response:
    """Watch TCP routes come and go, as server-sent events."""
    return await _watch(request, TCP)


@router.get("/router_groups")
async def list_router_groups(request: Request) -> Response:
    """List router groups, or get the one of a name."""
    name = request.query_params.get("name")
    return await _respond(
        request, READ_GROUPS, lambda context, _: _json(context.database.read(partial(groups.listed, name=name)))
    )


@router.post("/router_groups", status_code=201)
async def create_router_group(request: Request) -> Response:
    """Create a router group."""
    return await _respond(
        request,
        WRITE_GROUPS,
        lambda context, raw: _json(context.database.write(partial(groups.create, said=_parsed(raw))), 201),
    )


@router.put("/router_groups/{guid}")
async def update_router_group(request: Request, guid: str) -> Response:
    """Change the reservable ports of a router group."""

    def work(context: Context, raw: bytes) -> Response:
        response = _json(context.database.write(partial(groups.change, guid=guid, said=_parsed(raw))))
        response.headers["X-Cf-Warnings"] = quote_plus(groups.PORTS_CHANGED)
        return response

    return await _respond(request, WRITE_GROUPS, work)


@router.delete("/router_groups/{guid}", status_code=204)
async def delete_router_group(request: Request, guid: str) -> Response:
    """Delete a router group to which no domain belongs."""

    def work(context: Context, _raw: bytes) -> Response:
        context.database.write(partial(groups.remove, guid=guid))
        return Response(status_code=204)

    return await _respond(request, WRITE_GROUPS, work)


# What they do -------------------------------------------------------------------------------------------------------


def _listed(context: Context, kind: str, segments: list[str] | None) -> Response:
    moment = datetime.now(UTC)
    rows = context.database.read(partial(store.live, moment=moment, kind=kind, segments=segments))
    return Response(b"[" + b",".join(row.object for row in rows) + b"]", media_type="application/json")


def _register_http(context: Context, raw: bytes) -> Response:
    longest = context.settings.routing_api_max_ttl
    return _store(context, [http_route(entry, longest) for entry in _entries(raw)])


def _register_tcp(context: Context, raw: bytes) -> Response:
    longest, kinds = context.settings.routing_api_max_ttl, context.database.read(groups.kinds)
    return _store(context, [tcp_route_mapping(entry, longest, kinds) for entry in _entries(raw)])


def _store(context: Context, entries: list[Said]) -> Response:
    context.database.write(partial(store.upsert, entries=entries, moment=datetime.now(UTC)))
    return Response(status_code=201)


def _unregister_http(context: Context, raw: bytes) -> Response:
    longest = context.settings.routing_api_max_ttl
    return _remove(context, [http_route(entry, longest, leaves=True) for entry in _entries(raw)])


def _unregister_tcp(context: Context, raw: bytes) -> Response:
    longest = context.settings.routing_api_max_ttl
    return _remove(context, [tcp_route_mapping(entry, longest, {}, leaves=True) for entry in _entries(raw)])


def _remove(context: Context, entries: list[Said]) -> Response:
    context.database.write(partial(store.remove, entries=entries, moment=datetime.now(UTC)))
    return Response(status_code=204)


# What is the same for all ---------------------------------------------------------------------------------------------


async def _respond(
    request: Request, scope: str, work: Callable[[Context, bytes], Response], *, changes: bool = False
) -> Response:
    """``work`` runs in a worker thread, once the token is known to have the scope."""
    context: Context = request.app.state.context
    authorization = request.headers.get("authorization", "")

    def checked() -> None:
        _check(context, authorization, scope)

    try:
        await trio.to_thread.run_sync(checked, limiter=context.threads)
        raw = await _read(request)
        response = await trio.to_thread.run_sync(partial(_worked, work, context, raw), limiter=context.threads)
    except RoutingApiError as error:
        return refusal(error)
    if changes:
        routing: RoutingApi = request.app.state.routing
        routing.changed()
    return response


def _worked(work: Callable[[Context, bytes], Response], context: Context, raw: bytes) -> Response:
    try:
        return work(context, raw)
    except OperationalError as error:
        raise RoutingApiError("DBCommunicationError", str(error.orig).splitlines()[0]) from None


async def _watch(request: Request, kind: str) -> Response:
    context: Context = request.app.state.context
    authorization = request.headers.get("authorization", "")
    try:
        await trio.to_thread.run_sync(partial(_check, context, authorization, READ_ROUTES), limiter=context.threads)
    except RoutingApiError as error:
        return refusal(error)
    routing: RoutingApi = request.app.state.routing
    return EventStream(routing.watchers, kind)


def _check(context: Context, authorization: str, scope: str) -> None:
    """Raises RoutingApiError (UnauthorizedError): no token, no valid one, or one without this scope."""
    try:
        caller = context.tokens.caller(authorization, audience=None)
    except ApiError:
        raise RoutingApiError("UnauthorizedError", "The token is not valid") from None
    if caller is None:
        raise RoutingApiError("UnauthorizedError", "A token is needed: Authorization: bearer <token>")
    if scope not in caller.scopes:
        raise RoutingApiError("UnauthorizedError", f"Token does not have '{scope}' scope")


async def _read(request: Request) -> bytes:
    """Raises RoutingApiError: too much."""
    raw = bytearray()
    async for part in request.stream():
        raw += part
        if len(raw) > MOST_BYTES:
            raise bad_request(f"the body is longer than {MOST_BYTES} bytes; send fewer routes at a time")
    return bytes(raw)


def _parsed(raw: bytes) -> Any:
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise bad_request(str(error)) from None


def _entries(raw: bytes) -> list[Any]:
    said = _parsed(raw)
    if not isinstance(said, list):
        raise bad_request("the body is an array of routes")
    if len(said) > MOST_ROUTES:
        raise bad_request(f"more than {MOST_ROUTES} routes; send fewer at a time")
    return said


def _json(body: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(body), status, media_type="application/json")
