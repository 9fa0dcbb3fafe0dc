"""Which endpoint of its route a request meets: gorouter reference sections 3.1 to 3.4, by whole routers.

Tests named "ours" are where this router differs on purpose: see docs/compatibility.md. What fails is in
test_gorouter_failures, sticky sessions are in test_gorouter_sticky.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from string import ascii_lowercase
from typing import Any, ClassVar

import pytest

from router.registry.records import EndpointRecord
from tests.router.registered import Registered, at, backends, registered_router, resetting, silent_end, telling
from tests.router.wire import Backend, Wire, backend, wait_until

LEAST_CONNECTION = {"loadbalancing": "least-connection"}
HASH = {"loadbalancing": "hash", "hash_header": "X-Key"}


@pytest.fixture(scope="module")
def apps() -> Iterator[list[Backend]]:
    with backends(5) as running:
        yield running


@pytest.fixture(scope="module")
def router(registry_url: str) -> Iterator[Registered]:
    """All settings as they are by default."""
    with registered_router(registry_url, "balancing") as running:
        yield running


@pytest.fixture(scope="module")
def zoned(registry_url: str) -> Iterator[Registered]:
    """In zone z1, with one exchange per endpoint, least-connection by default."""
    settings = {"balancing_algorithm_az_preference": "locally-optimistic", "zone": "z1"}
    with registered_router(
        registry_url, "zoned", balancing_algorithm="least-connection", backends={"max_conns": 1}, **settings
    ) as running:
        yield running


@pytest.fixture(scope="module")
def nowhere(registry_url: str) -> Iterator[Registered]:
    """In the zone without a name; failures are forgotten after half a second."""
    settings = {"balancing_algorithm_az_preference": "locally-optimistic", "droplet_stale_threshold": "2s"}
    with registered_router(registry_url, "nowhere", **settings) as running:
        yield running


def pool(router: Registered, host: str, apps: list[Backend], **fields: Any) -> list[EndpointRecord]:
    """Register instances a, b, ... of an app of this route's own."""
    records = [at(app, name, app=host, **fields) for app, name in zip(apps, ascii_lowercase, strict=False)]
    router.register(*[(host, record) for record in records])
    return records


