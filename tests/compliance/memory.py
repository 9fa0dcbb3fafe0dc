"""A loop and transports that live in memory, so that a fuzzer decides what happens when; no clock, no socket.

They keep the promises of the real ones that matter: callbacks come one after the other, ``connection_lost`` comes later
and once, nothing is delivered after it, and a full buffer pauses its writer.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextlib import suppress
from random import Random
from typing import Any


class Fault(AssertionError):
    """An invariant does not hold."""


class MemoryTransport:
    """One end of a connection, with the protocol under test above it."""

    def __init__(self, loop: MemoryLoop, protocol: Any, name: str) -> None:
        self.loop = loop
        self.protocol = protocol
        self.name = name
        self.written = bytearray()
        """All that the protocol ever wrote."""
        self.ended = False
        """It said that it writes no more, or closed."""
        self.aborted = False
        self.closed_by_us = False
        self.closing = False
        self.reading = True
        self.unsent = 0
        self._high = 65536
        self._paused = False
        loop.transports.append(self)

    family = socket.AF_UNIX
    """There is no network in between."""

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def setsockopt(self, *_: object) -> None:
        """The transport is its own socket, too."""

    def get_extra_info(self, name: str, default: object = None) -> object:
        return {"peername": ("192.0.2.1", 1234), "socket": self}.get(name, default)

    def set_write_buffer_limits(self, high: int) -> None:
        self._high = high

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def is_closing(self) -> bool:
        return self.closing

    def write(self, data: bytes) -> None:
        if self.ended and not self.closing:
            raise Fault(f"{self.name}: bytes after the end: {bytes(data[:80])!r}")
        if self.closing:
            if self.name == "client" and data and self.closed_by_us:
                raise Fault(f"{self.name}: bytes after close: {bytes(data[:80])!r}")
            return
        self.written += data
        self.unsent += len(data)
        if self.unsent > self._high * self.loop.narrowness and not self._paused:
            self._paused = True
            self.protocol.pause_writing()

    def drain(self) -> None:
        """The peer has read all."""
        self.unsent = 0
        if self._paused:
            self._paused = False
            self.protocol.resume_writing()

    def write_eof(self) -> None:
        self.ended = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def close(self) -> None:
        self.closed_by_us = not self.closing
        self._close(None)

    def abort(self) -> None:
        self.aborted = True
        self.closed_by_us = not self.closing
        self._close(None)

    def _close(self, error: Exception | None) -> None:
        if not self.closing:
            self.closing = True
            self.loop.later(lambda: self.protocol.connection_lost(error))

    def deliver(self, data: bytes) -> None:
        if not self.closing:
            self.protocol.data_received(data)

    def end_of_peer(self) -> None:
        if not self.closing and not self.protocol.eof_received():
            self.close()

    def reset_by_peer(self) -> None:
        self._close(ConnectionResetError(104, "Connection reset by peer"))


class _Turn:
    def __await__(self) -> Generator[None, None, None]:
        yield


class _Task:
    def __init__(self, loop: MemoryLoop, coroutine: Coroutine[Any, Any, object]) -> None:
        self._loop = loop
        self._coroutine: Coroutine[Any, Any, object] | None = coroutine
        loop.later(self.step)

    def step(self) -> None:
        if self._coroutine is None:
            return
        try:
            self._coroutine.send(None)
        except StopIteration:
            self._coroutine = None
        else:
            self._loop.later(self.step)

    def cancel(self) -> None:
        self._loop.later(self._throw)

    def _throw(self) -> None:
        coroutine, self._coroutine = self._coroutine, None
        if coroutine is not None:
            with suppress(StopIteration, asyncio.CancelledError):
                coroutine.throw(asyncio.CancelledError())


class MemoryLoop:
    """Stands in for the event loop: runs what is due when told to."""

    def __init__(self, random: Random, narrowness: float) -> None:
        self._random = random
        self.narrowness = narrowness
        """Factor of the high-water mark: small numbers make writers pause often."""
        self.due: deque[Callable[[], None]] = deque()
        self.transports: list[MemoryTransport] = []
        self.refusing = 0.0
        """Share of dials that are refused."""
        self.dialled: Callable[[MemoryTransport], None]

    def later(self, callback: Callable[[], None]) -> None:
        self.due.append(callback)

    def run_one(self) -> None:
        self.due.popleft()()

    def create_task(self, coroutine: Coroutine[Any, Any, object]) -> _Task:
        return _Task(self, coroutine)

    async def create_connection(self, factory: Callable[[], Any], *_: object, **__: object) -> None:
        await _Turn()
        if self._random.random() < self.refusing:
            raise ConnectionRefusedError(111, "Connection refused")
        protocol = factory()
        transport = MemoryTransport(self, protocol, "backend")
        self.dialled(transport)
        protocol.connection_made(transport)
