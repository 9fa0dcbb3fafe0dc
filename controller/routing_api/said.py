"""Route objects as registrars send them, checked and brought into the form in which they are stored. Pure functions.

An HTTP route that routers could not serve is refused here, in words, and does not wait for somebody to miss it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import orjson

from controller.routing_api.errors import RoutingApiError, bad_request
from router.registry.records import EndpointRecord, InvalidRecord, route_key, tcp_route

HTTP: Final = "http"
TCP: Final = "tcp"
_LONGEST_ROUTE: Final = 1024
_LONGEST_ADDRESS: Final = 255
_MAX_PORT: Final = 65535
_TLS_SWITCHES: Final = ("terminate_frontend_tls", "enable_backend_mtls")
_TLS_NAMES: Final = ("sni_rewrite_hostname", "alpns")


class Said(NamedTuple):
    """One endpoint of one route."""

    kind: str
    route: str
    ip: str
    port: int
    tls_port: int
    isolation_segment: str
    text: str
    """The whole object as JSON, without a modification tag."""
    ttl: int

    @property
    def identity(self) -> tuple[str, str, str, int, int]:
        """What no other row has."""
        return self.kind, self.route, self.ip, self.port, self.tls_port


def http_route(entry: Any, max_ttl: int, *, leaves: bool = False) -> Said:
    """``leaves``: it is to be taken out, and its TTL does not matter. Raises RoutingApiError."""
    fields = _object(entry)
    route, ip, service = (_text(fields, name) for name in ("route", "ip", "route_service_url"))
    port, guid = _number(fields, "port", 0, _MAX_PORT), _text(fields, "log_guid")
    if "?" in route or "#" in route:
        raise RoutingApiError("RouteInvalidError", "Url cannot contain any of [?, #]")
    if service and not service.startswith("https://"):
        raise RoutingApiError("RouteServiceUrlInvalidError", "Route service url must use HTTPS.")
    if "?" in service or "#" in service:
        raise RoutingApiError("RouteServiceUrlInvalidError", "Url cannot contain any of [?, #]")
    if port == 0:
        raise RoutingApiError("RouteInvalidError", "Each route request requires a port greater than 0")
    if not route:
        raise RoutingApiError("RouteInvalidError", "Each route request requires a valid route")
    if not ip:
        raise RoutingApiError("RouteInvalidError", "Each route request requires an IP")
    ttl = _ttl(fields, max_ttl)
    if ttl > max_ttl and not leaves:
        raise RoutingApiError("RouteInvalidError", f"Max ttl is {max_ttl}")
    if ttl <= 0 and not leaves:
        raise RoutingApiError("RouteInvalidError", "Request requires a ttl greater than 0")
    said = {"route": route, "port": port, "ip": ip, "ttl": ttl, "log_guid": guid}
    if service:
        said["route_service_url"] = service
    try:
        key, _ = http_endpoint(said)
    except InvalidRecord as error:
        raise RoutingApiError("RouteInvalidError", str(error)) from None
    if len(key) > _LONGEST_ROUTE or len(ip) > _LONGEST_ADDRESS:
        raise RoutingApiError("RouteInvalidError", f"route {route[:60]!r}: longer than {_LONGEST_ROUTE} bytes")
    return Said(HTTP, key, ip, port, 0, "", orjson.dumps(said).decode(), ttl)


def tcp_route_mapping(entry: Any, max_ttl: int, groups: Mapping[str, str], *, leaves: bool = False) -> Said:
    """``groups``: types of the router groups by their guids. Raises RoutingApiError."""
    fields = _object(entry)
    group, ip = _text(fields, "router_group_guid"), _text(fields, "backend_ip")
    external, backend = _number(fields, "port", 0, _MAX_PORT), _number(fields, "backend_port", 0, _MAX_PORT)
    tls = _number(fields, "backend_tls_port", -1, 2**31 - 1, missing=-1)
    name = _text(fields, "backend_sni_hostname")
    shown = f"RouteMapping=[{group}:{external}<->{ip}:{backend}]"
    if not group:
        raise _invalid(f"Each tcp mapping requires a non empty router group guid. {shown}")
    if external == 0:
        raise _invalid(f"Each tcp mapping requires a positive external port. {shown}")
    if not ip:
        raise _invalid(f"Each tcp mapping requires a non empty backend ip. {shown}")
    if backend == 0 and tls <= 0:
        raise _invalid(f"Each tcp mapping requires a positive backend port. {shown}")
    if tls > _MAX_PORT:
        raise _invalid(
            f"Each tcp mapping with a backend TLS port requires that port to be at most {_MAX_PORT}. {shown}"
        )
    ttl = _ttl(fields, max_ttl)
    if ttl > max_ttl and not leaves:
        raise _invalid(f"Each tcp mapping requires TTL to be less than or equal to {max_ttl}. {shown}")
    if ttl <= 0 and not leaves:
        raise _invalid("Each tcp route mapping requires a ttl greater than 0")
    if not leaves and groups.get(group) != TCP:
        raise _invalid(f"router_group_guid: {group} not found")
    segment = _text(fields, "isolation_segment")
    said: dict[str, Any] = {
        "router_group_guid": group,
        "port": external,
        "backend_ip": ip,
        "backend_port": backend,
        "backend_tls_port": tls,
        "instance_id": _text(fields, "instance_id"),
        "ttl": ttl,
        "isolation_segment": segment,
    }
    if name:
        said["backend_sni_hostname"] = name
    said |= {key: _truth(fields, key) for key in _TLS_SWITCHES if fields.get(key) is not None}
    said |= {key: _text(fields, key) for key in _TLS_NAMES if fields.get(key)}
    try:
        EndpointRecord(host=ip, port=backend or tls)
        key = route_key(tcp_route(external, name.lower() or None))
    except InvalidRecord as error:
        raise _invalid(str(error)) from None
    if max(len(ip), len(segment), len(group)) > _LONGEST_ADDRESS:
        raise _invalid(f"backend_ip, isolation_segment or router_group_guid: longer than {_LONGEST_ADDRESS} bytes")
    return Said(TCP, f"{group}:{key}", ip, backend, max(tls, 0), segment, orjson.dumps(said).decode(), ttl)


def registered(kind: str, text: str) -> tuple[str, EndpointRecord] | None:
    """What routers make of it: a route and an endpoint, or nothing where it asks for what they do not do."""
    said = orjson.loads(text)
    try:
        return http_endpoint(said) if kind == HTTP else _tcp_endpoint(said)
    except InvalidRecord:
        return None


def http_endpoint(said: Mapping[str, Any]) -> tuple[str, EndpointRecord]:
    """As Gorouter takes it: ``log_guid`` is the app, and never TLS. Raises InvalidRecord."""
    guid = said["log_guid"]
    record = EndpointRecord(
        host=said["ip"],
        port=said["port"],
        app=guid,
        server_cert_domain_san=guid,
        route_service_url=said.get("route_service_url", ""),
    )
    return route_key(said["route"]), record


def _tcp_endpoint(said: Mapping[str, Any]) -> tuple[str, EndpointRecord] | None:
    """Connections are passed on as they come: none where TLS is to begin or to end in between."""
    if not said["backend_port"] or any(said.get(name) for name in (*_TLS_SWITCHES, "sni_rewrite_hostname")):
        return None
    record = EndpointRecord(
        host=said["backend_ip"],
        port=said["backend_port"],
        private_instance_id=said["instance_id"],
        isolation_segment=said["isolation_segment"],
    )
    return tcp_route(said["port"], said.get("backend_sni_hostname", "").lower() or None), record


def _invalid(message: str) -> RoutingApiError:
    return RoutingApiError("TcpRouteMappingInvalidError", message)


def _object(entry: Any) -> Mapping[str, Any]:
    if not isinstance(entry, dict):
        raise bad_request("every entry of the array is an object")
    return entry


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise bad_request(f"{name} must be a string")
    if not value.isprintable():
        raise bad_request(f"{name} holds a character that cannot be printed")
    return value


def _number(fields: Mapping[str, Any], name: str, low: int, high: int, *, missing: int = 0) -> int:
    value = fields.get(name)
    if value is None:
        return missing
    if type(value) is not int or not low <= value <= high:
        raise bad_request(f"{name} must be a number from {low} to {high}")
    return value


def _truth(fields: Mapping[str, Any], name: str) -> bool:
    value = fields.get(name)
    if not isinstance(value, bool):
        raise bad_request(f"{name} must be true or false")
    return value


def _ttl(fields: Mapping[str, Any], max_ttl: int) -> int:
    """Seconds; the longest where none is said."""
    return _number(fields, "ttl", -(2**31), 2**31 - 1, missing=max_ttl)
