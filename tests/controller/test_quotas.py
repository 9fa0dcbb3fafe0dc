"""Quotas of organizations and of spaces, and what is used of them (cloud_controller reference 1.7, 3.6)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.controller.running import Controller, job_of
from tests.controller.test_reconciler import running_app
from tests.controller.worlds import code, detail, member, name, organization, person, space

UNLIMITED: dict[str, Any] = {
    "apps": {
        "total_memory_in_mb": None,
        "per_process_memory_in_mb": None,
        "total_instances": None,
        "per_app_tasks": None,
        "log_rate_limit_in_bytes_per_second": None,
    },
    "services": {"paid_services_allowed": True, "total_service_instances": None, "total_service_keys": None},
    "routes": {"total_routes": None, "total_reserved_ports": None},
}


def to(*guids: str) -> dict[str, Any]:
    return {"data": [{"guid": guid} for guid in guids]}


def organization_quota(controller: Controller, **more: Any) -> dict[str, Any]:
    response = controller.admin.post("/v3/organization_quotas", json={"name": name("quota"), **more})
    assert response.status_code == 201, response.text
    made: dict[str, Any] = response.json()
    return made


def space_quota(controller: Controller, organization_guid: str, **more: Any) -> dict[str, Any]:
    relationships = {"organization": {"data": {"guid": organization_guid}}, **more.pop("relationships", {})}
    body = {"name": name("quota"), "relationships": relationships, **more}
    response = controller.admin.post("/v3/space_quotas", json=body)
    assert response.status_code == 201, response.text
    made: dict[str, Any] = response.json()
    return made


class TestOfOrganizations:
    def test_everything_is_unlimited_unless_said(self, controller: Controller) -> None:
        made = organization_quota(controller)
        assert {key: made[key] for key in UNLIMITED} == UNLIMITED
        assert made["domains"] == {"total_domains": None}
        assert made["relationships"] == {"organizations": {"data": []}}
        assert "metadata" not in made
        assert controller.admin.get(f"/v3/organization_quotas/{made['guid']}").json() == made

    def test_the_first_quota_is_what_new_organizations_have(self, controller: Controller) -> None:
        (default,) = controller.admin.get("/v3/organization_quotas?names=default").json()["resources"]
        assert default["apps"]["total_memory_in_mb"] == 102_400
        assert (default["routes"]["total_routes"], default["routes"]["total_reserved_ports"]) == (1000, 100)
        made = organization(controller)
        assert made["relationships"]["quota"] == {"data": {"guid": default["guid"]}}
        for refused in (
            controller.admin.patch(f"/v3/organization_quotas/{default['guid']}", json={"name": "other"}),
            controller.admin.delete(f"/v3/organization_quotas/{default['guid']}"),
        ):
            assert refused.status_code == 422

    def test_limits_change_one_by_one_and_null_takes_them_away(self, controller: Controller) -> None:
        made = organization_quota(
            controller,
            apps={"total_memory_in_mb": 1024, "total_instances": 3},
            services={"paid_services_allowed": False},
            domains={"total_domains": 2},
        )
        change = {"name": made["name"] + "-2", "apps": {"total_instances": None, "per_app_tasks": 5}}
        changed = controller.admin.patch(f"/v3/organization_quotas/{made['guid']}", json=change).json()
        assert changed["name"] == made["name"] + "-2"
        assert changed["apps"] == {**UNLIMITED["apps"], "total_memory_in_mb": 1024, "per_app_tasks": 5}
        assert changed["services"]["paid_services_allowed"] is False
        assert changed["domains"] == {"total_domains": 2}

    @pytest.mark.parametrize(
        ("body", "text"),
        [
            ({}, "Name can't be blank"),
            ({"apps": {"total_instances": -1}}, "Apps total instances must be greater than or equal to 0"),
            ({"apps": {"total_instances": "3"}}, "Apps total instances must be an integer"),
            ({"routes": {"ports": 3}}, "Unknown field(s): 'routes.ports'"),
        ],
    )
    def test_limits_that_are_none(self, controller: Controller, body: dict[str, Any], text: str) -> None:
        given = {"name": name("quota"), **body} if body else {}
        response = controller.admin.post("/v3/organization_quotas", json=given)
        assert (response.status_code, detail(response)) == (422, text)

    def test_names_are_taken_once(self, controller: Controller) -> None:
        one, two = organization_quota(controller), organization_quota(controller)
        text = f"Organization Quota '{one['name']}' already exists."
        again = controller.admin.post("/v3/organization_quotas", json={"name": one["name"]})
        assert (again.status_code, detail(again)) == (422, text)
        renamed = controller.admin.patch(f"/v3/organization_quotas/{two['guid']}", json={"name": one["name"]})
        assert (renamed.status_code, detail(renamed)) == (422, text)

    def test_one_is_applied_in_place_of_another_and_deleted_when_nobody_has_it(self, controller: Controller) -> None:
        first, second = organization(controller), organization(controller)
        made = organization_quota(controller, relationships={"organizations": to(first["guid"])})
        path = f"/v3/organization_quotas/{made['guid']}"
        assert made["relationships"]["organizations"] == to(first["guid"])
        applied = controller.admin.post(f"{path}/relationships/organizations", json=to(second["guid"]))
        assert applied.status_code == 200
        assert applied.json()["data"] == to(first["guid"], second["guid"])["data"]
        found = controller.admin.get(f"/v3/organization_quotas?organization_guids={second['guid']}").json()
        assert [row["guid"] for row in found["resources"]] == [made["guid"]]
        in_use = controller.admin.delete(path)
        assert (in_use.status_code, detail(in_use)) == (
            422,
            "This quota is applied to one or more organizations. Apply different quotas to those organizations before "
            "deleting.",
        )
        other = organization_quota(controller)
        body = to(first["guid"], second["guid"])
        controller.admin.post(f"/v3/organization_quotas/{other['guid']}/relationships/organizations", json=body)
        job = job_of(controller.admin, controller.admin.delete(path))
        assert (job["operation"], job["state"]) == ("organization_quota.delete", "COMPLETE")
        gone = controller.admin.get(path)
        assert (gone.status_code, detail(gone)) == (404, "Organization quota not found")

    def test_an_organization_that_is_not_there(self, controller: Controller) -> None:
        made = organization_quota(controller)
        response = controller.admin.post(
            f"/v3/organization_quotas/{made['guid']}/relationships/organizations", json=to("nobody")
        )
        text = 'Organizations with guids ["nobody"] do not exist, or you do not have access to them.'
        assert (response.status_code, detail(response)) == (422, text)

    def test_a_limit_of_log_lines_meets_processes_without_one(self, controller: Controller) -> None:
        place = space(controller)
        running_app(controller, place, 62001)
        owner = place["relationships"]["organization"]["data"]["guid"]
        limited = organization_quota(controller, apps={"log_rate_limit_in_bytes_per_second": 2**40})
        response = controller.admin.post(
            f"/v3/organization_quotas/{limited['guid']}/relationships/organizations", json=to(owner)
        )
        assert (response.status_code, detail(response)[:41]) == (422, "Current usage exceeds new quota values. T")

    @pytest.mark.parametrize(
        ("role", "sees"), [("organization_user", True), ("organization_billing_manager", True), ("", False)]
    )
    def test_who_sees_an_organization_sees_its_quota_and_only_admins_change_it(
        self, controller: Controller, role: str, sees: bool
    ) -> None:
        mine, other = organization(controller), organization(controller)
        made = organization_quota(controller, relationships={"organizations": to(mine["guid"], other["guid"])})
        somebody = member(controller, role, mine) if role else person(controller)
        path = f"/v3/organization_quotas/{made['guid']}"
        shown = somebody.client.get(path)
        assert shown.status_code == (200 if sees else 404)
        if sees:
            assert shown.json()["relationships"]["organizations"] == to(mine["guid"])
        listed = somebody.client.get(f"/v3/organization_quotas?guids={made['guid']}").json()
        assert len(listed["resources"]) == int(sees)
        hidden = 403 if sees else 404
        assert somebody.client.patch(path, json={"name": "x"}).status_code == hidden
        assert somebody.client.delete(path).status_code == hidden
        apply = f"{path}/relationships/organizations"
        assert somebody.client.post(apply, json=to(mine["guid"])).status_code == hidden
        assert somebody.client.post("/v3/organization_quotas", json={"name": name("quota")}).status_code == 403


class TestOfSpaces:
    def test_one_is_made_applied_taken_away_and_deleted(self, controller: Controller) -> None:
        place = space(controller)
        owner = place["relationships"]["organization"]["data"]["guid"]
        made = space_quota(controller, owner, relationships={"spaces": to(place["guid"])}, routes={"total_routes": 3})
        path = f"/v3/space_quotas/{made['guid']}"
        assert {**made["apps"]} == UNLIMITED["apps"]
        assert made["routes"] == {"total_routes": 3, "total_reserved_ports": None}
        assert "domains" not in made
        assert made["relationships"] == {"organization": {"data": {"guid": owner}}, "spaces": to(place["guid"])}
        shown = controller.admin.get(f"/v3/spaces/{place['guid']}").json()
        assert shown["relationships"]["quota"] == {"data": {"guid": made["guid"]}}
        in_use = controller.admin.delete(path)
        assert detail(in_use) == (
            "This quota is applied to one or more spaces. Remove this quota from all spaces before deleting."
        )
        assert controller.admin.delete(f"{path}/relationships/spaces/{place['guid']}").status_code == 204
        again = controller.admin.delete(f"{path}/relationships/spaces/{place['guid']}")
        assert (again.status_code, detail(again)) == (
            422,
            f"Unable to remove quota from space with guid '{place['guid']}'. "
            "Ensure the space quota is applied to this space.",
        )
        applied = controller.admin.post(f"{path}/relationships/spaces", json=to(place["guid"]))
        assert (applied.status_code, applied.json()["data"]) == (200, to(place["guid"])["data"])
        for query in (f"space_guids={place['guid']}", f"organization_guids={owner}", f"names={made['name']}"):
            found = controller.admin.get(f"/v3/space_quotas?{query}").json()["resources"]
            assert [row["guid"] for row in found] == [made["guid"]], query
        controller.admin.delete(f"{path}/relationships/spaces/{place['guid']}")
        assert job_of(controller.admin, controller.admin.delete(path))["operation"] == "space_quota.delete"
        assert detail(controller.admin.get(path)) == "Space quota not found"

    def test_names_are_taken_once_in_an_organization(self, controller: Controller) -> None:
        one, two = organization(controller)["guid"], organization(controller)["guid"]
        made = space_quota(controller, one)
        body = {"name": made["name"], "relationships": {"organization": {"data": {"guid": one}}}}
        again = controller.admin.post("/v3/space_quotas", json=body)
        assert (again.status_code, detail(again)) == (422, f"Space Quota '{made['name']}' already exists.")
        body["relationships"]["organization"]["data"]["guid"] = two
        assert controller.admin.post("/v3/space_quotas", json=body).status_code == 201

    def test_spaces_elsewhere_and_nowhere(self, controller: Controller) -> None:
        made = space_quota(controller, organization(controller)["guid"])
        path = f"/v3/space_quotas/{made['guid']}/relationships/spaces"
        elsewhere = controller.admin.post(path, json=to(space(controller)["guid"]))
        assert (elsewhere.status_code, detail(elsewhere)) == (
            422,
            "Space quotas cannot be applied outside of their owning organization.",
        )
        nowhere = controller.admin.post(path, json=to("nobody"))
        assert detail(nowhere) == 'Spaces with guids ["nobody"] do not exist, or you do not have access to them.'

    def test_an_organization_with_spaces_and_quotas_is_deleted_whole(self, controller: Controller) -> None:
        place = space(controller)
        owner = place["relationships"]["organization"]["data"]["guid"]
        made = space_quota(controller, owner, relationships={"spaces": to(place["guid"])})
        assert job_of(controller.admin, controller.admin.delete(f"/v3/organizations/{owner}"))["state"] == "COMPLETE"
        assert controller.admin.get(f"/v3/space_quotas/{made['guid']}").status_code == 404

    @pytest.mark.parametrize(
        ("role", "get", "change", "create"),
        [
            ("organization_manager", 200, 200, 201),
            ("organization_auditor", 404, 404, 403),
            ("organization_user", 404, 404, 403),
            ("space_developer", 200, 403, 403),
            ("space_manager", 200, 403, 403),
            ("space_auditor", 200, 403, 403),
            ("space_supporter", 200, 403, 403),
            ("", 404, 404, 422),
        ],
    )
    def test_who_may(self, controller: Controller, role: str, get: int, change: int, create: int) -> None:
        place = space(controller)
        owner = place["relationships"]["organization"]["data"]
        made = space_quota(controller, owner["guid"], relationships={"spaces": to(place["guid"])})
        somebody = member(controller, role, owner if role.startswith("org") else place) if role else person(controller)
        path = f"/v3/space_quotas/{made['guid']}"
        assert somebody.client.get(path).status_code == get
        assert len(somebody.client.get("/v3/space_quotas").json()["resources"]) == int(get == 200)
        assert somebody.client.patch(path, json={"apps": {"total_instances": 1}}).status_code == change
        assert somebody.client.post(f"{path}/relationships/spaces", json=to(place["guid"])).status_code == change
        body = {"name": name("quota"), "relationships": {"organization": {"data": owner}}}
        assert somebody.client.post("/v3/space_quotas", json=body).status_code == create
        removed = somebody.client.delete(f"{path}/relationships/spaces/{place['guid']}").status_code
        assert removed == (204 if change == 200 else change)

    def test_in_a_suspended_organization_only_admins_change_them(self, controller: Controller) -> None:
        place = organization(controller)
        made = space_quota(controller, place["guid"])
        manager = member(controller, "organization_manager", place)
        controller.admin.patch(f"/v3/organizations/{place['guid']}", json={"suspended": True}).raise_for_status()
        refused = manager.client.patch(f"/v3/space_quotas/{made['guid']}", json={"name": "x"})
        assert (refused.status_code, code(refused)) == (403, 10017)
        assert controller.admin.patch(f"/v3/space_quotas/{made['guid']}", json={"name": "x"}).status_code == 200


class TestUsage:
    def test_it_counts_what_runs(self, controller: Controller) -> None:
        place = space(controller)
        owner = place["relationships"]["organization"]["data"]["guid"]
        running_app(controller, place, 62002, 62003)
        (domain,) = controller.admin.get("/v3/domains?names=apps.example.com").json()["resources"]
        relationships = {"space": {"data": {"guid": place["guid"]}}, "domain": {"data": {"guid": domain["guid"]}}}
        controller.admin.post("/v3/routes", json={"host": name("h"), "relationships": relationships}).raise_for_status()
        expected = {
            "started_instances": 2,
            "memory_in_mb": 2048,
            "routes": 1,
            "service_instances": 0,
            "reserved_ports": 0,
            "per_app_tasks": 0,
            "service_keys": 0,
        }
        of_space = controller.admin.get(f"/v3/spaces/{place['guid']}/usage_summary").json()
        assert of_space["usage_summary"] == expected
        assert of_space["links"]["space"]["href"].endswith(f"/v3/spaces/{place['guid']}")
        of_organization = controller.admin.get(f"/v3/organizations/{owner}/usage_summary").json()
        assert of_organization["usage_summary"] == {**expected, "domains": 0}
        everything = controller.admin.get("/v3/info/usage_summary").json()["usage_summary"]
        assert everything["started_instances"] >= 2
        stranger = person(controller).client
        assert detail(stranger.get("/v3/info/usage_summary")) == "Unknown request"
        assert stranger.get(f"/v3/organizations/{owner}/usage_summary").status_code == 404
        assert controller.client("auditor", "cloud_controller.global_auditor").get("/v3/info/usage_summary").is_success


class TestMembers:
    def test_those_with_a_role_there(self, controller: Controller) -> None:
        place = space(controller)
        owner = place["relationships"]["organization"]["data"]
        developer = member(controller, "space_developer", place)
        auditor = member(controller, "organization_auditor", owner)
        of_space = developer.client.get(f"/v3/spaces/{place['guid']}/users").json()["resources"]
        assert [row["guid"] for row in of_space] == [developer.guid]
        of_organization = developer.client.get(f"/v3/organizations/{owner['guid']}/users").json()["resources"]
        assert [row["guid"] for row in of_organization] == [developer.guid, auditor.guid]
        assert auditor.client.get(f"/v3/spaces/{place['guid']}/users").status_code == 404
        query = f"/v3/organizations/{owner['guid']}/users?guids={auditor.guid}"
        assert len(developer.client.get(query).json()["resources"]) == 1
