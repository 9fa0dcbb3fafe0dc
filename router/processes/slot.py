"""One worker slot of the supervisor: its listening sockets, and a living worker process that serves them.

Theory of operation. A slot has one *current* worker. When that dies, the slot starts another one, at once the first
time and ever later while new ones die young (`Backoff`). A roll starts the successor beside it, waits until it is
ready, makes it current, and tells the predecessor to drain: the predecessor is then *leaving*, and its death is no
failure. The sockets belong to the slot for as long as it may serve, so what waits in a backlog outlives any worker.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Mapping
from dataclasses import replace
from time import monotonic
from typing import Final

from router.config.settings import Settings
from router.processes.worker_process import WorkerProcess

YOUNG: Final = 5.0
"""A worker that dies within this many seconds of its start makes the next start wait longer."""
PROVEN: Final = 30.0
"""One that lived longer makes the next start immediate again."""
SLOW_ROLL: Final = 30.0
"""Seconds after which, again and again, the log says that a roll still waits for its new worker."""
FIRST_DELAY: Final = 0.1
LONGEST_DELAY: Final = 10.0
ROLL_IDLE_GRACE: Final = 30.0
"""How long an idle client connection to a rolled worker may stay; its next request ends it in good order before."""
DRAIN_IDLE_GRACE: Final = 1.0
"""The same while the whole router drains: long enough for a request that is on its way already."""

_log = logging.getLogger("router.supervisor")


class Backoff:
    """How long to wait before the next start."""

    def __init__(self) -> None:
        self._delay = 0.0

    def after(self, lived: float) -> float:
        """Seconds to wait after a worker that lived for ``lived`` seconds: 0, and 0.1 to 10 while they die young."""
        if lived > PROVEN:
            self._delay = 0.0
        delay = self._delay
        if lived < YOUNG:
            self._delay = min(LONGEST_DELAY, max(FIRST_DELAY, 2 * delay))
        return delay


class Slot:
    """``keep`` must run in a task from the start until ``drain`` or ``stop``."""

    def __init__(
        self,
        index: int,
        sockets: Mapping[str, socket.socket],
        settings: Settings,
        on_gone: Callable[[WorkerProcess], None],
        source: str = "",
        must_wait: Callable[[], bool] = lambda: False,
    ) -> None:
        """``source``: the socket of the sources process, empty where the registry is to be followed. ``must_wait``:
        whether a worker may not serve before it is told to."""
        self.index = index
        self.current: WorkerProcess | None = None
        self.leaving: set[WorkerProcess] = set()
        self.filled = asyncio.Event()
        """Set once a worker was ready for the first time."""
        self.restarts = 0
        """Workers started because one died."""
        self._sockets = sockets
        """By the name of the listener."""
        self._settings = settings
        self._on_gone = on_gone
        self._source = source
        self._must_wait = must_wait
        self._successor: WorkerProcess | None = None
        self._vacant = asyncio.Event()
        self._ending = False
        self._degraded = False

    @property
    def ready(self) -> bool:
        return self.current is not None and self.current.ready.is_set() and not self.current.gone.is_set()

    @property
    def workers(self) -> list[WorkerProcess]:
        """Every process of this slot that still lives."""
        return [w for w in (self.current, *self.leaving) if w is not None and not w.gone.is_set()]

    async def keep(self) -> None:
        """Keep the slot filled until it is told to end."""
        backoff = Backoff()
        await self._fill()
        while not self._ending:
            await self._vacant.wait()
            self._vacant.clear()
            dead, lived = self.current, 0.0
            if dead is not None:
                lived = monotonic() - dead.started
            delay = backoff.after(lived)
            if dead is not None:
                died = {"slot": self.index, "pid": dead.pid, "how": dead.ending, "restart_in": delay}
                _log.error("worker-died", extra={"data": died})
            await asyncio.sleep(delay)
            if dead is self.current and not self._ending:  # a roll may have been quicker
                self.restarts += 1
                await self._fill()

    async def _fill(self) -> None:
        self.current = await self._start(self._settings)
        if self.current is None:
            self._vacant.set()

    async def _start(self, settings: Settings) -> WorkerProcess | None:
        try:
            follows = self._source, self._must_wait()
            worker = await WorkerProcess.start(self.index, self._sockets, settings, self, *follows)
        except OSError as error:
            _log.error("worker-not-started", extra={"data": {"slot": self.index, "why": str(error)}})
            return None
        if self._ending:
            worker.kill()
        return worker

    def worker_ready(self, worker: WorkerProcess) -> None:
        if self._degraded:
            worker.degrade()
        self.filled.set()

    def worker_gone(self, worker: WorkerProcess) -> None:
        self.leaving.discard(worker)
        self._on_gone(worker)
        if worker is self.current and not self._ending:
            self._vacant.set()

    async def roll(self, settings: Settings) -> bool:
        """Replace the worker by one with ``settings``. False: that one died before it was ready; nothing changed."""
        successor = self._successor = await self._start(settings)
        if successor is None:
            return False
        self.leaving.add(successor)  # known, though not yet current: ending the slot must end it too
        while not await successor.ready_or_gone(SLOW_ROLL):
            waits = {"slot": self.index, "pid": successor.pid, "why": "its route table is not complete"}
            _log.warning("roll-waits", extra={"data": waits})
        self._successor = None
        if successor.gone.is_set() or self._ending:
            return False
        self.leaving.discard(successor)
        predecessor, self.current, self._settings = self.current, successor, settings
        if predecessor is not None and not predecessor.gone.is_set():
            self.leaving.add(predecessor)
            predecessor.drain(ROLL_IDLE_GRACE, settings.drain_timeout)
        return True

    def abandon_roll(self) -> None:
        """End a successor that is not ready yet, and so the roll that waits for it."""
        if self._successor is not None:
            self._successor.kill()

    def degrade(self) -> None:
        """Have every worker say that it should get no new traffic, and serve on."""
        self._degraded = True
        for worker in self.workers:
            worker.degrade()

    def set_log_level(self, level: str) -> None:
        """Of every worker, those to come as well."""
        self._settings = replace(self._settings, logging=replace(self._settings.logging, level=level))
        for worker in self.workers:
            worker.set_log_level(level)

    def drain(self, longest: float) -> None:
        """Give the sockets up and let every worker finish what it has, for at most ``longest`` seconds."""
        self._ending = True
        for sock in self._sockets.values():
            sock.close()
        for worker in self.workers:
            worker.drain(DRAIN_IDLE_GRACE, longest)

    async def stop(self) -> None:
        """End every worker at once and give the sockets up; returns when they are gone."""
        self._ending = True
        for sock in self._sockets.values():
            sock.close()
        await asyncio.gather(*(worker.stop() for worker in self.workers))
