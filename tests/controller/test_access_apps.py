"""Who may do what with apps, where a line of the role matrix (`test_role_matrix`) does not say it all.

What lists show, on both databases, because conditions decide there; copies, which need rights at both ends; what is
suspended; and stagers, whose scope is no role.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.controller.running import Controller
from tests.controller.test_staging_records import package
from tests.controller.worlds import app, code, droplet, member, person, space, started_app

READERS = ("organization_manager", "space_developer", "space_manager", "space_auditor", "space_supporter")
OTHERS = ("organization_auditor", "organization_billing_manager", "organization_user")


def owned(guid: str) -> dict[str, Any]:
    return {"relationships": {"app": {"data": {"guid": guid}}}}


def test_lists_show_what_is_in_spaces_that_one_sees(controller: Controller) -> None:
    place = space(controller)
    owner = {"guid": place["relationships"]["organization"]["data"]["guid"]}
    guid = started_app(controller, place["guid"])["guid"]
    for path, body in (
        ("/v3/packages", {"type": "bits", **owned(guid)}),
        ("/v3/droplets", owned(guid)),
        ("/v3/deployments", owned(guid)),
        (f"/v3/apps/{guid}/tasks", {"command": "x"}),
    ):
        controller.admin.post(path, json=body).raise_for_status()
    people = {
        kind: member(controller, kind, owner if kind.startswith("organization") else place).client
        for kind in (*READERS, *OTHERS)
    }
    for scope in ("admin", "admin_read_only", "global_auditor"):
        people[scope] = person(controller, f"cloud_controller.{scope}").client
    people["stranger"] = member(controller, "space_developer", space(controller)).client
    for who, client in people.items():
        for kind in ("apps", "processes", "packages", "droplets", "deployments", "tasks"):
            query = {"guids" if kind == "apps" else "app_guids": guid}
            rows = client.get(f"/v3/{kind}", params=query).json()["resources"]
            assert bool(rows) is (who not in (*OTHERS, "stranger")), (who, kind)


def test_copies_need_rights_at_both_ends(controller: Controller) -> None:
    here, there = space(controller), space(controller)
    source, target = app(controller, here["guid"])["guid"], app(controller, there["guid"])["guid"]
    bits, staged = package(controller, source, "READY")["guid"], droplet(controller, source)
    developer = member(controller, "space_developer", there).client
    assert developer.post(f"/v3/packages?source_guid={bits}", json=owned(target)).status_code == 404
    assert developer.post(f"/v3/droplets?source_guid={staged}", json=owned(target)).status_code == 404
    both = app(controller, here["guid"])["guid"]
    for kind, status in (("space_developer", 201), ("space_supporter", 403), ("space_auditor", 403)):
        client = member(controller, kind, here).client
        assert client.post(f"/v3/packages?source_guid={bits}", json=owned(both)).status_code == status
        assert client.post(f"/v3/droplets?source_guid={staged}", json=owned(both)).status_code == status


@pytest.mark.parametrize("feature", ["service-binding-k8s", "file-based-vcap-services"])
def test_how_services_are_bound_is_for_developers(controller: Controller, feature: str) -> None:
    place = space(controller)
    path = f"/v3/apps/{app(controller, place['guid'])['guid']}/features/{feature}"
    for kind, status in (("space_developer", 200), ("space_supporter", 403)):
        response = member(controller, kind, place).client.patch(path, json={"enabled": False})
        assert response.status_code == status


def test_what_is_suspended_is_changed_by_admins_alone(controller: Controller) -> None:
    place = space(controller)
    owner = place["relationships"]["organization"]["data"]["guid"]
    developer = member(controller, "space_developer", place).client
    guid = started_app(controller, place["guid"])["guid"]
    controller.admin.patch(f"/v3/organizations/{owner}", json={"suspended": True}).raise_for_status()
    assert developer.get(f"/v3/apps/{guid}").status_code == 200
    for path, body in (
        (f"/v3/apps/{guid}/actions/stop", {}),
        (f"/v3/apps/{guid}/tasks", {"command": "x"}),
        ("/v3/packages", {"type": "bits", **owned(guid)}),
        ("/v3/apps", {"name": "x", "relationships": {"space": {"data": {"guid": place["guid"]}}}}),
    ):
        refused = developer.post(path, json=body)
        assert (refused.status_code, code(refused)) == (403, 10017), path
    assert controller.admin.post(f"/v3/apps/{guid}/actions/stop").status_code == 200


def test_stagers_reach_builds_and_droplets_and_nothing_else(controller: Controller) -> None:
    guid = app(controller)["guid"]
    ready = package(controller, guid, "READY")
    build = controller.admin.post("/v3/builds", json={"package": {"guid": ready["guid"]}}).json()
    stager = controller.client("stager", "cloud_controller.update_build_state")
    assert code(stager.patch(f"/v3/apps/{guid}", json={})) == 10007
    assert stager.patch(f"/v3/builds/{build['guid']}", json={"metadata": {"labels": {}}}).status_code == 403
    image = droplet(controller, guid, lifecycle_type="docker", image="x")
    changed = stager.patch(f"/v3/droplets/{image}", json={"image": "y"})
    assert (changed.status_code, changed.json()["image"]) == (200, "y")
    assert stager.patch(f"/v3/builds/{build['guid']}", json={"state": "FAILED"}).status_code == 200
