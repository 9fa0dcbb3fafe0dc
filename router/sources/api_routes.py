"""The route objects of a Routing API (gorouter reference 1.7), read into routes and endpoints. Pure functions.

HTTP routes become what Gorouter makes of them: plain endpoints whose ``log_guid`` is their application. TCP routes
become TCP routes of ours where a connection can be passed on as it comes; what asks the router to end TLS, or to begin
it, is refused, since the application would be given bytes that it cannot read.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from router.registry.records import MAX_RECORD_BYTES, EndpointRecord, InvalidRecord, route_key, tcp_route
from router.sources.announced import NO_TAG, Tag

_MAX_INDEX: Final = 2**32 - 1
_MAX_TTL: Final = 2**31
_LONGEST_WORDS: Final = 300
"""Of a refusal: it is kept, and may quote what came."""


class RefusedRoute(ValueError):
    """A route that cannot be used; the message says which field is wrong, and what is allowed."""


class ApiRoute(NamedTuple):
    """One endpoint of one route."""

    route: str
    """Its key."""
    record: EndpointRecord
    """Packed."""
    ttl: int
    """Seconds; 0: not said."""
    tag: Tag


def http_route(said: Any) -> ApiRoute:
    """Raises RefusedRoute."""
    fields = _object(said, "a route")
    guid = _text(fields, "log_guid")
    route = _text(fields, "route")
    if ":" in route.partition("/")[0]:
        raise RefusedRoute(f"route {route!r:.60}: a port in it can never match")
    return _made(
        fields,
        route,
        host=_text(fields, "ip"),
        port=_number(fields, "port", 65535),
        app=guid,
        server_cert_domain_san=guid,
        route_service_url=_text(fields, "route_service_url"),
    )


def tcp_route_mapping(said: Any) -> ApiRoute:
    """Raises RefusedRoute."""
    fields = _object(said, "a TCP route")
    for name, what in _NOT_HERE.items():
        if fields.get(name):
            raise RefusedRoute(f"{name}: {what}, which this router does not do")
    if not _number(fields, "backend_port", 65535):
        raise RefusedRoute("backend_port: 0, and the router does not speak TLS to the endpoints of TCP routes")
    name = _text(fields, "backend_sni_hostname").lower()
    return _made(
        fields,
        tcp_route(_number(fields, "port", 65535), name or None),
        host=_text(fields, "backend_ip"),
        port=_number(fields, "backend_port", 65535),
        private_instance_id=_text(fields, "instance_id"),
        isolation_segment=_text(fields, "isolation_segment"),
    )


def _made(fields: dict[str, Any], route: str, **endpoint: Any) -> ApiRoute:
    try:
        record = EndpointRecord(**endpoint)
        # A copy: what orjson makes keeps the buffer that it was made in, ten times its size.
        record.packed = bytes(memoryview(record.to_json()))
        key = route_key(route)
    except InvalidRecord as problem:
        raise RefusedRoute(f"{problem!s:.{_LONGEST_WORDS}}") from None
    if len(record.packed) > MAX_RECORD_BYTES:
        raise RefusedRoute(f"longer than {MAX_RECORD_BYTES} bytes")
    return ApiRoute(key, record, _number(fields, "ttl", _MAX_TTL, low=-_MAX_TTL), _tag(fields.get("modification_tag")))


def _tag(said: Any) -> Tag:
    if said is None:
        return NO_TAG
    fields = _object(said, "modification_tag")
    return Tag(_text(fields, "guid"), _number(fields, "index", _MAX_INDEX))


def _object(said: Any, name: str) -> dict[str, Any]:
    if type(said) is not dict:
        raise RefusedRoute(f"{name}: an object, not {said!r:.60}")
    return said


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    if value is None:
        return ""
    if type(value) is not str:
        raise RefusedRoute(f"{name}: a string, not {value!r:.60}")
    return value


def _number(fields: dict[str, Any], name: str, high: int, low: int = 0) -> int:
    value = fields.get(name)
    if value is None:
        return 0
    if type(value) is not int or not low <= value <= high:
        raise RefusedRoute(f"{name}: a number from {low} to {high}, not {value!r:.60}")
    return value


_NOT_HERE: Final = {
    "terminate_frontend_tls": "asks for the end of the client's TLS",
    "enable_backend_mtls": "asks for TLS to the endpoint",
    "sni_rewrite_hostname": "asks for another server name towards the endpoint",
}
