"""Tasks as records (cloud_controller reference 3.2, 7.5)."""

from __future__ import annotations

import re
from typing import Any

import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session

from controller.database.applications import Task
from tests.controller.running import Controller
from tests.controller.worlds import app, detail, member, set_droplet, space, started_app


def task(controller: Controller, app_guid: str, **more: Any) -> dict[str, Any]:
    response = controller.admin.post(f"/v3/apps/{app_guid}/tasks", json={"command": "run", **more})
    assert response.status_code == 202, response.text
    made: dict[str, Any] = response.json()
    return made


def test_a_task_is_made_shown_listed_and_cancelled(controller: Controller) -> None:
    guid = app(controller)["guid"]
    current = set_droplet(controller, guid)
    made = task(controller, guid, memory_in_mb=256)
    path = f"/v3/tasks/{made['guid']}"
    assert re.fullmatch(r"[0-9a-f]{8}", made["name"])
    assert (made["sequence_id"], made["state"], made["droplet_guid"]) == (1, "PENDING", current)
    assert (made["memory_in_mb"], made["disk_in_mb"], made["result"]) == (256, 1024, {"failure_reason": None})
    assert made["links"]["cancel"]["method"] == "POST"
    assert controller.admin.get(path).json() == made
    second = task(controller, guid, name="migrate")
    assert second["sequence_id"] == 2
    for query, found in (
        ("", [made, second]),
        ("?order_by=-created_at", [second, made]),
        ("?sequence_ids=2", [second]),
        ("?names=migrate", [second]),
        ("?states=RUNNING", []),
    ):
        listed = controller.admin.get(f"/v3/apps/{guid}/tasks{query}").json()["resources"]
        assert [row["guid"] for row in listed] == [row["guid"] for row in found], query
    labelled = controller.admin.patch(path, json={"metadata": {"labels": {"a": "b"}}})
    assert labelled.json()["metadata"]["labels"] == {"a": "b"}
    cancelled = controller.admin.post(f"{path}/actions/cancel")
    assert (cancelled.status_code, cancelled.json()["state"]) == (202, "CANCELING")
    assert controller.admin.put(f"/v3/tasks/{second['guid']}/cancel").status_code == 202

    def end(session: Session) -> None:
        session.execute(update(Task).where(Task.guid == made["guid"]).values(state="FAILED"))

    controller.database.write(end)
    again = controller.admin.put(f"{path}/cancel")
    assert (again.status_code, detail(again)) == (422, "Task state is FAILED and therefore cannot be canceled")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({}, "Command can't be blank"),
        ({"command": "x", "disk_in_mb": 4096}, "Cannot request disk_in_mb greater than 2048"),
        ({"command": "x", "memory_in_mb": 0}, "Memory in mb must be greater than or equal to 1"),
        (
            {"command": "x", "memory_in_mb": 200_000},
            "The task request was invalid: memory_in_mb exceeds organization memory quota",
        ),
    ],
)
def test_what_no_task_can_be(controller: Controller, body: dict[str, Any], text: str) -> None:
    guid = started_app(controller)["guid"]
    response = controller.admin.post(f"/v3/apps/{guid}/tasks", json=body)
    assert (response.status_code, detail(response)) == (422, text)


def test_a_task_needs_a_droplet(controller: Controller) -> None:
    guid = app(controller)["guid"]
    response = controller.admin.post(f"/v3/apps/{guid}/tasks", json={"command": "x"})
    text = "Task must have a droplet. Specify droplet or assign current droplet to app."
    assert (response.status_code, detail(response)) == (422, text)


def test_a_task_takes_after_a_process(controller: Controller) -> None:
    guid = started_app(controller)["guid"]
    controller.admin.post(f"/v3/processes/{guid}/actions/scale", json={"memory_in_mb": 99}).raise_for_status()
    body = {"template": {"process": {"guid": guid}}, "disk_in_mb": 77}
    made = controller.admin.post(f"/v3/apps/{guid}/tasks", json=body).json()
    assert (made["command"], made["memory_in_mb"], made["disk_in_mb"]) == ("run web", 99, 77)
    missing = controller.admin.post(f"/v3/apps/{guid}/tasks", json={"template": {"process": {"guid": "none"}}})
    assert (missing.status_code, detail(missing)) == (404, "Process not found")


def test_commands_are_for_those_who_read_secrets(controller: Controller) -> None:
    place = space(controller)
    guid = started_app(controller, place["guid"])["guid"]
    made = task(controller, guid)
    for kind, command in (("space_developer", "run"), ("space_supporter", "[PRIVATE DATA HIDDEN]")):
        client = member(controller, kind, place).client
        assert client.get(f"/v3/tasks/{made['guid']}").json()["command"] == command
        assert client.get(f"/v3/apps/{guid}/tasks").json()["resources"][0]["command"] == command
        (listed,) = client.get("/v3/tasks", params={"app_guids": guid}).json()["resources"]
        assert listed["command"] == "[PRIVATE DATA HIDDEN IN LISTS]"


def test_each_app_may_have_so_many(controller: Controller) -> None:
    place = space(controller)
    guid = started_app(controller, place["guid"])["guid"]
    owner = place["relationships"]["organization"]["data"]
    quota = controller.admin.post(
        "/v3/organization_quotas", json={"name": guid, "apps": {"per_app_tasks": 1}}
    ).raise_for_status()
    path = f"/v3/organization_quotas/{quota.json()['guid']}/relationships/organizations"
    controller.admin.post(path, json={"data": [owner]}).raise_for_status()
    first = task(controller, guid)
    refused = controller.admin.post(f"/v3/apps/{guid}/tasks", json={"command": "x"})
    assert detail(refused) == "The task request was invalid: app_task_limit quota exceeded"
    assert [row["guid"] for row in controller.admin.get(f"/v3/apps/{guid}/tasks").json()["resources"]] == [
        first["guid"]
    ]
