"""What only one of all controllers on a database does: keep the route registry equal to what the database holds.

Theory of operation. Each `Keeper` is a work of its own, with a claim to it (`controller.leadership`) and a lease in the
registry. Whoever holds the claim follows what is written as soon as its own process wrote something, and every
POLL_SECONDS for the sake of the others. Every RENEW_SECONDS it renews claim and lease; a registry that has forgotten
anything says so then, and is in doubt: it gets everything again. So it is at the start, after every failure, and
when the claim was lost meanwhile. Everything is compared anew every FULL_SECONDS as well.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from functools import partial
from typing import Final

import trio
from sqlalchemy.exc import SQLAlchemyError

from controller.database.engine import Database
from controller.leadership import Leadership
from router.registry.writer import RegistryUnavailable

LEASE_SECONDS: Final = 30.0
RENEW_SECONDS: Final = 1.0
POLL_SECONDS: Final = 0.2
FULL_SECONDS: Final = 60.0
_PAUSE: Final = 0.5
"""After a failure, seconds."""


class Keeper(ABC):
    """``run`` is its life; ``changed`` may be called from the trio thread at any time. What a work does, it does in a
    worker thread, and raises RegistryUnavailable and what the database raises."""

    def __init__(self, database: Database, work: str, log: logging.Logger, complaint: str) -> None:
        """``work``: the name of the claim; ``complaint``: what ``log`` is told where it cannot be done."""
        self._database = database
        self._leadership = Leadership(database, work)
        self._log = log
        self._complaint = complaint
        self._in_doubt = True
        """Whether the registry may hold something else than what it was told."""
        self._changed = trio.Event()

    def changed(self) -> None:
        """A transaction of this process wrote something to follow."""
        self._changed.set()

    @abstractmethod
    def renew(self) -> bool:
        """Whether the registry still holds what it was told."""

    @abstractmethod
    def everything(self, *, in_doubt: bool) -> None:
        """Make the registry equal to all there is; ``in_doubt``: whatever it holds."""

    @abstractmethod
    def follow(self) -> bool:
        """Do what was written since; whether there may be more."""

    async def run(self) -> None:
        """Until cancelled. What it registered stays until the lease expires, or another controller takes it over."""
        try:
            await self._keep_trying()
        finally:
            await self._leadership.give_up()

    async def _keep_trying(self) -> None:
        complained = ""
        while True:
            try:
                if await trio.to_thread.run_sync(self._leadership.holds):
                    await self._keep()
                complained = ""
            except (RegistryUnavailable, SQLAlchemyError) as error:
                if complained != type(error).__name__:
                    complained = type(error).__name__
                    self._log.error(self._complaint, extra={"data": {"why": str(error).splitlines()[0]}})
            self._in_doubt = True
            await trio.sleep(_PAUSE)

    async def _keep(self) -> None:
        """As long as this controller holds the claim."""
        renewal = full = trio.current_time()
        while True:
            now = trio.current_time()
            if now >= renewal:
                if not await trio.to_thread.run_sync(self._leadership.holds):
                    return
                self._in_doubt |= not await trio.to_thread.run_sync(self.renew)
                renewal = trio.current_time() + RENEW_SECONDS
            if self._in_doubt or now >= full:
                await trio.to_thread.run_sync(partial(self.everything, in_doubt=self._in_doubt))
                self._in_doubt = False
                full = trio.current_time() + FULL_SECONDS
            self._changed = trio.Event()
            while await trio.to_thread.run_sync(self.follow):
                pass
            with trio.move_on_after(min(POLL_SECONDS, max(0.0, renewal - trio.current_time()))):
                await self._changed.wait()
