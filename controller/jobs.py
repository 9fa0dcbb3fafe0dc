"""Jobs: long work that outlives its request, its process, and the controller that began it (reference 2.4).

Theory of operation. A job is a row, made in the transaction of the request that asks for it. A worker of any controller
claims it for CLAIM_SECONDS, runs its operation in one transaction together with the job's own end, and so does its work
once or not at all: a process that is killed midway leaves the row as it was, and another worker claims it when the time
is over. A worker that slept through its claim finds that it does not hold the job any more, and lets go. Operations
are plain functions of a transaction; what they raise as ApiError is the job's failure.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, Final
from uuid import uuid4

import trio
from sqlalchemy import or_, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from controller.database.base import now
from controller.database.bookkeeping import Job
from controller.database.engine import Database
from controller.v3.errors import ApiError

WORKERS: Final = 4
CLAIM_SECONDS: Final = 60
POLL_SECONDS: Final = 2.0
"""How often a worker looks for jobs that others left."""
MAX_ATTEMPTS: Final = 3
_RETRY_SECONDS: Final = 5

Operation = Callable[[Session, Job], None]

_log = logging.getLogger("controller.jobs")


class JobRunner:
    """``run`` is its life. One per process."""

    def __init__(self, database: Database, operations: Mapping[str, Operation]) -> None:
        self._database = database
        self._operations = operations
        self._name = str(uuid4())
        self._begun: trio.MemorySendChannel[str]
        self._begun, self._waiting = trio.open_memory_channel[str](1024)
        self._ends: dict[str, trio.Event] = {}

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            for _ in range(WORKERS):
                nursery.start_soon(self._work)

    async def began(self, guids: Sequence[str], *, patience: float) -> None:
        """These jobs are committed: start them, and wait up to ``patience`` seconds for their ends."""
        for guid in guids:
            self._ends[guid] = trio.Event()
            try:
                self._begun.send_nowait(guid)
            except trio.WouldBlock:
                continue  # a worker finds it in the table
        with trio.move_on_after(patience):
            for guid in guids:
                await self._ends[guid].wait()
        for guid in guids:
            self._ends.pop(guid, None)

    async def _work(self) -> None:
        while True:
            guid: str | None = None
            with trio.move_on_after(POLL_SECONDS):
                guid = await self._waiting.receive()
            try:
                while await trio.to_thread.run_sync(self._do_next, guid):
                    if guid is not None and guid in self._ends:
                        self._ends[guid].set()
                    guid = None
            except SQLAlchemyError as error:
                _log.error("jobs-database-failed", extra={"data": {"why": str(error).splitlines()[0]}})
                await trio.sleep(POLL_SECONDS)

    def _do_next(self, guid: str | None) -> bool:
        """Claim a job, this one or any, and do it. False: there was none."""
        claimed = self._database.write(partial(self._claim, guid))
        if claimed is None:
            return False
        try:
            self._database.write(partial(self._do, claimed))
        except ApiError as error:
            self._database.write(partial(self._fail, claimed, error.objects))
        except Exception:
            _log.exception("job-failed", extra={"data": {"job": claimed}})
            unknown = ApiError("UnknownError", "An unknown error occurred.")
            self._database.write(partial(self._try_again, claimed, unknown.objects))
        return True

    def _claim(self, guid: str | None, session: Session) -> str | None:
        moment = now()
        free = or_(Job.locked_until.is_(None), Job.locked_until < moment)
        statement = select(Job).where(Job.state == "PROCESSING", Job.run_at <= moment, free)
        if guid is not None:
            statement = statement.where(Job.guid == guid)
        job = session.scalars(statement.order_by(Job.id).limit(1).with_for_update(skip_locked=True)).one_or_none()
        if job is None:
            return None
        job.locked_by, job.locked_until = self._name, moment + timedelta(seconds=CLAIM_SECONDS)
        job.attempts += 1
        return job.guid

    def _do(self, guid: str, session: Session) -> None:
        job = self._held(guid, session)
        if job is None:
            return
        operation = self._operations.get(job.operation)
        if operation is None:
            raise ApiError("UnknownError", f"This controller knows no operation {job.operation}")
        operation(session, job)
        if job.state == "PROCESSING":
            job.state = "COMPLETE"
        job.locked_by = job.locked_until = None

    def _held(self, guid: str, session: Session) -> Job | None:
        """The job, locked, if nobody else has claimed it or ended it since this process did."""
        statement = select(Job).where(Job.guid == guid, Job.locked_by == self._name, Job.state == "PROCESSING")
        return session.scalars(statement.with_for_update()).one_or_none()

    def _fail(self, guid: str, errors: list[dict[str, Any]], session: Session) -> None:
        job = self._held(guid, session)
        if job is None:
            return
        job.state, job.errors, job.locked_by, job.locked_until = "FAILED", errors, None, None

    def _try_again(self, guid: str, errors: list[dict[str, Any]], session: Session) -> None:
        job = self._held(guid, session)
        if job is None:
            return
        if job.attempts >= MAX_ATTEMPTS:
            job.state, job.errors = "FAILED", errors
        job.locked_by, job.locked_until = None, None
        job.run_at = now() + timedelta(seconds=_RETRY_SECONDS)
