"""Domains, routes and destinations (cloud_controller reference 1.5, 3.1)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.controller.running import Controller, job_of
from tests.controller.worlds import detail, member, name, organization, space


@pytest.fixture(scope="module")
def shared_domain(controller: Controller) -> dict[str, Any]:
    (domain,) = controller.admin.get("/v3/domains?names=apps.example.com").json()["resources"]
    found: dict[str, Any] = domain
    return found


def body_of(space_guid: str, domain_guid: str, **more: Any) -> dict[str, Any]:
    return {
        "relationships": {"space": {"data": {"guid": space_guid}}, "domain": {"data": {"guid": domain_guid}}},
        **more,
    }


def test_a_route_is_made_found_and_deleted(controller: Controller, shared_domain: dict[str, Any]) -> None:
    place, host = space(controller), name("host")
    made = controller.admin.post("/v3/routes", json=body_of(place["guid"], shared_domain["guid"], host=host.upper()))
    assert made.status_code == 201, made.text
    route = made.json()
    assert (route["host"], route["path"], route["port"], route["protocol"]) == (host, "", None, "http")
    assert route["url"] == f"{host}.apps.example.com"
    assert route["destinations"] == []
    query = {"domain_guids": shared_domain["guid"], "hosts": host, "paths": ""}
    found = controller.admin.get("/v3/routes", params=query).json()["resources"]
    assert [row["guid"] for row in found] == [route["guid"]]
    deleted = controller.admin.delete(f"/v3/routes/{route['guid']}")
    assert job_of(controller.admin, deleted)["state"] == "COMPLETE"
    assert detail(controller.admin.get(f"/v3/routes/{route['guid']}")) == "Route not found"


def test_an_address_is_taken_once(controller: Controller, shared_domain: dict[str, Any]) -> None:
    place, host = space(controller), name("host")
    body = body_of(place["guid"], shared_domain["guid"], host=host, path="/v1")
    assert controller.admin.post("/v3/routes", json=body).status_code == 201
    again = controller.admin.post("/v3/routes", json=body)
    text = f"Route already exists with host '{host}' and path '/v1' for domain 'apps.example.com'."
    assert (again.status_code, detail(again)) == (422, text)


def test_a_host_of_a_shared_domain_is_one_spaces(controller: Controller, shared_domain: dict[str, Any]) -> None:
    host = name("host")
    body = body_of(space(controller)["guid"], shared_domain["guid"], host=host)
    assert controller.admin.post("/v3/routes", json=body).status_code == 201
    other = body_of(space(controller)["guid"], shared_domain["guid"], host=host, path="/elsewhere")
    assert controller.admin.post("/v3/routes", json=other).status_code == 422


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ({}, "Missing host. Routes in shared domains must have a host defined."),
        ({"host": "a.b"}, 'Host must be either "*" or contain only alphanumeric characters, "_", or "-"'),
        ({"host": "x" * 64}, "Host is too long (maximum is 63 characters)"),
        ({"host": "a", "path": "x"}, "Path must begin with /"),
        ({"host": "a", "path": "/"}, "Path cannot be exactly '/'"),
        ({"host": "a", "path": "/a?b"}, "Path cannot contain ?"),
        ({"host": "a", "port": 5000}, "Ports are not supported for HTTP routes."),
    ],
)
def test_what_no_route_may_be_called(
    controller: Controller, shared_domain: dict[str, Any], parts: dict[str, Any], text: str
) -> None:
    response = controller.admin.post(
        "/v3/routes", json=body_of(space(controller)["guid"], shared_domain["guid"], **parts)
    )
    assert (response.status_code, detail(response)) == (422, text)


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("space_developer", 201),
        ("space_supporter", 201),
        ("space_manager", 403),
        ("space_auditor", 403),
    ],
)
def test_who_may_make_routes(controller: Controller, shared_domain: dict[str, Any], kind: str, status: int) -> None:
    place = space(controller)
    somebody = member(controller, kind, place)
    body = body_of(place["guid"], shared_domain["guid"], host=name("host"))
    assert somebody.client.post("/v3/routes", json=body).status_code == status


class TestOptions:
    def test_are_kept_and_merged(self, controller: Controller, shared_domain: dict[str, Any]) -> None:
        options = {"loadbalancing": "hash", "hash_header": "X-Key", "hash_balance": "1.5"}
        body = body_of(space(controller)["guid"], shared_domain["guid"], host=name("host"), options=options)
        route = controller.admin.post("/v3/routes", json=body).json()
        assert route["options"] == options
        change = {"options": {"loadbalancing": "round-robin", "hash_header": None, "hash_balance": None}}
        changed = controller.admin.patch(f"/v3/routes/{route['guid']}", json=change).json()
        assert changed["options"] == {"loadbalancing": "round-robin"}

    @pytest.mark.parametrize(
        "options",
        [
            {"loadbalancing": "random"},
            {"loadbalancing": "hash"},
            {"loadbalancing": "hash", "hash_header": "X", "hash_balance": "11"},
            {"hash_header": "X"},
            {"colour": "red"},
        ],
    )
    def test_that_may_not_be(
        self, controller: Controller, shared_domain: dict[str, Any], options: dict[str, Any]
    ) -> None:
        body = body_of(space(controller)["guid"], shared_domain["guid"], host=name("host"), options=options)
        assert controller.admin.post("/v3/routes", json=body).status_code == 422


class TestDomains:
    def test_a_private_one_is_its_organizations(self, controller: Controller) -> None:
        owner, other = organization(controller), organization(controller)
        called = f"{name('d')}.example.org"
        body = {"name": called, "relationships": {"organization": {"data": {"guid": owner["guid"]}}}}
        made = controller.admin.post("/v3/domains", json=body)
        assert made.status_code == 201, made.text
        seen = controller.admin.get(f"/v3/organizations/{owner['guid']}/domains?names={called}").json()
        assert len(seen["resources"]) == 1
        assert (
            controller.admin.get(f"/v3/organizations/{other['guid']}/domains?names={called}").json()["resources"] == []
        )
        place = space(controller, other["guid"])
        refused = controller.admin.post("/v3/routes", json=body_of(place["guid"], made.json()["guid"]))
        assert refused.status_code == 422
        share = f"/v3/domains/{made.json()['guid']}/relationships/shared_organizations"
        assert controller.admin.post(share, json={"data": [{"guid": other["guid"]}]}).status_code == 200
        assert controller.admin.post("/v3/routes", json=body_of(place["guid"], made.json()["guid"])).status_code == 201

    def test_below_somebody_elses_there_is_none(self, controller: Controller) -> None:
        called = f"{name('d')}.example.org"
        for number, (domain, status) in enumerate(((called, 201), (f"sub.{called}", 422))):
            owner = organization(controller)["guid"]
            body = {"name": domain, "relationships": {"organization": {"data": {"guid": owner}}}}
            assert controller.admin.post("/v3/domains", json=body).status_code == status, number

    def test_a_default_is_there(self, controller: Controller) -> None:
        place = organization(controller)
        assert (
            controller.admin.get(f"/v3/organizations/{place['guid']}/domains/default").json()["name"]
            == "apps.example.com"
        )
