"""Keeps the snapshot on disk: reads it at the start; writes it now and then, when Redis is lost, and at the end.

A snapshot that cannot be read or written is reported and lived without.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from pathlib import Path
from typing import Final

from router.registry import snapshot
from router.registry.replica import Replica
from router.registry.snapshot import Chunks, Header

UNCONFIRMED = "unconfirmed"
"""Stands for the epoch where the table holds entries that Redis does not: no real epoch equals it, so whoever starts
from this snapshot will find the table lost, and ask for confirmation again."""

SOONEST: Final = 1.0
"""Seconds between two snapshots of a table that is quickly written."""
REST: Final = 100
"""How many times as long as a snapshot took nothing is written after it, unless that is longer than ``every``."""

log = logging.getLogger(__name__)


class SnapshotKeeper:
    """One snapshot file and the replica that it is of. Called from the follower's task only."""

    def __init__(self, path: Path, replica: Replica, *, writes: bool, every: float) -> None:
        """`writes`: False for all workers but one. `every`: the longest time between two snapshots of a table that
        changes, in seconds; one that is quickly written is written more often."""
        self.path = path
        self._replica = replica
        self._writes = writes
        self._every = every
        self._due = 0.0
        self._saved: Header | None = None
        self._writing: asyncio.Task[None] | None = None

    async def load(self) -> Header | None:
        """Fills the replica. None: there is no usable snapshot."""
        try:
            header, entries = await asyncio.to_thread(snapshot.load, self.path)
        except FileNotFoundError:
            return None
        except (OSError, snapshot.DamagedSnapshot) as error:
            log.warning("snapshot %s is not used: %s; it will be written anew", self.path, error)
            return None
        await self._replica.fill(entries)
        log.info("snapshot %s: %d endpoints, version %s", self.path, len(entries), header.version)
        self._saved = replace(header, written_at=0.0)
        return header

    @property
    def busy(self) -> bool:
        """Whether a snapshot is being written."""
        return self._writing is not None and not self._writing.done()

    async def save_when_due(self, now: float, header: Header) -> None:
        """Starts to write if it is time, the table changed, and the last one is done. Does not wait for the disk."""
        if self._writes and now >= self._due and not self.busy and await self._start(header):
            self._due = now + self._every

    def hurry(self) -> None:
        """The next snapshot is due now: nobody knows how long this table will be the only one."""
        self._due = 0.0

    async def save_last(self, header: Header) -> None:
        """Returns once the newest table is on the disk."""
        if not self._writes:
            return
        if self._writing is not None:
            await self._writing
        await self._start(header)
        if self._writing is not None:
            await self._writing

    async def _start(self, header: Header) -> bool:
        """Whether there is something to write."""
        if self._replica.unconfirmed:
            header = replace(header, epoch=UNCONFIRMED)
        if header == self._saved:
            return False
        chunks = await snapshot.collected(self._replica.entries)
        self._saved = header
        self._writing = asyncio.create_task(self._write(header, chunks))
        return True

    async def _write(self, header: Header, chunks: Chunks) -> None:
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            await snapshot.save(self.path, header, chunks)
            ended = clock()
            self._due = min(self._due, ended + max(SOONEST, REST * (ended - began)))
        except OSError as error:
            self._saved = None
            log.warning("snapshot %s cannot be written: %s; the router serves on without a new one", self.path, error)
