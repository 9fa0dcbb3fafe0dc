"""Keeps endpoints registered while they are healthy: their checks, one lease, and every write in order. On trio.

Theory of operation. Each target has a task that runs its check and keeps its HealthState; none of them writes. One
task, the keeper, compares what should be registered (every healthy target) with what it knows to be written, and writes
the difference, one call at a time. So order cannot be lost, changes that come while a write is under way are taken
together, and an outage needs no queue: after it the keeper replaces everything with what is healthy by then.

Must never write from two threads at once, write without a check having passed, or let Redis's absence stop a check.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal, TypeVar

import trio

from router.registry.health import Check, HealthState, Schedule, failure_of
from router.registry.records import EndpointRecord, route_key
from router.registry.writer import MAX_TTL, MIN_TTL, RegistryUnavailable, RegistryWriter

DEFAULT_TTL: Final = 30.0
DEFAULT_EXIT_TIMEOUT: Final = 5.0
_FIRST_BACKOFF: Final = 0.1
_LAST_BACKOFF: Final = 5.0
_CHECKS_AT_ONCE: Final = 256
"""Each takes a file descriptor, and running out of them would look like endpoints that fail."""

EventKind = Literal[
    "healthy", "unhealthy", "registered", "unregistered", "replaced", "unavailable", "available", "released", "left"
]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Event:
    """Something worth a line in a log."""

    kind: EventKind
    """``left``: Redis was away at the exit, and the endpoints stay until their lease expires."""
    detail: str


@dataclass(frozen=True, slots=True)
class Target:
    """One endpoint, the routes it serves, and how to know that it is well. Raises InvalidRecord for a bad route."""

    routes: tuple[str, ...]
    record: EndpointRecord
    check: Check
    schedule: Schedule = field(default_factory=Schedule)

    def __post_init__(self) -> None:
        object.__setattr__(self, "routes", tuple(route_key(route) for route in self.routes))

    @property
    def key(self) -> tuple[tuple[str, ...], str]:
        """Its routes and its address: a registrar holds only one target of the same."""
        return self.routes, self.record.address

    def __str__(self) -> str:
        return f"{self.record.address} for {', '.join(self.routes)}"


@dataclass(eq=False, slots=True)
class _Watch:
    target: Target
    state: HealthState
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    settled: bool = False
    """Whether it has been found healthy or failing: false while it is new."""


class Registrar:
    """Holds one lease for the healthy ones among its targets. ``run`` does the work; cancel it to leave.

    Targets may be added and removed before and while it runs.
    """

    def __init__(
        self,
        writer: RegistryWriter,
        lease: str,
        *,
        ttl: float = DEFAULT_TTL,
        description: str = "",
        exit_timeout: float = DEFAULT_EXIT_TIMEOUT,
        on_event: Callable[[Event], None] = lambda event: None,
    ) -> None:
        """``lease`` names this registrar among all of the registry; two that run under one name would undo each other.

        ``ttl`` seconds after this program has died, its endpoints are gone. Leaving takes at most ``exit_timeout``
        seconds. ``on_event`` is called in the trio thread and must not block. Raises ValueError.
        """
        if not MIN_TTL <= ttl <= MAX_TTL:
            raise ValueError(f"ttl of lease {lease!r}: from {MIN_TTL:g} to {MAX_TTL:g} seconds, not {ttl}")
        self._lease = writer.lease(lease, ttl=ttl, registrar=description)
        self._ttl = ttl
        self._exit_timeout = exit_timeout
        self._on_event = on_event
        self._watches: dict[tuple[tuple[str, ...], str], _Watch] = {}
        self._check_slots = trio.CapacityLimiter(_CHECKS_AT_ONCE)
        self._nursery: trio.Nursery | None = None
        self._changed = trio.Event()
        self._leaving = trio.Event()
        self._written: dict[tuple[str, str], EndpointRecord] = {}
        self._in_doubt = True
        """Whether Redis may hold something else than ``_written``: at first, what an earlier run left."""

    def add(self, target: Target) -> None:
        """Its check runs at once, and it is registered when that passes. Raises ValueError: it is here already."""
        if target.key in self._watches:
            raise ValueError(f"{target}: added twice")
        watch = self._watches[target.key] = _Watch(target, HealthState(target.schedule))
        if self._nursery:
            self._nursery.start_soon(self._watch, watch)

    def remove(self, target: Target) -> None:
        """Its check ends and it is unregistered. Raises ValueError: it is not here."""
        watch = self._watches.pop(target.key, None)
        if not watch:
            raise ValueError(f"{target}: not here to be removed")
        watch.scope.cancel()
        self._changed.set()

    async def run(self) -> None:
        """Checks and registers until cancelled; then everything leaves the registry, and the lease with it. Once."""
        last = trio.CancelScope(shield=True)
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._keep, last)
            for watch in self._watches.values():
                nursery.start_soon(self._watch, watch)
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None
                last.deadline = trio.current_time() + self._exit_timeout
                self._leaving.set()
                self._changed.set()

    async def _watch(self, watch: _Watch) -> None:
        target, schedule = watch.target, watch.target.schedule
        with watch.scope:
            while True:
                async with self._check_slots:
                    reason = await failure_of(target.check, schedule.timeout)
                changed = watch.state.observe(not reason)
                healthy = watch.state.healthy
                news = changed or bool(reason and not watch.settled)
                watch.settled |= healthy or bool(reason)
                if news:
                    self._tell("healthy" if healthy else "unhealthy", f"{target}{reason and ': '}{reason}")
                    self._changed.set()
                await trio.sleep(schedule.next_wait())

    async def _keep(self, last: trio.CancelScope) -> None:
        with last:
            await self._follow_health()
            try:
                await self._call(self._lease.release)
            except RegistryUnavailable as error:
                self._tell("left", f"the endpoints expire within {self._ttl:g} s: {error}")
            else:
                self._tell("released", f"lease {self._lease.name}")
        if last.cancelled_caught:
            self._tell("left", f"the endpoints expire within {self._ttl:g} s: no answer from the registry")

    async def _follow_health(self) -> None:
        renewal = math.inf
        backoff = 0.0
        while not self._leaving.is_set():
            self._changed = trio.Event()
            try:
                if trio.current_time() >= renewal:
                    self._in_doubt |= not await self._call(self._lease.renew)
                    renewal = self._next_renewal()
                if await self._write_difference():
                    renewal = self._next_renewal()
            except RegistryUnavailable as error:
                self._in_doubt = True
                if not backoff:
                    self._tell("unavailable", str(error))
                backoff = min(max(backoff * 2, _FIRST_BACKOFF), _LAST_BACKOFF, self._ttl / 3)
                with trio.move_on_after(backoff * random.uniform(0.5, 1.0)):
                    await self._leaving.wait()
                continue
            if backoff:
                self._tell("available", "the registry answers again")
                backoff = 0.0
            with trio.move_on_at(renewal):
                await self._changed.wait()

    async def _write_difference(self) -> bool:
        """Makes the registry hold what is healthy now; whether that renewed the lease. Raises RegistryUnavailable."""
        wanted = {
            (route, watch.target.record.address): watch.target.record
            for watch in self._watches.values()
            if watch.state.healthy
            for route in watch.target.routes
        }
        # What an earlier run left may be healthy still: it is not removed before every target is settled.
        if self._in_doubt and all(watch.settled for watch in self._watches.values()):
            await self._call(self._lease.replace, _entries(wanted))
            self._written = wanted
            self._in_doubt = False
            self._tell("replaced", _listed(wanted))
            return True
        # First those that come: a route that moves is never without an endpoint.
        come = {key: record for key, record in wanted.items() if self._written.get(key) != record}
        if come:
            await self._call(self._lease.register, _entries(come))
            self._written |= come
            self._tell("registered", _listed(come))
        gone = {key: record for key, record in self._written.items() if key not in wanted}
        if gone:
            await self._call(self._lease.unregister, list(gone))
            self._written = wanted
            self._tell("unregistered", _listed(gone))
        return bool(come)

    async def _call(self, write: Callable[..., T], *arguments: object) -> T:
        # Given up only at the exit's end: before, the next write could overtake one that is still under way.
        return await trio.to_thread.run_sync(write, *arguments, abandon_on_cancel=True)

    def _next_renewal(self) -> float:
        return trio.current_time() + self._ttl / 3 * random.uniform(0.8, 1.0)

    def _tell(self, kind: EventKind, detail: str) -> None:
        self._on_event(Event(kind, detail))


def _entries(wanted: dict[tuple[str, str], EndpointRecord]) -> list[tuple[str, EndpointRecord]]:
    return [(route, record) for (route, _), record in wanted.items()]


def _listed(entries: dict[tuple[str, str], EndpointRecord]) -> str:
    return ", ".join(f"{route} -> {address}" for route, address in entries) or "nothing"
