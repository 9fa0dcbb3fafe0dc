"""Processes: defaults, changes, scaling, secrets, and how their instances are (cloud_controller reference 3.2, 7)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from controller.database.applications import Process, ProcessInstance
from controller.database.base import now
from tests.controller.running import Controller
from tests.controller.worlds import app, detail, member, set_droplet, space, started_app


def test_a_web_process_has_its_defaults(controller: Controller) -> None:
    made = app(controller)
    process = controller.admin.get(f"/v3/apps/{made['guid']}/processes/web").json()
    expected = {
        "guid": made["guid"],
        "type": "web",
        "command": None,
        "user": None,
        "instances": 1,
        "memory_in_mb": 1024,
        "disk_in_mb": 1024,
        "log_rate_limit_in_bytes_per_second": -1,
        "health_check": {"type": "port", "data": {"timeout": None, "invocation_timeout": None, "interval": None}},
        "readiness_health_check": {"type": "process", "data": {"invocation_timeout": None, "interval": None}},
        "relationships": {"app": {"data": {"guid": made["guid"]}}, "revision": {"data": None}},
    }
    assert {key: process[key] for key in expected} == expected
    assert process["links"]["scale"]["method"] == "POST"
    missing = controller.admin.get(f"/v3/apps/{made['guid']}/processes/worker")
    assert (missing.status_code, detail(missing)) == (404, "Process not found")


def test_the_users_command_goes_before_the_droplets(controller: Controller) -> None:
    place = space(controller)
    made = app(controller, place["guid"])
    set_droplet(controller, made["guid"], process_types={"web": "from the droplet"})
    path = f"/v3/processes/{made['guid']}"
    assert controller.admin.get(path).json()["command"] == "from the droplet"
    changed = controller.admin.patch(path, json={"command": "my own"})
    assert changed.json()["command"] == "my own"
    (listed,) = controller.admin.get(f"/v3/processes?app_guids={made['guid']}").json()["resources"]
    assert listed["command"] == "[PRIVATE DATA HIDDEN IN LISTS]"
    for kind, command in (
        ("space_developer", "my own"),
        ("space_supporter", "[PRIVATE DATA HIDDEN]"),
        ("space_auditor", "[PRIVATE DATA HIDDEN]"),
    ):
        assert member(controller, kind, place).client.get(path).json()["command"] == command
    assert controller.admin.patch(path, json={"command": None}).json()["command"] == "from the droplet"


def test_health_checks_merge(controller: Controller) -> None:
    path = f"/v3/apps/{app(controller)['guid']}/processes/web"
    change: dict[str, Any] = {"health_check": {"type": "http", "data": {"timeout": 90}}}
    shown = controller.admin.patch(path, json=change).json()["health_check"]
    assert shown == {
        "type": "http",
        "data": {"timeout": 90, "invocation_timeout": None, "interval": None, "endpoint": "/"},
    }
    change = {"health_check": {"data": {"invocation_timeout": 3, "endpoint": "/up?deep=1"}}}
    shown = controller.admin.patch(path, json=change).json()["health_check"]["data"]
    assert shown == {"timeout": 90, "invocation_timeout": 3, "interval": None, "endpoint": "/up?deep=1"}
    change = {"readiness_health_check": {"type": "http", "data": {"endpoint": "/ready"}}}
    shown = controller.admin.patch(path, json=change).json()["readiness_health_check"]
    assert shown == {"type": "http", "data": {"invocation_timeout": None, "interval": None, "endpoint": "/ready"}}
    shown = controller.admin.patch(path, json={"health_check": {"type": "process"}}).json()["health_check"]
    assert "endpoint" not in shown["data"]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"command": ""}, "Command is too short (minimum is 1 character(s))"),
        ({"health_check": {"type": "ping"}}, "Health check type must be one of 'port', 'process', 'http'"),
        ({"health_check": {"data": {"timeout": 0}}}, "Health check data timeout must be greater than or equal to 1"),
        ({"health_check": {"data": {"timeout": 181}}}, "health_check_timeout Maximum exceeded: max 180s"),
        (
            {"health_check": {"type": "port", "data": {"endpoint": "/"}}},
            'Health check type must be "http" to set a health check HTTP endpoint',
        ),
        (
            {"health_check": {"type": "http", "data": {"endpoint": "up"}}},
            "Health check endpoint must be a valid URI path",
        ),
    ],
)
def test_what_no_process_can_be(controller: Controller, change: dict[str, Any], text: str) -> None:
    response = controller.admin.patch(f"/v3/processes/{app(controller)['guid']}", json=change)
    assert (response.status_code, detail(response)) == (422, text)


class TestScaling:
    def test_answers_with_the_process(self, controller: Controller) -> None:
        guid = app(controller)["guid"]
        body = {"instances": 0, "memory_in_mb": 256, "disk_in_mb": 512, "log_rate_limit_in_bytes_per_second": 1000}
        scaled = controller.admin.post(f"/v3/apps/{guid}/processes/web/actions/scale", json=body)
        assert scaled.status_code == 202
        assert "location" not in scaled.headers
        assert {key: scaled.json()[key] for key in body} == body

    @pytest.mark.parametrize(
        ("body", "text"),
        [
            ({"instances": -1}, "Instances must be greater than or equal to 0"),
            ({"memory_in_mb": 0}, "Memory in mb must be greater than or equal to 1"),
            (
                {"disk_in_mb": 4096},
                "disk_quota too much disk requested (requested 4096 MB - must be less than 2048 MB)",
            ),
            ({"colour": 1}, "Unknown field(s): 'colour'"),
        ],
    )
    def test_within_bounds(self, controller: Controller, body: dict[str, Any], text: str) -> None:
        response = controller.admin.post(f"/v3/processes/{app(controller)['guid']}/actions/scale", json=body)
        assert (response.status_code, detail(response)) == (422, text)

    def test_within_quotas_once_started(self, controller: Controller) -> None:
        guid = started_app(controller)["guid"]
        scale = f"/v3/processes/{guid}/actions/scale"
        refused = controller.admin.post(scale, json={"instances": 101})
        assert (refused.status_code, detail(refused)) == (422, "memory quota_exceeded")
        assert controller.admin.get(f"/v3/processes/{guid}").json()["instances"] == 1

    def test_beyond_all_numbers_is_refused_as_any_other(self, controller: Controller) -> None:
        guid = started_app(controller)["guid"]
        body = {"instances": 2**31 - 1, "memory_in_mb": 2**31 - 1}
        refused = controller.admin.post(f"/v3/processes/{guid}/actions/scale", json=body)
        assert (refused.status_code, detail(refused)) == (422, "memory quota_exceeded")

    def test_makes_a_new_version_only_of_other_memory(self, controller: Controller) -> None:
        guid = started_app(controller)["guid"]
        path = f"/v3/processes/{guid}"
        version = controller.admin.get(path).json()["version"]
        more = controller.admin.post(f"{path}/actions/scale", json={"instances": 2, "disk_in_mb": 900}).json()
        assert more["version"] == version
        larger = controller.admin.post(f"{path}/actions/scale", json={"memory_in_mb": 900}).json()
        assert larger["version"] != version
        change = {"health_check": {"type": "process"}}
        assert controller.admin.patch(path, json=change).json()["version"] != larger["version"]


def run(controller: Controller, process_guid: str, index: int, **more: Any) -> None:
    """As a runtime reports an instance."""

    def work(session: Session) -> None:
        process = session.scalars(select(Process).where(Process.guid == process_guid)).unique().one()
        values = {
            "state": "RUNNING",
            "host": "10.0.0.9",
            "ports": [{"internal": 8080, "external": 61001}],
            "since": now() - timedelta(seconds=60),
            **more,
        }
        session.add(
            ProcessInstance(process_id=process.id, index=index, instance_guid=f"{process_guid}-{index}", **values)
        )

    controller.database.write(work)


class TestInstances:
    def test_every_index_is_shown(self, controller: Controller) -> None:
        guid = started_app(controller)["guid"]
        path = f"/v3/processes/{guid}"
        controller.admin.post(f"{path}/actions/scale", json={"instances": 2}).raise_for_status()
        run(controller, guid, 0, usage={"cpu": 0.5, "mem": 1})
        run(controller, guid, 2, state="CRASHED")
        rows = controller.admin.get(f"{path}/stats").json()["resources"]
        assert [(row["index"], row["state"]) for row in rows] == [(0, "RUNNING"), (1, "DOWN"), (2, "STOPPING")]
        first = rows[0]
        assert (first["mem_quota"], first["fds_quota"], first["host"]) == (1024 * 1024 * 1024, 16384, "10.0.0.9")
        assert first["instance_ports"][0]["external"] == 61001
        assert first["uptime"] >= 60
        assert first["usage"] == {"cpu": 0.5, "mem": 1}
        assert rows[1]["uptime"] == 0
        assert controller.admin.get(f"/v3/apps/{guid}/processes/web/stats").json()["resources"][1] == rows[1]
        short = controller.admin.get(f"{path}/process_instances").json()["resources"]
        assert [(row["index"], row["state"]) for row in short] == [(0, "RUNNING"), (1, "DOWN"), (2, "STOPPING")]
        query = {"app_guids": guid, "embed": "process_instances"}
        (listed,) = controller.admin.get("/v3/processes", params=query).json()["resources"]
        assert listed["process_instances"] == short
        assert controller.admin.get("/v3/processes?embed=colours").status_code == 400

    def test_a_stopped_app_has_none(self, controller: Controller) -> None:
        guid = app(controller)["guid"]
        assert controller.admin.get(f"/v3/processes/{guid}/stats").json() == {"resources": []}
        assert controller.admin.get(f"/v3/processes/{guid}/process_instances").json()["resources"] == []

    def test_one_is_ended(self, controller: Controller) -> None:
        guid = started_app(controller)["guid"]
        run(controller, guid, 0)
        for path, status in (
            (f"/v3/apps/{guid}/processes/web/instances/0", 204),
            (f"/v3/processes/{guid}/instances/1", 404),
            (f"/v3/processes/{guid}/instances/x", 404),
        ):
            response = controller.admin.delete(path)
            assert response.status_code == status, path
        assert detail(response) == "Instance not found"
        (row,) = controller.admin.get(f"/v3/processes/{guid}/stats").json()["resources"]
        assert row["state"] == "DOWN"