class TestRoundRobin:
    """3.1"""

    def test_one_step_per_request(self, router: Registered, apps: list[Backend]) -> None:
        pool(router, "steps.test", apps[:4])
        seen = router.instances(12, "steps.test")
        assert "".join(seen) in "abcd" * 4

    def test_starts_at_a_random_index(self, router: Registered, apps: list[Backend]) -> None:
        hosts = [f"start-{n}.test" for n in range(24)]
        router.register(*[(host, at(app, str(n), app=host)) for host in hosts for n, app in enumerate(apps[:4])])
        assert len({router.see(host).instance for host in hosts}) > 1

    def test_is_the_default_and_counts_per_route(self, router: Registered, apps: list[Backend]) -> None:
        for host in ("own.test", "other.test"):
            pool(router, host, apps[:3])
        seen = [(router.see("own.test").instance, router.see("other.test").instance) for _ in range(6)]
        for side in zip(*seen, strict=True):
            assert "".join(side) in "abc" * 3

    def test_who_joins_takes_turns_at_once(self, router: Registered, apps: list[Backend]) -> None:
        pool(router, "joins.test", apps[:2])
        router.see("joins.test")
        pool(router, "joins.test", apps[:3])
        assert Counter(router.instances(9, "joins.test")) == {"a": 3, "b": 3, "c": 3}

    def test_who_leaves_leaves_turns_to_the_others(self, router: Registered, apps: list[Backend]) -> None:
        records = pool(router, "leaves.test", apps[:3])
        router.unregister(("leaves.test", records[1]))
        assert Counter(router.instances(8, "leaves.test")) == {"a": 4, "c": 4}

    def test_skips_overloaded(self, zoned: Registered, apps: list[Backend]) -> None:
        pool(zoned, "over.test", apps[:3], options={"loadbalancing": "round-robin"})
        with zoned.held("over.test") as busy:
            seen = zoned.instances(6, "over.test")
        assert all(one != other for one, other in pairwise(seen))
        assert set(seen) == set("abc") - {busy}

    def test_if_all_are_overloaded_there_is_none(self, zoned: Registered, apps: list[Backend]) -> None:
        pool(zoned, "all-over.test", apps[:2], options={"loadbalancing": "round-robin"})
        with zoned.held("all-over.test") as one, zoned.held("all-over.test") as other:
            assert {one, other} == {"a", "b"}
            assert zoned.ask("all-over.test").get("X-Cf-RouterError") == b"Connection Limit Reached"

    def test_skips_failed(self, router: Registered, apps: list[Backend]) -> None:
        with backend(resetting) as bad:
            pool(router, "failed.test", [apps[0], bad, apps[1]])
            assert set(router.instances(9, "failed.test")) == {"a", "c"}
            assert bad.connections == 1

    def test_a_mark_lasts_a_quarter_of_the_stale_threshold(self, nowhere: Registered, apps: list[Backend]) -> None:
        with backend(resetting) as bad:
            pool(nowhere, "mark.test", [apps[0], bad])
            before = time.monotonic()
            nowhere.instances(2, "mark.test")
            assert bad.connections == 1
            wait_until(lambda: nowhere.see("mark.test") and bad.connections == 2, "another attempt")
            assert 0.5 < time.monotonic() - before < 5

    def test_if_all_have_failed_every_mark_is_cleared(self, router: Registered, apps: list[Backend]) -> None:
        """Seen by who joins afterwards: it gets no more than its share."""
        failing = True
        tell = telling()

        def script(wire: Wire) -> None:
            if failing:
                resetting(wire)
            else:
                tell(wire)

        with backend(script) as one, backend(script) as two:
            pool(router, "cleared.test", [one, two])
            assert router.ask("cleared.test").status == 502
            failing = False
            assert router.see("cleared.test").instance in "ab"
            pool(router, "cleared.test", [one, two, apps[0]])
            assert Counter(router.instances(6, "cleared.test")) == {"a": 2, "b": 2, "c": 2}

    def test_a_request_that_moves_on_takes_the_turn_of_who_it_moves_to(
        self, router: Registered, apps: list[Backend]
    ) -> None:
        """As in the older release; by the newer one's rule the neighbour of a failing endpoint gets twice its share."""
        with backend(silent_end) as bad:
            pool(router, "moves.test", [apps[0], bad, apps[1]])
            assert Counter(router.instances(12, "moves.test")) == {"a": 6, "c": 6}
            assert bad.connections in (5, 6)  # 5 where the first turn was c's


class TestLeastConnection:
    """3.2"""

    def test_the_lowest_count_wins(self, router: Registered, apps: list[Backend]) -> None:
        pool(router, "least.test", apps[:3], options=LEAST_CONNECTION)
        with router.held("least.test") as first, router.held("least.test") as second:
            assert first != second
            assert set(router.instances(8, "least.test")) == set("abc") - {first, second}
            with router.held("least.test") as third:
                assert {first, second, third} == set("abc")

    def test_ties_are_random(self, router: Registered, apps: list[Backend]) -> None:
        pool(router, "ties.test", apps[:3], options=LEAST_CONNECTION)
        seen = router.instances(60, "ties.test")
        assert set(seen) == set("abc")
        assert any(one == other for one, other in pairwise(seen))

    def test_skips_overloaded(self, zoned: Registered, apps: list[Backend]) -> None:
        pool(zoned, "least-over.test", apps[:2])
        with zoned.held("least-over.test") as busy:
            assert set(zoned.instances(4, "least-over.test")) == set("ab") - {busy}

    def test_a_single_endpoint_is_returned_unless_overloaded(self, zoned: Registered, apps: list[Backend]) -> None:
        pool(zoned, "single.test", apps[:1])
        assert zoned.instances(3, "single.test") == ["a"] * 3
        with zoned.held("single.test"):
            assert zoned.ask("single.test").get("X-Cf-RouterError") == b"Connection Limit Reached"

    def test_ours_failed_ones_are_passed_over(self, router: Registered, apps: list[Backend]) -> None:
        with backend(resetting) as bad:
            pool(router, "least-failed.test", [apps[0], bad], options=LEAST_CONNECTION)
            wait_until(lambda: router.see("least-failed.test") and bad.connections, "an attempt at the bad one")
            assert set(router.instances(20, "least-failed.test")) == {"a"}
            assert bad.connections == 1

    def test_as_the_routers_default(self, zoned: Registered, apps: list[Backend]) -> None:
        pool(zoned, "default.test", apps[:3])
        seen = zoned.instances(60, "default.test")
        assert any(one == other for one, other in pairwise(seen))


