"""The text of GET /routes: Gorouter's JSON object of routes, produced in fragments so that it never holds up a loop.

Runs in a worker, between requests. Whatever the table's shape (many routes, or one route with very many endpoints),
one fragment is one small piece of work. It must never change the table.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import orjson

from router.registry.records import EndpointRecord
from router.table import RouteTable

NO_TTL: Final = -1
"""An endpoint has no time to live of its own: its registrar's lease has."""


def fragments(table: RouteTable, ttl: int = NO_TTL) -> Iterator[bytes]:
    """Pieces of UTF-8 JSON; joined they are one object, route key to list of endpoints.

    ``ttl``: how many seconds an endpoint may stay that is announced no more; it may have asked for less.

    The table may change between two pieces: every route that was there all the time is in the result, and no route is
    in it twice.
    """
    separator = b"{"
    for route in table.routes():
        yield separator + orjson.dumps(route) + b":["
        separator = b",\n"
        comma = b""
        for record in table.records(route):
            yield comma + orjson.dumps(_endpoint(record, ttl))
            comma = b","
        yield b"]"
    yield b"{}\n" if separator == b"{" else b"}\n"


def _endpoint(record: EndpointRecord, ttl: int) -> dict[str, Any]:
    endpoint: dict[str, Any] = {
        "address": record.address,
        "availability_zone": record.availability_zone,
        "protocol": record.protocol,
        "tls": record.tls_port != 0,
        "ttl": ttl,
        "tags": dict(record.tags),
    }
    for name in ("route_service_url", "isolation_segment", "private_instance_id", "server_cert_domain_san"):
        value = getattr(record, name)
        if value:
            endpoint[name] = value
    algorithm = record.options.get("loadbalancing")
    if algorithm:
        endpoint["load_balancing_algorithm"] = algorithm
    return endpoint
