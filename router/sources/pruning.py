"""Takes out of the announced table what nobody announces any more (gorouter reference 1.4).

Plain endpoints leave when they are overdue. Those that speak TLS never leave by time alone, since whoever answers for
them proves it with a certificate; but some day the dead ones must go. So an overdue one is dialled, a bounded number of
them at a time, and leaves if it does not answer as what it was registered as. While NATS is away nothing leaves, if so
configured: nobody could have announced anything.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from router.sources.announced import AnnouncedTable, Announcement

DIALS_AT_ONCE: Final = 32
DIALS_PER_TICK: Final = 1000
"""What is overdue beyond waits for the next tick."""

_log = logging.getLogger("router.registry")


class Pruner:
    """``run`` ticks; ``tick`` is one look."""

    def __init__(
        self,
        table: AnnouncedTable,
        *,
        interval: float,
        suspended: Callable[[], bool],
        connected: Callable[[], bool],
        answers: Callable[[Announcement], Awaitable[bool]],
    ) -> None:
        """``interval``: seconds between ticks; 0: never. ``suspended``: whether nothing may leave now. ``connected``:
        whether announcements can be heard. ``answers``: dials an endpoint that speaks TLS."""
        self._table = table
        self._interval = interval
        self._suspended = suspended
        self._connected = connected
        self._answers = answers
        self._was_suspended = False
        self.dialled = 0
        """Endpoints that were overdue, speak TLS, and were asked whether they live."""

    async def run(self) -> None:
        """Until cancelled."""
        if not self._interval:
            await asyncio.Event().wait()
        while True:
            await asyncio.sleep(self._interval)
            await self.tick()

    async def tick(self) -> None:
        if self._suspended():
            self._was_suspended = True
            _log.info("prune-suspended")
            return
        if self._was_suspended:
            self._was_suspended = False
            self._table.renew_all()
        doubtful: list[Announcement] = []
        for announcement in self._table.overdue():
            if announcement is None:
                await asyncio.sleep(0)
            elif not announcement.tls:
                self._table.prune(announcement)
            elif len(doubtful) < DIALS_PER_TICK:
                doubtful.append(announcement)
        if doubtful and self._connected():
            turns = asyncio.Semaphore(DIALS_AT_ONCE)
            await asyncio.gather(*(self._ask(announcement, turns) for announcement in doubtful))

    async def _ask(self, announcement: Announcement, turns: asyncio.Semaphore) -> None:
        async with turns:
            self.dialled += 1
            alive = await self._answers(announcement)
        if not self._table.is_overdue(announcement) or self._suspended():
            return
        if alive:
            self._table.spare(announcement)
        else:
            self._table.prune(announcement)