class TestInFlight:
    """3.3"""

    def test_ours_counts_until_the_end_of_the_response(self, zoned: Registered, apps: list[Backend]) -> None:
        """The original stops counting at its head."""
        pool(zoned, "body.test", apps[:1])
        with zoned.held("body.test", target="/stream") as streaming:
            assert streaming == "a"
            assert zoned.ask("body.test").status == 503
        wait_until(lambda: zoned.ask("body.test").status == 200, "room after the end")

    def test_ours_counts_tunnels(self, zoned: Registered) -> None:
        def upgraded(wire: Wire) -> None:
            wire.head()
            wire.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
            wire.read_to_end()

        with backend(upgraded) as app:
            pool(zoned, "tunnel.test", [app])
            with zoned.waiting("tunnel.test", "/", "Connection: Upgrade", "Upgrade: websocket") as wire:
                assert wire.head().status == 101
                assert zoned.ask("tunnel.test").status == 503

    def test_an_attempt_that_fails_counts_no_longer(self, zoned: Registered) -> None:
        with backend(resetting) as bad:
            pool(zoned, "fails.test", [bad])
            assert [zoned.ask("fails.test").status for _ in range(3)] == [502] * 3

    def test_belongs_to_the_endpoint_shared_by_its_uris(self, zoned: Registered, apps: list[Backend]) -> None:
        record = at(apps[0], "a", app="shared")
        zoned.register(("one.test", record), ("two.test/path", record))
        with zoned.held("one.test"):
            assert zoned.ask("two.test", "/path").status == 503

    def test_restarts_when_a_changed_registration_replaces_it(self, zoned: Registered, apps: list[Backend]) -> None:
        pool(zoned, "changed.test", apps[:1])
        with zoned.held("changed.test"):
            pool(zoned, "changed.test", apps[:1])
            assert zoned.ask("changed.test").status == 503  # the same again replaces nothing
            pool(zoned, "changed.test", apps[:1], tags={"component": "new"})
            assert zoned.ask("changed.test").status == 200
        assert zoned.ask("changed.test").status == 200

    def test_max_conns_0_is_unlimited(self, router: Registered, apps: list[Backend]) -> None:
        pool(router, "unlimited.test", apps[:1])
        with router.held("unlimited.test"), router.held("unlimited.test"), router.held("unlimited.test"):
            assert router.see("unlimited.test").instance == "a"


def balancing(router: Registered, host: str) -> str:
    """How a route of two endpoints balances, told by what it does."""
    keyed = router.series(host, ["X-Key: 1"] * 24)
    if len(set(keyed)) == 1:
        return "hash"
    with router.held(host) as busy:
        seen = set(router.instances(4, host))
    return "least-connection" if busy not in seen else "round-robin"


