"""Who may do what with apps: every cell of the role matrix (cloud_controller reference 4) that is about them.

The tables here are written from the reference, not from `controller.access`. Whoever does not see the space gets 404,
or 422 where a body names what they do not see; whoever sees it and may not, gets 403; all others get what they asked
for. The cells are asked on SQLite alone: what decides them is the same everywhere but for the conditions of lists.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session

from controller.database.applications import Build, Package
from tests.controller.running import Controller
from tests.controller.worlds import app, code, droplet, member, person, space, started_app

ORG_MANAGER, ORG_AUDITOR, ORG_BILLING, ORG_USER = (
    "organization_manager",
    "organization_auditor",
    "organization_billing_manager",
    "organization_user",
)
DEVELOPER, MANAGER, AUDITOR, SUPPORTER = "space_developer", "space_manager", "space_auditor", "space_supporter"
ADMIN, READ_ONLY, GLOBAL_AUDITOR = "admin", "admin_read_only", "global_auditor"
STRANGER = "nobody"
ROLES = (
    *(ORG_MANAGER, ORG_AUDITOR, ORG_BILLING, ORG_USER),
    *(DEVELOPER, MANAGER, AUDITOR, SUPPORTER),
    *(ADMIN, READ_ONLY, GLOBAL_AUDITOR, STRANGER),
)

READERS = frozenset((ORG_MANAGER, DEVELOPER, MANAGER, AUDITOR, SUPPORTER, ADMIN, READ_ONLY, GLOBAL_AUDITOR))
DEVELOPERS = frozenset((DEVELOPER, ADMIN))
OPERATORS = frozenset((DEVELOPER, SUPPORTER, ADMIN))
ENVIRONMENT_READERS = frozenset((DEVELOPER, SUPPORTER, ADMIN, READ_ONLY))
SECRET_READERS = frozenset((DEVELOPER, ADMIN, READ_ONLY))
DROPLET_DOWNLOADERS = frozenset((ORG_MANAGER, DEVELOPER, MANAGER, AUDITOR, ADMIN, READ_ONLY))


@dataclass(frozen=True)
class Action:
    request: str
    """Method and path, with names of the world in braces."""
    allowed: frozenset[str]
    status: int = 200
    """For those who may."""
    body: dict[str, Any] | None = field(default=None, hash=False)
    unseen: int = 404
    """For those who do not see the space."""
    refused: int = 403
    """For those who see it and may not."""


def owned(name: str) -> dict[str, Any]:
    return {"app": {"data": {"guid": name}}}


LABELS = {"metadata": {"labels": {"a": "b"}}}
READS = [
    Action(f"GET {path}", READERS)
    for path in (
        "/v3/apps/{app}",
        "/v3/apps/{app}/permissions",
        "/v3/apps/{app}/ssh_enabled",
        "/v3/apps/{app}/features",
        "/v3/apps/{app}/features/ssh",
        "/v3/apps/{app}/relationships/current_droplet",
        "/v3/apps/{app}/droplets/current",
        "/v3/apps/{app}/droplets",
        "/v3/apps/{app}/packages",
        "/v3/apps/{app}/builds",
        "/v3/apps/{app}/processes",
        "/v3/apps/{app}/processes/web",
        "/v3/apps/{app}/processes/web/stats",
        "/v3/apps/{app}/sidecars",
        "/v3/apps/{app}/revisions",
        "/v3/apps/{app}/revisions/deployed",
        "/v3/apps/{app}/tasks",
        "/v3/apps/{app}/routes",
        "/v3/processes/{app}",
        "/v3/processes/{app}/stats",
        "/v3/processes/{app}/process_instances",
        "/v3/processes/{app}/sidecars",
        "/v3/packages/{package}",
        "/v3/packages/{package}/droplets",
        "/v3/builds/{build}",
        "/v3/droplets/{droplet}",
        "/v3/sidecars/{sidecar}",
        "/v3/revisions/{revision}",
        "/v3/deployments/{deployment}",
        "/v3/tasks/{task}",
    )
]
SECRETS = [
    Action("GET /v3/apps/{app}/env", ENVIRONMENT_READERS),
    Action("GET /v3/apps/{app}/environment_variables", ENVIRONMENT_READERS),
    Action("GET /v3/revisions/{revision}/environment_variables", SECRET_READERS),
    Action("GET /v3/packages/{package}/download", SECRET_READERS, 502),
    Action("GET /v3/droplets/{droplet}/download", DROPLET_DOWNLOADERS, 502),
]
DEVELOPMENT = [
    Action(
        "POST /v3/apps",
        DEVELOPERS,
        422,  # the name is taken: who comes so far, may
        {"name": "{name}", "relationships": {"space": {"data": {"guid": "{space}"}}}},
        unseen=422,
    ),
    Action("PATCH /v3/apps/{app}", DEVELOPERS, body=LABELS),
    Action("DELETE /v3/apps/{victim}", DEVELOPERS, 202),
    Action("PATCH /v3/apps/{app}/features/ssh", DEVELOPERS, body={"enabled": True}),
    Action("PATCH /v3/apps/{app}/features/service-binding-k8s", DEVELOPERS, body={"enabled": False}),
    Action("PATCH /v3/apps/{app}/features/file-based-vcap-services", DEVELOPERS, body={"enabled": False}),
    Action("POST /v3/packages", DEVELOPERS, 201, {"type": "bits", "relationships": owned("{app}")}, unseen=422),
    Action("POST /v3/packages?source_guid={image}", DEVELOPERS, 201, {"relationships": owned("{other}")}, unseen=422),
    Action("POST /v3/packages/{empty}/upload", DEVELOPERS, 502),
    Action("PATCH /v3/packages/{package}", DEVELOPERS, body=LABELS),
    Action("DELETE /v3/packages/{victim_package}", DEVELOPERS, 202),
    Action("POST /v3/droplets", DEVELOPERS, 201, {"relationships": owned("{app}")}, unseen=422),
    Action("POST /v3/droplets?source_guid={droplet}", DEVELOPERS, 201, {"relationships": owned("{other}")}, unseen=422),
    Action("POST /v3/droplets/{waiting}/upload", DEVELOPERS, 502),
    Action("PATCH /v3/droplets/{droplet}", DEVELOPERS, body=LABELS),
    Action("DELETE /v3/droplets/{victim_droplet}", DEVELOPERS, 202),
    Action(
        "POST /v3/apps/{app}/sidecars",
        DEVELOPERS,
        422,  # the name is taken
        {"name": "sidecar", "command": "x", "process_types": ["web"]},
    ),
    Action("PATCH /v3/sidecars/{sidecar}", DEVELOPERS, body={"command": "y"}),
    Action("DELETE /v3/sidecars/{victim_sidecar}", DEVELOPERS, 204),
    Action("POST /v3/apps/{app}/tasks", DEVELOPERS, 202, {"command": "x", "memory_in_mb": 1}),
    Action("PATCH /v3/tasks/{task}", DEVELOPERS, body=LABELS),
    Action("PATCH /v3/revisions/{revision}", DEVELOPERS, body=LABELS),
    Action("PATCH /v3/deployments/{deployment}", DEVELOPERS, body=LABELS),
    Action("PATCH /v3/builds/{build}", DEVELOPERS, body=LABELS),
]
OPERATION = [
    Action("POST /v3/apps/{app}/actions/start", OPERATORS),
    Action("POST /v3/apps/{other}/actions/stop", OPERATORS),
    Action("POST /v3/apps/{app}/actions/restart", OPERATORS),
    Action("POST /v3/apps/{app}/actions/clear_buildpack_cache", OPERATORS, 202),
    Action("PATCH /v3/apps/{app}/environment_variables", OPERATORS, body={"var": {"A": "1"}}),
    Action("PATCH /v3/apps/{app}/features/revisions", OPERATORS, body={"enabled": True}),
    Action("PATCH /v3/apps/{app}/relationships/current_droplet", OPERATORS, body={"data": {"guid": "{droplet}"}}),
    Action("PATCH /v3/processes/{app}", OPERATORS, body={"command": "z"}),
    Action("PATCH /v3/apps/{app}/processes/web", OPERATORS, body={"command": "z"}),
    Action("POST /v3/processes/{app}/actions/scale", OPERATORS, 202, {"instances": 1}),
    Action("POST /v3/apps/{app}/processes/web/actions/scale", OPERATORS, 202, {"instances": 1}),
    Action("DELETE /v3/processes/{app}/instances/0", OPERATORS, 204),
    Action("DELETE /v3/apps/{app}/processes/web/instances/0", OPERATORS, 204),
    Action("POST /v3/builds", OPERATORS, 201, {"package": {"guid": "{package}"}}, unseen=422, refused=422),
    Action("POST /v3/deployments", OPERATORS, 201, {"relationships": owned("{deployed}")}, unseen=422),
    Action("POST /v3/deployments/{deployment}/actions/cancel", OPERATORS),
    Action("POST /v3/deployments/{deployment}/actions/continue", OPERATORS, 422),  # it is not paused
    Action("POST /v3/tasks/{task}/actions/cancel", OPERATORS, 202),
    Action("PUT /v3/tasks/{task}/cancel", OPERATORS, 202),
]


@dataclass(frozen=True)
class World:
    controller: Controller
    clients: dict[str, httpx.Client]
    names: dict[str, str]

    def fill(self, value: Any) -> Any:
        """With the guids of this world."""
        if isinstance(value, str):
            return value.format_map(self.names)
        if isinstance(value, dict):
            return {key: self.fill(item) for key, item in value.items()}
        return value

    def ask(self, role: str, action: Action) -> httpx.Response:
        method, _, path = self.fill(action.request).partition(" ")
        if action.body is None:
            return self.clients[role].request(method, path)
        return self.clients[role].request(method, path, json=self.fill(action.body))

    def post(self, path: str, body: dict[str, Any]) -> str:
        response = self.controller.admin.post(path, json=body)
        assert response.is_success, response.text
        return str(response.json()["guid"])

    def refresh(self, request: str) -> None:
        """What an action destroys or uses up is there again."""
        names = self.names
        if "{victim}" in request:
            names["victim"] = app(self.controller, names["space"])["guid"]
        elif "{victim_package}" in request:
            names["victim_package"] = self.package("AWAITING_UPLOAD")
        elif "{victim_droplet}" in request:
            names["victim_droplet"] = droplet(self.controller, names["app"])
        elif "{victim_sidecar}" in request:
            body = {"name": "victim", "command": "x", "process_types": ["web"]}
            if not self.controller.admin.get(f"/v3/sidecars/{names['victim_sidecar']}").is_success:
                names["victim_sidecar"] = self.post(f"/v3/apps/{names['app']}/sidecars", body)
        elif request == "POST /v3/builds":
            self.controller.database.write(_end_builds)

    def package(self, state: str) -> str:
        guid = self.post("/v3/packages", {"type": "bits", "relationships": owned(self.names["app"])})

        def work(session: Session) -> None:
            session.execute(update(Package).where(Package.guid == guid).values(state=state))

        self.controller.database.write(work)
        return guid


def _end_builds(session: Session) -> None:
    session.execute(update(Build).values(state="FAILED"))


@pytest.fixture(scope="module")
def world(controller: Controller) -> World:
    place = space(controller)
    owner = {"guid": place["relationships"]["organization"]["data"]["guid"]}
    clients = {
        role: member(controller, role, owner if role.startswith("organization") else place).client
        for role in ROLES
        if role.startswith(("organization", "space"))
    }
    clients |= {role: person(controller, f"cloud_controller.{role}").client for role in ROLES[8:11]}
    clients[STRANGER] = person(controller).client
    made = started_app(controller, place["guid"], environment_variables={"A": "1"})
    guid = made["guid"]
    found = World(controller, clients, {"space": place["guid"], "name": made["name"], "app": guid})
    names = found.names
    names["other"] = app(controller, place["guid"])["guid"]
    names["deployed"] = started_app(controller, place["guid"])["guid"]
    cancelled = started_app(controller, place["guid"])["guid"]
    names["deployment"] = found.post("/v3/deployments", {"relationships": owned(cancelled)})
    names["droplet"] = controller.admin.get(f"/v3/apps/{guid}/droplets/current").json()["guid"]
    names["revision"] = controller.admin.get(f"/v3/apps/{guid}/revisions").json()["resources"][0]["guid"]
    names["task"] = found.post(f"/v3/apps/{guid}/tasks", {"command": "x"})
    body = {"name": "sidecar", "command": "x", "process_types": ["web"]}
    names["sidecar"] = found.post(f"/v3/apps/{guid}/sidecars", body)
    names["package"], names["empty"] = found.package("READY"), found.package("AWAITING_UPLOAD")
    image = {"type": "docker", "data": {"image": "x"}, "relationships": owned(guid)}
    names["image"] = found.post("/v3/packages", image)
    names["build"] = found.post("/v3/builds", {"package": {"guid": names["package"]}})
    names["waiting"] = found.post("/v3/droplets", {"relationships": owned(guid)})
    names |= dict.fromkeys(("victim", "victim_package", "victim_droplet", "victim_sidecar"), "none")
    return found


@pytest.mark.parametrize("controller", ["sqlite"], indirect=True)
@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("action", [*READS, *SECRETS, *DEVELOPMENT, *OPERATION], ids=lambda action: action.request)
def test_each_cell(world: World, action: Action, role: str) -> None:
    if role in READERS:
        world.refresh(action.request)
    response = world.ask(role, action)
    writes = not action.request.startswith("GET")
    if role in action.allowed:
        expected = action.status
    elif role in (READ_ONLY, GLOBAL_AUDITOR) and writes:
        expected = 403  # their tokens write nothing at all
    else:
        expected = action.refused if role in READERS else action.unseen
    assert response.status_code == expected, response.text


@pytest.mark.parametrize("role", ROLES)
def test_lists_show_what_one_may_see(world: World, role: str) -> None:
    for kind, name in (
        ("apps", "app"),
        ("processes", "app"),
        ("packages", "package"),
        ("builds", "build"),
        ("droplets", "droplet"),
        ("deployments", "deployment"),
        ("tasks", "task"),
    ):
        rows = world.clients[role].get(f"/v3/{kind}", params={"guids": world.names[name]}).json()["resources"]
        assert len(rows) == (role in READERS), kind


@pytest.mark.parametrize("role", sorted(READERS))
def test_secrets_in_what_one_may_see(world: World, role: str) -> None:
    client, guid = world.clients[role], world.names["app"]
    shown = [
        client.get(f"/v3/processes/{guid}").json()["command"] != "[PRIVATE DATA HIDDEN]",
        client.get(f"/v3/tasks/{world.names['task']}").json()["command"] == "x",
        "web" in client.get(f"/v3/droplets/{world.names['droplet']}").json()["process_types"],
        client.get(f"/v3/apps/{guid}/permissions").json()["read_sensitive_data"],
    ]
    assert shown == [role in SECRET_READERS] * 4
    if role in ENVIRONMENT_READERS:
        services = client.get(f"/v3/apps/{guid}/env").json()["system_env_json"]
        assert ("VCAP_SERVICES" in services) is (role in SECRET_READERS)


def test_what_is_suspended_is_changed_by_admins_alone(controller: Controller) -> None:
    place = space(controller)
    owner = place["relationships"]["organization"]["data"]["guid"]
    developer = member(controller, DEVELOPER, place).client
    guid = started_app(controller, place["guid"])["guid"]
    controller.admin.patch(f"/v3/organizations/{owner}", json={"suspended": True}).raise_for_status()
    assert developer.get(f"/v3/apps/{guid}").status_code == 200
    for path, body in (
        (f"/v3/apps/{guid}/actions/stop", {}),
        (f"/v3/apps/{guid}/tasks", {"command": "x"}),
        ("/v3/packages", {"type": "bits", "relationships": owned(guid)}),
        ("/v3/apps", {"name": "x", "relationships": {"space": {"data": {"guid": place["guid"]}}}}),
    ):
        refused = developer.post(path, json=body)
        assert (refused.status_code, code(refused)) == (403, 10017), path
    assert controller.admin.post(f"/v3/apps/{guid}/actions/stop").status_code == 200
