"""The announced table (gorouter reference 1.3, 1.4): what is told of which message, and when an endpoint is overdue."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from router.registry.records import EndpointRecord
from router.sources.announced import NO_TAG, AnnouncedTable, Announcement, Tag
from router.sources.journal import Journal

THRESHOLD = 120.0


class Mirror:
    """A listener that keeps what it is told: the table as a worker would have it."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str, str]] = []
        self.records: dict[tuple[str, str], bytes] = {}

    def put(self, route: str, announcement: Announcement) -> None:
        self.told.append(("put", route, announcement.address))
        self.records[route, announcement.address] = announcement.packed

    def put_again(self, route: str, announcement: Announcement) -> None:
        self.told.append(("again", route, announcement.address))
        assert self.records[route, announcement.address] == announcement.packed

    def left(self, route: str, address: str) -> None:
        self.told.append(("left", route, address))
        self.records.pop((route, address), None)

    def hear(self) -> list[tuple[str, str, str]]:
        told, self.told = self.told, []
        return told


class Table(AnnouncedTable):
    """One with a mirror, and a clock that stands still."""

    def __init__(self, **how: Any) -> None:
        self.now = 1000.0
        self.wall = 10**18
        self.latencies: list[float] = []
        self.mirror = Mirror()
        super().__init__(
            self.mirror,
            Journal(logging.getLogger("test.table"), lambda: self.now),
            threshold=THRESHOLD,
            clock=lambda: self.now,
            wall_ns=lambda: self.wall,
            on_latency=self.latencies.append,
            **how,
        )

    def overdue_now(self) -> list[Announcement]:
        return [announcement for announcement in self.overdue() if announcement is not None]

    def prune_all(self) -> int:
        return sum(self.prune(announcement) for announcement in self.overdue_now())


@pytest.fixture
def table() -> Table:
    return Table()


def at(number: int, **said: Any) -> EndpointRecord:
    return EndpointRecord(host=f"10.0.0.{number}", port=80, **said)


class TestRegistering:
    def test_tells_what_is_new(self, table: Table) -> None:
        table.register(("a.com", "b.com/x"), at(1))
        assert table.mirror.hear() == [("put", "a.com", "10.0.0.1:80"), ("put", "b.com/x", "10.0.0.1:80")]
        assert (len(table), table.endpoints) == (2, 2)
        assert table.registered == {("", "added"): 2}

    def test_again_tells_nothing(self, table: Table) -> None:
        table.register(("a.com",), at(1), key=b"m")
        table.mirror.hear()
        table.register(("a.com",), at(1))
        assert table.mirror.hear() == []
        assert table.registered == {("", "added"): 1, ("", "updated"): 1}

    def test_what_changed_is_told(self, table: Table) -> None:
        table.register(("a.com",), at(1))
        table.register(("a.com",), at(1, app="other"))
        assert table.mirror.hear() == [("put", "a.com", "10.0.0.1:80")] * 2
        assert table.mirror.records["a.com", "10.0.0.1:80"] == at(1, app="other").to_json()

    def test_an_availability_zone_alone_is_a_change(self, table: Table) -> None:
        table.register(("a.com",), at(1))
        table.register(("a.com",), at(1, availability_zone="z2"))
        assert len(table.mirror.hear()) == 2

    def test_routes_of_other_segments_are_not_there(self) -> None:
        table = Table(segments=frozenset(("east",)))
        table.register(("a.com",), at(1))
        table.register(("a.com",), at(2, isolation_segment="east"))
        table.unregister(("a.com",), "10.0.0.2:80")
        assert table.mirror.hear() == [("put", "a.com", "10.0.0.2:80")]
        table.unregister(("a.com",), "10.0.0.2:80", segment="east")
        assert table.mirror.hear() == [("left", "a.com", "10.0.0.2:80")]

    def test_says_how_long_ago_a_new_endpoint_was_made(self, table: Table) -> None:
        table.register(("a.com",), at(1), updated_at_ns=table.wall - 250_000_000)
        table.register(("a.com",), at(1), updated_at_ns=table.wall - 500_000_000)
        table.register(("a.com",), at(2))
        assert table.latencies == [0.25]

    def test_components_are_counted_by_name_as_long_as_they_are_few(self, table: Table) -> None:
        for number in range(300):
            table.register(("a.com",), at(1, tags={"component": f"c{number}"}))
        assert len(table.registered) == 201
        assert table.registered["other", "updated"] == 100