class TestOptions:
    """1.2, 1.3, 3.4"""

    @pytest.mark.parametrize("name", ["loadbalancing", "lb_algo"])
    @pytest.mark.parametrize("algorithm", ["round-robin", "least-connection"])
    def test_both_spellings(self, router: Registered, apps: list[Backend], name: str, algorithm: str) -> None:
        host = f"{name.replace('_', '-')}-{algorithm}.test"
        pool(router, host, apps[:2], options={name: algorithm})
        assert balancing(router, host) == algorithm

    def test_a_route_counts_before_the_router(self, zoned: Registered, apps: list[Backend]) -> None:
        pool(zoned, "before.test", apps[:3], options={"loadbalancing": "round-robin"})
        assert "".join(zoned.instances(9, "before.test")) in "abc" * 4

    def test_the_last_writer_wins(self, router: Registered, apps: list[Backend]) -> None:
        host = "last.test"
        for app, name, algorithm in zip(apps, "aba", ("round-robin", "least-connection", "round-robin"), strict=False):
            router.register((host, at(app, name, app=host, options={"loadbalancing": algorithm})))
        with router.held(host) as busy:
            assert busy in router.instances(6, host)

    def test_also_where_only_its_options_change(self, router: Registered, apps: list[Backend]) -> None:
        pool(router, "changes.test", apps[:2], options=LEAST_CONNECTION)
        pool(router, "changes.test", apps[:1], options={"loadbalancing": "round-robin"})
        assert balancing(router, "changes.test") == "round-robin"
        pool(router, "changes.test", apps[:1], options=HASH)
        assert balancing(router, "changes.test") == "hash"

    @pytest.mark.parametrize(
        ("number", "options"),
        list(
            enumerate(
                [
                    {},
                    {"loadbalancing": ""},
                    {"lb_algo": ""},
                    {"other": "x"},
                    {"loadbalancing": "random"},
                    {"loadbalancing": "ROUND-ROBIN"},
                    {"lb_algo": "round_robin"},
                    {"loadbalancing": "hash"},
                    {"loadbalancing": "hash", "hash_header": ""},
                    {"loadbalancing": "hash", "hash_header": "not a name"},
                    {"loadbalancing": "hash", "hash_header": "x" * 129},
                    {**HASH, "hash_balance": "1.0"},
                    {**HASH, "hash_balance": "10.1"},
                    {**HASH, "hash_balance": "-1"},
                    {**HASH, "hash_balance": "much"},
                    {**HASH, "hash_balance": "nan"},
                ]
            )
        ),
    )
    def test_empty_and_invalid_values_change_nothing(
        self, router: Registered, apps: list[Backend], number: int, options: dict[str, str]
    ) -> None:
        host = f"invalid-{number}.test"
        router.register(
            (host, at(apps[0], "a", app=host, options=LEAST_CONNECTION)),
            (host, at(apps[1], "b", app=host, options=options)),
        )
        assert balancing(router, host) == "least-connection"

    def test_what_was_asked_for_outlasts_who_asked(self, router: Registered, apps: list[Backend]) -> None:
        records = pool(router, "outlasts.test", apps[:3], options={})
        router.register(("outlasts.test", at(apps[3], "d", app="outlasts.test", options=LEAST_CONNECTION)))
        router.unregister(("outlasts.test", at(apps[3], "d", app="outlasts.test")))
        router.unregister(("outlasts.test", records[2]))
        assert balancing(router, "outlasts.test") == "least-connection"


