"""The route table against a naive model of the rules, and what may be remembered of its answers."""

from __future__ import annotations

from time import monotonic

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from router.http1.request import route_path
from router.pool import Endpoint, Pool
from router.registry.records import EndpointRecord, route_key
from router.table import RouteTable

HOSTS = ["a.test", "b.a.test", "c.b.a.test", "*.a.test", "*.b.a.test", "*.test", "localhost", "*.localhost"]
PATHS = ["", "/x", "/x/y", "/x/y/z", "/xy", "/x//y", "/."]
ASKED_HOSTS = [*HOSTS, "d.c.b.a.test", "test", "other", "q.other", "a.test.", ".a.test"]
ASKED_PATHS = [*PATHS, "/x/y/z/deeper/still", "/x/", "//x", "/X/Y".lower(), "/y"]

routes = st.builds(lambda host, path: host + path, st.sampled_from(HOSTS), st.sampled_from(PATHS))
records = st.builds(
    lambda port, app: EndpointRecord(host="127.0.0.1", port=port, app=app), st.integers(1, 3), st.sampled_from("ab")
)


class Naive:
    """The rules, one route after the other: gorouter's reference, sections 1.3 and 2."""

    def __init__(self) -> None:
        self.routes: dict[str, dict[str, EndpointRecord]] = {}

    def by_path(self, host: str, path: str) -> list[str]:
        """Routes of this very host that the path begins with, by whole segments, the longest first."""
        segments = path.split("/")
        prefixes = [host + "/".join(segments[:count]) for count in range(len(segments), 0, -1)]
        return [route for route in prefixes if route in self.routes]

    def best(self, candidates: list[str]) -> str | None:
        """The first with endpoints, else the first."""
        return next((route for route in candidates if self.routes[route]), candidates[0] if candidates else None)

    def lookup(self, host: str, path: str) -> str | None:
        labels = host.split(".")
        hosts = [host, *("*." + ".".join(labels[skipped:]) for skipped in range(1, len(labels)))]
        return self.best([route for one in hosts for route in self.by_path(one, path)])


class TableMachine(RuleBasedStateMachine):
    @initialize(timeout=st.sampled_from([0.0, 60.0]))
    def begin(self, timeout: float) -> None:
        self.table = RouteTable(timeout)
        self.naive = Naive()
        self.remembered: dict[tuple[str, str], tuple[int, Pool | None]] = {}

    @rule(route=routes, record=records)
    def upsert(self, route: str, record: EndpointRecord) -> None:
        self.table.upsert(route, record)
        self.naive.routes.setdefault(route, {})[record.address] = record

    @rule(route=routes, record=records)
    def remove(self, route: str, record: EndpointRecord) -> None:
        self.table.remove(route, record.address)
        endpoints = self.naive.routes.get(route)
        if endpoints and endpoints.pop(record.address, None) and not endpoints and not self.table.empty_pool_timeout:
            del self.naive.routes[route]

    @rule(route=routes, record=records)
    def the_same_again_changes_nothing(self, route: str, record: EndpointRecord) -> None:
        self.upsert(route, record)
        version, before = self.table.version, self.table.lookup(*self.key(route))
        endpoints = before.endpoints if before else ()
        self.table.upsert(route, EndpointRecord(host=record.host, port=record.port, app=record.app))
        assert self.table.version == version
        assert (before.endpoints if before else ()) == endpoints

    @rule()
    def time_passes(self) -> None:
        self.table.forget_emptied(monotonic() + 61)
        for route in [route for route, endpoints in self.naive.routes.items() if not endpoints]:
            del self.naive.routes[route]

    @rule()
    def not_enough_time_passes(self) -> None:
        self.table.forget_emptied(monotonic())

    @rule(host=st.sampled_from(ASKED_HOSTS), path=st.sampled_from(ASKED_PATHS))
    def ask(self, host: str, path: str) -> None:
        """As the edge does: a lookup for which the path does not matter is kept until the version changes."""
        pool = self.table.lookup(host, path)
        self.remembered[host, "" if not self.table.path_matters(host) else path] = (self.table.version, pool)

    @rule(path=st.sampled_from(ASKED_PATHS))
    def what_is_remembered_is_what_would_be_found(self, path: str) -> None:
        for (host, asked_path), (version, pool) in self.remembered.items():
            if version == self.table.version:
                wanted = asked_path if self.table.path_matters(host) else path
                assert self.table.lookup(host, wanted) is pool

    @invariant()
    def every_lookup_answers_as_the_model(self) -> None:
        for host in ASKED_HOSTS:
            for path in ASKED_PATHS:
                route = self.naive.lookup(host, path)
                pool = self.table.lookup(host, path)
                if route is None:
                    assert pool is None, (host, path)
                else:
                    assert pool is not None, (host, path, route)
                    assert pool is self.table._pools[route], (host, path, route)

    @invariant()
    def routes_records_and_counts_agree(self) -> None:
        assert set(self.table.routes()) == set(self.naive.routes)
        assert len(self.table) == len(self.naive.routes)
        for route, endpoints in self.naive.routes.items():
            assert {record.address: record for record in self.table.records(route)} == endpoints
        addresses = {address for endpoints in self.naive.routes.values() for address in endpoints}
        assert self.table.endpoint_count == len(addresses)

    @invariant()
    def an_endpoint_knows_how_many_routes_have_it(self) -> None:
        held: dict[Endpoint, int] = {}
        for pool in self.table._pools.values():
            for endpoint in pool.endpoints:
                held[endpoint] = held.get(endpoint, 0) + 1
        assert all(endpoint.routes == count for endpoint, count in held.items())

    def key(self, route: str) -> tuple[str, str]:
        host, slash, path = route.partition("/")
        return host, slash + path


