"""TCP routes in the table: by port, and by the server name that a client asks for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from router.registry.records import EndpointRecord, route_key, tcp_route
from router.table import RouteTable

NAMES = ["*.b.com", "*.com", "a.b.com", "b.com", "com"]
ASKED = [None, "a.b.com", "x.b.com", "y.x.b.com", "b.com", "com", "net"]
entries = st.tuples(st.sampled_from([1024, 5432]), st.sampled_from([None, *NAMES]), st.integers(1, 2))


def record(port: int) -> EndpointRecord:
    return EndpointRecord(host="127.0.0.1", port=port)


def candidates(port: int, name: str | None) -> list[str]:
    """Keys of the routes that a connection matches, the one that it belongs to first."""
    if name is None:
        return [tcp_route(port)]
    wild = sorted((w for w in NAMES if w[0] == "*" and name.endswith(w[1:])), key=len, reverse=True)
    return [tcp_route(port, one) for one in (name, *wild)] + [tcp_route(port)]


@given(st.lists(entries, max_size=12), st.lists(entries, max_size=12), st.booleans())
def test_the_name_itself_then_wildcards_then_the_port(
    added: list[tuple[int, str | None, int]], removed: list[tuple[int, str | None, int]], keep_empty: bool
) -> None:
    table = RouteTable(60.0 if keep_empty else 0.0)
    held: dict[str, set[str]] = {}
    for port, name, number in added:
        table.upsert(tcp_route(port, name), record(number))
        held.setdefault(tcp_route(port, name), set()).add(record(number).address)
    for port, name, number in removed:
        table.remove(tcp_route(port, name), record(number).address)
        held.get(tcp_route(port, name), set()).discard(record(number).address)
    if not keep_empty:
        held = {route: addresses for route, addresses in held.items() if addresses}
    for port in (1024, 5432, 80):
        assert table.tcp_names_matter(port) == any(route.startswith(f"tcp:{port}/") for route in held)
        for name in ASKED:
            known = [route for route in candidates(port, name) if route in held]
            wanted = next((route for route in known if held[route]), known[0] if known else None)
            pool = table.tcp_lookup(port, name)
            assert pool is (None if wanted is None else table._pools[wanted])


@given(st.lists(entries, max_size=6), st.sampled_from(["tcp", "a.b.com", "tcp:5432", "com"]), st.sampled_from(NAMES))
def test_http_requests_never_find_them(added: list[tuple[int, str | None, int]], host: str, path: str) -> None:
    table = RouteTable()
    for port, name, number in added:
        table.upsert(tcp_route(port, name), record(number))
    asked = host.partition(":")[0]  # as a Host field is read: without its port
    assert table.lookup(asked, "") is None
    assert table.lookup(asked, f"/{path}") is None


def test_and_connections_never_find_routes_of_http() -> None:
    table = RouteTable()
    for route in ("*.b.com", "a.b.com", "tcp/a.b.com", "tcp"):
        table.upsert(route_key(route), record(1))
    assert [table.tcp_lookup(80, name) for name in ASKED] == [None] * len(ASKED)