class TestHash:
    """3.4"""

    KEYS: ClassVar = [f"X-Key: {number}" for number in range(200)]

    def test_a_key_stays_with_its_endpoint(self, router: Registered, apps: list[Backend]) -> None:
        pool(router, "stays.test", apps[:4], options=HASH)
        for key in ("one", "two", "", "three " * 20):
            assert len(set(router.instances(4, "stays.test", "/", f"x-KEY: {key}"))) == 1

    def test_keys_spread_over_all(self, router: Registered, apps: list[Backend]) -> None:
        pool(router, "spread.test", apps[:4], options={**HASH, "hash_balance": "0"})
        shares = Counter(router.series("spread.test", self.KEYS))
        assert set(shares) == set("abcd")
        assert max(shares.values()) < 100

    def test_the_order_of_registration_does_not_matter(self, router: Registered, apps: list[Backend]) -> None:
        pool(router, "order.test", apps[:4], options=HASH)
        host = "reverse.test"
        records = [at(app, name, app=host, options=HASH) for app, name in zip(apps[:4], "abcd", strict=True)]
        router.register(*[(host, record) for record in reversed(records)])
        assert router.series("order.test", self.KEYS[:40]) == router.series(host, self.KEYS[:40])

    def test_who_joins_takes_its_share_and_nothing_else_moves(self, router: Registered, apps: list[Backend]) -> None:
        pool(router, "grows.test", apps[:4], options=HASH)
        before = router.series("grows.test", self.KEYS)
        pool(router, "grows.test", apps[:5], options=HASH)
        after = router.series("grows.test", self.KEYS)
        moved = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
        assert 0 < len(moved) <= len(self.KEYS) / 5 * 1.6
        assert {new for _, new in moved} == {"e"}

    def test_who_leaves_gives_its_keys_to_the_others(self, router: Registered, apps: list[Backend]) -> None:
        records = pool(router, "shrinks.test", apps[:5], options=HASH)
        before = router.series("shrinks.test", self.KEYS)
        router.unregister(("shrinks.test", records[2]))
        after = router.series("shrinks.test", self.KEYS)
        assert {old for old, new in zip(before, after, strict=True) if old != new} == {"c"}
        assert set(after) == set("abde")

    def test_a_missing_header_is_balanced_by_the_routers_algorithm(
        self, router: Registered, zoned: Registered, apps: list[Backend]
    ) -> None:
        pool(router, "missing.test", apps[:3], options=HASH)
        assert "".join(router.instances(9, "missing.test")) in "abc" * 4
        pool(zoned, "missing.test", apps[:3], options=HASH, availability_zone="z1")
        zoned.register(("missing.test", at(apps[3], "far", app="missing.test", availability_zone="z2")))
        seen = zoned.instances(60, "missing.test")
        assert any(one == other for one, other in pairwise(seen))
        assert set(seen) == set("abc")

    @pytest.mark.parametrize("name", ["X-Forwarded-For", "Cookie", "Host", "User-Agent"])
    def test_headers_that_the_router_knows_are_as_good_as_any(
        self, router: Registered, apps: list[Backend], name: str
    ) -> None:
        host = f"{name.lower()}.test"
        pool(router, host, apps[:4], options={"loadbalancing": "hash", "hash_header": name})
        if name == "Host":
            hosts = [f"{host}:{port}" for port in range(1, 41)]
            seen = [router.see(one).instance for one in hosts]
            assert [router.see(one).instance for one in hosts] == seen
        else:
            lines = [f"{name}: 10.0.0.{number}" for number in range(40)]
            seen = router.series(host, lines)
            assert router.series(host, lines) == seen
        assert set(seen) == set("abcd")

    def test_a_client_without_x_forwarded_for_is_hashed_by_its_address(
        self, router: Registered, apps: list[Backend]
    ) -> None:
        pool(router, "address.test", apps[:4], options={"loadbalancing": "hash", "hash_header": "X-Forwarded-For"})
        assert len(set(router.instances(8, "address.test"))) == 1

    def test_overloaded_ones_are_passed_over(self, zoned: Registered, apps: list[Backend]) -> None:
        pool(zoned, "hash-over.test", apps[:3], options=HASH)
        first = zoned.see("hash-over.test", "/", "X-Key: k").instance
        with zoned.held("hash-over.test", "X-Key: k") as busy:
            assert busy == first
            second = zoned.series("hash-over.test", ["X-Key: k"] * 3)
            assert len(set(second)) == 1
            assert first not in second
        wait_until(lambda: zoned.see("hash-over.test", "/", "X-Key: k").instance == first, "the first again")

    def test_an_attempt_that_fails_goes_on_to_the_next_on_the_ring(
        self, router: Registered, apps: list[Backend]
    ) -> None:
        with backend(resetting) as bad:
            pool(router, "hash-fails.test", [apps[0], apps[1], bad], options=HASH)
            first = router.series("hash-fails.test", self.KEYS[:60])
            assert bad.connections == 1  # passed over afterwards
            assert set(first) == {"a", "b"}
            assert router.series("hash-fails.test", self.KEYS[:60])[10:] == first[10:]

    @pytest.mark.parametrize(
        ("balance", "held"), [("", "aaaa"), ("0", "aaaa"), ("10", "aaaa"), ("1.1", "aaba"), ("1.5", "aaab")]
    )
    def test_balance_moves_load_away(self, router: Registered, apps: list[Backend], balance: str, held: str) -> None:
        """None has more than so many times the average in flight. ``held``: who gets four requests with one key."""
        host = f"balance-{balance.replace('.', '-') or 'none'}.test"
        pool(router, host, apps[:2], options={**HASH, "hash_balance": balance})
        with (
            router.held(host, "X-Key: k") as one,
            router.held(host, "X-Key: k") as two,
            router.held(host, "X-Key: k") as three,
            router.held(host, "X-Key: k") as four,
        ):
            names = {one: "a"}
            assert "".join(names.get(name, "b") for name in (one, two, three, four)) == held