TestTable = TableMachine.TestCase
TestTable.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)


def record(port: int, app: str = "") -> EndpointRecord:
    return EndpointRecord(host="127.0.0.1", port=port, app=app)


@pytest.fixture
def table() -> RouteTable:
    return RouteTable()


def test_routes_that_registered_the_same_record_share_its_endpoint(table: RouteTable) -> None:
    table.upsert("a.test", record(1))
    table.upsert("b.test", record(1))
    a, b = table.lookup("a.test", ""), table.lookup("b.test", "")
    assert a is not None
    assert b is not None
    assert a.endpoints[0] is b.endpoints[0]
    assert table.endpoint_count == 1


def test_a_changed_record_replaces_the_endpoint_in_its_place(table: RouteTable) -> None:
    for port in (1, 2, 3):
        table.upsert("a.test", record(port))
    pool = table.lookup("a.test", "")
    assert pool is not None
    before = pool.endpoints
    table.upsert("a.test", record(2, "new"))
    assert pool.endpoints[::2] == before[::2]
    assert pool.endpoints[1].record.app == "new"
    assert before[1].routes == 0
    assert before[1].in_flight == 0


def test_an_endpoint_that_left_the_last_route_closes_all_its_idle_connections(table: RouteTable) -> None:
    class Idle:
        """What a connection does when it closes: it leaves the list it is on."""

        def __init__(self, endpoint: Endpoint) -> None:
            self.endpoint = endpoint
            self.open = True

        def close(self) -> None:
            self.open = False
            if self.endpoint.idle and self in self.endpoint.idle:  # type: ignore[comparison-overlap]
                self.endpoint.idle.remove(self)  # type: ignore[arg-type]

    table.upsert("a.test", record(1))
    table.upsert("b.test", record(1))
    pool = table.lookup("a.test", "")
    assert pool is not None
    endpoint = pool.endpoints[0]
    idle = [Idle(endpoint) for _ in range(5)]
    endpoint.idle = list(idle)  # type: ignore[arg-type]
    table.remove("a.test", endpoint.address)
    assert all(connection.open for connection in idle)
    table.remove("b.test", endpoint.address)
    assert not any(connection.open for connection in idle)


@pytest.mark.parametrize(
    ("asked", "route"),
    [
        (b"/", "a.test"),
        (b"/?x=/api", "a.test"),
        (b"/api", "a.test/api"),
        (b"/api/", "a.test/api"),
        (b"/api?x", "a.test/api"),
        (b"/API/V1", "a.test/api"),
        (b"/apiary", "a.test"),
        (b"/%61pi", "a.test"),
        (b"/api/%7Euser", "a.test/api/%7euser"),
        (b"//api", "a.test"),
        (b"/x/../api", "a.test"),
    ],
)
def test_paths_match_as_they_stand_on_the_wire(table: RouteTable, asked: bytes, route: str) -> None:
    for text in ("a.test", "a.test/API/", "a.test/api/%7Euser"):
        table.upsert(route_key(text), record(1))
    pool = table.lookup("a.test", route_path(asked))
    assert pool is not None
    assert pool is table._pools[route]


def test_unknown_removals_are_no_error(table: RouteTable) -> None:
    table.remove("a.test", "127.0.0.1:1")
    table.upsert("a.test", record(1))
    version = table.version
    table.remove("a.test", "127.0.0.1:2")
    table.remove("b.test", "127.0.0.1:1")
    assert table.version == version
    assert table.records("b.test") == ()


def test_a_pool_that_filled_up_again_is_not_forgotten_for_having_been_empty() -> None:
    table = RouteTable(60)
    table.upsert("a.test", record(1))
    table.remove("a.test", "127.0.0.1:1")
    table.upsert("a.test", record(2))
    table.forget_emptied(monotonic() + 100)
    assert table.routes() == ["a.test"]


def test_a_long_path_costs_no_more_than_the_deepest_route(table: RouteTable) -> None:
    table.upsert("a.test/x", record(1))
    assert table.lookup("a.test", "/x" + "/y" * 100_000) is table._pools["a.test/x"]


def test_a_route_balances_as_the_last_registration_that_said_how() -> None:
    table = RouteTable()
    table.upsert("a.test", EndpointRecord(host="10.0.0.1", port=80, options={"loadbalancing": "least-connection"}))
    for port, option in [(81, ""), (82, "no-such-thing")]:
        table.upsert("a.test", EndpointRecord(host="10.0.0.1", port=port, options={"loadbalancing": option}))
    pool = table.lookup("a.test", "")
    assert pool is not None
    assert pool.algorithm == "least-connection"
    table.upsert("a.test", EndpointRecord(host="10.0.0.1", port=83, options={"loadbalancing": "round-robin"}))
    assert pool.algorithm == "round-robin"


@pytest.mark.parametrize(
    ("filled", "asked", "met"),
    [
        ("", "x.a.test", "x.a.test"),
        ("*.a.test", "x.a.test", "*.a.test"),
        ("*.test", "x.a.test", "*.test"),
        ("x.a.test", "x.a.test", "x.a.test"),
        ("", "y.a.test", "*.a.test"),
        ("*.test", "y.a.test", "*.test"),
    ],
)
def test_of_pools_without_endpoints_the_nearest_is_met_unless_one_has_some(filled: str, asked: str, met: str) -> None:
    table = RouteTable(60)
    for route in ("*.test", "*.a.test", "x.a.test"):
        table.upsert(route, record(1))
        if route != filled:
            table.remove(route, record(1).address)
    pool = table.lookup(asked, "/path")
    assert pool is not None
    assert pool.route == met
    assert bool(pool.endpoints) == bool(filled)
