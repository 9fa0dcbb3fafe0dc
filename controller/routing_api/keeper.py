"""Keeps registered routes: their end when their time is over, and the route registry equal to them.

Theory of operation. The keeper (`controller.keeper`) follows the table's own log from where it has got to, and writes
what changed to the registry, under a lease of its own; what was only registered again, unchanged, it recognises and
does not send.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Final

from controller.database.engine import Database
from controller.keeper import LEASE_SECONDS, Keeper
from controller.routing_api import store
from controller.routing_api.said import registered
from controller.routing_api.store import Cursor, Listed
from router.registry.records import EndpointRecord
from router.registry.writer import Lease, RegistryWriter

LEASE: Final = "routing-api"

_log = logging.getLogger("controller.routing-api")


class RouteKeeper(Keeper):
    """Of registered routes; ``changed``: a transaction of this process wrote some."""

    def __init__(self, database: Database, registry: str, namespace: str) -> None:
        """``registry``: its URL; empty: there is none, and routes only come and go. Raises InvalidRedisUrl,
        InvalidName; does no I/O."""
        super().__init__(database, "routing-api", _log, "routes-not-kept")
        self._lease: Lease | None = None
        if registry:
            writer = RegistryWriter(registry, namespace=namespace)
            self._lease = writer.lease(LEASE, ttl=LEASE_SECONDS, registrar="routes of the Routing API")
        self._cursor = Cursor(0, 0)
        self._sent: dict[int, int] = {}
        """Digests of what the registry was told, by row."""

    def renew(self) -> bool:
        """Ends what is over, too."""
        moment = datetime.now(UTC)
        if self._database.read(partial(store.any_expired, moment=moment)):
            self._database.write(partial(store.expire, moment=moment))
        return self._lease is None or self._lease.renew()

    def everything(self, *, in_doubt: bool = True) -> None:
        """By one replacement, in doubt or not."""
        moment = datetime.now(UTC)
        self._database.write(partial(store.forget, moment=moment))
        self._cursor = self._database.read(store.newest)
        rows = self._database.read(partial(store.live, moment=moment))
        entries = {row.id: entry for row in rows if (entry := registered(row.kind, row.said)) is not None}
        if self._lease is not None:
            self._lease.replace(entries.values())
        self._sent = {row.id: hash(row.said) for row in rows if row.id in entries}

    def follow(self) -> bool:
        rows = self._database.read(partial(store.changes, after=self._cursor))
        if rows is None:
            self.everything()
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
