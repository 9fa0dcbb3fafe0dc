"""Jobs (cloud_controller reference 2.4): done once, by whoever holds the claim, on both databases."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from controller.database.base import now
from controller.database.bookkeeping import Job
from controller.jobs import CLAIM_SECONDS, JobRunner
from controller.v3.errors import unprocessable
from tests.controller.running import Controller

TESTED = "test.operation"
LATER = timedelta(days=300)
"""Jobs of these tests are not due, so that the workers of the running controller leave them alone."""


class Counted:
    """Two runners on one database, and how often they did what there was to do."""

    def __init__(self, controller: Controller) -> None:
        self.database = controller.database
        self.done = 0
        self.one, self.other = (JobRunner(self.database, {TESTED: self._do}) for _ in range(2))

    def _do(self, _session: Session, _job: Job) -> None:
        self.done += 1

    def job(self) -> str:
        def work(session: Session) -> str:
            job = Job(operation=TESTED, arguments={}, run_at=now() + LATER, errors=[], warnings=[])
            session.add(job)
            session.flush()
            return job.guid

        return self.database.write(work)

    def held_by(self, guid: str, runner: JobRunner) -> None:
        """As a claim leaves it."""

        def work(session: Session) -> None:
            job = session.scalars(select(Job).where(Job.guid == guid)).one()
            job.locked_by, job.locked_until = runner._name, now() + timedelta(seconds=CLAIM_SECONDS)
            job.attempts += 1

        self.database.write(work)

    def do(self, guid: str, runner: JobRunner) -> None:
        self.database.write(lambda session: runner._do(guid, session))

    def shown(self, guid: str) -> tuple[str, str | None]:
        def work(session: Session) -> tuple[str, str | None]:
            job = session.scalars(select(Job).where(Job.guid == guid)).one()
            return job.state, job.locked_by

        return self.database.read(work)


def test_who_slept_through_the_claim_does_not_do_it_again(controller: Controller) -> None:
    counted = Counted(controller)
    guid = counted.job()
    counted.held_by(guid, counted.one)
    counted.held_by(guid, counted.other)
    counted.do(guid, counted.other)
    counted.do(guid, counted.one)
    assert counted.done == 1
    assert counted.shown(guid) == ("COMPLETE", None)


def test_a_claim_that_was_lost_is_not_ended_by_its_former_holder(controller: Controller) -> None:
    counted = Counted(controller)
    guid = counted.job()
    counted.held_by(guid, counted.one)
    counted.held_by(guid, counted.other)
    problem = unprocessable("too late").objects
    counted.database.write(lambda session: counted.one._fail(guid, problem, session))
    counted.database.write(lambda session: counted.one._try_again(guid, problem, session))
    assert counted.shown(guid) == ("PROCESSING", counted.other._name)
    counted.do(guid, counted.other)
    assert (counted.done, counted.shown(guid)[0]) == (1, "COMPLETE")
