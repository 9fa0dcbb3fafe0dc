"""Audit events, and lists that are empty here (cloud_controller reference 2.1, 3.5, 3.6, 6.2)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.controller.running import Controller, job_of
from tests.controller.worlds import code, detail, member, name, organization, person, space


class TestAuditEvents:
    def test_who_did_what_to_what(self, controller: Controller) -> None:
        place = space(controller)
        manager = member(controller, "space_manager", place)
        called = name("space")
        manager.client.patch(f"/v3/spaces/{place['guid']}", json={"name": called}).raise_for_status()
        query = {"target_guids": place["guid"], "types": "audit.space.update"}
        (event,) = controller.admin.get("/v3/audit_events", params=query).json()["resources"]
        assert event["actor"] == {"guid": manager.guid, "type": "user", "name": manager.name}
        assert event["target"] == {"guid": place["guid"], "type": "space", "name": called}
        assert event["data"] == {"request": {"name": called}}
        assert event["space"] == {"guid": place["guid"]}
        assert event["organization"] == place["relationships"]["organization"]["data"]
        assert controller.admin.get(f"/v3/audit_events/{event['guid']}").json() == event

    def test_they_are_filtered_and_ordered(self, controller: Controller) -> None:
        place = space(controller)
        owner = place["relationships"]["organization"]["data"]["guid"]
        controller.admin.patch(f"/v3/organizations/{owner}", json={"metadata": {}}).raise_for_status()

        def types(**query: str) -> list[str]:
            found = controller.admin.get("/v3/audit_events", params=query).raise_for_status().json()["resources"]
            return [event["type"] for event in found]

        made = ["audit.organization.create", "audit.space.create", "audit.organization.update"]
        assert types(organization_guids=owner) == made
        assert types(organization_guids=owner, order_by="-created_at") == made[::-1]
        assert types(space_guids=place["guid"]) == ["audit.space.create"]
        assert types(**{"organization_guids": owner, "target_guids[not]": owner}) == ["audit.space.create"]
        assert types(types="audit.space.create,audit.space.update", organization_guids=owner) == ["audit.space.create"]
        for query in ("order_by=name", "label_selector=a", "target_guids[no]=x", "types[not]=x"):
            assert code(controller.admin.get(f"/v3/audit_events?{query}")) == 10005

    @pytest.mark.parametrize(
        ("role", "of_space", "of_organization"),
        [
            ("organization_manager", False, False),
            ("organization_auditor", True, True),
            ("organization_billing_manager", False, False),
            ("organization_user", False, False),
            ("space_developer", True, False),
            ("space_manager", False, False),
            ("space_auditor", True, False),
            ("space_supporter", True, False),
        ],
    )
    def test_who_sees_them(self, controller: Controller, role: str, of_space: bool, of_organization: bool) -> None:
        place = space(controller)
        owner = place["relationships"]["organization"]["data"]
        somebody = member(controller, role, owner if role.startswith("org") else place)
        seen = somebody.client.get(f"/v3/audit_events?organization_guids={owner['guid']}").json()["resources"]
        types = {event["type"] for event in seen}
        assert ("audit.space.create" in types, "audit.organization.create" in types) == (of_space, of_organization)
        query = f"/v3/audit_events?target_guids={place['guid']}"
        (event, *_) = controller.admin.get(query).json()["resources"]
        shown = somebody.client.get(f"/v3/audit_events/{event['guid']}")
        assert shown.status_code == (200 if of_space else 404)
        if not of_space:
            assert detail(shown) == "Event not found"

    def test_they_outlive_their_organization_for_those_who_read_everything(self, controller: Controller) -> None:
        place = organization(controller)
        auditor = member(controller, "organization_auditor", place)
        job_of(controller.admin, controller.admin.delete(f"/v3/organizations/{place['guid']}"))
        query = f"/v3/audit_events?target_guids={place['guid']}"
        reader = controller.client("reader", "cloud_controller.global_auditor")
        types = [event["type"] for event in reader.get(query).json()["resources"]]
        assert types == ["audit.organization.create", "audit.organization.delete-request"]
        assert auditor.client.get(query).json()["resources"] == []


def entry(**more: Any) -> dict[str, Any]:
    return {"path": "a", "mode": "644", "size_in_bytes": 3, "checksum": {"value": "a" * 40}, **more}


class TestResourceMatches:
    def test_nothing_is_there_yet(self, controller: Controller) -> None:
        response = person(controller).client.post("/v3/resource_matches", json={"resources": [entry()] * 5000})
        assert (response.status_code, response.json()) == (201, {"resources": []})

    @pytest.mark.parametrize(
        ("resources", "text"),
        [
            ([], "Resources must have at least 1 resource"),
            ([entry()] * 5001, "Resources can have at most 5000 resources"),
            ([entry(checksum=1)], "Resources array contains at least one resource with a non-object checksum"),
            ([entry(checksum={})], "Resources array contains at least one resource with a non-string checksum value"),
            (
                [entry(checksum={"value": "a"})] * 2,
                "Resources array contains at least one resource with a non-SHA1 checksum value",
            ),
            ([entry(size_in_bytes=-1)], "Resources array contains at least one resource with a negative size_in_bytes"),
            (
                [entry(size_in_bytes=True)],
                "Resources array contains at least one resource with a non-integer size_in_bytes",
            ),
            ([entry(mode=644)], "Resources array contains at least one resource with a non-string mode"),
            ([entry(mode="abc")], "Resources array contains at least one resource with an incorrect mode"),
            ([entry(), "x"], "Resources array contains at least one resource with a non-object entry"),
        ],
    )
    def test_what_is_refused(self, controller: Controller, resources: list[Any], text: str) -> None:
        response = controller.admin.post("/v3/resource_matches", json={"resources": resources})
        assert (response.status_code, detail(response)) == (422, text)


class TestWithoutBrokers:
    @pytest.mark.parametrize(
        "query",
        [
            "service_brokers?names=a&space_guids=b&order_by=name&label_selector=x",
            "service_offerings?names=a&available=true&service_broker_guids=b&service_broker_names=c&space_guids=d"
            "&organization_guids=e&fields[service_broker]=guid,name",
            "service_plans?per_page=5000&space_guids=a&available=true&include=service_offering"
            "&fields[service_offering.service_broker]=name,guid&broker_catalog_ids=x&service_offering_names=y",
            "app_usage_events?after_guid=a&created_ats[lt]=2026-01-01T00:00:00Z&order_by=-created_at",
            "service_usage_events?service_instance_types=managed_service_instance&service_offering_guids=a",
        ],
    )
    def test_lists_are_empty(self, controller: Controller, query: str) -> None:
        body = controller.admin.get(f"/v3/{query}").raise_for_status().json()
        assert (body["resources"], body["pagination"]["total_results"]) == ([], 0)
        assert body["pagination"]["first"]["href"].startswith("http://api.example.com/v3/")

    @pytest.mark.parametrize(
        "query",
        [
            "service_brokers?available=true",
            "service_brokers?order_by=position",
            "service_offerings?available=maybe",
            "service_offerings?fields[service_broker]=url",
            "service_plans?include=space",
            "service_plans?label_selector=!!",
            "app_usage_events?updated_ats[lt]=2026-01-01T00:00:00Z",
            "service_usage_events?created_ats=today",
        ],
    )
    def test_parameters_are_checked_all_the_same(self, controller: Controller, query: str) -> None:
        response = controller.admin.get(f"/v3/{query}")
        assert (response.status_code, code(response)) == (400, 10005)

    def test_what_is_asked_for_by_guid_is_not_found(self, controller: Controller) -> None:
        for path, thing in (
            ("service_brokers/x", "Service broker"),
            ("service_offerings/x", "Service offering"),
            ("service_plans/x", "Service plan"),
            ("service_plans/x/visibility", "Service plan"),
        ):
            response = controller.admin.get(f"/v3/{path}")
            assert (response.status_code, detail(response)) == (404, f"{thing} not found")

    def test_a_broker_is_checked_and_refused(self, controller: Controller) -> None:
        place = space(controller)
        body: dict[str, Any] = {
            "name": "b",
            "url": "https://broker.example.com",
            "authentication": {"type": "basic", "credentials": {"username": "u", "password": "p"}},
        }
        refused = controller.admin.post("/v3/service_brokers", json=body)
        assert (refused.status_code, code(refused)) == (422, 10008)
        wrong = controller.admin.post("/v3/service_brokers", json={**body, "url": "broker"})
        assert detail(wrong) == "Url must be a valid url"
        body["relationships"] = {"space": {"data": {"guid": place["guid"]}}}
        assert (
            member(controller, "space_developer", place).client.post("/v3/service_brokers", json=body).status_code
            == 422
        )
        assert (
            member(controller, "space_manager", place).client.post("/v3/service_brokers", json=body).status_code == 403
        )
        del body["relationships"]
        assert person(controller).client.post("/v3/service_brokers", json=body).status_code == 403

    def test_the_marketplace_is_open_unless_hidden(self, controller: Controller) -> None:
        anybody, flag = controller.client(""), "/v3/feature_flags/hide_marketplace_from_unauthenticated_users"
        assert anybody.get("/v3/service_plans").status_code == 200
        controller.admin.patch(flag, json={"enabled": True}).raise_for_status()
        hidden = [anybody.get(path) for path in ("/v3/service_plans", "/v3/service_offerings")]
        controller.admin.patch(flag, json={"enabled": False}).raise_for_status()
        assert [(one.status_code, code(one)) for one in hidden] == [(401, 10002)] * 2
        assert anybody.get("/v3/service_brokers").status_code == 401