class TestRefreshing:
    def test_is_for_messages_that_are_known(self, table: Table) -> None:
        assert not table.refresh(b"m")
        table.register(("a.com",), at(1), key=b"m")
        assert table.refresh(b"m")
        assert table.registered == {("", "added"): 1, ("", "updated"): 1}

    def test_moves_the_time(self, table: Table) -> None:
        table.register(("a.com", "b.com"), at(1), key=b"m")
        table.now += THRESHOLD
        assert table.refresh(b"m")
        table.now += THRESHOLD
        assert table.overdue_now() == []

    def test_is_not_for_a_message_that_lost_a_route(self, table: Table) -> None:
        table.register(("a.com", "b.com"), at(1), key=b"m")
        table.unregister(("a.com",), "10.0.0.1:80")
        assert not table.refresh(b"m")
        table.register(("a.com", "b.com"), at(1), key=b"m")
        assert table.refresh(b"m")

    def test_is_not_for_a_message_that_another_one_replaced(self, table: Table) -> None:
        table.register(("a.com",), at(1), key=b"m")
        table.register(("a.com",), at(1, app="x"), key=b"n")
        assert not table.refresh(b"m")
        assert table.refresh(b"n")

    def test_a_route_that_moved_to_another_message_is_kept_by_that_one_alone(self, table: Table) -> None:
        table.register(("a.com", "b.com"), at(1), key=b"both")
        table.register(("a.com",), at(1), key=b"one")
        table.now += THRESHOLD + 1
        assert table.refresh(b"one")
        assert table.prune_all() == 1
        assert list(table.mirror.records) == [("a.com", "10.0.0.1:80")]


class TestUnregistering:
    def test_tells_it(self, table: Table) -> None:
        table.register(("a.com", "b.com"), at(1))
        table.mirror.hear()
        table.unregister(("a.com",), "10.0.0.1:80", component="emitter")
        assert table.mirror.hear() == [("left", "a.com", "10.0.0.1:80")]
        assert table.routes() == ["b.com"]
        assert table.unregistered == {"emitter": 1}

    def test_what_is_not_there_is_told_too(self, table: Table) -> None:
        table.unregister(("a.com",), "10.0.0.1:80")
        assert table.mirror.hear() == [("left", "a.com", "10.0.0.1:80")]

    def test_the_others_of_a_route_stay_in_order(self, table: Table) -> None:
        for number in (1, 2, 3):
            table.register(("a.com",), at(number))
        table.unregister(("a.com",), "10.0.0.2:80")
        pool = table.pool("a.com")
        assert pool is not None
        assert [each.address for each in pool.announcements] == ["10.0.0.1:80", "10.0.0.3:80"]


class TestTags:
    @pytest.mark.parametrize(
        ("old", "new", "taken"),
        [
            (Tag("g", 1), Tag("g", 2), True),
            (Tag("g", 2), Tag("g", 1), False),
            (Tag("g", 2), Tag("g", 2), False),
            (Tag("g", 2), Tag("h", 1), True),
            (Tag("g", 2), NO_TAG, True),
            (NO_TAG, Tag("g", 0), True),
        ],
    )
    def test_decide_whether_a_change_is_newer(self, table: Table, old: Tag, new: Tag, taken: bool) -> None:
        table.register(("a.com",), at(1), tag=old)
        table.register(("a.com",), at(1, app="new"), tag=new)
        assert table.mirror.records["a.com", "10.0.0.1:80"] == at(1, app="new" if taken else "").to_json()
        assert table.registered["", "updated" if taken else "unmodified"] == 1

    def test_the_same_again_is_a_refreshment(self, table: Table) -> None:
        table.register(("a.com",), at(1), tag=Tag("g", 2))
        table.now += THRESHOLD
        table.register(("a.com",), at(1), tag=Tag("g", 2))
        table.now += THRESHOLD
        assert table.overdue_now() == []

    def test_what_is_older_refreshes_nothing(self, table: Table) -> None:
        table.register(("a.com",), at(1), tag=Tag("g", 2))
        table.now += THRESHOLD
        table.register(("a.com",), at(1), tag=Tag("g", 1))
        table.now += 1
        assert len(table.overdue_now()) == 1

    @pytest.mark.parametrize(
        ("old", "new", "leaves"),
        [
            (Tag("g", 1), Tag("g", 2), True),
            (Tag("g", 2), Tag("g", 2), True),
            (Tag("g", 2), Tag("g", 1), False),
            (Tag("g", 2), NO_TAG, True),
        ],
    )
    def test_decide_whether_an_endpoint_leaves(self, table: Table, old: Tag, new: Tag, leaves: bool) -> None:
        table.register(("a.com",), at(1), tag=old)
        table.unregister(("a.com",), "10.0.0.1:80", tag=new)
        assert bool(table.mirror.records) is not leaves


