"""Packages, builds and droplets as records (cloud_controller reference 1.3, 3.2, 7.4)."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session

from controller.database.applications import Package
from tests.controller.running import Controller, job_of
from tests.controller.worlds import (
    app,
    code,
    detail,
    droplet,
    member,
    person,
    set_droplet,
    space,
)


def owned(app_guid: str, **more: Any) -> dict[str, Any]:
    return {"relationships": {"app": {"data": {"guid": app_guid}}}, **more}


def package(controller: Controller, app_guid: str, state: str = "", **more: Any) -> dict[str, Any]:
    """One of bits; ``state``: as if they had come."""
    response = controller.admin.post("/v3/packages", json=owned(app_guid, **{"type": "bits", **more}))
    assert response.status_code == 201, response.text
    made: dict[str, Any] = response.json()

    def work(session: Session) -> None:
        session.execute(update(Package).where(Package.guid == made["guid"]).values(state=state))

    if state:
        controller.database.write(work)
    return made


class TestPackages:
    def test_of_bits_wait_for_them(self, controller: Controller) -> None:
        owner = app(controller)
        made = package(controller, owner["guid"], metadata={"labels": {"a": "b"}})
        path = f"/v3/packages/{made['guid']}"
        assert (made["type"], made["state"]) == ("bits", "AWAITING_UPLOAD")
        assert made["data"] == {"error": None, "checksum": {"type": "sha256", "value": None}}
        assert made["links"]["upload"] == {"href": f"http://api.example.com{path}/upload", "method": "POST"}
        assert controller.admin.get(path).json() == made
        for query in (f"app_guids={owner['guid']}&states=AWAITING_UPLOAD&types=bits", f"guids={made['guid']}"):
            listed = controller.admin.get(f"/v3/packages?{query}").json()["resources"]
            assert [row["guid"] for row in listed] == [made["guid"]]
        assert len(controller.admin.get(f"/v3/apps/{owner['guid']}/packages").json()["resources"]) == 1
        changed = controller.admin.patch(path, json={"metadata": {"labels": {"a": "c"}}})
        assert changed.json()["metadata"]["labels"] == {"a": "c"}
        deleted = controller.admin.delete(path)
        assert deleted.status_code == 202
        assert job_of(controller.admin, deleted)["operation"] == "package.delete"
        assert detail(controller.admin.get(path)) == "Package not found"

    def test_of_docker_are_ready_and_keep_their_password(self, controller: Controller) -> None:
        data = {"image": "registry/image:latest", "username": "me", "password": "secret"}
        made = package(controller, app(controller)["guid"], type="docker", data=data)
        assert made["state"] == "READY"
        assert made["data"] == {**data, "password": "***"}
        assert "upload" not in made["links"]
        refused = controller.admin.post(f"/v3/packages/{made['guid']}/upload")
        assert detail(refused) == "Package type must be bits."

    @pytest.mark.parametrize(
        ("body", "text"),
        [
            ({"type": "zip"}, "Type must be one of 'bits', 'docker'"),
            ({}, "Type must be one of 'bits, docker'"),
            ({"type": "docker"}, "Data image required"),
            ({"type": "bits", "data": {"image": "x"}}, "Data must be empty if provided for bits packages"),
        ],
    )
    def test_of_nothing_else(self, controller: Controller, body: dict[str, Any], text: str) -> None:
        response = controller.admin.post("/v3/packages", json=owned(app(controller)["guid"], **body))
        assert (response.status_code, detail(response)) == (422, text)
        missing = controller.admin.post("/v3/packages", json=owned("none", type="bits"))
        assert detail(missing) == "App is invalid. Ensure it exists and you have access to it."

    def test_have_no_store_yet(self, controller: Controller) -> None:
        made = package(controller, app(controller)["guid"])
        path = f"/v3/packages/{made['guid']}"
        refused = controller.admin.post(f"{path}/upload", files={"bits": b"zip"})
        assert (refused.status_code, code(refused)) == (502, 150006)
        assert detail(controller.admin.get(f"{path}/download")) == "Package has no bits to download."
        ready = package(controller, app(controller)["guid"], "READY")
        again = controller.admin.post(f"/v3/packages/{ready['guid']}/upload")
        assert (again.status_code, code(again)) == (400, 150004)
        assert code(controller.admin.get(f"/v3/packages/{ready['guid']}/download")) == 150006

    def test_are_copied_to_other_apps(self, controller: Controller) -> None:
        one, two = app(controller), app(controller)
        image = package(controller, one["guid"], type="docker", data={"image": "x"})
        url = f"/v3/packages?source_guid={image['guid']}"
        copied = controller.admin.post(url, json=owned(two["guid"]))
        assert (copied.status_code, copied.json()["state"], copied.json()["data"]["image"]) == (201, "READY", "x")
        same = controller.admin.post(url, json=owned(one["guid"]))
        assert detail(same) == "Source and destination app cannot be the same"
        states = []
        for state in ("READY", ""):
            source = package(controller, one["guid"], state)
            copied = controller.admin.post(f"/v3/packages?source_guid={source['guid']}", json=owned(two["guid"]))
            states.append(copied.json()["state"])
        assert states == ["COPYING", "FAILED"]


class TestBuilds:
    def test_one_of_an_app_at_a_time(self, controller: Controller) -> None:
        owner = app(controller)
        body = {"package": {"guid": package(controller, owner["guid"], "READY")["guid"]}}
        made = controller.admin.post("/v3/builds", json=body)
        assert made.status_code == 201, made.text
        build = made.json()
        assert (build["state"], build["droplet"], build["error"]) == ("STAGING", None, None)
        assert (build["staging_memory_in_mb"], build["staging_disk_in_mb"]) == (1024, 4096)
        assert build["lifecycle"] == {"type": "buildpack", "data": {"buildpacks": [], "stack": "cflinuxfs4"}}
        assert build["created_by"]["name"] == "admin"
        again = controller.admin.post("/v3/builds", json=body)
        assert (again.status_code, code(again)) == (422, 170017)
        assert detail(again) == "Only one build can be STAGING at a time per application."
        listed = controller.admin.get("/v3/builds", params={"app_guids": owner["guid"], "states": "STAGING"}).json()
        assert [row["guid"] for row in listed["resources"]] == [build["guid"]]
        listed = controller.admin.get(f"/v3/apps/{owner['guid']}/builds?states=FAILED").json()
        assert listed["resources"] == []

    def test_of_ready_packages_that_one_may_stage(self, controller: Controller) -> None:
        place = space(controller)
        made = package(controller, app(controller, place["guid"])["guid"])
        body = {"package": {"guid": made["guid"]}}
        refused = controller.admin.post("/v3/builds", json=body)
        assert (refused.status_code, code(refused)) == (400, 1004)
        assert detail(refused) == "Bad request: Cannot stage package whose state is not ready."
        for client in (person(controller).client, member(controller, "space_auditor", place).client):
            refused = client.post("/v3/builds", json=body)
            text = "Unable to use package. Ensure that the package exists and you have access to it."
            assert (refused.status_code, detail(refused)) == (422, text)

    def test_end_as_stagers_say(self, controller: Controller) -> None:
        owner = app(controller)
        ready = package(controller, owner["guid"], "READY")
        stager = controller.client("stager", "cloud_controller.update_build_state")

        def build() -> str:
            made = controller.admin.post("/v3/builds", json={"package": {"guid": ready["guid"]}})
            assert made.status_code == 201, made.text
            return f"/v3/builds/{made.json()['guid']}"

        path = build()
        failed = stager.patch(path, json={"state": "FAILED", "error": "no luck"})
        assert (failed.status_code, failed.json()["state"]) == (200, "FAILED")
        assert failed.json()["error"] == "StagerError - no luck"
        again = stager.patch(path, json={"state": "FAILED"})
        assert (again.status_code, detail(again)) == (422, "Build is already FAILED")

        path = build()
        assert stager.patch(path, json={"state": "STAGING"}).status_code == 422
        staged = {"state": "STAGED", "lifecycle": {"type": "buildpack", "data": {"process_types": {"web": "run"}}}}
        for body, text in (
            ({"state": "STAGED"}, "Lifecycle 'STAGED' builds require lifecycle data"),
            (staged, "'STAGED' builds require a droplet"),
        ):
            response = stager.patch(path, json=body)
            assert (response.status_code, detail(response)) == (422, text)
        guid = path.rpartition("/")[2]
        waiting = droplet(controller, owner["guid"], state="PROCESSING_UPLOAD", build_guid=guid, process_types={})
        response = stager.patch(path, json=staged)
        assert response.status_code == 200, response.text
        assert (response.json()["state"], response.json()["droplet"]) == ("STAGED", {"guid": waiting})
        shown = controller.admin.get(f"/v3/droplets/{waiting}").json()
        assert (shown["state"], shown["process_types"]) == ("STAGED", {"web": "run"})
        listed = controller.admin.get(f"/v3/packages/{ready['guid']}/droplets?states=STAGED").json()["resources"]
        assert [row["guid"] for row in listed] == [waiting]

    def test_of_an_image_need_no_more_than_its_name(self, controller: Controller) -> None:
        owner = app(controller, lifecycle={"type": "docker", "data": {}})
        image = package(controller, owner["guid"], type="docker", data={"image": "x"})
        made = controller.admin.post("/v3/builds", json={"package": {"guid": image["guid"]}}).json()
        body = {"state": "STAGED", "lifecycle": {"type": "docker", "data": {"image": "x@sha256:1"}}}
        response = controller.admin.patch(f"/v3/builds/{made['guid']}", json=body)
        assert response.status_code == 200, response.text
        shown = controller.admin.get(f"/v3/droplets/{response.json()['droplet']['guid']}").json()
        assert (shown["image"], shown["lifecycle"]["type"], shown["buildpacks"]) == ("x@sha256:1", "docker", None)

    def test_without_anything_to_start_have_failed(self, controller: Controller) -> None:
        owner = app(controller)
        ready = package(controller, owner["guid"], "READY")
        made = controller.admin.post("/v3/builds", json={"package": {"guid": ready["guid"]}}).json()
        droplet(controller, owner["guid"], state="PROCESSING_UPLOAD", build_guid=made["guid"], process_types={})
        body = {"state": "STAGED", "lifecycle": {"type": "buildpack", "data": {}}}
        ended = controller.admin.patch(f"/v3/builds/{made['guid']}", json=body).json()
        assert (ended["state"], ended["error"]) == ("FAILED", "StagingError - Start command not specified")

    def test_are_told_about_only_by_stagers(self, controller: Controller) -> None:
        place = space(controller)
        ready = package(controller, app(controller, place["guid"])["guid"], "READY")
        developer = member(controller, "space_developer", place).client
        made = developer.post("/v3/builds", json={"package": {"guid": ready["guid"]}})
        assert made.status_code == 201, made.text
        path = f"/v3/builds/{made.json()['guid']}"
        assert developer.patch(path, json={"state": "FAILED"}).status_code == 403
        labelled = developer.patch(path, json={"metadata": {"labels": {"a": "b"}}})
        assert labelled.json()["metadata"]["labels"] == {"a": "b"}


class TestDroplets:
    def test_are_made_to_be_uploaded(self, controller: Controller) -> None:
        owner = app(controller)
        made = controller.admin.post("/v3/droplets", json=owned(owner["guid"], process_types={"web": "x"}))
        assert made.status_code == 201, made.text
        shown = made.json()
        path = f"/v3/droplets/{shown['guid']}"
        assert (shown["state"], shown["process_types"], shown["checksum"]) == ("AWAITING_UPLOAD", {"web": "x"}, None)
        assert shown["links"]["assign_current_droplet"]["method"] == "PATCH"
        assert controller.admin.get(path).json() == shown
        refused = controller.admin.post(f"{path}/upload", files={"bits": b"tgz"})
        assert (refused.status_code, code(refused)) == (502, 150006)
        assert detail(controller.admin.get(f"{path}/download")) == "Only staged droplets can be downloaded."
        changed = controller.admin.patch(path, json={"metadata": {"annotations": {"a": "b"}}})
        assert changed.json()["metadata"]["annotations"] == {"a": "b"}
        missing = controller.admin.post("/v3/droplets", json=owned("none"))
        assert detail(missing) == 'App with guid "none" does not exist, or you do not have access to it.'
        deleted = controller.admin.delete(path)
        assert job_of(controller.admin, deleted)["operation"] == "droplet.delete"
        assert detail(controller.admin.get(path)) == "Droplet not found"

    def test_hide_what_they_start(self, controller: Controller) -> None:
        place = space(controller)
        owner = app(controller, place["guid"])
        current, other = set_droplet(controller, owner["guid"]), droplet(controller, owner["guid"])
        path = f"/v3/apps/{owner['guid']}/droplets"
        auditor = member(controller, "space_auditor", place).client
        hidden = {"redacted_message": "[PRIVATE DATA HIDDEN]"}
        assert auditor.get(f"{path}/current").json()["process_types"] == hidden
        assert controller.admin.get(f"{path}/current").json()["process_types"] == {"web": "run web"}
        rows = controller.admin.get(f"{path}?states=STAGED").json()["resources"]
        assert [row["guid"] for row in rows] == [current, other]
        assert rows[0]["process_types"] == {"redacted_message": "[PRIVATE DATA HIDDEN IN LISTS]"}
        rows = controller.admin.get(f"{path}?current=true").json()["resources"]
        assert [row["guid"] for row in rows] == [current]
        assert controller.admin.get(f"{path}?current=yes").status_code == 400
        missing = controller.admin.get(f"/v3/apps/{app(controller)['guid']}/droplets/current")
        assert (missing.status_code, detail(missing)) == (404, "Droplet not found")

    def test_are_copied_when_they_are_staged(self, controller: Controller) -> None:
        one, two = app(controller), app(controller)
        for state, status in (("STAGED", 201), ("FAILED", 422)):
            source = droplet(controller, one["guid"], state=state)
            copied = controller.admin.post(f"/v3/droplets?source_guid={source}", json=owned(two["guid"]))
            assert copied.status_code == status
        assert detail(copied) == "source droplet is not staged"
        assert code(controller.admin.post("/v3/droplets?source_guid=none", json=owned(two["guid"]))) == 10010

    def test_that_are_deleted_run_no_more(self, controller: Controller) -> None:
        owner = app(controller)
        guid = set_droplet(controller, owner["guid"])
        job_of(controller.admin, controller.admin.delete(f"/v3/droplets/{guid}"))
        shown = controller.admin.get(f"/v3/apps/{owner['guid']}").json()
        assert shown["relationships"]["current_droplet"] == {"data": None}
