"""Roles and users (cloud_controller reference 3.1, 4)."""

from __future__ import annotations

import pytest

from tests.controller.running import Controller, job_of
from tests.controller.worlds import code, detail, give, member, organization, person, space

ORGANIZATION_ROLES = (
    "organization_user",
    "organization_auditor",
    "organization_manager",
    "organization_billing_manager",
)
SPACE_ROLES = ("space_developer", "space_auditor", "space_manager", "space_supporter")


@pytest.mark.parametrize("kind", ORGANIZATION_ROLES)
def test_a_role_in_an_organization_is_given_and_taken(controller: Controller, kind: str) -> None:
    place, somebody = organization(controller), person(controller)
    role = give(controller, kind, somebody.guid, place)
    assert role["relationships"]["organization"] == {"data": {"guid": place["guid"]}}
    assert role["relationships"]["space"] == {"data": None}
    assert somebody.client.get(f"/v3/organizations/{place['guid']}").status_code == 200
    taken = controller.admin.delete(f"/v3/roles/{role['guid']}")
    assert job_of(controller.admin, taken)["operation"] == "role.delete"
    assert somebody.client.get(f"/v3/organizations/{place['guid']}").status_code == 404


@pytest.mark.parametrize("kind", SPACE_ROLES)
def test_a_role_in_a_space_needs_one_in_its_organization(controller: Controller, kind: str) -> None:
    place, somebody = space(controller), person(controller)
    relationships = {"user": {"data": {"guid": somebody.guid}}, "space": {"data": {"guid": place["guid"]}}}
    refused = controller.admin.post("/v3/roles", json={"type": kind, "relationships": relationships})
    assert (refused.status_code, detail(refused)) == (
        422,
        "Users cannot be assigned roles in a space if they do not have a role in that space's organization.",
    )
    owner = {"guid": place["relationships"]["organization"]["data"]["guid"]}
    give(controller, "organization_user", somebody.guid, owner)
    give(controller, kind, somebody.guid, place)
    assert somebody.client.get(f"/v3/spaces/{place['guid']}").status_code == 200


def test_a_role_is_given_once(controller: Controller) -> None:
    place, somebody = organization(controller), person(controller)
    give(controller, "organization_user", somebody.guid, place)
    relationships = {"user": {"data": {"guid": somebody.guid}}, "organization": {"data": {"guid": place["guid"]}}}
    again = controller.admin.post("/v3/roles", json={"type": "organization_user", "relationships": relationships})
    text = f"User '{somebody.guid}' already has 'organization_user' role in organization '{place['name']}'."
    assert (again.status_code, detail(again)) == (422, text)


def test_organization_user_stays_while_there_are_roles_in_spaces(controller: Controller) -> None:
    place = space(controller)
    somebody = member(controller, "space_developer", place)
    owner = place["relationships"]["organization"]["data"]["guid"]
    query = {"user_guids": somebody.guid, "organization_guids": owner}
    (role,) = controller.admin.get("/v3/roles", params=query).json()["resources"]
    assert controller.admin.delete(f"/v3/roles/{role['guid']}").status_code == 422


def test_what_a_list_includes(controller: Controller) -> None:
    place = space(controller)
    somebody = member(controller, "space_manager", place)
    query = {"space_guids": place["guid"], "include": "user,space"}
    body = controller.admin.get("/v3/roles", params=query).json()
    assert [row["type"] for row in body["resources"]] == ["space_manager"]
    assert [user["guid"] for user in body["included"]["users"]] == [somebody.guid]
    assert [row["guid"] for row in body["included"]["spaces"]] == [place["guid"]]


def test_an_unknown_include_is_refused(controller: Controller) -> None:
    response = controller.admin.get("/v3/roles?include=colour")
    assert (response.status_code, code(response)) == (400, 10005)


def test_a_name_that_nobody_has(controller: Controller) -> None:
    relationships = {
        "user": {"data": {"username": "nobody-of-that-name"}},
        "organization": {"data": {"guid": organization(controller)["guid"]}},
    }
    response = controller.admin.post("/v3/roles", json={"type": "organization_user", "relationships": relationships})
    assert detail(response) == "No user exists with the username 'nobody-of-that-name'."


class TestWhoMay:
    @pytest.mark.parametrize("kind", ORGANIZATION_ROLES)
    def test_organization_roles_are_the_organization_managers(self, controller: Controller, kind: str) -> None:
        place = organization(controller)
        somebody, other = member(controller, kind, place), person(controller)
        give(controller, "organization_user", other.guid, organization(controller))
        relationships = {"user": {"data": {"guid": other.guid}}, "organization": {"data": {"guid": place["guid"]}}}
        body = {"type": "organization_auditor", "relationships": relationships}
        response = somebody.client.post("/v3/roles", json=body)
        assert response.status_code == (201 if kind == "organization_manager" else 403)

    def test_people_see_those_they_share_an_organization_with(self, controller: Controller) -> None:
        place = organization(controller)
        one, two = member(controller, "organization_user", place), member(controller, "organization_auditor", place)
        stranger = member(controller, "organization_user", organization(controller))
        seen = {row["guid"] for row in one.client.get("/v3/users").json()["resources"]}
        assert {one.guid, two.guid} <= seen
        assert stranger.guid not in seen
