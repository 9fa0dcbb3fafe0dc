"""The announced table on disk, so that a router that starts again serves at once what its last life had learned.

A snapshot in the registry's format, written now and then while the table changes. What is read from it counts as
announced at that moment, and leaves like everything else unless it is announced indeed. Where the router was away for
longer than an endpoint may live unannounced, only those that speak TLS are taken: another app may have got the address
of a plain one since, and would get its requests.
"""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path
from typing import Final

from router.registry import snapshot
from router.registry.records import InvalidRecord
from router.registry.replica import decoded
from router.registry.slices import sliced
from router.sources.announced import AnnouncedTable
from router.sources.frames import field

FILE: Final = "announced.snapshot"
"""In the folder of the setting millrace.data."""
EVERY: Final = 15.0
_EPOCH: Final = "announced"
_STEP: Final = 16
_CHUNK: Final = 2000

_log = logging.getLogger("router.sources")


class Memory:
    """``load`` once, then ``run``."""

    def __init__(self, path: Path, table: AnnouncedTable, *, threshold: float, every: float = EVERY) -> None:
        self._path = path
        self._table = table
        self._threshold = threshold
        self._every = every
        self._saved = -1

    async def load(self) -> None:
        """Fills the table; without a usable snapshot it stays empty."""
        try:
            header, entries = await asyncio.to_thread(snapshot.load, self._path)
        except FileNotFoundError:
            return
        except (OSError, snapshot.DamagedSnapshot) as error:
            _log.warning("routes-snapshot-not-used", extra={"data": {"file": str(self._path), "why": str(error)}})
            return
        age = time.time() - header.written_at
        plain_too = age <= self._threshold
        async for part in sliced(entries, _STEP):
            for name, record in part:
                try:
                    route, endpoint = decoded(name, record)
                except InvalidRecord:
                    continue
                if plain_too or endpoint.tls_port:
                    self._table.restore(route, endpoint)
        self._saved = self._table.changes
        data = {"routes": len(self._table), "endpoints": self._table.endpoints, "age_seconds": round(age)}
        _log.info("routes-restored", extra={"data": data})

    async def run(self) -> None:
        """Until cancelled; then the newest table is written once more."""
        try:
            while True:
                await asyncio.sleep(self._every)
                await self.save()
        finally:
            await self.save()

    async def save(self) -> None:
        """Returns once the table is on the disk, if it changed."""
        changes = self._table.changes
        if changes == self._saved:
            return
        chunks: snapshot.Chunks = [[]]
        async for part in sliced(self._table.routes(), _STEP):
            for route in part:
                pool = self._table.pool(route)
                if pool is not None:
                    chunks[-1] += [(field(route, each.address), each.packed) for each in pool.announcements]
            if len(chunks[-1]) >= _CHUNK:
                chunks.append([])
        try:
            await snapshot.save(self._path, snapshot.Header(_EPOCH), chunks)
            self._saved = changes
        except OSError as error:
            data = {"file": str(self._path), "why": str(error), "what": "the router works on without"}
            _log.warning("routes-snapshot-not-written", extra={"data": data})
