"""The socket to the agent: every envelope is a datagram of its own, and nothing the agent does holds anybody up."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from router.loggregator import metron as module
from router.loggregator.envelopes import Series, counter
from router.loggregator.metron import SEND_BUFFER, STEP, TOGETHER, Metron
from router.loggregator.wire import Timestamps
from tests.router.loggregator.dropsonde import Agent, agent, read

NOW = Timestamps().varint(1_700_000_000_000_000_000)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  # what is waited for is another thread's, or the kernel's
            await asyncio.sleep(0.002)


def sending(address: str, act: Callable[[Metron], Awaitable[None] | None]) -> Metron:
    """Runs one until ``act`` is done, then ends it in good order."""
    metron = Metron(address)

    async def run() -> None:
        task = asyncio.create_task(metron.run())
        await until(lambda: metron._socket)
        waits = act(metron)
        if waits is not None:
            await waits
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(asyncio.wait_for(run(), 10))
    return metron


def send_all(envelopes: Iterable[bytes]) -> Callable[[Metron], None]:
    def act(metron: Metron) -> None:
        for envelope in envelopes:
            metron.send(envelope)

    return act


def named(length: int) -> bytes:
    """An envelope of about ``length`` bytes."""
    return counter("n" * length, length, NOW)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.integers(0, 2000), max_size=200))
def test_every_envelope_is_a_datagram_whatever_their_lengths(lengths: list[int]) -> None:
    with agent() as listening:
        metron = sending(listening.address, send_all(map(named, lengths)))
        listening.until(lambda: len(listening.datagrams) == len(lengths), "all datagrams")
        assert sorted(e.counterEvent.delta for e in listening.envelopes) == sorted(lengths)
        assert (metron.sent, metron.dropped) == (len(lengths), 0)


def test_they_are_filled_up_by_less_than_two_steps() -> None:
    with agent() as listening:
        sizes = range(100, 300)
        sending(listening.address, send_all(map(named, sizes)))
        listening.until(lambda: len(listening.datagrams) == len(sizes), "all datagrams")
        for datagram in listening.datagrams:
            assert 0 <= len(datagram) - len(named(read(datagram).counterEvent.delta)) < 2 * STEP


@pytest.mark.parametrize("count", [1, 2, TOGETHER, TOGETHER + 1, 1000])
def test_what_was_made_in_one_piece_arrives_apart(count: int) -> None:
    series = Series("latency", "ms")
    with agent() as listening:
        joined = series.envelopes([float(n) for n in range(count)], NOW)
        sending(listening.address, lambda metron: metron.send_same_size(joined, series.size))
        listening.until(lambda: len(listening.datagrams) == count, "all datagrams")
        assert listening.values("latency") == [float(n) for n in range(count)]
        assert {len(datagram) for datagram in listening.datagrams} == {series.size}


def test_a_kernel_that_cannot_send_them_together_sends_them_one_by_one() -> None:
    with agent() as listening:
        kept = module._UDP_SEGMENT
        module._UDP_SEGMENT = 9999  # type: ignore[misc]  # no kernel knows it

        def act(metron: Metron) -> None:
            for size in range(10, 50):
                metron.send(named(size))
            metron.flush()
            metron.send_same_size(Series("a", "b").envelopes([1.0, 2.0], NOW), Series("a", "b").size)

        try:
            metron = sending(listening.address, act)
        finally:
            module._UDP_SEGMENT = kept  # type: ignore[misc]
        listening.until(lambda: len(listening.datagrams) == 42, "all datagrams")
        assert metron.dropped == 0


def test_what_waits_leaves_by_itself() -> None:
    with agent() as listening:

        async def act(metron: Metron) -> None:
            metron.send(named(10))
            await until(lambda: listening.datagrams)

        sending(listening.address, act)


def test_without_an_agent_envelopes_are_dropped_and_counted() -> None:
    with agent() as gone:
        address = gone.address

    metron = sending(address, send_all([named(100)] * 500))
    assert metron.sent + metron.dropped == 500
    assert metron.dropped, "the kernel tells that nobody listens there"


def test_before_the_address_is_known_envelopes_are_dropped_and_counted() -> None:
    metron = Metron("metron.invalid:3457")
    for _ in range(100):
        metron.send(named(100))
    metron.flush()
    metron.send_same_size(Series("a", "b").envelopes([1.0, 2.0], NOW), Series("a", "b").size)
    assert (metron.sent, metron.dropped) == (0, 102)


def test_a_full_socket_drops_and_never_waits() -> None:
    """A receiver that reads nothing costs envelopes, not time: whoever sends goes on."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
        deaf.bind(("127.0.0.1", 0))

        count = SEND_BUFFER // 1000 * 4
        metron = sending(f"127.0.0.1:{deaf.getsockname()[1]}", send_all([named(1000)] * count))
        assert metron.sent + metron.dropped == count


def test_one_that_is_too_long_for_a_datagram_is_dropped() -> None:
    with agent() as listening:
        metron = sending(listening.address, send_all([named(70_000), named(10)]))
        listening.until(lambda: listening.datagrams, "the short one")
        assert (metron.sent, metron.dropped) == (1, 1)


def test_the_address_may_be_a_name() -> None:
    with agent() as listening:
        port = listening.address.rpartition(":")[2]
        sending(f"localhost:{port}", lambda metron: metron.send(named(10)))
        listening.until(lambda: len(listening.datagrams) == 1, "the datagram")


def test_an_agent_that_moved_is_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RESOLVE_EVERY", 0.01)
    with agent() as first, agent() as second:
        where = [first]
        metron = Metron("metron.test:3457")

        async def resolve() -> tuple[int, tuple[object, ...]]:
            return socket.AF_INET, ("127.0.0.1", int(where[0].address.rpartition(":")[2]))

        monkeypatch.setattr(metron, "_resolve", resolve)

        async def until_heard(listening: Agent) -> None:
            while not listening.datagrams:
                metron.send(named(10))
                await asyncio.sleep(0.005)

        async def run() -> None:
            task = asyncio.create_task(metron.run())
            await until_heard(first)
            where[0] = second
            await until_heard(second)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        asyncio.run(asyncio.wait_for(run(), 10))


@pytest.mark.parametrize("address", ["localhost", "localhost:", ":3457", "localhost:0", "localhost:x", "[::1]"])
def test_an_address_that_is_none_is_an_error(address: str) -> None:
    with pytest.raises(ValueError, match="host:port"):
        Metron(address)
