"""The text of /routes: Gorouter's fields, whole JSON, and a table that may change while it is read."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from router.registry.records import EndpointRecord
from router.status.routes_page import fragments
from router.table import RouteTable


def read(table: RouteTable) -> dict[str, list[dict[str, Any]]]:
    whole: dict[str, list[dict[str, Any]]] = json.loads(b"".join(fragments(table)))
    return whole


def test_an_endpoint_has_gorouters_fields() -> None:
    table = RouteTable()
    table.upsert("plain.example.com/x", EndpointRecord(host="10.0.0.1", port=80, availability_zone="az1"))
    table.upsert(
        "full.example.com",
        EndpointRecord(
            host="fd00::1",
            port=80,
            tls_port=443,
            protocol="http2",
            route_service_url="https://rs.example.com",
            isolation_segment="iso",
            private_instance_id="inst",
            server_cert_domain_san="san",
            tags={"component": "app"},
            options={"loadbalancing": "least-connection"},
        ),
    )
    assert read(table) == {
        "plain.example.com/x": [
            {
                "address": "10.0.0.1:80",
                "availability_zone": "az1",
                "protocol": "http1",
                "tls": False,
                "ttl": -1,
                "tags": {},
            }
        ],
        "full.example.com": [
            {
                "address": "[fd00::1]:443",
                "availability_zone": "",
                "protocol": "http2",
                "tls": True,
                "ttl": -1,
                "tags": {"component": "app"},
                "route_service_url": "https://rs.example.com",
                "isolation_segment": "iso",
                "private_instance_id": "inst",
                "server_cert_domain_san": "san",
                "load_balancing_algorithm": "least-connection",
            }
        ],
    }


def test_an_endpoint_that_is_announced_again_and_again_has_so_long_to_live() -> None:
    table = RouteTable()
    table.upsert("a.example.com", EndpointRecord(host="10.0.0.1", port=80))
    [route] = json.loads(b"".join(fragments(table, 120))).values()
    assert [endpoint["ttl"] for endpoint in route] == [120]


def test_a_route_that_lost_its_endpoints_but_is_still_known_is_empty() -> None:
    table = RouteTable(empty_pool_timeout=60)
    table.upsert("a.example.com", EndpointRecord(host="10.0.0.1", port=80))
    table.remove("a.example.com", "10.0.0.1:80")
    assert read(table) == {"a.example.com": []}


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 5))))
def test_the_whole_table_is_in_it(pairs: list[tuple[str, int]]) -> None:
    table = RouteTable()
    for host, port in pairs:
        table.upsert(host, EndpointRecord(host="10.0.0.1", port=port))
    shown = {(route, endpoint["address"]) for route, endpoints in read(table).items() for endpoint in endpoints}
    assert shown == {(host, f"10.0.0.1:{port}") for host, port in pairs}


@given(st.lists(st.tuples(st.booleans(), st.sampled_from("abcd"), st.integers(1, 3)), max_size=20))
def test_changes_in_between_never_break_the_text(changes: list[tuple[bool, str, int]]) -> None:
    table = RouteTable()
    table.upsert("stays", EndpointRecord(host="10.0.0.1", port=9))
    for host in "abc":
        table.upsert(host, EndpointRecord(host="10.0.0.1", port=1))
    text = b""
    todo = iter(changes)
    for fragment in fragments(table):
        text += fragment
        for add, host, port in [change for change in [next(todo, None)] if change]:
            if add:
                table.upsert(host, EndpointRecord(host="10.0.0.1", port=port))
            else:
                table.remove(host, f"10.0.0.1:{port}")
    whole = json.loads(text, object_pairs_hook=lambda pairs: pairs)
    routes = [route for route, _ in whole]
    assert len(routes) == len(set(routes))
    assert "stays" in routes
