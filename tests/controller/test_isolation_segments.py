"""Isolation segments: who is entitled, and which one apps run in (cloud_controller reference 1.7, 3.6)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.controller.running import Controller, job_of
from tests.controller.test_quotas import to
from tests.controller.worlds import detail, member, name, organization, person, space

SHARED = "/v3/isolation_segments/933b4c58-120b-499a-b85d-4b6fc9e2903b"


def segment(controller: Controller, *organizations: str) -> dict[str, Any]:
    """One that these organizations are entitled to."""
    made: dict[str, Any]
    made = controller.admin.post("/v3/isolation_segments", json={"name": name("segment")}).raise_for_status().json()
    if organizations:
        path = f"/v3/isolation_segments/{made['guid']}/relationships/organizations"
        controller.admin.post(path, json=to(*organizations)).raise_for_status()
    return made


def one(guid: str | None) -> dict[str, Any]:
    return {"data": None if guid is None else {"guid": guid}}


class TestSegments:
    def test_one_is_made_changed_and_deleted(self, controller: Controller) -> None:
        made = segment(controller)
        path = f"/v3/isolation_segments/{made['guid']}"
        assert made["links"]["organizations"]["href"].endswith(f"{path}/organizations")
        again = controller.admin.post("/v3/isolation_segments", json={"name": made["name"].upper()})
        text = "Isolation Segment names are case insensitive and must be unique"
        assert (again.status_code, detail(again)) == (422, text)
        body = {"name": made["name"] + "-2", "metadata": {"labels": {"a": "b"}}}
        changed = controller.admin.patch(path, json=body).json()
        assert (changed["name"], changed["metadata"]["labels"]) == (body["name"], {"a": "b"})
        listed = controller.admin.get(f"/v3/isolation_segments?names={body['name']}&label_selector=a").json()
        assert [row["guid"] for row in listed["resources"]] == [made["guid"]]
        assert controller.admin.delete(path).status_code == 204
        assert detail(controller.admin.get(path)) == "Isolation segment not found"

    def test_the_shared_one_is_always_there(self, controller: Controller) -> None:
        assert controller.admin.get(SHARED).json()["name"] == "shared"
        renamed, deleted = controller.admin.patch(SHARED, json={"name": "x"}), controller.admin.delete(SHARED)
        assert (renamed.status_code, detail(renamed)) == (422, "Cannot update the shared Isolation Segment")
        assert (deleted.status_code, detail(deleted)) == (422, "Cannot delete the shared Isolation Segment")

    def test_organizations_are_entitled_and_no_longer(self, controller: Controller) -> None:
        first, second = organization(controller)["guid"], organization(controller)["guid"]
        made = segment(controller, first)
        path = f"/v3/isolation_segments/{made['guid']}"
        entitled = controller.admin.post(f"{path}/relationships/organizations", json=to(first, second))
        assert (entitled.status_code, entitled.json()["data"]) == (200, to(first, second)["data"])
        assert controller.admin.get(f"{path}/relationships/organizations").json() == entitled.json()
        listed = controller.admin.get(f"{path}/organizations?order_by=created_at").json()["resources"]
        assert [row["guid"] for row in listed] == [first, second]
        found = controller.admin.get(f"/v3/isolation_segments?organization_guids={second}").json()["resources"]
        assert [row["guid"] for row in found] == [made["guid"]]
        unknown = controller.admin.post(f"{path}/relationships/organizations", json=to(first, "nobody"))
        assert (unknown.status_code, detail(unknown)) == (
            422,
            'Unable to entitle organizations ["nobody"] for isolation segment. '
            "Ensure the organizations exist and that you have access to them.",
        )
        in_use = controller.admin.delete(path)
        assert detail(in_use) == "Revoke the Organization entitlements for your Isolation Segment."
        assert controller.admin.delete(f"{path}/relationships/organizations/{first}").status_code == 204
        job_of(controller.admin, controller.admin.delete(f"/v3/organizations/{second}"))
        assert controller.admin.delete(path).status_code == 204

    def test_an_entitlement_in_use_stays(self, controller: Controller) -> None:
        place = space(controller)
        owner = place["relationships"]["organization"]["data"]["guid"]
        made = segment(controller, owner)
        path = f"/v3/isolation_segments/{made['guid']}/relationships/organizations/{owner}"
        default = f"/v3/organizations/{owner}/relationships/default_isolation_segment"
        of_space = f"/v3/spaces/{place['guid']}/relationships/isolation_segment"
        controller.admin.patch(default, json=one(made["guid"])).raise_for_status()
        assert detail(controller.admin.delete(path)) == (
            "Cannot remove the entitlement while this Isolation Segment is assigned as the Default Isolation Segment "
            "for the Organization."
        )
        controller.admin.patch(default, json=one(None)).raise_for_status()
        controller.admin.patch(of_space, json=one(made["guid"])).raise_for_status()
        assert detail(controller.admin.delete(path)) == (
            "Cannot remove the entitlement while this Isolation Segment is assigned to any Spaces. "
            f"Currently assigned to: ['{place['name']}']"
        )
        spaces = controller.admin.get(f"/v3/isolation_segments/{made['guid']}/relationships/spaces").json()
        assert spaces["data"] == to(place["guid"])["data"]
        controller.admin.patch(of_space, json=one(None)).raise_for_status()
        assert controller.admin.delete(path).status_code == 204


class TestAssignments:
    def test_the_default_of_an_organization(self, controller: Controller) -> None:
        owner = organization(controller)["guid"]
        path = f"/v3/organizations/{owner}/relationships/default_isolation_segment"
        assert controller.admin.get(path).json() == {
            "data": None,
            "links": {"self": {"href": f"http://api.example.com{path}"}},
        }
        stranger = segment(controller)
        refused = controller.admin.patch(path, json=one(stranger["guid"]))
        text = (
            f"Unable to assign isolation segment with guid '{stranger['guid']}'. "
            "Ensure it has been entitled to the organization."
        )
        assert (refused.status_code, detail(refused)) == (422, text)
        made = segment(controller, owner)
        given = controller.admin.patch(path, json=one(made["guid"])).json()
        assert given["data"] == {"guid": made["guid"]}
        assert given["links"]["related"]["href"].endswith(f"/v3/isolation_segments/{made['guid']}")
        assert controller.admin.get(path).json() == given

    @pytest.mark.parametrize(
        ("role", "get", "change"),
        [
            ("organization_manager", 200, 200),
            ("organization_auditor", 404, 404),
            ("organization_user", 404, 404),
            ("space_developer", 200, 403),
            ("space_manager", 200, 403),
            ("space_auditor", 200, 403),
            ("space_supporter", 200, 403),
        ],
    )
    def test_a_space_is_put_in_one_by_the_organizations_managers(
        self, controller: Controller, role: str, get: int, change: int
    ) -> None:
        place = space(controller)
        owner = place["relationships"]["organization"]["data"]
        made, stranger = segment(controller, owner["guid"]), segment(controller)
        client = member(controller, role, owner if role.startswith("org") else place).client
        path = f"/v3/spaces/{place['guid']}/relationships/isolation_segment"
        assert client.get(path).status_code == get
        assert client.patch(path, json=one(made["guid"])).status_code == change
        if change == 200:
            assert client.get(path).json()["data"] == {"guid": made["guid"]}
            text = "Ensure it has been entitled to the organization that this space belongs to."
            assert detail(client.patch(path, json=one(stranger["guid"]))).endswith(text)
        default = f"/v3/organizations/{owner['guid']}/relationships/default_isolation_segment"
        expected = 200 if change == 200 else 403
        assert client.patch(default, json=one(made["guid"])).status_code == expected

    def test_who_sees_segments_and_who_changes_them(self, controller: Controller) -> None:
        owner = organization(controller)
        made = segment(controller, owner["guid"], organization(controller)["guid"])
        insider, stranger = member(controller, "organization_user", owner).client, person(controller).client
        path = f"/v3/isolation_segments/{made['guid']}"
        assert insider.get(path).status_code == 200
        assert insider.get(f"{path}/relationships/organizations").json()["data"] == to(owner["guid"])["data"]
        assert [row["guid"] for row in insider.get("/v3/isolation_segments").json()["resources"]] == [made["guid"]]
        assert stranger.get(path).status_code == 404
        assert stranger.get(f"{path}/organizations").status_code == 404
        assert stranger.get("/v3/isolation_segments").json()["resources"] == []
        for refused in (
            insider.post("/v3/isolation_segments", json={"name": name("s")}),
            insider.patch(path, json={"name": "x"}),
            insider.delete(path),
            insider.post(f"{path}/relationships/organizations", json=to(owner["guid"])),
            insider.delete(f"{path}/relationships/organizations/{owner['guid']}"),
        ):
            assert refused.status_code == 403
