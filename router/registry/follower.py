"""Keeps a router's table equal to the registry: loads it, follows the log without gaps, and goes on serving when Redis
does not.

Theory of operation. A session lasts as long as one connection to one Redis process:

    connect -> compare epoch and version with what we hold
            -> the same, or ahead: follow the log from our version
            -> anything else:      load the table beside ours, then apply the differences (a resync)
            -> ready; from here on read the log, and about once a second prune and compare again

Every log entry names its predecessor; one whose predecessor is not what we applied last means that we missed something
(the log was trimmed) or that Redis did (it came back older): resync. When a session ends, the table stays as it is.
Nothing here may remove an endpoint because Redis is away, empty or older than we are.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import redis

from router.registry import connect
from router.registry.feed import Entry, Feed, TableState
from router.registry.keeper import SnapshotKeeper
from router.registry.loading import LogMoved, load
from router.registry.replica import Replica
from router.registry.scripts import NO_VERSION, Keys, version_order
from router.registry.sink import RouteSink
from router.registry.snapshot import Header

SETTLE_SECONDS: Final = 30.0
"""After a reconnection: no pruning, and unconfirmed endpoints stay, at least this long."""
GRACE_SECONDS: Final = 2.0
"""How long a start waits for Redis before it serves from the snapshot."""
SNAPSHOT_SECONDS: Final = 30.0
_TICK: Final = 1.0
_PRUNE_BUDGET: Final = 1000
_BACKOFF: Final = (0.1, 2.0)
_MASTER_CHECK: Final = 2.0
_MASTER_TRUST: Final = 5.0

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Counters:
    """What happened since the follower started."""

    resyncs: int = 0
    """Tables loaded beside the serving one."""
    reconnects: int = 0
    """Connections after the first."""
    pruned: int = 0
    """Endpoints of expired leases that this router removed from Redis for all."""


class Follower:
    """One per worker process. `run` it in a task; everything else may be read at any time on the same loop."""

    def __init__(
        self,
        url: str,
        sink: RouteSink,
        *,
        namespace: str = "millrace",
        snapshot: Path | None = None,
        on_ready: Callable[[], None] = lambda: None,
        writes_snapshot: bool = False,
        settle: float = SETTLE_SECONDS,
        grace: float = GRACE_SECONDS,
        snapshot_every: float = SNAPSHOT_SECONDS,
    ) -> None:
        """`snapshot` is the file to start from; only one worker of several should write it.

        Raises InvalidRedisUrl, InvalidName; does no I/O.
        """
        self._where = connect.redacted(url)
        self._location = connect.parse(url)
        self._keys = Keys(namespace)
        self._on_ready = on_ready
        self._settle = settle
        self._grace = grace
        self._clock: Callable[[], float] = lambda: asyncio.get_running_loop().time()
        self._replica = Replica(sink, self._clock)
        self._keeper: SnapshotKeeper | None = None
        if snapshot is not None:
            self._keeper = SnapshotKeeper(snapshot, self._replica, writes=writes_snapshot, every=snapshot_every)
        self._epoch: str | None = None
        self._version = NO_VERSION
        self._newest = NO_VERSION
        self._longest_ttl = 0.0
        self._has_table = False
        self._had_session = False
        self._started = 0.0
        self._prune_from = 0.0
        self._contact: float | None = None
        self._master_confirmed = float("-inf")
        self._complaint = ""
        self._refusal = ""
        self.counters = Counters()
        self.connected = False
        """Whether Redis answers; the table is served either way."""
        self.ready = False
        """Whether the table was complete once: from then on it serves."""

    @property
    def version(self) -> str:
        """The version of the table that is served."""
        return self._version

    @property
    def applied(self) -> int:
        """Changes made to the sink."""
        return self._replica.applied

    @property
    def skipped(self) -> int:
        """Entries of Redis that no registrar may write, passed over."""
        return self._replica.skipped

    @property
    def unconfirmed(self) -> int:
        """Endpoints that are served although Redis, having lost data, does not hold them."""
        return len(self._replica.unconfirmed)

    @property
    def endpoints(self) -> int:
        """Endpoints in the table."""
        return len(self._replica.entries)

    @property
    def lag(self) -> float:
        """Seconds between the newest version that Redis told of and the one served; 0 when caught up."""
        return max(0.0, (version_order(self._newest)[0] - version_order(self._version)[0]) / 1000)

    @property
    def silence(self) -> float | None:
        """Seconds since Redis last answered; None: it never did."""
        return None if self._contact is None else self._clock() - self._contact

    async def run(self) -> None:
        """Until cancelled. Loses Redis and finds it again; raises for nothing that Redis does."""
        self._started = self._clock()
        await self._load_snapshot()
        timer = asyncio.get_running_loop().call_later(self._grace, self._serve_without_redis)
        pause = _BACKOFF[0]
        try:
            while True:
                try:
                    await self._session()
                except (redis.RedisError, OSError) as error:
                    pause = _BACKOFF[0] if self.connected else min(pause * 2, _BACKOFF[1])
                    self._lost(error)
                    await self._save_when_due()
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))
        finally:
            timer.cancel()
            self.connected = False
            await self._save_last()

    async def _session(self) -> None:
        feed = await Feed.open(self._location, self._keys)
        watch: asyncio.Task[None] | None = None
        try:
            state = await feed.state()
            self._found()
            if self._location.scheme == "redis+sentinel":
                watch = asyncio.create_task(self._watch_master(feed))
            await self._catch_up(feed, state)
            self._become_ready()
            await self._follow(feed)
        finally:
            if watch is not None:
                watch.cancel()
            await feed.close()

    def _found(self) -> None:
        now = self._clock()
        self._contact = now
        self.connected = True
        self._complaint = ""
        log.info("registry at %s: connected", self._where)
        if self._had_session:
            self.counters.reconnects += 1
        # Redis may have been away for everyone: registrars get time to renew before anything is held against them.
        self._prune_from = now + (self._settle if self._had_session else _TICK)
        self._replica.postpone(now + max(self._settle, self._longest_ttl))
        self._had_session = True

    def _lost(self, error: Exception) -> None:
        if self.connected and self._keeper is not None:
            self._keeper.hurry()  # whoever starts before Redis is back, and whole, starts from what we know
        self.connected = False
        complaint = connect.explained(error)
        if complaint != self._complaint:
            self._complaint = complaint
            log.warning(
                "registry at %s: %s; trying again, %d endpoints served meanwhile",
                self._where,
                complaint,
                self.endpoints,
            )
        if self._clock() - self._started >= self._grace:
            self._serve_without_redis()

    def _become_ready(self) -> None:
        if not self.ready:
            self.ready = True
            log.info("registry at %s: ready with %d endpoints", self._where, self.endpoints)
            self._on_ready()

    def _serve_without_redis(self) -> None:
        if self._has_table and not self.connected and not self.ready:
            log.warning("registry at %s: not reached; serving from the snapshot", self._where)
            self._become_ready()

    async def _catch_up(self, feed: Feed, state: TableState) -> None:
        if self._epoch != state.epoch or state.behind(self._version):
            await self._resync(feed, lost=True)
        self._has_table = True
        while entries := await feed.entries(self._version, wait=0):
            await self._apply(feed, entries)

    async def _follow(self, feed: Feed) -> None:
        tick = self._clock() + random.uniform(0, _TICK)
        while True:
            entries = await feed.entries(self._version, wait=tick - self._clock())
            self._contact = self._clock()
            await self._apply(feed, entries)
            if self._clock() >= tick:
                more = await self._tick(feed)
                tick = self._clock() + (0.0 if more else _TICK * random.uniform(0.8, 1.2))

    async def _apply(self, feed: Feed, entries: list[Entry]) -> None:
        for entry in entries:
            if entry.previous != self._version:
                oldest = await feed.oldest()
                trimmed = oldest is not None and version_order(oldest) > version_order(self._version)
                log.warning(
                    "registry at %s: the log does not continue at %s (%s); loading the table anew",
                    self._where,
                    self._version,
                    "it was trimmed" if trimmed else "Redis lost writes",
                )
                await self._resync(feed, lost=not trimmed)
                return
            await self._replica.apply(entry.operations)
            self._version = entry.version
            if version_order(self._newest) < version_order(entry.version):
                self._newest = entry.version

    async def _tick(self, feed: Feed) -> bool:
        """Once a second; True: again at once."""
        state, more = await self._prune(feed) if self._may_prune() else (await feed.state(), False)
        self._newest = state.version
        if state.epoch != self._epoch or state.behind(self._version):
            log.warning("registry at %s: Redis lost its data or a part of it; loading the table anew", self._where)
            await self._resync(feed, lost=True)
        elif not self._replica.unconfirmed:
            self._longest_ttl = state.longest_ttl
        left = await self._replica.expire()
        if left:
            log.warning("registry at %s: %d endpoints left that nobody registered again", self._where, left)
        await self._save_when_due()
        return more

    async def _prune(self, feed: Feed) -> tuple[TableState, bool]:
        try:
            state, removed, more = await feed.prune(_PRUNE_BUDGET)
        except redis.ResponseError as error:
            await feed.require_master()
            # A Redis that may not write (full memory, full disk, missing replicas) can still be followed.
            if self._refusal != str(error):
                self._refusal = str(error)
                log.warning("registry at %s: expired leases stay for now: %s", self._where, connect.explained(error))
            return await feed.state(), False
        self._refusal = ""
        self.counters.pruned += removed
        return state, more

    def _may_prune(self) -> bool:
        now = self._clock()
        if self._location.scheme == "redis+sentinel" and now - self._master_confirmed > _MASTER_TRUST:
            return False
        return now >= self._prune_from

    async def _resync(self, feed: Feed, *, lost: bool) -> None:
        """`lost`: Redis may lack what it once confirmed, so that what is missing there is no proof that it left."""
        self.counters.resyncs += 1
        while True:
            try:
                state, version, table = await load(feed)
                break
            except LogMoved as moved:
                log.warning("registry at %s: %s; loading the table again", self._where, moved)
                await asyncio.sleep(_BACKOFF[0])
        lost = lost or state.epoch != self._epoch
        hold = max(self._settle, self._longest_ttl, state.longest_ttl)
        await self._replica.become(table, keep_until=self._clock() + hold if lost else None)
        self._epoch, self._version = state.epoch, version
        self._newest = version
        self._longest_ttl = max(self._longest_ttl, state.longest_ttl)

    async def _watch_master(self, feed: Feed) -> None:
        """An old master that a partition cut off would still answer us, and its leases expire: the sentinels decide."""
        while True:
            try:
                if await connect.sentinel_master(self._location) != feed.address:
                    await feed.close()
                    return
                self._master_confirmed = self._clock()
            except (redis.RedisError, OSError) as error:
                log.debug("registry at %s: sentinels do not answer: %s", self._where, error)
            await asyncio.sleep(_MASTER_CHECK)

    async def _load_snapshot(self) -> None:
        header = None if self._keeper is None else await self._keeper.load()
        if header is not None:
            self._epoch, self._version, self._longest_ttl = header.epoch, header.version, header.longest_ttl
            self._has_table = True

    async def _save_when_due(self) -> None:
        if self._keeper is not None and self._has_table:
            await self._keeper.save_when_due(self._clock(), self._header())

    async def _save_last(self) -> None:
        if self._keeper is not None and self._has_table:
            await self._keeper.save_last(self._header())

    def _header(self) -> Header:
        return Header(self._epoch or "", self._version, self._longest_ttl)
