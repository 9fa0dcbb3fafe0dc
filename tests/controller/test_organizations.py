"""Organizations (cloud_controller reference 3.1), and through them the conventions of all resources (section 2)."""

from __future__ import annotations

import re

import pytest

from tests.controller.running import Controller, job_of
from tests.controller.worlds import code, detail, name, organization, person, space


def test_an_organization_is_made_shown_changed_and_deleted(controller: Controller) -> None:
    called = name("org")
    made = controller.admin.post("/v3/organizations", json={"name": called})
    assert made.status_code == 201
    body = made.json()
    guid = body["guid"]
    assert body["name"] == called
    assert body["suspended"] is False
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", body["created_at"])
    assert body["metadata"] == {"labels": {}, "annotations": {}}
    assert body["links"]["self"] == {"href": f"http://api.example.com/v3/organizations/{guid}"}
    assert controller.admin.get(f"/v3/organizations/{guid}").json() == body
    renamed = controller.admin.patch(f"/v3/organizations/{guid}/", json={"name": called + "-2"})
    assert (renamed.status_code, renamed.json()["name"]) == (200, called + "-2")
    deleted = controller.admin.delete(f"/v3/organizations/{guid}/")
    assert (deleted.status_code, deleted.content) == (202, b"")
    assert job_of(controller.admin, deleted)["state"] == "COMPLETE"
    gone = controller.admin.get(f"/v3/organizations/{guid}")
    assert (gone.status_code, detail(gone)) == (404, "Organization not found")


def test_a_name_is_taken_without_regard_to_case(controller: Controller) -> None:
    called = organization(controller)["name"]
    again = controller.admin.post("/v3/organizations", json={"name": called.upper()})
    assert (again.status_code, code(again)) == (422, 10008)
    assert detail(again) == f"Organization '{called.upper()}' already exists."


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({}, "Name can't be blank"),
        ({"name": 1}, "Name must be a string"),
        ({"name": "x" * 256}, "Name is too long (maximum is 255 characters)"),
        ({"name": "x", "colour": "red"}, "Unknown field(s): 'colour'"),
    ],
)
def test_a_body_that_does_not_fit_is_told_where(controller: Controller, body: dict[str, object], text: str) -> None:
    response = controller.admin.post("/v3/organizations", json=body)
    assert (response.status_code, code(response), detail(response)) == (422, 10008, text)


def test_a_body_that_is_no_json_is_a_parse_error(controller: Controller) -> None:
    response = controller.admin.post("/v3/organizations", content=b"{")
    assert (response.status_code, code(response)) == (400, 1001)


class TestLists:
    def test_pages_have_links_that_keep_what_was_asked(self, controller: Controller) -> None:
        guids = [organization(controller)["guid"] for _ in range(3)]
        query = {"guids": ",".join(guids), "per_page": "2", "order_by": "-created_at"}
        page = controller.admin.get("/v3/organizations", params=query).json()
        assert [row["guid"] for row in page["resources"]] == guids[:0:-1]
        pagination = page["pagination"]
        assert (pagination["total_results"], pagination["total_pages"], pagination["previous"]) == (3, 2, None)
        following = pagination["next"]["href"].removeprefix("http://api.example.com")
        assert [row["guid"] for row in controller.admin.get(following).json()["resources"]] == guids[:1]

    @pytest.mark.parametrize("number", ["99999", str(2**53)])
    def test_a_page_past_the_end_is_empty(self, controller: Controller, number: str) -> None:
        page = controller.admin.get("/v3/organizations", params={"page": number, "per_page": "5000"}).json()
        assert page["resources"] == []

    @pytest.mark.parametrize(
        ("query", "text"),
        [
            ("page=0", "Page must be a positive integer"),
            ("per_page=5001", "Per page must be between 1 and 5000"),
            ("order_by=colour", "Order by can only be: 'created_at', 'updated_at', 'name'"),
            ("created_ats=yesterday", "Created ats has an invalid timestamp format"),
        ],
    )
    def test_parameters_out_of_range_are_refused(self, controller: Controller, query: str, text: str) -> None:
        response = controller.admin.get(f"/v3/organizations?{query}")
        assert (response.status_code, code(response)) == (400, 10005)
        assert detail(response).startswith(f"The query parameter is invalid: {text}")

    def test_unknown_parameters_are_named_with_those_that_are_known(self, controller: Controller) -> None:
        response = controller.admin.get("/v3/organizations?colour=red")
        assert (response.status_code, code(response)) == (400, 10005)
        assert detail(response).startswith(
            "The query parameter is invalid: Unknown query parameter(s): 'colour'. Valid parameters are: 'page', "
        )

    def test_names_with_commas_arrive_encoded_twice(self, controller: Controller) -> None:
        called = name("a,b")
        controller.admin.post("/v3/organizations", json={"name": called}).raise_for_status()
        found = controller.admin.get("/v3/organizations?names=" + called.replace(",", "%252C")).json()
        assert [row["name"] for row in found["resources"]] == [called]

    def test_times_are_compared(self, controller: Controller) -> None:
        made = organization(controller)
        query = {"guids": made["guid"], "created_ats[gte]": made["created_at"]}
        assert len(controller.admin.get("/v3/organizations", params=query).json()["resources"]) == 1
        query = {"guids": made["guid"], "created_ats[lt]": made["created_at"]}
        assert controller.admin.get("/v3/organizations", params=query).json()["resources"] == []

    @pytest.mark.parametrize(
        ("selector", "matches"),
        [
            ("env=prod", True),
            ("env==test", False),
            ("env!=test", True),
            ("tier!=x", True),
            ("env", True),
            ("!env", False),
            ("!tier", True),
            ("env in (test,prod),!tier", True),
            ("env notin (prod)", False),
            ("example.com/team in (a, b)", True),
        ],
    )
    def test_labels_select(self, controller: Controller, selector: str, matches: bool) -> None:
        made = organization(controller, metadata={"labels": {"env": "prod", "example.com/team": "b"}})
        query = {"guids": made["guid"], "label_selector": selector}
        assert len(controller.admin.get("/v3/organizations", params=query).json()["resources"]) == matches


