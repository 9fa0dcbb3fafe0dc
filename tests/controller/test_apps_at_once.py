"""Many requests about one app at the same time: nothing is lost, made twice, or beyond a limit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from tests.controller.running import Controller
from tests.controller.test_staging_records import package
from tests.controller.worlds import app, code, detail, set_droplet, space, started_app

TOGETHER = 8


def at_once(controller: Controller, work: Callable[[httpx.Client, int], httpx.Response]) -> list[httpx.Response]:
    """Each with a connection of its own."""
    clients = [controller.client("admin", "cloud_controller.admin") for _ in range(TOGETHER)]
    with ThreadPoolExecutor(TOGETHER) as pool:
        return list(pool.map(work, clients, range(TOGETHER)))


def test_one_build_begins(controller: Controller) -> None:
    ready = package(controller, app(controller)["guid"], "READY")
    body = {"package": {"guid": ready["guid"]}}
    answers = at_once(controller, lambda client, _: client.post("/v3/builds", json=body))
    assert Counter(answer.status_code for answer in answers) == {201: 1, 422: TOGETHER - 1}
    assert {code(answer) for answer in answers if answer.status_code == 422} == {170017}


def test_one_app_of_a_name_is_made(controller: Controller) -> None:
    place = space(controller)["guid"]
    body = {"name": "the-same", "relationships": {"space": {"data": {"guid": place}}}}
    answers = at_once(controller, lambda client, _: client.post("/v3/apps", json=body))
    assert Counter(answer.status_code for answer in answers) == {201: 1, 422: TOGETHER - 1}


def test_tasks_are_numbered_without_gaps(controller: Controller) -> None:
    guid = started_app(controller)["guid"]
    body = {"command": "x", "memory_in_mb": 1}
    answers = at_once(controller, lambda client, _: client.post(f"/v3/apps/{guid}/tasks", json=body))
    assert sorted(answer.json()["sequence_id"] for answer in answers) == list(range(1, TOGETHER + 1))


def test_no_variable_is_lost_and_no_revision_made_twice(controller: Controller) -> None:
    guid = started_app(controller)["guid"]

    def work(client: httpx.Client, number: int) -> httpx.Response:
        change = {"var": {f"V{number}": "x"}}
        client.patch(f"/v3/apps/{guid}/environment_variables", json=change).raise_for_status()
        return client.post(f"/v3/apps/{guid}/actions/restart")

    assert {answer.status_code for answer in at_once(controller, work)} == {200}
    variables: dict[str, Any] = controller.admin.get(f"/v3/apps/{guid}/environment_variables").json()["var"]
    assert len(variables) == TOGETHER
    rows = controller.admin.get(f"/v3/apps/{guid}/revisions").json()["resources"]
    assert [row["version"] for row in rows] == list(range(1, len(rows) + 1))
    assert 2 <= len(rows) <= TOGETHER + 1


def test_one_deployment_is_active(controller: Controller) -> None:
    guid = started_app(controller)["guid"]
    body = {"relationships": {"app": {"data": {"guid": guid}}}}
    answers = at_once(controller, lambda client, _: client.post("/v3/deployments", json=body))
    assert {answer.status_code for answer in answers} == {201}
    query = {"app_guids": guid, "status_values": "ACTIVE"}
    assert len(controller.admin.get("/v3/deployments", params=query).json()["resources"]) == 1


def test_the_last_place_of_a_quota_is_taken_once(controller: Controller) -> None:
    place = space(controller)
    owner = place["relationships"]["organization"]["data"]
    body = {"name": owner["guid"], "apps": {"total_instances": 3}}
    quota = controller.admin.post("/v3/organization_quotas", json=body).raise_for_status().json()["guid"]
    path = f"/v3/organization_quotas/{quota}/relationships/organizations"
    controller.admin.post(path, json={"data": [owner]}).raise_for_status()
    guids = [app(controller, place["guid"])["guid"] for _ in range(TOGETHER)]
    for guid in guids:
        set_droplet(controller, guid)
    answers = at_once(controller, lambda client, number: client.post(f"/v3/apps/{guids[number]}/actions/start"))
    assert Counter(answer.status_code for answer in answers) == {200: 3, 422: TOGETHER - 3}
    refused = next(answer for answer in answers if answer.status_code == 422)
    assert detail(refused) == "app_instance_limit app_instance_limit_exceeded"
