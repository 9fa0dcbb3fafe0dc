"""Keeps a worker's table equal to what the sources process holds, over the stream that this tells it by.

Theory of operation. The counterpart of `router.sources.stream`; the replica does the rest. While a whole table comes in
it is kept beside the serving one, changes included; when it is complete, the differences are applied. A source that has
just begun may not have heard yet of what an earlier life of it told us: what its table lacks then stays, unconfirmed,
until the source has listened for as long as an endpoint may live unannounced. While there is no source, or it says that
nothing may be pruned, everything stays. Has the interface of the registry's Follower, as far as workers use it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Final

from router.registry import snapshot
from router.registry.follower import Counters
from router.registry.replica import Replica
from router.registry.slices import SLICE_SECONDS
from router.sources.frames import (
    CHANGES,
    COMPLETE,
    FAILED,
    HEAD_BYTES,
    STATE,
    TABLE,
    BrokenStream,
    State,
    field,
    frame_of_lines,
    head,
    lines,
    pairs,
)
from router.sources.table_entries import TableEntries
from router.table import RouteTable

GRACE_SECONDS: Final = 2.0
"""How long a start waits for the source before it serves from the snapshot."""
_LATE: Final = 2.5
"""Seconds without a word of its state after which a source, which speaks once a second, counts as lagging."""
_BACKOFF: Final = (0.02, 1.0)
_READ_AHEAD: Final = 1024 * 1024
_MAX_UNSENT: Final = 1024 * 1024

_log = logging.getLogger("router.sources")


class StreamFollower:
    """One per worker process. `run` it in a task; everything else may be used at any time on the same loop."""

    def __init__(
        self,
        path: str,
        table: RouteTable,
        *,
        threshold: float,
        snapshot: Path | None = None,
        on_ready: Callable[[], None] = lambda: None,
        grace: float = GRACE_SECONDS,
    ) -> None:
        """``path``: of the source's socket. ``threshold``: how long an endpoint may live unannounced, in seconds.
        ``snapshot``: the file that the source writes, read only where there is no source within ``grace`` seconds."""
        self._path = path
        self._threshold = threshold
        self._snapshot = snapshot
        self._on_ready = on_ready
        self._grace = grace
        self._clock: Callable[[], float] = lambda: asyncio.get_running_loop().time()
        self._replica = Replica(table, self._clock, TableEntries(table))
        self._beside: dict[bytes, bytes] | None = None
        self._state = State()
        self._heard = 0.0
        self._writer: asyncio.StreamWriter | None = None
        self._complaint = ""
        self._sessions = 0
        self.counters = Counters()
        self.connected = False
        """Whether there is a source; the table is served either way."""
        self.ready = False
        """Whether the table was complete once, and may be served: from then on it serves."""

    @property
    def applied(self) -> int:
        """Changes made to the sink."""
        return self._replica.applied

    @property
    def skipped(self) -> int:
        """Entries that no source may write, passed over."""
        return self._replica.skipped

    @property
    def unconfirmed(self) -> int:
        """Endpoints that are served although the source, being young, has not heard of them yet."""
        return len(self._replica.unconfirmed)

    @property
    def endpoints(self) -> int:
        """Endpoints in the table."""
        return len(self._replica.entries)

    @property
    def lag(self) -> float:
        """Seconds by which a source that is connected is late in speaking; 0 when caught up."""
        silence = self._clock() - self._heard
        return silence if self.connected and silence > _LATE else 0.0

    @property
    def silence(self) -> float | None:
        """Seconds since the source last said how it is; None: it never did."""
        return self._clock() - self._heard if self._sessions else None

    async def run(self) -> None:
        """Until cancelled. Loses the source and finds it again; raises for nothing that it does."""
        waiting = asyncio.create_task(self._serve_without_source()) if self._snapshot is not None else None
        pause = _BACKOFF[0]
        try:
            while True:
                try:
                    await self._session(waiting)
                except (OSError, asyncio.IncompleteReadError, BrokenStream) as error:
                    pause = _BACKOFF[0] if self.connected else min(pause * 2, _BACKOFF[1])
                    self._lost(error)
                await asyncio.sleep(pause)
        finally:
            self.connected = False
            if waiting is not None:
                waiting.cancel()

    def report_failed(self, route: str, address: str) -> None:
        """An endpoint that speaks TLS failed in a way that prunes it (gorouter reference 3.5): it leaves for all."""
        writer = self._writer
        # A hint: while it cannot be given, the endpoint fails again before long.
        if writer is not None and writer.transport.get_write_buffer_size() < _MAX_UNSENT:
            writer.write(frame_of_lines(FAILED, [field(route, address)]))

    async def _session(self, waiting: asyncio.Task[None] | None) -> None:
        reader, writer = await asyncio.open_unix_connection(self._path, limit=_READ_AHEAD)
        try:
            if waiting is not None and not waiting.done():  # the replica is one task's at a time
                waiting.cancel()
                await asyncio.wait((waiting,))
            self._found(writer)
            began = perf_counter()
            while True:
                length, kind = head(await reader.readexactly(HEAD_BYTES))
                await self._take(kind, await reader.readexactly(length))
                # What has been read already is given at once: without this, requests would wait for all of it.
                if perf_counter() - began > SLICE_SECONDS:
                    await asyncio.sleep(0)
                    began = perf_counter()
        finally:
            self._writer = None
            self._beside = None
            writer.transport.abort()

    def _found(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._beside = {}
        self._heard = self._clock()
        self.connected = True
        self._complaint = ""
        if self._sessions:
            self.counters.reconnects += 1
            _log.info("routes-source-back", extra={"data": {"endpoints": self.endpoints}})
        self._sessions += 1

    def _lost(self, error: Exception) -> None:
        self.connected = False
        complaint = "it ended" if isinstance(error, asyncio.IncompleteReadError) else str(error)
        if complaint != self._complaint:
            self._complaint = complaint
            _log.warning("routes-source-gone", extra={"data": {"why": complaint, "served_meanwhile": self.endpoints}})

    async def _take(self, kind: bytes, body: bytes) -> None:
        if kind == CHANGES:
            if self._beside is None:
                await self._replica.apply(lines(body))
            else:
                _merge(self._beside, pairs(body))
        elif kind == STATE:
            await self._hear(State.read(body))
        elif kind == TABLE and self._beside is not None:
            self._beside.update(pairs(body))
        elif kind == COMPLETE and self._beside is not None:
            await self._complete(State.read(body), self._beside)
        else:
            raise BrokenStream(f"a frame of kind {kind!r} where there should be none")

    async def _complete(self, state: State, table: dict[bytes, bytes]) -> None:
        self._beside = None
        self.counters.resyncs += 1
        hold = self._threshold if state.suspended else self._threshold - state.age
        await self._replica.become(table, keep_until=self._clock() + hold if hold > 0 else None)
        await self._hear(state)

    async def _hear(self, state: State) -> None:
        self._state = state
        self._heard = self._clock()
        if self._beside is not None:
            return
        if state.ready:
            self._become_ready()
        if state.suspended:
            self._replica.postpone(self._heard + self._threshold)
        elif left := await self._replica.expire():
            _log.warning("routes-not-confirmed", extra={"data": {"endpoints": left, "what": "they left"}})

    def _become_ready(self) -> None:
        if not self.ready:
            self.ready = True
            self._on_ready()

    async def _serve_without_source(self) -> None:
        await asyncio.sleep(self._grace)
        assert self._snapshot is not None
        try:
            _, entries = await asyncio.to_thread(snapshot.load, self._snapshot)
        except FileNotFoundError:
            return
        except (OSError, snapshot.DamagedSnapshot) as error:
            _log.warning("routes-snapshot-not-used", extra={"data": {"why": str(error)}})
            return
        await self._replica.fill(entries)
        _log.warning("routes-from-snapshot", extra={"data": {"endpoints": self.endpoints}})
        self._become_ready()


def _merge(table: dict[bytes, bytes], operations: list[tuple[bytes, bytes]]) -> None:
    for operation, record in operations:
        if operation.startswith(b"-"):
            table.pop(operation[1:], None)
        else:
            table[operation[1:]] = record
