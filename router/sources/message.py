"""The payloads of ``router.register`` and ``router.unregister`` (gorouter reference 1.2), read as Gorouter reads them.

Pure functions from bytes to checked values. What Go's JSON decoder accepts is accepted: keys in any case, unknown keys,
null for "not said"; what it refuses (another type, a port out of range) refuses the whole message. The rules for routes
and records are ours (`router.registry.records`) and stricter: a URI that breaks them is named and left out, and the
others of its message stand.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import orjson

from router.registry.records import MAX_RECORD_BYTES, NO_PAIRS, EndpointRecord, InvalidRecord, route_key

MAX_INT64: Final = 2**63 - 1
NO_SECURE_ROUTE_SERVICE: Final = "Unable to validate message. route_service_url must be https"
"""In Gorouter's words."""

_UNPRINTABLE: Final = "\ufffd"
_HTTP2: Final = "http2"


class RefusedMessage(ValueError):
    """A message of which nothing can be used; says which field is wrong and what is allowed."""


class Registration(NamedTuple):
    """One endpoint and the routes it serves."""

    routes: tuple[str, ...]
    """Their keys, each once."""
    record: EndpointRecord
    """Packed, and without ``endpoint_updated_at_ns``: an endpoint that is announced again is the same as before."""
    ttl: int
    """``stale_threshold_in_seconds`` as it was said: 0 where it was not, and perhaps negative."""
    updated_at_ns: int
    """When its source last changed it, nanoseconds since 1970; 0: not said."""
    refused: tuple[str, ...]
    """What is wrong with the URIs that were left out."""


class Unregistration(NamedTuple):
    """One endpoint and the routes that it leaves."""

    routes: tuple[str, ...]
    address: str
    segment: str
    component: str
    refused: tuple[str, ...]


def read_registration(payload: bytes) -> Registration:
    """Raises RefusedMessage."""
    said = _read(payload)
    uris = said.pop("uris", ())
    ttl = said.pop("stale_threshold_in_seconds", 0)
    updated_at_ns = said.pop("endpoint_updated_at_ns", 0)
    if "protocol" in said and said["protocol"] != _HTTP2:
        del said["protocol"]  # Gorouter takes whatever is not http2 for http1
    try:
        record = EndpointRecord(**said) if "host" in said else EndpointRecord.from_mapping(said)
    except InvalidRecord as problem:
        raise RefusedMessage(str(problem)) from None
    # A copy: what orjson makes keeps the buffer that it was made in, ten times its size.
    record.packed = bytes(memoryview(record.to_json()))
    if len(record.packed) > MAX_RECORD_BYTES:
        raise RefusedMessage(f"record: longer than {MAX_RECORD_BYTES} bytes")
    routes, refused = _routes(uris)
    return Registration(routes, record, ttl, updated_at_ns, refused)


def read_unregistration(payload: bytes) -> Unregistration:
    """All that counts is who leaves, and what; the rest must only be of the right types. Raises RefusedMessage."""
    said = _read(payload)
    try:
        bare = EndpointRecord(said.get("host", ""), said.get("port", 0), said.get("tls_port", 0))
    except InvalidRecord as problem:
        raise RefusedMessage(str(problem)) from None
    routes, refused = _routes(said.get("uris", ()))
    component = said.get("tags", NO_PAIRS).get("component", "")
    return Unregistration(routes, bare.address, said.get("isolation_segment", ""), component, refused)


def _routes(uris: list[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    keys: dict[str, None] = {}
    refused: list[str] = []
    for uri in uris:
        try:
            key = route_key(uri)
        except InvalidRecord as problem:
            refused.append(str(problem))
            continue
        if ":" in key.partition("/")[0]:  # a TCP route, as only our own registrars may write them
            refused.append(f"route {uri!r}: a port in it can never match")
        else:
            keys[key] = None
    return tuple(keys), tuple(refused)


def _read(payload: bytes) -> dict[str, Any]:
    """The known fields of a message that were said, by their names in lower case, each of its type."""
    try:
        message = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise RefusedMessage(f"not JSON: {error}") from None
    if message is None:
        return {}
    if type(message) is not dict:
        raise RefusedMessage("not a JSON object")
    said: dict[str, Any] = {}
    for key, value in message.items():
        kind = _KINDS.get(key)
        if kind is None:
            key = key.lower()  # noqa: PLW2901
            kind = _KINDS.get(key)
        if kind is None or value is None:
            continue
        if type(value) is not kind:
            raise RefusedMessage(f"{key}: {_WORDS[kind]}, not {_shown(value)}")
        said[key] = value
    for name in ("port", "tls_port"):
        if not 0 <= said.get(name, 0) <= 65535:
            raise RefusedMessage(f"{name}: a number from 0 to 65535, not {said[name]}")
    for name in ("endpoint_updated_at_ns", "stale_threshold_in_seconds"):
        if not -MAX_INT64 - 1 <= said.get(name, 0) <= MAX_INT64:
            raise RefusedMessage(f"{name}: a number of 64 bits, not {said[name]}")
    if "uris" in said:
        said["uris"] = _strings(said["uris"])
    if "tags" in said:
        said["tags"] = _tags(said["tags"])
    if "options" in said:
        said["options"] = _options(said["options"])
    if not said.get("route_service_url", "https").startswith("https"):
        raise RefusedMessage(NO_SECURE_ROUTE_SERVICE)
    return said


def _strings(values: list[Any]) -> list[str]:
    for value in values:
        if type(value) is not str and value is not None:
            raise RefusedMessage(f"uris: an array of strings, not one with {_shown(value)}")
    return [value for value in values if value is not None]


def _tags(pairs: dict[str, Any]) -> Mapping[str, str]:
    tags: dict[str, str] = {}
    for key, value in pairs.items():
        if type(value) is not str and value is not None:
            raise RefusedMessage(f"tags: an object of strings, not one with {_shown(value)}")
        # The names of apps and spaces come as tags, and people put everything into names: no reason to lose a route.
        tags[_printable(key)] = _printable(value or "")
    return tags or NO_PAIRS


def _options(pairs: dict[str, Any]) -> Mapping[str, str]:
    """The options that are known, under their newer names."""
    options: dict[str, str] = {}
    for key, value in pairs.items():
        name = _OPTIONS.get(key.lower())
        if name is None or value is None:
            continue
        if name == "hash_balance" and type(value) in (int, float):
            options[name] = f"{value:g}"
        elif type(value) is not str:
            raise RefusedMessage(f"options.{key}: a string, not {_shown(value)}")
        elif value and (name != "loadbalancing" or name not in options or key.lower() == name):
            options[name] = _printable(value)
    return options or NO_PAIRS


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else _UNPRINTABLE for character in text)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:60] + "..."


_KINDS: Final[dict[str, type]] = {
    "host": str,
    "port": int,
    "tls_port": int,
    "uris": list,
    "app": str,
    "tags": dict,
    "private_instance_id": str,
    "private_instance_index": str,
    "stale_threshold_in_seconds": int,
    "server_cert_domain_san": str,
    "isolation_segment": str,
    "route_service_url": str,
    "availability_zone": str,
    "protocol": str,
    "endpoint_updated_at_ns": int,
    "options": dict,
}
_WORDS: Final = {str: "a string", int: "a whole number", list: "an array of strings", dict: "an object"}
_OPTIONS: Final = {
    "loadbalancing": "loadbalancing",
    "lb_algo": "loadbalancing",
    "hash_header": "hash_header",
    "hash_balance": "hash_balance",
    "route_policy_scope": "route_policy_scope",
    "route_policy_sources": "route_policy_sources",
}
