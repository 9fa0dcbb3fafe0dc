"""Keeps registered routes: their end when their time is over, and the route registry equal to them.

Theory of operation. One of all controllers on a database is the keeper (`controller.leadership`). It follows the
table's own log from where it has got to, and writes what changed to the registry, under a lease of its own; what was
only registered again, unchanged, it recognises and does not send. A registry that has forgotten anything says so at the
next renewal, and gets everything again. Everything is compared anew at the start, and every FULL_SECONDS.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Final

import trio
from sqlalchemy.exc import SQLAlchemyError

from controller.database.engine import Database
from controller.leadership import Leadership
from controller.routing_api import store
from controller.routing_api.said import registered
from controller.routing_api.store import Cursor, Listed
from router.registry.records import EndpointRecord
from router.registry.writer import Lease, RegistryUnavailable, RegistryWriter

LEASE: Final = "routing-api"
LEASE_SECONDS: Final = 30.0
RENEW_SECONDS: Final = 1.0
POLL_SECONDS: Final = 0.2
FULL_SECONDS: Final = 60.0
_PAUSE: Final = 0.5
"""After a failure, seconds."""

_log = logging.getLogger("controller.routing-api")


class RouteKeeper:
    """``run`` is its life; ``changed`` may be called from the trio thread at any time."""

    def __init__(self, database: Database, registry: str, namespace: str) -> None:
        """``registry``: its URL; empty: there is none, and routes only come and go. Raises InvalidRedisUrl,
        InvalidName; does no I/O."""
        self._database = database
        self._leadership = Leadership(database, "routing-api")
        self._lease: Lease | None = None
        if registry:
            writer = RegistryWriter(registry, namespace=namespace)
            self._lease = writer.lease(LEASE, ttl=LEASE_SECONDS, registrar="routes of the Routing API")
        self._cursor = Cursor(0, 0)
        self._sent: dict[int, int] = {}
        """Digests of what the registry was told, by row."""
        self._in_doubt = True
        """Whether the registry may hold something else."""
        self._changed = trio.Event()

    def changed(self) -> None:
        """A transaction of this process wrote registered routes."""
        self._changed.set()

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
                self._in_doubt = True
                complained = ""
            except (RegistryUnavailable, SQLAlchemyError) as error:
                self._in_doubt = True
                if complained != type(error).__name__:
                    complained = type(error).__name__
                    _log.error("routes-not-kept", extra={"data": {"why": str(error).splitlines()[0]}})
            await trio.sleep(_PAUSE)

    async def _keep(self) -> None:
        """As long as this controller is the keeper."""
        renewal = full = trio.current_time()
        while True:
            now = trio.current_time()
            if now >= renewal:
                if not await trio.to_thread.run_sync(self._leadership.holds):
                    return
                await trio.to_thread.run_sync(self._renew)
                renewal = trio.current_time() + RENEW_SECONDS
            if self._in_doubt or now >= full:
                await trio.to_thread.run_sync(self._everything)
                full = trio.current_time() + FULL_SECONDS
            self._changed = trio.Event()
            while await trio.to_thread.run_sync(self._follow):
                pass
            with trio.move_on_after(min(POLL_SECONDS, max(0.0, renewal - trio.current_time()))):
                await self._changed.wait()

    def _renew(self) -> None:
        moment = datetime.now(UTC)
        if self._database.read(partial(store.any_expired, moment=moment)):
            self._database.write(partial(store.expire, moment=moment))
        if self._lease is not None:
            self._in_doubt |= not self._lease.renew()

    def _everything(self) -> None:
        moment = datetime.now(UTC)
        self._database.write(partial(store.forget, moment=moment))
        self._cursor = self._database.read(store.newest)
        rows = self._database.read(partial(store.live, moment=moment))
        entries = {row.id: entry for row in rows if (entry := registered(row.kind, row.said)) is not None}
        if self._lease is not None:
            self._lease.replace(entries.values())
        self._sent = {row.id: hash(row.said) for row in rows if row.id in entries}
        self._in_doubt = False

    def _follow(self) -> bool:
        """Do what was written since; whether there may be more."""
        rows = self._database.read(partial(store.changes, after=self._cursor))
        if rows is None:
            self._everything()
            return True
        if rows:
            self._send(rows)
            self._cursor = rows[-1].cursor
        return len(rows) == store.BATCH

    def _send(self, rows: Sequence[Listed]) -> None:
        """First what comes: a route that moves is never without an endpoint."""
        come: dict[int, tuple[str, EndpointRecord]] = {}
        gone: list[tuple[str, str]] = []
        for row in rows:
            entry = registered(row.kind, row.said)
            if entry is None:
                continue
            if row.gone:
                if self._sent.pop(row.id, None) is not None:
                    gone.append((entry[0], entry[1].address))
            elif self._sent.get(row.id) != hash(row.said):
                come[row.id] = entry
        if self._lease is not None and come:
            self._lease.register(come.values())
        self._sent |= {row.id: hash(row.said) for row in rows if row.id in come}
        if self._lease is not None and gone:
            self._lease.unregister(gone)
