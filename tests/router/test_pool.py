"""The choice among the endpoints of a route: fair, past what failed or is full, never twice the same in one request."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.hashing import HashOptions
from router.pool import LEAST_CONNECTION, ROUND_ROBIN, Endpoint, Pool
from router.registry.records import EndpointRecord

NOW = 1000.0
ALGORITHMS = (ROUND_ROBIN, LEAST_CONNECTION)

states = st.lists(st.tuples(st.booleans(), st.integers(0, 3)), min_size=1, max_size=6)
"""Of each endpoint: whether it is marked as failed, and its exchanges in flight."""


def endpoint(record: EndpointRecord) -> Endpoint:
    return Endpoint(record.address, record.to_json())


def pool_of(count: int) -> Pool:
    pool = Pool()
    pool.endpoints = tuple(endpoint(EndpointRecord(host="127.0.0.1", port=port)) for port in range(1, count + 1))
    return pool


def pool_in(state: list[tuple[bool, int]]) -> Pool:
    pool = pool_of(len(state))
    for endpoint, (failed, in_flight) in zip(pool.endpoints, state, strict=True):
        endpoint.failed_until = NOW + 1 if failed else NOW
        endpoint.in_flight = in_flight
    return pool


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_an_empty_pool_has_nothing_to_offer(algorithm: str) -> None:
    assert Pool().pick(NOW, algorithm, 0, None) is None


@given(st.integers(1, 9), st.integers(1, 5), st.booleans())
def test_round_robin_gives_each_the_same(count: int, rounds: int, limited: bool) -> None:
    pool = pool_of(count)
    picks = [pool.pick(NOW, ROUND_ROBIN, 10 if limited else 0, None) for _ in range(count * rounds)]
    assert Counter(picks) == dict.fromkeys(pool.endpoints, rounds)
    assert picks == picks[:count] * rounds


@given(states, st.integers(0, 3), st.integers(1, 4))
def test_round_robin_gives_each_usable_one_the_same(
    state: list[tuple[bool, int]], max_in_flight: int, rounds: int
) -> None:
    """The turn of one that is passed over is not given to its neighbour alone."""
    pool = pool_in(state)
    free = [endpoint for endpoint in pool.endpoints if not max_in_flight or endpoint.in_flight < max_in_flight]
    usable = [endpoint for endpoint in free if endpoint.failed_until <= NOW] or free
    picks = [pool.pick(NOW, ROUND_ROBIN, max_in_flight, None) for _ in range(len(usable) * rounds)]
    assert Counter(picks) == dict.fromkeys(usable, rounds)


@given(states, st.integers(0, 3), st.sampled_from(ALGORITHMS), st.data())
def test_what_is_picked_is_allowed_and_nothing_is_refused_without_need(
    state: list[tuple[bool, int]], max_in_flight: int, algorithm: str, data: st.DataObject
) -> None:
    pool = pool_in(state)
    tried = data.draw(st.none() | st.lists(st.sampled_from(pool.endpoints), unique=True))
    usable = {
        endpoint
        for endpoint in pool.endpoints
        if endpoint not in (tried or ()) and (not max_in_flight or endpoint.in_flight < max_in_flight)
    }
    sound = {endpoint for endpoint in usable if endpoint.failed_until <= NOW}
    allowed: set[Endpoint | None] = {*(sound or usable)} or {None}
    for _ in range(4):
        assert pool.pick(NOW, algorithm, max_in_flight, tried) in allowed


@given(states, st.sampled_from(ALGORITHMS))
def test_a_request_that_keeps_failing_tries_every_endpoint_once(state: list[tuple[bool, int]], algorithm: str) -> None:
    pool = pool_in(state)
    tried: list[Endpoint] = []
    for _ in pool.endpoints:
        picked = pool.pick(NOW, algorithm, 0, tried)
        assert picked is not None
        tried.append(picked)
    assert set(tried) == set(pool.endpoints)
    assert [endpoint.failed_until > NOW for endpoint in tried] == sorted(e.failed_until > NOW for e in tried)
    assert pool.pick(NOW, algorithm, 0, tried) is None


@given(states, st.integers(0, 3))
def test_least_connection_takes_the_least_busy_of_the_sound(state: list[tuple[bool, int]], max_in_flight: int) -> None:
    pool = pool_in(state)
    picked = pool.pick(NOW, LEAST_CONNECTION, max_in_flight, None)
    free = [endpoint for endpoint in pool.endpoints if not max_in_flight or endpoint.in_flight < max_in_flight]
    sound = [endpoint for endpoint in free if endpoint.failed_until <= NOW] or free
    assert (picked.in_flight if picked else None) == min((endpoint.in_flight for endpoint in sound), default=None)


def test_least_connection_does_not_always_take_the_first_of_equals() -> None:
    pool = pool_of(4)
    picks = {pool.pick(NOW, LEAST_CONNECTION, 0, None) for _ in range(200)}
    assert picks == set(pool.endpoints)


def test_least_connection_levels_what_is_in_flight() -> None:
    pool = pool_of(5)
    for _ in range(100):
        picked = pool.pick(NOW, LEAST_CONNECTION, 0, None)
        assert picked is not None
        picked.in_flight += 1
    assert [endpoint.in_flight for endpoint in pool.endpoints] == [20] * 5


def test_a_failure_mark_ends_by_itself() -> None:
    pool = pool_of(2)
    pool.endpoints[0].failed_until = NOW + 30
    assert {pool.pick(NOW + 29.9, ROUND_ROBIN, 0, None) for _ in range(4)} == {pool.endpoints[1]}
    assert {pool.pick(NOW + 30, ROUND_ROBIN, 0, None) for _ in range(4)} == set(pool.endpoints)


def test_where_all_have_failed_all_take_turns() -> None:
    pool = pool_in([(True, 0), (True, 0), (True, 0)])
    assert Counter(pool.pick(NOW, ROUND_ROBIN, 0, None) for _ in range(9)) == dict.fromkeys(pool.endpoints, 3)


def test_turns_go_on_where_they_were_when_an_endpoint_joins() -> None:
    pool = pool_of(3)
    more = pool_of(4).endpoints[3]
    picks = [pool.pick(NOW, ROUND_ROBIN, 0, None)]
    pool.endpoints = (*pool.endpoints, more)
    picks += [pool.pick(NOW, ROUND_ROBIN, 0, None) for _ in range(8)]
    assert all(first is not second for first, second in pairwise(picks[1:]))
    assert Counter(picks[1:]) == dict.fromkeys(pool.endpoints, 2)


def test_where_all_have_failed_who_joins_gets_no_more_than_its_share() -> None:
    """One pick forgives them all, so that neither the newcomer nor the first whose mark ends takes everything."""
    pool = pool_in([(True, 0), (True, 0)])
    assert pool.pick(NOW, ROUND_ROBIN, 0, None)
    assert [endpoint.failed_until for endpoint in pool.endpoints] == [0, 0]


def test_one_that_has_just_failed_is_not_forgiven_by_its_own_request() -> None:
    pool = pool_in([(True, 0), (True, 0)])
    assert pool.pick(NOW, ROUND_ROBIN, 0, [pool.endpoints[0]]) is pool.endpoints[1]
    assert [endpoint.failed_until for endpoint in pool.endpoints] == [NOW + 1, NOW + 1]


def test_nor_are_full_ones_forgiven() -> None:
    """They were not looked at."""
    pool = pool_in([(True, 0), (True, 3), (True, 0)])
    assert pool.pick(NOW, ROUND_ROBIN, 3, None) in pool.endpoints[::2]
    assert [endpoint.failed_until for endpoint in pool.endpoints] == [0, NOW + 1, 0]


def test_one_alone_stays_marked() -> None:
    """It is picked all the same; another route may have others to ask."""
    pool = pool_in([(True, 0)])
    assert pool.pick(NOW, ROUND_ROBIN, 0, None) is pool.endpoints[0]
    assert pool.endpoints[0].failed_until == NOW + 1


@pytest.mark.parametrize(("option", "default"), [(LEAST_CONNECTION, ROUND_ROBIN), (ROUND_ROBIN, LEAST_CONNECTION)])
def test_a_routes_own_algorithm_counts_before_the_routers(option: str, default: str) -> None:
    pool = pool_of(2)
    pool.algorithm = option
    pool.endpoints[0].in_flight = 5
    picks = {pool.pick(NOW, default, 0, None) for _ in range(6)}
    assert picks == ({pool.endpoints[1]} if option == LEAST_CONNECTION else set(pool.endpoints))


def test_pools_do_not_all_begin_with_their_first_endpoint() -> None:
    pools = [pool_of(8) for _ in range(100)]
    assert len({pools_pick.address for pool in pools if (pools_pick := pool.pick(NOW, ROUND_ROBIN, 0, None))}) > 1


def test_an_endpoint_tells_the_application_who_it_is() -> None:
    named = endpoint(
        EndpointRecord(host="10.0.0.1", port=80, app="guid", private_instance_id="id", private_instance_index="2")
    )
    assert named.identity() == b"X-Cf-Applicationid: guid\r\nX-Cf-Instanceid: id\r\nX-Cf-Instanceindex: 2\r\n"
    assert named.fields == named.identity()
    unnamed = endpoint(EndpointRecord(host="10.0.0.1", port=80))
    assert b"X-Cf-Instanceid: 10.0.0.1:80\r\n" in unnamed.identity()


class TestNear:
    """Endpoints of an availability zone first (gorouter reference 3.4)."""

    @staticmethod
    def zoned(state: list[tuple[bool, int]], zones: list[str]) -> Pool:
        pool = Pool()
        pool.endpoints = tuple(
            endpoint(EndpointRecord(host="127.0.0.1", port=port, availability_zone=zone))
            for port, zone in enumerate(zones[: len(state)], 1)
        )
        for one, (failed, in_flight) in zip(pool.endpoints, state, strict=True):
            one.failed_until = NOW + 1 if failed else NOW
            one.in_flight = in_flight
        return pool

    @given(
        states,
        st.lists(st.sampled_from(["", "z1", "z2"]), min_size=6, max_size=6),
        st.integers(0, 3),
        st.sampled_from(ALGORITHMS),
        st.sampled_from(["", "z1"]),
    )
    def test_are_picked_while_one_is_usable(
        self, state: list[tuple[bool, int]], zones: list[str], most: int, algorithm: str, zone: str
    ) -> None:
        pool = self.zoned(state, zones)
        free = [one for one in pool.endpoints if not most or one.in_flight < most]
        sound = [one for one in free if one.failed_until <= NOW]
        near = [one for one in sound if one.record.availability_zone == zone]
        allowed: list[Endpoint] | list[None] = near or sound or free or [None]
        for _ in range(4):
            picked = pool.pick_near(NOW, algorithm, most, zone)
            assert picked in allowed
            if near and algorithm == LEAST_CONNECTION:
                assert picked is not None
                assert picked.in_flight == min(one.in_flight for one in near)

    @given(st.integers(1, 5), st.integers(0, 5), st.integers(1, 4))
    def test_take_turns(self, near: int, far: int, rounds: int) -> None:
        pool = self.zoned([(False, 0)] * (near + far), ["z1"] * near + ["z2"] * far)
        picks = Counter(pool.pick_near(NOW, ROUND_ROBIN, 0, "z1") for _ in range(near * rounds))
        assert picks == dict.fromkeys(pool.endpoints[:near], rounds)

    def test_are_looked_for_anew_when_endpoints_change(self) -> None:
        pool = self.zoned([(False, 0)], ["z2"])
        assert pool.pick_near(NOW, ROUND_ROBIN, 0, "z1") is pool.endpoints[0]
        pool.endpoints += self.zoned([(False, 0)], ["z1"]).endpoints
        assert {pool.pick_near(NOW, ROUND_ROBIN, 0, "z1") for _ in range(4)} == {pool.endpoints[1]}


class TestHashed:
    @given(states, st.binary(max_size=8), st.integers(0, 3), st.sampled_from([0.0, 1.1, 1.5, 10.0]), st.data())
    def test_only_what_is_allowed_is_picked_and_always_the_same(
        self, state: list[tuple[bool, int]], key: bytes, most: int, balance: float, data: st.DataObject
    ) -> None:
        pool = pool_in(state)
        pool.hashing = HashOptions(b"x-key", balance)
        tried = data.draw(st.none() | st.lists(st.sampled_from(pool.endpoints), unique=True))
        usable = [e for e in pool.endpoints if e not in (tried or ()) and (not most or e.in_flight < most)]
        sound = [e for e in usable if e.failed_until <= NOW] or usable
        picked = pool.pick_hashed(key, NOW, most, tried)
        assert picked in (sound or [None])
        assert pool.pick_hashed(key, NOW, most, tried) is picked
        if picked is not None and balance:
            average = (sum(e.in_flight for e in sound) + 1) / len(sound)
            assert picked.in_flight < balance * average

    @given(st.integers(1, 6), st.binary(max_size=8))
    def test_whoever_is_tried_the_next_on_the_ring_follows(self, count: int, key: bytes) -> None:
        pool = pool_of(count)
        pool.hashing = HashOptions(b"x-key", 0.0)
        tried: list[Endpoint] = []
        for _ in range(count):
            picked = pool.pick_hashed(key, NOW, 0, tried)
            assert picked is not None
            tried.append(picked)
        assert set(tried) == set(pool.endpoints)
        assert pool.pick_hashed(key, NOW, 0, tried) is None
        assert pool.pick_hashed(key, NOW, 0, None) is tried[0]

    @given(st.integers(2, 6), st.sampled_from([1.1, 1.25, 2.0]), st.integers(1, 60))
    def test_one_key_alone_loads_all_up_to_the_balance(self, count: int, balance: float, requests: int) -> None:
        pool = pool_of(count)
        pool.hashing = HashOptions(b"x-key", balance)
        for _ in range(requests):
            picked = pool.pick_hashed(b"key", NOW, 0, None)
            assert picked is not None
            picked.in_flight += 1
        assert max(e.in_flight for e in pool.endpoints) <= balance * requests / count + 1


class TestAskFor:
    """What registrations may ask of a route's balancing (gorouter reference 1.2, 1.3)."""

    VALUES = st.sampled_from(["", "round-robin", "least-connection", "hash", "random"])

    @given(
        st.lists(
            st.fixed_dictionaries(
                {},
                optional={
                    "loadbalancing": VALUES,
                    "lb_algo": VALUES,
                    "hash_header": st.sampled_from(["", "X-Key", "no name"]),
                    "hash_balance": st.sampled_from(["", "0", "1.5", "11", "x"]),
                },
            ),
            max_size=5,
        )
    )
    def test_the_last_that_can_be_done_holds(self, asked: list[dict[str, str]]) -> None:
        pool = Pool()
        expected: tuple[str, float] = ("", -inf)
        for options in asked:
            pool.ask_for(options)
            algorithm = options.get("loadbalancing") or options.get("lb_algo") or ""
            balance = options.get("hash_balance", "") or "0"
            if algorithm in ALGORITHMS:
                expected = (algorithm, -inf)
            elif algorithm == "hash" and options.get("hash_header") == "X-Key" and balance in ("0", "1.5"):
                expected = ("", float(balance))
        assert (pool.algorithm, pool.hashing.balance if pool.hashing else -inf) == expected


class TestInstance:
    def test_is_found_by_its_id_or_its_address(self) -> None:
        pool = Pool()
        pool.endpoints = tuple(
            endpoint(EndpointRecord(host="10.0.0.1", port=port, private_instance_id=name))
            for port, name in [(1, "one"), (2, ""), (3, "10.0.0.1:2")]
        )
        first, unnamed, confusing = pool.endpoints
        assert pool.instance("one") is first
        assert pool.instance("10.0.0.1:1") is first
        assert pool.instance("10.0.0.1:2") is confusing  # an id comes before an address
        assert pool.instance("") is None
        assert pool.instance("two") is None
        pool.endpoints = pool.endpoints[1:2]
        assert pool.instance("one") is None
        assert pool.instance("10.0.0.1:2") is unnamed