class TestTimes:
    @pytest.mark.parametrize(
        ("said", "lives"), [(0, THRESHOLD), (60, 60), (500, THRESHOLD), (THRESHOLD, THRESHOLD), (-5, -5)]
    )
    def test_a_ttl_is_honoured_up_to_the_threshold(self, table: Table, said: float, lives: float) -> None:
        table.register(("a.com",), at(1), said)
        table.now += lives
        assert table.overdue_now() == []
        table.now += 0.1
        assert [each.address for each in table.overdue_now()] == ["10.0.0.1:80"]

    def test_pruning_takes_an_endpoint_out_of_all_of_its_routes(self, table: Table) -> None:
        table.register(("a.com", "b.com"), at(1))
        table.register(("b.com",), at(2), key=b"m")
        table.mirror.hear()
        table.now += THRESHOLD + 1
        table.refresh(b"m")
        assert table.prune_all() == table.pruned == 2
        assert table.mirror.hear() == [("left", "a.com", "10.0.0.1:80"), ("left", "b.com", "10.0.0.1:80")]

    def test_after_an_absence_everything_counts_as_announced_now(self, table: Table) -> None:
        table.register(("a.com",), at(1))
        table.now += THRESHOLD + 1
        table.renew_all()
        assert table.overdue_now() == []
        table.now += THRESHOLD + 1
        assert len(table.overdue_now()) == 1

    def test_what_is_restored_has_a_threshold_and_gives_way_to_what_is_announced(self, table: Table) -> None:
        table.register(("a.com",), at(1))
        table.restore("a.com", at(1, app="old"))
        table.restore("a.com", at(2))
        table.restore("b.com", at(2))
        assert table.mirror.records["a.com", "10.0.0.1:80"] == at(1).to_json()
        table.register(("b.com",), at(2), key=b"m")
        table.now += THRESHOLD + 1
        table.refresh(b"m")
        assert sorted(each.address for each in table.overdue_now()) == ["10.0.0.1:80", "10.0.0.2:80"]
        assert table.prune_all() == 2
        assert table.routes() == ["b.com"]

    def test_a_look_at_many_gives_way_again_and_again(self, table: Table) -> None:
        for number in range(2000):
            table.register((f"{number}.com",), at(1))
        assert list(table.overdue()) == [None] * 4


class TestWhatAPoolIsAskedFor:
    """Pool-level properties: the last one that says something wins (reference 1.3)."""

    def asks(self, table: Table) -> tuple[tuple[str, ...], str]:
        pool = table.pool("a.com")
        assert pool is not None
        return pool.asks.balancing, pool.asks.route_service_url

    def test_an_empty_algorithm_changes_nothing_and_an_empty_route_service_does(self, table: Table) -> None:
        both = {"options": {"loadbalancing": "least-connection"}, "route_service_url": "https://rs.com"}
        table.register(("a.com",), at(1, **both))
        assert self.asks(table) == (("least-connection",), "https://rs.com")
        table.register(("a.com",), at(2))
        assert self.asks(table) == (("least-connection",), "")

    def test_who_announces_again_wins_again(self, table: Table) -> None:
        table.register(("a.com",), at(1, options={"loadbalancing": "least-connection"}), key=b"m")
        table.register(("a.com",), at(2, options={"loadbalancing": "round-robin"}), key=b"n")
        table.mirror.hear()
        assert not table.refresh(b"m")
        table.register(("a.com",), at(1, options={"loadbalancing": "least-connection"}), key=b"m")
        assert table.mirror.hear() == [("again", "a.com", "10.0.0.1:80")]
        assert table.refresh(b"m")

    @pytest.mark.parametrize(
        "options",
        [{"loadbalancing": "magic"}, {"loadbalancing": "hash"}, {"loadbalancing": "hash", "hash_header": "a b"}],
    )
    def test_an_algorithm_that_cannot_be_is_reported(
        self, table: Table, options: dict[str, str], caplog: pytest.LogCaptureFixture
    ) -> None:
        table.register(("a.com",), at(1, options={"loadbalancing": "hash", "hash_header": "X-Id"}))
        table.register(("a.com",), at(2, options=options))
        assert self.asks(table)[0] == ("hash", "X-Id", "")
        assert [record.getMessage() for record in caplog.records] == [
            "invalid-endpoint-load-balancing-algorithm-provided-keeping-pool-lb-algo"
        ]


