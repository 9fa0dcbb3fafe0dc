"""Keeps the route registry equal to the database: by difference, at the start, on every change, and when it was wiped.

Theory of operation. A change of routes leaves a note in its own transaction; the keeper (`controller.keeper`) reads the
notes, reads what the noted routes want, and writes the difference to what it knows to be written.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Final

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from controller import desired_routes, route_changes
from controller.database.engine import Database
from controller.database.routing import RouteChange
from controller.desired_routes import Endpoints
from controller.keeper import LEASE_SECONDS, Keeper
from router.registry.writer import Lease, RegistryWriter

LEASE: Final = "controller-routes"
_MOST_NOTES: Final = 500

_log = logging.getLogger("controller.reconciler")


class Reconciler(Keeper):
    """Of the routes of the database; ``changed``: a transaction of this process left notes."""

    def __init__(self, database: Database, url: str, namespace: str) -> None:
        """Raises InvalidRedisUrl, InvalidName; does no I/O."""
        super().__init__(database, "reconciler", _log, "routes-not-reconciled")
        writer = RegistryWriter(url, namespace=namespace)
        self._lease: Lease = writer.lease(LEASE, ttl=LEASE_SECONDS, registrar="the Cloud Controller's routes")
        self._written: dict[str, Endpoints] = {}

    def renew(self) -> bool:
        return self._lease.renew()

    def everything(self, *, in_doubt: bool) -> None:
        desired = self._database.write(_read_all)
        if in_doubt:
            self._lease.replace([(key, record) for ends in desired.values() for (key, _), record in ends.items()])
            self._written = desired
            return
        for guid in self._written.keys() | desired.keys():
            self._write(guid, desired.get(guid, {}))

    def follow(self) -> bool:
        """Act on the notes that are there."""
        notes = self._database.read(_notes)
        if not notes:
            return False
        guids = {guid for _, guid in notes}
        if route_changes.ANY in guids:
            self.everything(in_doubt=False)
        else:
            desired = self._database.read(partial(desired_routes.read, guids=guids))
            for guid in guids:
                self._write(guid, desired.get(guid, {}))
        self._database.write(partial(_forget, ids=[note for note, _ in notes]))
        return True

    def _write(self, guid: str, wanted: Endpoints) -> None:
        """First what comes: a route that moves is never without an endpoint."""
        known = self._written.get(guid, {})
        come = [(key, record) for (key, address), record in wanted.items() if known.get((key, address)) != record]
        gone = [key for key in known if key not in wanted]
        if come:
            self._lease.register(come)
        if gone:
            self._lease.unregister(gone)
        if wanted:
            self._written[guid] = wanted
        else:
            self._written.pop(guid, None)


def _read_all(session: Session) -> dict[str, Endpoints]:
    """Everything; the notes so far are done with by that."""
    notes = list(session.scalars(select(RouteChange.id)))
    _forget(session, notes)
    return desired_routes.read(session, None)


def _notes(session: Session) -> list[tuple[int, str]]:
    statement = select(RouteChange.id, RouteChange.route_guid).order_by(RouteChange.id).limit(_MOST_NOTES)
    return [(row[0], row[1]) for row in session.execute(statement)]


def _forget(session: Session, ids: list[int]) -> None:
    for at in range(0, len(ids), _MOST_NOTES):
        session.execute(delete(RouteChange).where(RouteChange.id.in_(ids[at : at + _MOST_NOTES])))
