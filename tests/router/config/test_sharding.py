"""Isolation segments: which endpoints are there for a router, whatever is registered (gorouter reference 1.3)."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from router.config.settings import Settings
from router.config.sharding import accepted_segments
from router.registry.records import EndpointRecord
from router.table import RouteTable
from tests.router.registered import Registered, at, backends, registered_router

SEGMENTS = ["", "one", "two", "three"]
MODES = {
    ("all", ()): {"", "one", "two", "three"},
    ("all", ("one",)): {"", "one", "two", "three"},
    ("segments", ("one",)): {"one"},
    ("segments", ("one", "two")): {"one", "two"},
    ("shared-and-segments", ("one",)): {"", "one"},
    ("shared-and-segments", ()): {""},
}


@pytest.mark.parametrize(("mode", "segments"), MODES)
def test_what_each_mode_takes_in(mode: str, segments: tuple[str, ...]) -> None:
    accepted = accepted_segments(Settings(routing_table_sharding_mode=mode, isolation_segments=segments))
    table = RouteTable(segments=accepted)
    for port, segment in enumerate(SEGMENTS, 1):
        table.upsert("a.test", EndpointRecord(host="10.0.0.1", port=port, isolation_segment=segment))
    assert {record.isolation_segment for record in table.records("a.test")} == MODES[mode, segments]


class SegmentMachine(RuleBasedStateMachine):
    """Against a table that takes in everything, looked at through the segments."""

    @initialize(accepted=st.frozensets(st.sampled_from(SEGMENTS)), timeout=st.sampled_from([0.0, 60.0]))
    def begin(self, accepted: frozenset[str], timeout: float) -> None:
        self.accepted = accepted
        self.table = RouteTable(timeout, accepted)
        self.all: dict[tuple[str, str], EndpointRecord] = {}

    routes = st.sampled_from(["a.test", "a.test/x", "*.test"])
    ports = st.integers(1, 3)

    @rule(route=routes, port=ports, segment=st.sampled_from(SEGMENTS), app=st.sampled_from("ab"))
    def upsert(self, route: str, port: int, segment: str, app: str) -> None:
        record = EndpointRecord(host="10.0.0.1", port=port, isolation_segment=segment, app=app)
        self.table.upsert(route, record)
        self.all[route, record.address] = record

    @rule(route=routes, port=ports)
    def remove(self, route: str, port: int) -> None:
        self.table.remove(route, f"10.0.0.1:{port}")
        self.all.pop((route, f"10.0.0.1:{port}"), None)

    @invariant()
    def it_holds_what_is_in_its_segments(self) -> None:
        visible = {key: record for key, record in self.all.items() if record.isolation_segment in self.accepted}
        for route in ("a.test", "a.test/x", "*.test"):
            wanted = {address: record for (r, address), record in visible.items() if r == route}
            assert {record.address: record for record in self.table.records(route)} == wanted
        assert self.table.endpoint_count == len({address for _, address in visible})
        if not self.table.empty_pool_timeout:
            assert set(self.table.routes()) == {route for route, _ in visible}

    @invariant()
    def endpoints_know_how_many_routes_have_them(self) -> None:
        held = Counter(endpoint for pool in self.table._pools.values() for endpoint in pool.endpoints)
        assert all(endpoint.routes == count for endpoint, count in held.items())


TestSegments = SegmentMachine.TestCase
TestSegments.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)


def test_an_endpoint_that_changes_its_segment_comes_and_goes() -> None:
    table = RouteTable(segments=frozenset(("one",)))
    for segment, there in [("one", 1), ("two", 0), ("two", 0), ("one", 1), ("", 0)]:
        table.upsert("a.test", EndpointRecord(host="10.0.0.1", port=1, isolation_segment=segment))
        assert len(table.records("a.test")) == there
        assert (table.lookup("a.test", "") is not None) == bool(there)


def test_one_of_another_segment_says_nothing_of_how_its_route_balances() -> None:
    table = RouteTable(segments=frozenset(("one",)))
    table.upsert("a.test", EndpointRecord(host="10.0.0.1", port=1, isolation_segment="one"))
    other = EndpointRecord(
        host="10.0.0.1", port=2, isolation_segment="two", options={"loadbalancing": "least-connection"}
    )
    table.upsert("a.test", other)
    pool = table.lookup("a.test", "")
    assert pool is not None
    assert pool.algorithm == ""


def test_a_whole_router(registry_url: str) -> None:
    """Silently: what is not in its segments is an unknown route, and comes and goes as it is registered anew."""
    sharding = {"routing_table_sharding_mode": "shared-and-segments", "isolation_segments": ["one"]}
    with backends(3) as apps, registered_router(registry_url, "sharding", **sharding) as router:
        check_segments(
            router,
            [at(app, str(n), isolation_segment=s) for n, (app, s) in enumerate(zip(apps, SEGMENTS, strict=False))],
        )


def check_segments(router: Registered, records: list[EndpointRecord]) -> None:
    shared, one, two = records
    router.register(*[("seg.test", record) for record in records], ("two.test", two))
    assert set(router.instances(6, "seg.test")) == {"0", "1"}
    assert router.ask("two.test").status == 404
    moved = at(two.port, "2", isolation_segment="one")
    router.register(("two.test", moved), ("seg.test", moved))
    assert set(router.instances(6, "seg.test")) == {"0", "1", "2"}
    assert router.see("two.test").instance == "2"
    router.unregister(("seg.test", shared), ("seg.test", one))
    router.register(("seg.test", two))
    assert router.ask("seg.test").status == 503
