"""Writes the announced table into the registry, for the routers that follow it: one lease, one router at a time.

Theory of operation. Every router of an installation hears the same announcements; the one that has the place
(`router.sources.bridge_lock`) writes. The others keep their tables warm and try to take the place once a second. Who
takes it *adopts* the lease, so that no endpoint leaves in between, and writes everything that was announced to it.
What the lease holds besides may be something that it has not heard of yet: that leaves when it has listened for as long
as an endpoint may live unannounced. Changes are written as they come, batch after batch, the latest state of each
endpoint only; an outage needs no queue, because after it everything is written again. The lease is renewed for as long
as the process lives, whether it hears NATS or not: who leaves because of that is the announced table's to say.

All calls of Redis are made by one thread, one after the other. What was merely restored from disk is not written: it
might bring back what has left meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Final, TypeVar

from router.registry.scripts import MAX_BATCH
from router.registry.slices import sliced
from router.registry.writer import MAX_TTL, MIN_TTL, RegistryUnavailable, RegistryWriter
from router.sources.announced import AnnouncedTable, Announcement
from router.sources.bridge_lock import BridgeLock

LEASE: Final = "nats-bridge"
LOCK_EVERY: Final = 1.0
_BACKOFF: Final = (0.1, 2.0)
_STEP: Final = 64

T = TypeVar("T")
_log = logging.getLogger("router.sources")


class Superseded(Exception):
    """Another router has the place now."""


class Bridge:
    """Implements the table's ``Listener``. ``run`` it once the table is there."""

    def __init__(
        self,
        writer: RegistryWriter,
        *,
        namespace: str,
        name: str,
        threshold: float,
        hears: Callable[[], bool],
        heard: Callable[[], float],
        on_populated: Callable[[], None] = lambda: None,
    ) -> None:
        """``name``: this router's. ``hears``: whether it hears announcements now; ``heard``: for how many seconds it
        has. ``on_populated`` is called when the registry is found to hold what a bridge has written."""
        self._lease = writer.lease(LEASE, ttl=min(max(threshold, MIN_TTL), MAX_TTL), registrar=f"NATS, by {name}")
        self._renew_every = min(max(threshold, MIN_TTL), MAX_TTL) / 3
        self._lock = BridgeLock(writer, namespace, name)
        self._threshold = threshold
        self._hears = hears
        self._heard = heard
        self._on_populated = on_populated
        self._table: AnnouncedTable | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="bridge")
        self._clock = asyncio.get_running_loop().time
        self._changed = asyncio.Event()
        self._pending: dict[str, bytes | None] = {}
        self._lock_due = 0.0
        self._renewal_due = 0.0
        self._populated = False
        self._written = False
        self._swept = False
        self.leads = False
        """Whether this router writes."""
        self.writes = 0
        """Endpoints of routes written or taken out."""

    def put(self, route: str, announcement: Announcement) -> None:
        if self.leads:
            self._change(f"{route} {announcement.address}", announcement.packed)

    def put_again(self, route: str, announcement: Announcement) -> None:
        """The registry holds endpoints, and has no word for this."""

    def left(self, route: str, address: str) -> None:
        if self.leads:
            self._change(f"{route} {address}", None)

    def _change(self, field: str, packed: bytes | None) -> None:
        self._pending[field] = packed
        self._changed.set()

    async def run(self, table: AnnouncedTable) -> None:
        """Until cancelled; then another router may take the place at once."""
        self._table = table
        pause = _BACKOFF[0]
        complaint = ""
        try:
            while True:
                try:
                    await self._turn()
                    pause, complaint = _BACKOFF[0], ""
                except Superseded:
                    _log.warning("bridge-lost", extra={"data": {"what": "another router writes now"}})
                    self._stand_by()
                except RegistryUnavailable as error:
                    if str(error) != complaint:
                        complaint = str(error)
                        _log.warning("bridge-waits", extra={"data": {"why": complaint}})
                    self._written = False
                    self._lock_due = 0.0
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, _BACKOFF[1])
        finally:
            # A kill would cost the others a few seconds; they need not wait for who leaves in good order.
            self._thread.submit(self._leave)
            self._thread.shutdown(wait=False)

    def _leave(self) -> None:
        with contextlib.suppress(RegistryUnavailable):
            self._lock.leave()

    async def _turn(self) -> None:
        """One look at all there is to do. Raises Superseded, RegistryUnavailable."""
        if not self.leads:
            if not self._populated and await self._do(self._lease.size) > 0:
                self._populated = True
                self._on_populated()
            if not await self._do(self._take):
                await asyncio.sleep(LOCK_EVERY)
                return
            self._begin()
        await self._keep()
        if not self._written:
            await self._write_all()
        if not self._swept and self._heard() >= self._threshold:
            await self._sweep()
        await self._write_pending()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(min(self._lock_due, self._renewal_due)):
                await self._changed.wait()

    def _begin(self) -> None:
        self.leads = True
        self._written = False
        self._lock_due = self._clock() + LOCK_EVERY
        _log.info("bridge-leads", extra={"data": {"endpoints": 0 if self._table is None else self._table.endpoints}})

    def _stand_by(self) -> None:
        self.leads = False
        self._pending.clear()

    async def _keep(self) -> None:
        """The place and the lease, if it is time. Raises Superseded."""
        now = self._clock()
        if now >= self._lock_due:
            if not await self._do(self._take):
                raise Superseded
            self._lock_due = now + LOCK_EVERY
        if self._written and now >= self._renewal_due:
            self._written = await self._do(self._lease.renew)
            self._renewal_due = now + self._renew_every

    def _take(self) -> bool:
        return self._lock.take(hears=self._hears())

    async def _write_all(self) -> None:
        """After this the registry holds at least what was announced."""
        assert self._table is not None
        self._pending.clear()
        await self._do(self._lease.adopt)
        self._written, self._swept = True, False
        self._renewal_due = self._clock() + self._renew_every
        try:
            batch: list[tuple[str, bytes]] = []
            async for routes in sliced(self._table.routes(), _STEP):
                for route in routes:
                    batch += self._entries(route)
                while len(batch) >= MAX_BATCH:
                    await self._register(batch[:MAX_BATCH])
                    del batch[:MAX_BATCH]
            await self._register(batch)
        except BaseException:
            self._written = False
            raise

    def _entries(self, route: str) -> Iterator[tuple[str, bytes]]:
        pool = None if self._table is None else self._table.pool(route)
        for announcement in () if pool is None else pool.announcements:
            if not announcement.restored:
                yield f"{route} {announcement.address}", announcement.packed

    async def _sweep(self) -> None:
        """What the lease holds, and nobody announces, leaves."""
        assert self._table is not None
        stale: list[str] = []
        async for fields in sliced(await self._do(self._lease.owned), _STEP):
            for field in fields:
                route, _, address = field.partition(" ")
                if self._table.find(route, address) is None:
                    stale.append(field)
        if stale:
            _log.info("bridge-sweeps", extra={"data": {"endpoints": len(stale)}})
            for field in stale:
                self._pending.setdefault(field, None)
        self._swept = True

    async def _write_pending(self) -> None:
        """First those that come: a route that moves is never without an endpoint."""
        while self._pending:
            self._changed.clear()
            pending, self._pending = self._pending, {}
            put = iter([(field, packed) for field, packed in pending.items() if packed is not None])
            while batch := list(islice(put, MAX_BATCH)):
                await self._register(batch)
            left = iter([field for field, packed in pending.items() if packed is None])
            while fields := list(islice(left, MAX_BATCH)):
                await self._keep()
                self.writes += await self._do(lambda fields=fields: self._lease.unregister_fields(fields))  # type: ignore[misc]
        self._changed.clear()

    async def _register(self, batch: list[tuple[str, bytes]]) -> None:
        await self._keep()
        await self._do(lambda: self._lease.register_packed(batch))
        self.writes += len(batch)

    async def _do(self, call: Callable[[], T]) -> T:
        """Something that blocks, in the thread. Raises RegistryUnavailable."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)