class TestLog:
    def test_has_a_line_for_each_change(self, table: Table, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        table.register(("a.com",), at(1))
        table.register(("a.com",), at(1, app="x"), tag=Tag("g", 1))
        table.register(("a.com",), at(1), tag=Tag("g", 0))
        table.unregister(("a.com",), "10.0.0.9:80")
        table.unregister(("a.com",), "10.0.0.1:80")
        table.register(("b.com",), at(1))
        table.now += THRESHOLD + 1
        table.prune_all()
        assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
            ("INFO", "route-registered"),
            ("INFO", "endpoint-registered"),
            ("DEBUG", "endpoint-registered"),
            ("DEBUG", "endpoint-not-registered"),
            ("INFO", "endpoint-not-unregistered"),
            ("INFO", "endpoint-unregistered"),
            ("INFO", "route-unregistered"),
            ("INFO", "route-registered"),
            ("INFO", "endpoint-registered"),
            ("INFO", "pruned-route"),
        ]
        assert vars(caplog.records[1])["data"] == {
            "uri": "a.com",
            "backend": "10.0.0.1:80",
            "modification_tag": {"guid": "", "index": 0},
            "isolation_segment": "-",
            "isTLS": False,
        }


ROUTES = ("a.com", "b.com", "b.com/x")
KEYS = (b"k0", b"k1", b"k2", b"k3")


class Model(RuleBasedStateMachine):
    """The same by a table that remembers every endpoint of every route by itself, and compares everything each time."""

    def __init__(self) -> None:
        super().__init__()
        self.table = Table()
        self.there: dict[tuple[str, str], tuple[bytes, Tag, float, float]] = {}
        self.messages: dict[bytes, tuple[tuple[str, ...], EndpointRecord, float]] = {}

    def take(self, routes: tuple[str, ...], record: EndpointRecord, ttl: float, tag: Tag) -> None:
        for route in routes:
            here = route, record.address
            packed = record.to_json()
            if here in self.there:
                before, older, _, _ = self.there[here]
                if (before, older) != (packed, tag) and not older.succeeded_by(tag):
                    continue
            self.there[here] = packed, tag, self.table.now, min(ttl, THRESHOLD) or THRESHOLD

    @rule(
        key=st.sampled_from(KEYS),
        routes=st.lists(st.sampled_from(ROUTES), unique=True).map(tuple),
        number=st.integers(1, 3),
        app=st.sampled_from(("", "x")),
        ttl=st.sampled_from((0, 60)),
    )
    def a_message_comes(self, key: bytes, routes: tuple[str, ...], number: int, app: str, ttl: float) -> None:
        routes, record, ttl = self.messages.setdefault(key, (routes, at(number, app=app), ttl))
        if not self.table.refresh(key):
            self.table.register(routes, record, ttl, key=key)
        self.take(routes, record, ttl, NO_TAG)

    @rule(
        route=st.sampled_from(ROUTES),
        number=st.integers(1, 3),
        app=st.sampled_from(("", "x")),
        tag=st.builds(Tag, st.sampled_from(("", "g", "h")), st.integers(0, 2)),
    )
    def a_route_comes_by_the_api(self, route: str, number: int, app: str, tag: Tag) -> None:
        self.table.register((route,), at(number, app=app), 0, tag)
        self.take((route,), at(number, app=app), 0, tag)

    @rule(route=st.sampled_from(ROUTES), number=st.integers(1, 3), tag=st.just(NO_TAG) | st.just(Tag("g", 1)))
    def one_leaves(self, route: str, number: int, tag: Tag) -> None:
        address = at(number).address
        self.table.unregister((route,), address, tag=tag)
        older = self.there.get((route, address), (b"", NO_TAG, 0.0, 0.0))[1]
        if older == tag or older.succeeded_by(tag):
            self.there.pop((route, address), None)

    @rule(seconds=st.sampled_from((30.0, 61.0, 121.0)))
    def time_passes(self, seconds: float) -> None:
        self.table.now += seconds

    @rule()
    def the_overdue_leave(self) -> None:
        self.table.prune_all()
        now = self.table.now
        self.there = {here: what for here, what in self.there.items() if now - what[2] <= what[3]}

    @invariant()
    def both_agree(self) -> None:
        assert self.table.mirror.records == {here: what[0] for here, what in self.there.items()}
        assert self.table.endpoints == len(self.there)
        assert set(self.table.routes()) == {route for route, _ in self.there}
        for (route, address), (packed, tag, refreshed, ttl) in self.there.items():
            found = self.table.find(route, address)
            assert found is not None
            assert (found.packed, found.tag, found.refreshed, found.ttl) == (packed, tag, refreshed, ttl)

    @invariant()
    def nothing_is_remembered_that_serves_no_route(self) -> None:
        held: dict[int, int] = {}
        for route in self.table.routes():
            pool = self.table.pool(route)
            assert pool is not None
            for announcement in pool.announcements:
                held[id(announcement)] = held.get(id(announcement), 0) + 1
        known = self.table._announcements
        assert {id(each): each.held for each in known} == held
        assert set(self.table._by_key.values()) <= set(known)


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