class TestMetadata:
    def test_updates_merge_and_null_takes_away(self, controller: Controller) -> None:
        made = organization(controller, metadata={"labels": {"a": "1", "b": "2"}, "annotations": {"note": "x"}})
        change = {"metadata": {"labels": {"a": None, "c": "3"}}}
        changed = controller.admin.patch(f"/v3/organizations/{made['guid']}", json=change).json()
        assert changed["metadata"] == {"labels": {"b": "2", "c": "3"}, "annotations": {"note": "x"}}

    @pytest.mark.parametrize("key", ["", "-a", "a b", "cloudfoundry.org/x", "a/b/c", "/a", "x" * 64])
    def test_keys_that_may_not_be(self, controller: Controller, key: str) -> None:
        body = {"name": name("org"), "metadata": {"labels": {key: "v"}}}
        assert controller.admin.post("/v3/organizations", json=body).status_code == 422

    def test_no_more_than_fifty_labels(self, controller: Controller) -> None:
        body = {"name": name("org"), "metadata": {"labels": {f"k{n}": "v" for n in range(51)}}}
        response = controller.admin.post("/v3/organizations", json=body)
        assert (response.status_code, code(response)) == (422, 390020)


class TestTokens:
    def test_without_one_it_is_401(self, controller: Controller) -> None:
        response = controller.client("").get("/v3/organizations")
        assert (response.status_code, code(response), detail(response)) == (401, 10002, "Authentication error")

    def test_an_empty_authorization_is_none(self, controller: Controller) -> None:
        client = controller.client("")
        assert client.get("/v3", headers={"Authorization": ""}).status_code == 200
        assert code(client.get("/v3/organizations", headers={"Authorization": ""})) == 10002

    @pytest.mark.parametrize("token", ["x", "a.b.c", "eyJhbGciOiJub25lIn0.e30."])
    def test_what_is_no_token_of_ours_is_refused(self, controller: Controller, token: str) -> None:
        response = controller.client("").get("/v3/organizations", headers={"Authorization": f"bearer {token}"})
        assert (response.status_code, code(response)) == (401, 1000)
        assert response.json()["errors"][0]["title"] == "CF-InvalidAuthToken"

    def test_scopes_decide_about_methods(self, controller: Controller) -> None:
        reader = person(controller, "cloud_controller.read").client
        assert reader.get("/v3/organizations").status_code == 200
        response = reader.post("/v3/organizations", json={"name": name("org")})
        assert (response.status_code, code(response)) == (403, 10007)


class TestWhoMay:
    def test_strangers_see_nothing_and_are_told_nothing(self, controller: Controller) -> None:
        made = organization(controller)
        stranger = person(controller).client
        assert stranger.get(f"/v3/organizations/{made['guid']}").status_code == 404
        assert stranger.patch(f"/v3/organizations/{made['guid']}", json={}).status_code == 404
        assert stranger.get("/v3/organizations").json()["pagination"]["total_results"] == 0

    def test_making_one_is_for_admins_unless_a_flag_opens_it(self, controller: Controller) -> None:
        somebody = person(controller)
        refused = somebody.client.post("/v3/organizations", json={"name": name("org")})
        assert (refused.status_code, code(refused)) == (403, 10003)
        flag = "/v3/feature_flags/user_org_creation"
        controller.admin.patch(flag, json={"enabled": True}).raise_for_status()
        try:
            made = somebody.client.post("/v3/organizations", json={"name": name("org")})
        finally:
            controller.admin.patch(flag, json={"enabled": False}).raise_for_status()
        assert made.status_code == 201
        renamed = somebody.client.patch(f"/v3/organizations/{made.json()['guid']}", json={"name": name("org")})
        assert renamed.status_code == 200, "who made it manages it"

    def test_deleting_one_takes_its_spaces_along(self, controller: Controller) -> None:
        inside = space(controller)
        owner = inside["relationships"]["organization"]["data"]["guid"]
        job_of(controller.admin, controller.admin.delete(f"/v3/organizations/{owner}"))
        assert controller.admin.get(f"/v3/spaces/{inside['guid']}").status_code == 404


def test_what_is_not_there_is_an_unknown_request(controller: Controller) -> None:
    for response in (controller.admin.get("/v3/nothing"), controller.admin.put("/v3/organizations")):
        assert (response.status_code, code(response), detail(response)) == (404, 10000, "Unknown request")


def test_request_ids_keep_the_clients_in_front(controller: Controller) -> None:
    response = controller.admin.get("/v3", headers={"X-Vcap-Request-Id": "mine"})
    assert response.headers["x-vcap-request-id"].startswith("mine::")
