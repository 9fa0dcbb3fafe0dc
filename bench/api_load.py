"""Load on an API: any requests, one after the other on each of a number of connections, in this process.

A closed loop: each connection sends its next request when the last one was answered. It must never count what it did
not see whole; a connection that breaks ends the run, with the figures so far.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from time import perf_counter_ns
from typing import cast

import uvloop

from bench.api_client import ANSWER_SECONDS, Answer, Ask, Unreadable, read
from bench.histogram import Histogram
from bench.machine import BenchError


@dataclass(frozen=True, slots=True)
class Figures:
    """What one run saw."""

    answers: int
    seconds: float
    p50_ms: float
    p99_ms: float
    failed: int
    """Answers of another status than the one expected, and connections that broke."""
    first_failure: str
    """For people."""


Answered = Callable[[Answer], None]
"""Is given every right answer."""


class _Run:
    """What all connections share."""

    def __init__(self, port: int, asks: Iterator[Ask], most: int, answered: Answered | None) -> None:
        self.port = port
        self.answered = answered
        self.latencies = Histogram()
        self.failed = 0
        self.first_failure = ""
        self.over = asyncio.Event()
        self.begun = asyncio.Event()
        """There was an answer."""
        self._asks = asks
        self._left = most
        self._under_way = 0

    def next(self) -> Ask | None:
        """None: no more are to be sent."""
        if self._left and not self.over.is_set() and (following := next(self._asks, None)) is not None:
            self._left -= 1
            self._under_way += 1
            return following
        if not self._under_way:
            self.over.set()
        return None

    def right(self, began_ns: int, answer: Answer) -> None:
        self._under_way -= 1
        self.begun.set()
        if not self.over.is_set():
            self.latencies.record((perf_counter_ns() - began_ns) // 1000)
            if self.answered is not None:
                self.answered(answer)

    def wrong(self, failure: str) -> None:
        self._under_way -= 1
        self.begun.set()
        if not self.over.is_set():
            self.failed += 1
            self.first_failure = self.first_failure or failure


class _Connection(asyncio.Protocol):
    """One keep-alive connection with one request under way."""

    def __init__(self, run: _Run) -> None:
        self._run = run
        self._received = b""
        self._ask: Ask | None = None
        self._began = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are not its subclasses
        self._send()

    def _send(self) -> None:
        self._received = b""
        self._ask = self._run.next()
        if self._ask is not None:
            self._began = perf_counter_ns()
            self._transport.write(self._ask.raw)

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._ask is None:
            return
        try:
            answer = read(self._received)
        except Unreadable:
            self._transport.abort()
            return
        if answer is None:
            return
        if wrong := answer.wrong(self._ask):
            self._run.wrong(wrong)
        else:
            self._run.right(self._began, answer)
        self._send()

    def connection_lost(self, error: Exception | None) -> None:
        if self._ask is not None:
            self._run.wrong(f"the connection broke: {error or 'closed'}")
        self._run.over.set()


async def _run(run: _Run, connections: int, seconds: float) -> float:
    loop = asyncio.get_running_loop()
    began = perf_counter_ns()
    transports = [
        (await loop.create_connection(lambda: _Connection(run), "127.0.0.1", run.port))[0] for _ in range(connections)
    ]
    with suppress(TimeoutError):
        await asyncio.wait_for(run.over.wait(), seconds)
    with suppress(TimeoutError):
        await asyncio.wait_for(run.begun.wait(), ANSWER_SECONDS)
    run.over.set()
    elapsed = (perf_counter_ns() - began) / 1e9
    for transport in transports:
        transport.abort()
    return elapsed


def load(
    port: int,
    asks: Iterator[Ask],
    *,
    connections: int,
    seconds: float,
    most: int = 1 << 60,
    answered: Answered | None = None,
) -> Figures:
    """Send ``asks`` to ``port`` of the loopback address until ``seconds`` are over and there was an answer, or ``most``
    were sent, or all.

    Raises BenchError: not one right answer.
    """
    run = _Run(port, asks, most, answered)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        elapsed = runner.run(_run(run, connections, seconds))
    if not run.latencies.count:
        raise BenchError(f"the API gave no right answer within {elapsed:.1f} s: {run.first_failure or 'none at all'}")
    percentiles = run.latencies.percentile(50) / 1000, run.latencies.percentile(99) / 1000
    return Figures(run.latencies.count, elapsed, *percentiles, run.failed, run.first_failure)
