"""The choice among the endpoints of a route: fair, past what failed or is full, never twice the same in one request."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
