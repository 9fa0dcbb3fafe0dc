"""A controller's database filled in bulk: organizations, spaces, apps with processes, people who develop in some.

It writes the rows that the API would have written, without the API, which would take an hour. It must never be used on
a database that is not the bench's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final
from uuid import uuid4

from sqlalchemy import insert, select, text
from sqlalchemy.orm import Session

from controller.database.applications import App, Process, ProcessInstance
from controller.database.base import now
from controller.database.engine import Database
from controller.database.routing import Domain
from controller.database.tenancy import Organization, OrganizationQuota, Role, Space, User
from controller.uaa import accounts

ORGANIZATIONS: Final = 10
SPACES: Final = 100
DEVELOPED: Final = 10
"""Spaces in which one of the people is a developer."""
PEOPLE: Final = 16
PASSWORD: Final = "a password of the bench's own"  # noqa: S105 - of a database that is gone when the bench is
_CHUNK: Final = 5000


@dataclass(frozen=True, slots=True)
class Population:
    """What there is to ask for."""

    spaces: list[str]
    """Guids."""
    apps: list[str]
    running: str
    """The guid of an app with one instance that runs: the bench's backend."""
    domain: str
    """The guid of a shared domain."""
    people: list[str]
    """Usernames, the first that of a developer in DEVELOPED spaces."""


def fill(database: Database, apps: int, backend_port: int) -> Population:
    """``apps`` apps evenly over SPACES spaces."""
    population = database.write(lambda session: _filled(session, apps, backend_port))
    if not database.is_sqlite:  # what autovacuum would do within a minute
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE"))
    return population


def _filled(session: Session, apps: int, backend_port: int) -> Population:
    quota = session.scalars(select(OrganizationQuota.id)).first()
    rows = [{**_named("bench-organization", number), "quota_id": quota} for number in range(ORGANIZATIONS)]
    owners = _made(session, Organization, rows)
    rows = [
        {**_named("bench-space", number), "organization_id": owners[number % ORGANIZATIONS]} for number in range(SPACES)
    ]
    spaces = _made(session, Space, rows)
    guids = [str(row["guid"]) for row in rows]
    running = _running(session, spaces[0], backend_port)
    return Population(
        guids,
        list(_apps(session, spaces, apps)),
        running,
        session.scalars(select(Domain.guid).where(Domain.organization_id.is_(None))).first() or "",
        _people(session, spaces[:DEVELOPED]),
    )


def _named(kind: str, number: int) -> dict[str, Any]:
    moment = now()
    return {
        "guid": str(uuid4()),
        "name": f"{kind}-{number}",
        "labels": {"number": str(number)},
        "annotations": {},
        "created_at": moment,
        "updated_at": moment,
    }


def _made(session: Session, model: type[Any], rows: list[dict[str, Any]]) -> list[int]:
    """The keys of new rows, in their order."""
    return list(session.scalars(insert(model).returning(model.id, sort_by_parameter_order=True), rows))


def _apps(session: Session, spaces: list[int], count: int) -> Iterator[str]:
    numbers = iter(range(count))
    while chunk := list(islice(numbers, _CHUNK)):
        rows = [
            {
                **_named("bench-app", number),
                "space_id": spaces[number % len(spaces)],
                "lifecycle_data": {"buildpacks": [], "stack": "cflinuxfs4"},
                "environment_variables": {},
            }
            for number in chunk
        ]
        keys = _made(session, App, rows)
        processes = [
            {
                "guid": row["guid"],
                "app_id": key,
                "type": "web",
                "labels": {},
                "annotations": {},
                "health_check": {},
                "readiness_health_check": {},
            }
            for key, row in zip(keys, rows, strict=True)
        ]
        session.execute(insert(Process), processes)
        yield from (str(row["guid"]) for row in rows)


def _running(session: Session, space: int, backend_port: int) -> str:
    guid = str(uuid4())
    app = App(guid=guid, name="bench-running", space_id=space, desired_state="STARTED", labels={}, annotations={})
    app.environment_variables, app.lifecycle_data = {}, {"buildpacks": [], "stack": "cflinuxfs4"}
    process = Process(guid=guid, app=app, type="web", instances=1, labels={}, annotations={})
    instance = ProcessInstance(
        process=process,
        index=0,
        instance_guid=str(uuid4()),
        state="RUNNING",
        host="127.0.0.1",
        ports=[{"internal": 8080, "external": backend_port}],
        since=now(),
    )
    session.add_all((process, instance))
    session.flush()
    return guid


def _people(session: Session, spaces: list[int]) -> list[str]:
    names = [f"bench-{number}@example.com" for number in range(PEOPLE)]
    for number, name in enumerate(names):
        account = accounts.create(session, name, PASSWORD)
        user = User(guid=account.guid, username=name, origin="uaa", labels={}, annotations={})
        session.add(user)
        session.flush()
        if number == 0:
            organizations = set(session.scalars(select(Space.organization_id).where(Space.id.in_(spaces))))
            roles = [Role(type="organization_user", user=user, organization_id=each) for each in organizations]
            roles += [Role(type="space_developer", user=user, space_id=each) for each in spaces]
            session.add_all(roles)
    return names
