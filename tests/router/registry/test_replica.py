"""The replica: whatever comes, in whatever order, the sink holds what the replica holds, and the loop stays free."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.registry.records import InvalidRecord, is_route_key, route_key
from router.registry.replica import Replica, decoded
from router.registry.slices import sliced
from tests.router.registry.routers import DictSink
from tests.router.registry.test_writer import endpoint

Table = dict[bytes, bytes]


def entry(number: int, app: str = "") -> tuple[bytes, bytes]:
    record = endpoint(number, app=app)
    return f"r{number % 3}.example.com {record.address}".encode(), record.to_json()


tables = st.dictionaries(st.integers(0, 8), st.sampled_from(["", "x", "y"]), max_size=9).map(
    lambda apps: dict(entry(number, app) for number, app in apps.items())
)


class At:
    """A clock to set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def made(clock: At | None = None) -> tuple[Replica, DictSink]:
    sink = DictSink()
    return Replica(sink, clock or At()), sink


def served(sink: DictSink) -> Table:
    return {f"{route} {address}".encode(): r.to_json() for (route, address), r in sink.flat().items()}


def run(work: Coroutine[None, None, object]) -> None:
    """To the end, without a loop: all that a replica ever waits for is its next slice."""
    while True:
        try:
            work.send(None)
        except StopIteration:
            return


@given(tables, tables)
def test_becoming_another_table_leaves_exactly_that(old: Table, new: Table) -> None:
    replica, sink = made()
    run(replica.fill(old.items()))
    run(replica.become(dict(new), keep_until=None))
    assert served(sink) == replica.entries == new
    assert sink.upserts == len(old) + len(new.items() - old.items()), "only differences touch the sink"
    assert sink.removals == len(old.keys() - new.keys())


@given(tables, tables, tables)
def test_a_lost_table_takes_nothing_away_until_its_time(old: Table, new: Table, confirmed: Table) -> None:
    clock = At()
    replica, sink = made(clock)
    run(replica.fill(old.items()))
    run(replica.become(dict(new), keep_until=10.0))
    assert served(sink) == old | new
    assert replica.unconfirmed.keys() == old.keys() - new.keys()
    run(replica.fill(confirmed.items()))
    clock.now = 9.9
    run(replica.expire())
    assert served(sink) == old | new | confirmed
    clock.now = 10.0
    run(replica.expire())
    assert served(sink) == replica.entries == new | confirmed
    assert replica.unconfirmed == {}


@given(tables, tables, tables)
def test_losing_twice_does_not_prolong(old: Table, first: Table, second: Table) -> None:
    clock = At()
    replica, sink = made(clock)
    run(replica.fill(old.items()))
    run(replica.become(dict(first), keep_until=10.0))
    run(replica.become(dict(second), keep_until=20.0))
    clock.now = 10.0
    run(replica.expire())
    expected = {field: record for field, record in first.items() if field not in second}
    assert served(sink) == expected | second
    replica.postpone(30.0)
    clock.now = 29.0
    run(replica.expire())
    assert served(sink) == expected | second


@given(st.lists(st.tuples(st.sampled_from("+-"), st.integers(0, 5), st.sampled_from(["", "x"])), max_size=30))
def test_applying_a_log_twice_changes_nothing(changes: list[tuple[str, int, str]]) -> None:
    operations: list[bytes] = []
    expected: Table = {}
    for sign, number, app in changes:
        field, record = entry(number, app)
        operations += [sign.encode() + field, record if sign == "+" else b""]
        if sign == "+":
            expected[field] = record
        else:
            expected.pop(field, None)
    replica, sink = made()
    run(replica.apply(operations))
    assert served(sink) == expected
    run(replica.apply(operations))
    assert served(sink) == replica.entries == expected


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_any_bytes_are_skipped_or_applied(field: bytes, record: bytes) -> None:
    replica, sink = made()
    run(replica.apply([field, record]))
    run(replica.apply([b"+" + field, record]))
    run(replica.become({field: record}, keep_until=None))
    assert served(sink).keys() == replica.entries.keys()


@given(st.text(max_size=40) | st.from_regex(r"(\*\.)?[a-zA-Z0-9._-]{1,20}(/[!-~]{0,20})?/{0,3}", fullmatch=True))
def test_the_quick_check_of_a_route_agrees_with_the_rules(text: str) -> None:
    try:
        key = route_key(text)
    except InvalidRecord:
        assert not is_route_key(text)
        return
    assert is_route_key(text) == (key == text)
    assert is_route_key(key), "a key is its own key"


@pytest.mark.parametrize("segments", [31, 32, 33, 34])
def test_the_quick_check_counts_segments_as_the_rules_do(segments: int) -> None:
    text = "a.example.com" + "/x" * segments
    try:
        assert route_key(text) == text
    except InvalidRecord:
        assert not is_route_key(text)
    else:
        assert is_route_key(text)


def test_an_entry_under_a_wrong_address_is_refused() -> None:
    with pytest.raises(InvalidRecord, match="is not the record's"):
        decoded(b"a.example.com 10.0.0.2:80", endpoint(1).to_json())


def test_a_big_table_never_holds_the_loop() -> None:
    """In CPU time of this thread, since other programs may take the processor."""
    table = dict(entry(number) for number in range(20_000))
    replica, sink = made()

    async def scenario() -> list[float]:
        gaps: list[float] = []

        async def watch() -> None:
            last = time.thread_time()
            while True:
                await asyncio.sleep(0)
                gaps.append(time.thread_time() - last)
                last = time.thread_time()

        watching = asyncio.create_task(watch())
        await replica.become(table, keep_until=None)
        watching.cancel()
        return gaps

    gaps = sorted(asyncio.run(scenario()))
    assert len(sink.flat()) == 20_000
    assert len(gaps) > 50
    assert gaps[len(gaps) * 99 // 100] < 0.002


def test_slices_hand_out_everything_in_order() -> None:
    async def collect() -> list[int]:
        return [number async for part in sliced(range(1000), 7) for number in part]

    assert asyncio.run(collect()) == list(range(1000))
