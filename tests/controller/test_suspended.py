"""What is suspended, and what is being deleted (cloud_controller reference 4): every write of the role matrix again.

The matrix says who may; here the first of them who is no admin is refused while the place is suspended, an admin is
not, and nobody may change what a job is about to delete.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import pytest
from sqlalchemy import delete

from controller.database.base import now
from controller.database.bookkeeping import Job
from tests.controller.role_rows import DOMAINS_AND_ROUTES, ISOLATION_AND_SECURITY, SERVICES, TENANCY
from tests.controller.role_rows_apps import APPS, BITS, MANIFESTS, RUNS
from tests.controller.role_things import FLAGS, MAKERS, WORDS
from tests.controller.role_world import COLUMNS, RIGHTS, Row, World
from tests.controller.running import Controller, job_of, running_controller
from tests.controller.worlds import code, member, organization, person, space

ADMIN: Final = COLUMNS.index("cloud_controller.admin")
IN_SPACES: Final = ("develop", "operate", "manage the space")
WRITES: Final = [
    line
    for line in (
        *TENANCY,
        *DOMAINS_AND_ROUTES,
        *SERVICES,
        *ISOLATION_AND_SECURITY,
        *APPS,
        *BITS,
        *RUNS,
        *MANIFESTS,
    )
    if line.may in (*IN_SPACES, "manage the organization")
    if line.action.partition(" ")[0] not in ("GET", "LIST")
    if "{new domain shared with us}" not in line.action  # another organization's
]


@dataclass(frozen=True)
class Ask:
    """A request with its guids, made before the place is closed, so that it can be asked again and again."""

    world: World
    method: str
    path: str
    body: Any

    @classmethod
    def of(cls, world: World, line: Row) -> Ask:
        method, _, path = line.action.partition(" ")
        return cls(world, method, world.filled(path), None if line.body is None else world.filled(line.body))

    def asked(self, column: int) -> tuple[int, int]:
        """Status and code."""
        status, answer = self.world.people[column].asks(self.method, self.path, self.body)
        return status, answer["errors"][0]["code"] if status >= 400 else 0


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with running_controller() as controller:
        made = World(controller, MAKERS, WORDS)
        for flag in FLAGS:
            controller.admin.patch(f"/v3/feature_flags/{flag}", json={"enabled": True}).raise_for_status()
        yield made


def suspend(world: World, path: str, *, really: bool = True) -> None:
    world.controller.admin.patch(path, json={"suspended": really}).raise_for_status()


@contextmanager
def suspended(world: World, kind: str) -> Iterator[None]:
    path = f"/v3/{kind}s/{world.thing(kind)}"
    suspend(world, path)
    try:
        yield
    finally:
        suspend(world, path, really=False)


@contextmanager
def being_deleted(world: World, kind: str) -> Iterator[str]:
    """As by a job that nobody has begun yet."""
    job = Job(
        operation=f"{kind}.delete",
        resource_type=kind,
        resource_guid=world.thing(kind),
        arguments={},
        run_at=now().replace(year=now().year + 1),
    )
    world.controller.database.write(lambda session: session.add(job))
    try:
        yield job.guid
    finally:
        world.controller.database.write(lambda session: session.execute(delete(Job).where(Job.guid == job.guid)))


@pytest.mark.parametrize("line", WRITES, ids=lambda line: line.action)
def test_suspension_is_for_admins_to_write_in(world: World, line: Row) -> None:
    who = RIGHTS[line.may].split().index("Y")
    asked = Ask.of(world, line)
    with suspended(world, "organization"):
        assert asked.asked(who) == (403, 10017)
    if line.may in IN_SPACES and line.action != "PATCH /v3/spaces/{space}":
        who = RIGHTS[line.may].split().index("Y", 4)
        with suspended(world, "space"):
            assert asked.asked(who) == (403, 10019)
    with suspended(world, "organization"), suspended(world, "space"):
        status, error = asked.asked(ADMIN)
        assert status < 400 or status == line.answers, error
    world.forget_new()


@pytest.mark.parametrize(
    "line", [line for line in WRITES if not line.action.startswith("DELETE")], ids=lambda line: line.action
)
def test_what_is_being_deleted_is_changed_by_nobody(world: World, line: Row) -> None:
    asked = Ask.of(world, line)
    with being_deleted(world, "organization"):
        assert asked.asked(ADMIN) == (422, 10020)
    if line.may in IN_SPACES:
        with being_deleted(world, "space"):
            assert asked.asked(ADMIN) == (422, 10020)


class TestSpaces:
    def test_are_suspended_and_opened_by_who_manages_their_organization(self, controller: Controller) -> None:
        place = space(controller)
        owner = {"guid": place["relationships"]["organization"]["data"]["guid"]}
        above, inside = member(controller, "organization_manager", owner), member(controller, "space_manager", place)
        path = f"/v3/spaces/{place['guid']}"
        assert code(inside.client.patch(path, json={"suspended": True})) == 10003
        assert above.client.patch(path, json={"suspended": True}).json()["suspended"] is True
        assert code(inside.client.patch(path, json={"name": "x"})) == 10019
        assert inside.client.get(path).json()["suspended"] is True
        assert above.client.patch(path, json={"suspended": False}).json()["suspended"] is False
        assert inside.client.patch(path, json={}).status_code == 200

    def test_of_suspended_organizations_stay_as_they_are(self, controller: Controller) -> None:
        place = space(controller)
        owner = {"guid": place["relationships"]["organization"]["data"]["guid"]}
        above = member(controller, "organization_manager", owner)
        controller.admin.patch(f"/v3/organizations/{owner['guid']}", json={"suspended": True}).raise_for_status()
        assert code(above.client.patch(f"/v3/spaces/{place['guid']}", json={"suspended": True})) == 10017
        assert controller.admin.get(f"/v3/spaces/{place['guid']}").json()["suspended"] is False
        assert code(above.client.patch(f"/v3/organizations/{owner['guid']}", json={"suspended": False})) == 10017


def test_who_deletes_twice_is_told_of_the_same_job(controller: Controller) -> None:
    guid = organization(controller)["guid"]

    def plant(session: Any) -> str:
        job = Job(operation="organization.delete", resource_type="organization", resource_guid=guid, run_at=now())
        job.arguments, job.locked_by, job.locked_until = {}, "somebody else", now().replace(year=now().year + 1)
        session.add(job)
        session.flush()
        return str(job.guid)

    job = controller.database.write(plant)
    again = controller.admin.delete(f"/v3/organizations/{guid}")
    assert (again.status_code, again.headers["location"].rpartition("/")[2]) == (202, job)
    with_other_things = controller.admin.post("/v3/spaces", json={"name": "x", "relationships": _in(guid)})
    assert code(with_other_things) == 10020
    controller.database.write(lambda session: session.execute(delete(Job).where(Job.guid == job)))
    assert job_of(controller.admin, controller.admin.delete(f"/v3/organizations/{guid}"))["state"] == "COMPLETE"


def test_jobs_are_for_everybody_with_a_token(controller: Controller) -> None:
    response = controller.admin.delete(f"/v3/organizations/{organization(controller)['guid']}")
    path = response.headers["location"].removeprefix("http://api.example.com")
    assert person(controller).client.get(path).status_code == 200
    assert code(controller.client("").get(path)) == 10002


class TestScopes:
    """Reference 2.6: what a token allows at all, before anybody's roles are looked at."""

    @pytest.mark.parametrize(
        ("scope", "reads", "writes"),
        [
            ("cloud_controller.read", True, False),
            ("cloud_controller.write", False, True),
            ("cloud_controller.admin", True, True),
            ("cloud_controller.admin_read_only", True, False),
            ("cloud_controller.global_auditor", True, False),
            ("cloud_controller.update_build_state", False, False),
        ],
    )
    def test_decide_about_methods(self, controller: Controller, scope: str, reads: bool, writes: bool) -> None:
        client = controller.client("somebody", scope)
        nothing = "/v3/apps/nothing"
        found = {
            "GET": client.get(nothing),
            "POST": client.post(f"{nothing}/actions/start"),
            "PATCH": client.patch(nothing, json={}),
            "DELETE": client.delete(nothing),
        }
        for method, response in found.items():
            allowed = reads if method == "GET" else writes
            assert (response.status_code, code(response)) == ((404, 10010) if allowed else (403, 10007)), method

    def test_of_stagers_allow_to_say_how_a_build_ended_and_no_more(self, controller: Controller) -> None:
        client = controller.client("stager", "cloud_controller.update_build_state")
        assert code(client.patch("/v3/builds/nothing", json={"state": "FAILED"})) == 10010
        assert code(client.patch("/v3/packages/nothing", json={})) == 10007


def _in(organization_guid: str) -> dict[str, Any]:
    return {"organization": {"data": {"guid": organization_guid}}}
