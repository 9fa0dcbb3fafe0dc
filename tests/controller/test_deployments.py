"""Deployments as records: begun, shown, cancelled, continued (cloud_controller reference 3.3)."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from controller.database.applications import Deployment
from controller.v3.deployments import set_state
from tests.controller.running import Controller
from tests.controller.worlds import app, code, detail, droplet, set_droplet, started_app


def deploy(controller: Controller, app_guid: str, **more: Any) -> Any:
    body = {"relationships": {"app": {"data": {"guid": app_guid}}}, **more}
    return controller.admin.post("/v3/deployments", json=body)


def deployed(controller: Controller, app_guid: str, **more: Any) -> dict[str, Any]:
    response = deploy(controller, app_guid, **more)
    assert response.status_code == 201, response.text
    made: dict[str, Any] = response.json()
    return made


def webs(controller: Controller, app_guid: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = controller.admin.get(f"/v3/apps/{app_guid}/processes?types=web").json()["resources"]
    return rows


def set_deployment(controller: Controller, guid: str, state: str) -> None:
    """As the updater does."""

    def work(session: Session) -> None:
        set_state(session.scalars(select(Deployment).where(Deployment.guid == guid)).unique().one(), state)

    controller.database.write(work)


class TestOfARunningApp:
    def test_begins_beside_what_runs(self, controller: Controller) -> None:
        guid = started_app(controller)["guid"]
        before = controller.admin.get(f"/v3/apps/{guid}/droplets/current").json()["guid"]
        controller.admin.post(f"/v3/processes/{guid}/actions/scale", json={"instances": 3}).raise_for_status()
        new = droplet(controller, guid)
        options = {"max_in_flight": 2, "memory_in_mb": 512}
        made = deployed(controller, guid, droplet={"guid": new}, options=options)
        assert (made["status"]["value"], made["status"]["reason"]) == ("ACTIVE", "DEPLOYING")
        assert (made["strategy"], made["options"]) == ("rolling", options)
        assert (made["droplet"], made["previous_droplet"]) == ({"guid": new}, {"guid": before})
        assert made["revision"]["version"] == 2
        assert "cancel" in made["links"]
        assert "continue" not in made["links"]
        old, fresh = webs(controller, guid)
        assert (old["guid"], old["instances"], old["memory_in_mb"]) == (guid, 3, 1024)
        assert (fresh["instances"], fresh["memory_in_mb"]) == (2, 512)
        assert made["new_processes"] == [{"guid": fresh["guid"], "type": "web"}]
        assert fresh["relationships"]["revision"] == {"data": {"guid": made["revision"]["guid"]}}
        assert controller.admin.get(f"/v3/apps/{guid}/processes/web").json()["guid"] == fresh["guid"]
        shown = controller.admin.get(f"/v3/deployments/{made['guid']}").json()
        assert shown == made
        query = {"app_guids": guid, "status_values": "ACTIVE", "order_by": "-created_at", "per_page": "1"}
        assert controller.admin.get("/v3/deployments", params=query).json()["resources"] == [made]
        for query in ({"states": "DEPLOYED"}, {"status_reasons": "PAUSED"}, {"status_values": "FINALIZED"}):
            found = controller.admin.get("/v3/deployments", params={"app_guids": guid, **query}).json()
            assert found["resources"] == []

    def test_holds_its_web_process_fast(self, controller: Controller) -> None:
        guid = started_app(controller)["guid"]
        deployed(controller, guid)
        path = f"/v3/apps/{guid}"
        web = f"{path}/processes/web"
        answers = [
            controller.admin.post(f"{web}/actions/scale", json={"instances": 2}),
            controller.admin.patch(web, json={"command": "x"}),
            controller.admin.post(f"{path}/actions/stop"),
            controller.admin.patch(
                f"{path}/relationships/current_droplet", json={"data": {"guid": droplet(controller, guid)}}
            ),
        ]
        assert [(answer.status_code, code(answer)) for answer in answers] == [
            (422, 390016),
            (422, 390017),
            (422, 390024),
            (422, 10008),
        ]
        assert detail(answers[-1]).startswith("Unable to assign current droplet while the app has a deployment")
        labelled = controller.admin.patch(web, json={"metadata": {"labels": {"a": "b"}}})
        assert labelled.status_code == 200

    def test_supersedes_one_that_is_not_over(self, controller: Controller) -> None:
        guid = started_app(controller)["guid"]
        controller.admin.post(f"/v3/processes/{guid}/actions/scale", json={"instances": 2}).raise_for_status()
        first = deployed(controller, guid)
        second = deployed(controller, guid, options={"web_instances": 4, "max_in_flight": 9})
        status = controller.admin.get(f"/v3/deployments/{first['guid']}").json()["status"]
        assert (status["value"], status["reason"]) == ("FINALIZED", "SUPERSEDED")
        assert [row["instances"] for row in webs(controller, guid)] == [2, 1, 4]
        assert second["status"]["value"] == "ACTIVE"

    def test_has_to_fit_beside_what_runs(self, controller: Controller) -> None:
        guid = started_app(controller)["guid"]
        scale = {"memory_in_mb": 60_000}
        controller.admin.post(f"/v3/processes/{guid}/actions/scale", json=scale).raise_for_status()
        refused = deploy(controller, guid)
        assert (refused.status_code, detail(refused)) == (422, "memory quota_exceeded")
        assert len(webs(controller, guid)) == 1

    def test_is_cancelled_once_it_is_active(self, controller: Controller) -> None:
        guid = started_app(controller)["guid"]
        before = controller.admin.get(f"/v3/apps/{guid}/droplets/current").json()["guid"]
        made = deployed(controller, guid, droplet={"guid": droplet(controller, guid)})
        path = f"/v3/deployments/{made['guid']}"
        cancelled = controller.admin.post(f"{path}/actions/cancel")
        assert (cancelled.status_code, cancelled.content) == (200, b"")
        status = controller.admin.get(path).json()["status"]
        assert (status["value"], status["reason"]) == ("ACTIVE", "CANCELING")
        assert controller.admin.get(f"/v3/apps/{guid}/droplets/current").json()["guid"] == before
        set_deployment(controller, made["guid"], "CANCELED")
        again = controller.admin.post(f"{path}/actions/cancel")
        text = "Cannot cancel a deployment with status: FINALIZED and reason: CANCELED"
        assert (again.status_code, detail(again)) == (422, text)


class TestCanaries:
    def test_pause_and_go_on(self, controller: Controller) -> None:
        guid = started_app(controller)["guid"]
        controller.admin.post(f"/v3/processes/{guid}/actions/scale", json={"instances": 10}).raise_for_status()
        options = {"max_in_flight": 5, "canary": {"steps": [{"instance_weight": 20}, {"instance_weight": 50}]}}
        made = deployed(controller, guid, strategy="canary", options=options)
        path = f"/v3/deployments/{made['guid']}"
        assert made["status"]["canary"] == {"steps": {"current": 1, "total": 2}}
        assert webs(controller, guid)[1]["instances"] == 2
        refused = controller.admin.post(f"{path}/actions/continue")
        text = "Cannot continue a deployment with status: ACTIVE and reason: DEPLOYING"
        assert (refused.status_code, detail(refused)) == (422, text)
        reached = []
        for _ in range(2):
            set_deployment(controller, made["guid"], "PAUSED")
            assert "continue" in controller.admin.get(path).json()["links"]
            assert controller.admin.post(f"{path}/actions/continue").status_code == 200
            status = controller.admin.get(path).json()["status"]
            reached.append((status["reason"], status["canary"]["steps"]["current"]))
        assert reached == [("DEPLOYING", 2), ("DEPLOYING", 2)]
        assert controller.admin.get("/v3/deployments?states=DEPLOYING", params={"app_guids": guid}).status_code == 200

    @pytest.mark.parametrize(
        ("body", "text"),
        [
            ({"strategy": "blue"}, "Strategy must be one of 'rolling', 'canary'"),
            ({"options": {"max_in_flight": 0}}, "Options max in flight must be greater than or equal to 1"),
            ({"options": {"canary": {}}}, "Options.canary are only valid for Canary deployments"),
            (
                {"strategy": "canary", "options": {"canary": {"steps": [{"instance_weight": 101}]}}},
                "Options canary steps 0 instance weight must be less than or equal to 100",
            ),
            (
                {
                    "strategy": "canary",
                    "options": {"canary": {"steps": [{"instance_weight": 9}, {"instance_weight": 8}]}},
                },
                "Options canary steps must be sorted in ascending order",
            ),
            (
                {"droplet": {"guid": "x"}, "revision": {"guid": "y"}},
                "Droplet Cannot set both fields 'droplet' and 'revision'",
            ),
            ({"revision": {"guid": "y"}}, "The revision does not exist"),
            (
                {"droplet": {"guid": "x"}},
                "Unable to assign current droplet. Ensure the droplet exists and belongs to this app.",
            ),
            (
                {"relationships": {"app": {"data": {"guid": "none"}}}},
                "Unable to use app. Ensure that the app exists and you have access to it.",
            ),
        ],
    )
    def test_and_all_others_have_rules(self, controller: Controller, body: dict[str, Any], text: str) -> None:
        response = deploy(controller, started_app(controller)["guid"], **body)
        assert (response.status_code, detail(response)) == (422, text)


class TestOfAStoppedApp:
    def test_is_over_at_once(self, controller: Controller) -> None:
        made = app(controller)
        refused = deploy(controller, made["guid"])
        assert detail(refused).startswith("Invalid droplet. Please specify a droplet")
        new = droplet(controller, made["guid"])
        body = deployed(controller, made["guid"], droplet={"guid": new}, options={"web_instances": 2})
        assert (body["status"]["value"], body["status"]["reason"]) == ("FINALIZED", "DEPLOYED")
        assert body["previous_droplet"] == {"guid": None}
        assert "cancel" not in body["links"]
        (web,) = webs(controller, made["guid"])
        assert (web["guid"], web["instances"]) == (made["guid"], 2)
        assert controller.admin.get(f"/v3/apps/{made['guid']}").json()["state"] == "STARTED"


class TestOfARevision:
    def test_rolls_back(self, controller: Controller) -> None:
        guid = started_app(controller, environment_variables={"A": "1"})["guid"]
        path = f"/v3/apps/{guid}"
        (first,) = controller.admin.get(f"{path}/revisions").json()["resources"]
        same = deploy(controller, guid, revision={"guid": first["guid"]})
        assert detail(same).startswith("Unable to rollback. The code and configuration you are rolling back to is the")
        set_droplet(controller, guid)
        controller.admin.patch(f"{path}/environment_variables", json={"var": {"A": "2"}}).raise_for_status()
        controller.admin.post(f"{path}/actions/restart").raise_for_status()
        made = deployed(controller, guid, revision={"guid": first["guid"]})
        assert made["droplet"] == first["droplet"]
        assert made["revision"]["version"] == 3
        newest = controller.admin.get(f"/v3/revisions/{made['revision']['guid']}").json()
        assert newest["description"] == (
            "New droplet deployed. New environment variables deployed. Rolled back to revision 1."
        )
        assert controller.admin.get(f"{path}/environment_variables").json()["var"] == {"A": "1"}
        controller.admin.patch(f"{path}/features/revisions", json={"enabled": False}).raise_for_status()
        refused = deploy(controller, guid, revision={"guid": first["guid"]})
        assert detail(refused).startswith("Cannot create deployment from a revision for an app without revisions")

    def test_of_a_stopped_app_takes_its_commands_back(self, controller: Controller) -> None:
        guid = started_app(controller)["guid"]
        path = f"/v3/apps/{guid}"
        (first,) = controller.admin.get(f"{path}/revisions").json()["resources"]
        controller.admin.patch(f"{path}/processes/web", json={"command": "mine"}).raise_for_status()
        controller.admin.post(f"{path}/actions/restart").raise_for_status()
        controller.admin.post(f"{path}/actions/stop").raise_for_status()
        made = deployed(controller, guid, revision={"guid": first["guid"]})
        assert controller.admin.get(f"{path}/processes/web").json()["command"] == "run web"
        (running,) = controller.admin.get(f"{path}/revisions/deployed").json()["resources"]
        assert (running["guid"], running["version"]) == (made["revision"]["guid"], 3)
