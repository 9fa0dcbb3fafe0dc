"""Revisions and sidecars (cloud_controller reference 3.2)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.controller.running import Controller, job_of
from tests.controller.worlds import app, detail, droplet, member, set_droplet, space, started_app


def revisions(controller: Controller, app_guid: str, query: str = "") -> list[dict[str, Any]]:
    response = controller.admin.get(f"/v3/apps/{app_guid}/revisions{query}")
    assert response.status_code == 200, response.text
    rows: list[dict[str, Any]] = response.json()["resources"]
    return rows


class TestRevisions:
    def test_are_made_where_something_is_new_at_a_start(self, controller: Controller) -> None:
        guid = started_app(controller, environment_variables={"A": "1"})["guid"]
        path = f"/v3/apps/{guid}"
        first = controller.admin.get(f"{path}/droplets/current").json()["guid"]
        (initial,) = revisions(controller, guid)
        assert (initial["version"], initial["description"]) == (1, "Initial revision.")
        assert initial["droplet"] == {"guid": first}
        assert initial["processes"] == {"web": {"command": None}}
        assert (initial["sidecars"], initial["deployable"]) == ([], True)
        assert revisions(controller, guid, "/deployed") == [initial]
        process = controller.admin.get(f"/v3/processes/{guid}").json()
        assert process["relationships"]["revision"] == {"data": {"guid": initial["guid"]}}

        controller.admin.post(f"{path}/actions/restart").raise_for_status()
        assert len(revisions(controller, guid)) == 1
        set_droplet(controller, guid)
        controller.admin.patch(f"{path}/environment_variables", json={"var": {"A": "2"}}).raise_for_status()
        controller.admin.patch(f"{path}/processes/web", json={"command": "mine"}).raise_for_status()
        sidecar = {"name": "s", "command": "x", "process_types": ["web"], "memory_in_mb": 10}
        controller.admin.post(f"{path}/sidecars", json=sidecar).raise_for_status()
        controller.admin.post(f"{path}/actions/restart").raise_for_status()
        assert revisions(controller, guid, "/deployed") == revisions(controller, guid)[1:]
        second = revisions(controller, guid, "?versions=2")[0]
        assert second["description"] == (
            "Custom start command added for 'web' process. New droplet deployed. "
            "New environment variables deployed. Sidecars updated."
        )
        assert second["processes"] == {"web": {"command": "mine"}}
        assert second["sidecars"] == [sidecar]

        job_of(controller.admin, controller.admin.delete(f"/v3/droplets/{first}"))
        rows = revisions(controller, guid)
        assert [row["deployable"] for row in rows] == [False, True]
        assert revisions(controller, guid, "?deployable=false") == rows[:1]
        assert revisions(controller, guid, "?deployable=true") == rows[1:]
        controller.admin.post(f"{path}/actions/stop").raise_for_status()
        assert revisions(controller, guid, "/deployed") == []

    def test_keep_their_environment_for_those_who_read_secrets(self, controller: Controller) -> None:
        place = space(controller)
        guid = started_app(controller, place["guid"], environment_variables={"A": "1"})["guid"]
        path = f"/v3/revisions/{revisions(controller, guid)[0]['guid']}"
        for kind, status in (("space_developer", 200), ("space_supporter", 403)):
            response = member(controller, kind, place).client.get(f"{path}/environment_variables")
            assert response.status_code == status
        shown = controller.admin.get(f"{path}/environment_variables").json()
        assert shown["var"] == {"A": "1"}
        assert set(shown["links"]) == {"self", "revision", "app"}
        changed = controller.admin.patch(path, json={"metadata": {"labels": {"a": "b"}}})
        assert changed.json()["metadata"]["labels"] == {"a": "b"}
        assert controller.admin.get(path).json()["version"] == 1

    def test_are_not_made_where_an_app_has_none(self, controller: Controller) -> None:
        made = app(controller)
        path = f"/v3/apps/{made['guid']}"
        controller.admin.patch(f"{path}/features/revisions", json={"enabled": False}).raise_for_status()
        set_droplet(controller, made["guid"])
        controller.admin.post(f"{path}/actions/start").raise_for_status()
        assert revisions(controller, made["guid"]) == []


class TestSidecars:
    def test_are_made_listed_changed_and_deleted(self, controller: Controller) -> None:
        guid = app(controller)["guid"]
        body = {"name": "s", "command": "x", "process_types": ["web", "other"]}
        made = controller.admin.post(f"/v3/apps/{guid}/sidecars", json=body)
        assert made.status_code == 201, made.text
        path = f"/v3/sidecars/{made.json()['guid']}"
        assert made.json()["origin"] == "user"
        taken = controller.admin.post(f"/v3/apps/{guid}/sidecars", json=body)
        assert detail(taken) == "Sidecar with name 's' already exists for given app"
        changed = controller.admin.patch(path, json={"process_types": ["other"], "memory_in_mb": 5})
        assert (changed.json()["process_types"], changed.json()["memory_in_mb"]) == (["other"], 5)
        assert controller.admin.get(f"/v3/apps/{guid}/sidecars").json()["resources"] == [changed.json()]
        assert controller.admin.get(f"/v3/processes/{guid}/sidecars").json()["resources"] == []
        assert controller.admin.delete(path).status_code == 204
        assert detail(controller.admin.get(path)) == "Sidecar not found"

    @pytest.mark.parametrize(
        ("change", "text"),
        [
            ({"process_types": []}, "Process types"),
            ({"command": ""}, "Command is too short"),
            ({"memory_in_mb": 1024}, "The memory allocation defined is too large to run with the dependent"),
        ],
    )
    def test_have_to_fit(self, controller: Controller, change: dict[str, Any], text: str) -> None:
        body = {"name": "s", "command": "x", "process_types": ["web"], **change}
        response = controller.admin.post(f"/v3/apps/{app(controller)['guid']}/sidecars", json=body)
        assert response.status_code == 422
        assert detail(response).startswith(text)

    def test_come_and_go_with_droplets(self, controller: Controller) -> None:
        guid = app(controller)["guid"]
        mine = {"name": "mine", "command": "x", "process_types": ["web"]}
        controller.admin.post(f"/v3/apps/{guid}/sidecars", json=mine).raise_for_status()
        for found, names in (
            (("mine", "agent"), [("mine", "user"), ("agent", "buildpack")]),
            (("other",), [("mine", "user"), ("other", "buildpack")]),
            ((), [("mine", "user")]),
        ):
            wanted = [{"name": name, "command": "y", "process_types": ["web"]} for name in found]
            set_droplet(controller, guid, sidecars=wanted)
            rows = controller.admin.get(f"/v3/apps/{guid}/sidecars").json()["resources"]
            assert [(row["name"], row["origin"]) for row in rows] == names

    def test_keep_their_memory(self, controller: Controller) -> None:
        guid = app(controller)["guid"]
        body = {"name": "s", "command": "x", "process_types": ["web"], "memory_in_mb": 100}
        controller.admin.post(f"/v3/apps/{guid}/sidecars", json=body).raise_for_status()
        response = controller.admin.post(f"/v3/processes/{guid}/actions/scale", json={"memory_in_mb": 100})
        text = "The requested memory allocation is not large enough to run all of your sidecar processes"
        assert (response.status_code, detail(response)) == (422, text)


def test_a_droplet_of_another_app_is_no_revision(controller: Controller) -> None:
    guid = app(controller)["guid"]
    droplet(controller, guid)
    assert revisions(controller, guid) == []
