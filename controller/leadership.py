"""Which of several controllers on one database does a work that only one may do (reference 6.8: clock_jobs).

A row names the holder and until when; the holder renews it, the others take it over when its time is past, by their own
clocks: clocks that differ by more than HELD_SECONDS would let two believe to be the one.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import Final
from uuid import uuid4

import trio
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.orm import Session

from controller.database.base import now
from controller.database.bookkeeping import Leader
from controller.database.engine import Database

HELD_SECONDS: Final = 10
GIVE_UP_SECONDS: Final = 2.0
"""How long an end may wait for the database."""


class Leadership:
    """One process's claim to one work."""

    def __init__(self, database: Database, work: str) -> None:
        self._database = database
        self._work = work
        self._name = str(uuid4())

    def holds(self) -> bool:
        """Whether this process is the one for the next HELD_SECONDS. Raises what the database raises."""
        try:
            return self._database.write(self._claim)
        except IntegrityError:  # another one was the first
            return False

    def _claim(self, session: Session) -> bool:
        moment = now()
        row = session.scalars(select(Leader).where(Leader.name == self._work).with_for_update()).one_or_none()
        if row is None:
            row = Leader(name=self._work, holder=self._name, until=moment)
            session.add(row)
        elif row.holder != self._name and row.until > moment:
            return False
        row.holder, row.until = self._name, moment + timedelta(seconds=HELD_SECONDS)
        return True

    async def give_up(self) -> None:
        """Let another one take over at once; at the end of a trio task, cancelled as it may be."""
        with trio.CancelScope(shield=True), trio.move_on_after(GIVE_UP_SECONDS), suppress(SQLAlchemyError):
            await trio.to_thread.run_sync(self._database.write, self._release, abandon_on_cancel=True)

    def _release(self, session: Session) -> None:
        row = session.scalars(select(Leader).where(Leader.name == self._work).with_for_update()).one_or_none()
        if row is not None and row.holder == self._name:
            row.until = now()