class TestZones:
    """3.4"""

    @staticmethod
    def spread(router: Registered, host: str, near: list[Backend], far: list[Backend], **fields: Any) -> None:
        """Instances near-0, near-1, ... in zone z1, and far-0, ... in z2."""
        router.register(
            *[(host, at(app, f"near-{n}", app=host, availability_zone="z1", **fields)) for n, app in enumerate(near)],
            *[(host, at(app, f"far-{n}", app=host, availability_zone="z2", **fields)) for n, app in enumerate(far)],
        )

    @pytest.mark.parametrize("algorithm", ["round-robin", "least-connection"])
    def test_local_ones_are_preferred(self, zoned: Registered, apps: list[Backend], algorithm: str) -> None:
        host = f"local-{algorithm}.test"
        self.spread(zoned, host, apps[:2], apps[2:4], options={"loadbalancing": algorithm})
        seen = zoned.instances(30, host)
        assert set(seen) == {"near-0", "near-1"}
        if algorithm == "round-robin":
            assert Counter(seen) == {"near-0": 15, "near-1": 15}

    def test_equality_is_of_whole_strings(self, zoned: Registered, apps: list[Backend]) -> None:
        host = "equal.test"
        zones = ("Z1", "z1 ", "", "z10")
        zoned.register(
            *[
                (host, at(app, str(n), app=host, availability_zone=zone))
                for n, (app, zone) in enumerate(zip(apps, zones, strict=False))
            ]
        )
        assert set(zoned.instances(60, host)) == set("0123")

    @pytest.mark.parametrize("algorithm", ["round-robin", "least-connection"])
    def test_full_local_ones_are_not_usable(self, zoned: Registered, apps: list[Backend], algorithm: str) -> None:
        host = f"full-{algorithm}.test"
        self.spread(zoned, host, apps[:2], apps[2:4], options={"loadbalancing": algorithm})
        with zoned.held(host) as one:
            assert set(zoned.instances(6, host)) == {"near-0", "near-1"} - {one}
            with zoned.held(host) as other:
                assert {one, other} == {"near-0", "near-1"}
                assert set(zoned.instances(20, host)) == {"far-0", "far-1"}

    def test_failed_local_ones_are_not_usable(self, zoned: Registered, apps: list[Backend]) -> None:
        with backend(resetting) as bad:
            self.spread(zoned, "near-failed.test", [bad], apps[:2])
            assert set(zoned.instances(20, "near-failed.test")) == {"far-0", "far-1"}
            assert bad.connections == 1

    def test_retries_use_all_zones(self, zoned: Registered, apps: list[Backend]) -> None:
        """Only attempt 0 prefers: here it always meets the local one, which says nothing and is never marked."""
        with backend(silent_end) as bad:
            self.spread(zoned, "retries.test", [bad], apps[:2])
            assert set(zoned.instances(20, "retries.test")) == {"far-0", "far-1"}
            assert bad.connections == 20

    def test_also_where_local_ones_are_left(self, zoned: Registered, apps: list[Backend]) -> None:
        with backend(silent_end) as bad:
            self.spread(zoned, "left.test", [bad, apps[0]], apps[1:2])
            seen = zoned.instances(40, "left.test")
            assert set(seen) == {"near-1", "far-0"}

    def test_two_empty_strings_count_as_local(self, nowhere: Registered, apps: list[Backend]) -> None:
        host = "empty.test"
        zones = ("", "z1", "")
        nowhere.register(
            *[
                (host, at(app, str(n), app=host, availability_zone=zone))
                for n, (app, zone) in enumerate(zip(apps, zones, strict=False))
            ]
        )
        assert Counter(nowhere.instances(12, host)) == {"0": 6, "2": 6}

    def test_none_is_the_default(self, router: Registered, apps: list[Backend]) -> None:
        self.spread(router, "none.test", apps[:2], apps[2:4])
        assert len(set(router.instances(8, "none.test"))) == 4

    def test_ours_a_zone_that_changes_is_taken_over(self, zoned: Registered, apps: list[Backend]) -> None:
        """In the original an endpoint's zone is not part of what makes a registration a changed one."""
        self.spread(zoned, "moves.test", apps[:1], apps[1:2])
        assert set(zoned.instances(6, "moves.test")) == {"near-0"}
        zoned.register(("moves.test", at(apps[0], "near-0", app="moves.test", availability_zone="z9")))
        zoned.register(("moves.test", at(apps[1], "far-0", app="moves.test", availability_zone="z1")))
        assert set(zoned.instances(6, "moves.test")) == {"far-0"}
