"""Keeps the route registry equal to the database: by difference, at the start, on every change, and when it was wiped.

Theory of operation. One of all controllers on a database is the *keeper* of a lease (`controller.leadership`). A change
of routes leaves a note in its own transaction; the keeper reads notes as soon as its own process wrote one, and every
POLL_SECONDS for the sake of the others, reads what the noted routes want, and writes the difference to what it knows to
be written. Every RENEW_SECONDS it renews its lease; a registry that has forgotten anything says so then, and gets
everything again. Everything is compared anew at the start and every FULL_SECONDS.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Final

import trio
from sqlalchemy import delete, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from controller import desired_routes, route_changes
from controller.database.engine import Database
from controller.database.routing import RouteChange
from controller.desired_routes import Endpoints
from controller.leadership import Leadership
from router.registry.writer import Lease, RegistryUnavailable, RegistryWriter

LEASE: Final = "controller-routes"
LEASE_SECONDS: Final = 30.0
RENEW_SECONDS: Final = 1.0
POLL_SECONDS: Final = 0.2
FULL_SECONDS: Final = 60.0
_PAUSE: Final = 0.5
"""After a failure, seconds."""
_MOST_NOTES: Final = 500

_log = logging.getLogger("controller.reconciler")


class Reconciler:
    """``run`` is its life; ``changed`` may be called from the trio thread at any time."""

    def __init__(self, database: Database, url: str, namespace: str) -> None:
        """Raises InvalidRedisUrl, InvalidName; does no I/O."""
        self._database = database
        self._writer = RegistryWriter(url, namespace=namespace)
        self._lease: Lease = self._writer.lease(LEASE, ttl=LEASE_SECONDS, registrar="the Cloud Controller's routes")
        self._leadership = Leadership(database, "reconciler")
        self._written: dict[str, Endpoints] = {}
        self._in_doubt = True
        """Whether the registry may hold something else than ``_written``."""
        self._changed = trio.Event()

    def changed(self) -> None:
        """A transaction of this process left notes."""
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
                else:
                    self._in_doubt = True
                complained = ""
            except (RegistryUnavailable, SQLAlchemyError) as error:
                self._in_doubt = True
                if complained != type(error).__name__:
                    complained = type(error).__name__
                    _log.error("routes-not-reconciled", extra={"data": {"why": str(error).splitlines()[0]}})
            await trio.sleep(_PAUSE)

    async def _keep(self) -> None:
        """As long as this controller is the keeper."""
        renewal = full = trio.current_time()
        while True:
            now = trio.current_time()
            if now >= renewal:
                if not await trio.to_thread.run_sync(self._leadership.holds):
                    return
                self._in_doubt |= not await trio.to_thread.run_sync(self._lease.renew)
                renewal = trio.current_time() + RENEW_SECONDS
            if self._in_doubt or now >= full:
                await trio.to_thread.run_sync(self._everything)
                full = trio.current_time() + FULL_SECONDS
            self._changed = trio.Event()
            while await trio.to_thread.run_sync(self._noted):
                pass
            with trio.move_on_after(min(POLL_SECONDS, max(0.0, renewal - trio.current_time()))):
                await self._changed.wait()

    def _everything(self) -> None:
        desired = self._database.write(_read_all)
        if self._in_doubt:
            self._lease.replace([(key, record) for ends in desired.values() for (key, _), record in ends.items()])
            self._in_doubt = False
            self._written = desired
            return
        for guid in self._written.keys() | desired.keys():
            self._write(guid, desired.get(guid, {}))

    def _noted(self) -> bool:
        """Act on the notes that are there; whether there may be more."""
        notes = self._database.read(_notes)
        if not notes:
            return False
        guids = {guid for _, guid in notes}
        if route_changes.ANY in guids:
            self._everything()
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

    def close(self) -> None:
        self._writer.close()


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
