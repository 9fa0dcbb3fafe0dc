"""What operators set up for everybody: flags, environment groups, stacks, buildpacks (reference 1.6, 1.7, 3.6)."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.controller.running import Controller, job_of
from tests.controller.worlds import code, detail, name, person, space


class TestFeatureFlags:
    def test_all_of_them_are_listed_by_name(self, controller: Controller) -> None:
        body = controller.admin.get("/v3/feature_flags?per_page=100").json()
        names = [flag["name"] for flag in body["resources"]]
        assert names == sorted(names)
        assert (len(names), body["pagination"]["total_results"]) == (19, 19)
        defaults = {flag["name"]: flag["enabled"] for flag in body["resources"]}
        assert (defaults["diego_docker"], defaults["task_creation"]) == (False, True)
        backwards = controller.admin.get("/v3/feature_flags?order_by=-name&per_page=2&page=2").json()
        assert [flag["name"] for flag in backwards["resources"]] == names[::-1][2:4]

    def test_a_change_is_shown_in_the_list_with_its_message(self, controller: Controller) -> None:
        path = "/v3/feature_flags/route_sharing"
        changed = controller.admin.patch(path, json={"enabled": True, "custom_error_message": "Ask us."})
        shown = {flag["name"]: flag for flag in controller.admin.get("/v3/feature_flags").json()["resources"]}
        controller.admin.patch(path, json={"enabled": False, "custom_error_message": None}).raise_for_status()
        assert shown["route_sharing"] == changed.json()
        assert (changed.json()["enabled"], changed.json()["custom_error_message"]) == (True, "Ask us.")

    @pytest.mark.parametrize("query", ["names=x", "order_by=created_at", "guids=x", "page=0"])
    def test_what_the_list_may_not_be_asked(self, controller: Controller, query: str) -> None:
        response = controller.admin.get(f"/v3/feature_flags?{query}")
        assert (response.status_code, code(response)) == (400, 10005)


class TestEnvironmentGroups:
    @pytest.mark.parametrize("group", ["running", "staging"])
    def test_variables_are_set_and_taken_away(self, controller: Controller, group: str) -> None:
        path = f"/v3/environment_variable_groups/{group}"
        controller.admin.patch(path, json={"var": {"A": "1", "B": "2"}}).raise_for_status()
        changed = controller.admin.patch(path, json={"var": {"A": None, "C": "3"}}).json()
        assert (changed["name"], changed["var"]) == (group, {"B": "2", "C": "3"})
        assert person(controller).client.get(path).json() == changed
        assert controller.admin.patch(path, json={}).json()["var"] == changed["var"]
        emptied = controller.admin.patch(path, json={"var": {"B": None, "C": None}}).json()
        assert emptied["var"] == {}

    @pytest.mark.parametrize(
        ("variables", "text"),
        [
            ({"VCAP_X": "1"}, "Var cannot start with VCAP_"),
            ({"vcap_x": "1"}, "Var cannot start with VCAP_"),
            ({"VMC_X": "1"}, "Var cannot start with VMC_"),
            ({"PORT": "1"}, "Var cannot set PORT"),
            ({"": "1"}, "Var key must be a minimum length of 1"),
            ({"A": ["1"]}, "Non-string value in environment variable for key 'A', value '[\"1\"]'"),
            (
                {"A": "x" * 70_000},
                "Environment variable group is too large. Specify fewer variables or reduce key/value lengths.",
            ),
        ],
    )
    def test_what_may_not_be_set(self, controller: Controller, variables: dict[str, Any], text: str) -> None:
        response = controller.admin.patch("/v3/environment_variable_groups/running", json={"var": variables})
        assert (response.status_code, code(response), detail(response)) == (422, 10008, text)

    def test_only_admins_change_them_and_there_are_two(self, controller: Controller) -> None:
        refused = person(controller).client.patch("/v3/environment_variable_groups/running", json={"var": {}})
        assert (refused.status_code, code(refused)) == (403, 10003)
        unknown = controller.admin.get("/v3/environment_variable_groups/other")
        assert (unknown.status_code, detail(unknown)) == (404, "Environment variable group not found")


class TestStacks:
    def test_the_first_one_is_the_default(self, controller: Controller) -> None:
        (stack,) = person(controller).client.get("/v3/stacks?default=true").json()["resources"]
        assert (stack["name"], stack["state"], stack["default"]) == ("cflinuxfs4", "ACTIVE", True)
        assert stack["run_rootfs_image"] == "cflinuxfs4"

    def test_one_is_made_changed_and_deleted(self, controller: Controller) -> None:
        called = name("stack")
        body = {"name": called, "description": "mine", "metadata": {"labels": {"a": "b"}}}
        made = controller.admin.post("/v3/stacks", json=body)
        assert (made.status_code, made.json()["default"]) == (201, False)
        path = f"/v3/stacks/{made.json()['guid']}"
        again = controller.admin.post("/v3/stacks", json={"name": called})
        assert (again.status_code, detail(again)) == (422, "Name must be unique")
        changed = controller.admin.patch(path, json={"state": "DEPRECATED", "state_reason": "old"}).json()
        assert (changed["state"], changed["state_reason"]) == ("DEPRECATED", "old")
        found = controller.admin.get(f"/v3/stacks?names={called}&label_selector=a=b").json()["resources"]
        assert [row["guid"] for row in found] == [made.json()["guid"]]
        stranger = person(controller).client
        assert stranger.delete(path).status_code == 403
        assert stranger.patch(path, json={}).status_code == 403
        assert stranger.post("/v3/stacks", json={"name": name("stack")}).status_code == 403
        assert controller.admin.delete(path).status_code == 204
        assert detail(controller.admin.get(path)) == "Stack not found"

    def test_one_with_apps_lists_them_and_stays(self, controller: Controller) -> None:
        place = space(controller)
        stack = controller.admin.post("/v3/stacks", json={"name": name("stack")}).json()
        body = {
            "name": name("app"),
            "relationships": {"space": {"data": {"guid": place["guid"]}}},
            "lifecycle": {"type": "buildpack", "data": {"stack": stack["name"]}},
        }
        app = controller.admin.post("/v3/apps", json=body).raise_for_status().json()
        path = f"/v3/stacks/{stack['guid']}"
        assert [row["guid"] for row in controller.admin.get(f"{path}/apps").json()["resources"]] == [app["guid"]]
        assert person(controller).client.get(f"{path}/apps").json()["resources"] == []
        refused = controller.admin.delete(path)
        text = f"Cannot delete stack '{stack['name']}' because apps are currently using the stack."
        assert (refused.status_code, detail(refused)) == (422, text)


@pytest.fixture
def three(controller: Controller) -> Iterator[list[str]]:
    """Guids of three buildpacks, in the order of their positions, and afterwards none at all."""
    made = [buildpack(controller, position=9) for _ in range(3)]
    yield [one["guid"] for one in made]
    for one in controller.admin.get("/v3/buildpacks?per_page=100").json()["resources"]:
        job_of(controller.admin, controller.admin.delete(f"/v3/buildpacks/{one['guid']}"))


def buildpack(controller: Controller, **more: Any) -> dict[str, Any]:
    response = controller.admin.post("/v3/buildpacks/", json={"name": name("buildpack"), **more})
    assert response.status_code == 201, response.text
    made: dict[str, Any] = response.json()
    return made


def positions(controller: Controller) -> list[tuple[str, int]]:
    found = controller.admin.get("/v3/buildpacks?order_by=position&lifecycle=buildpack").json()["resources"]
    return [(one["guid"], one["position"]) for one in found]


class TestBuildpacks:
    def test_one_is_made_awaiting_its_bits(self, controller: Controller, three: list[str]) -> None:
        made = buildpack(controller, stack="cflinuxfs4", enabled=False)
        assert (made["state"], made["filename"], made["stack"]) == ("AWAITING_UPLOAD", None, "cflinuxfs4")
        assert (made["lifecycle"], made["enabled"], made["locked"]) == ("buildpack", False, False)
        assert made["links"]["upload"]["method"] == "POST"
        assert [guid for guid, _ in positions(controller)] == [made["guid"], *three], "the first unless said"
        path = f"/v3/buildpacks/{made['guid']}"
        assert person(controller).client.get(path).json() == made
        without_store = controller.admin.post(f"{path}/upload", files={"bits": b"zip"})
        assert (without_store.status_code, code(without_store)) == (502, 150006)
        controller.admin.patch(path, json={"locked": True}).raise_for_status()
        locked = controller.admin.post(f"{path}/upload", files={"bits": b"zip"})
        assert (locked.status_code, detail(locked)) == (422, "Buildpack is locked")

    @pytest.mark.parametrize(
        ("which", "to", "expected"),
        [(0, 2, [1, 0, 2]), (0, 3, [1, 2, 0]), (0, 99, [1, 2, 0]), (2, 1, [2, 0, 1]), (1, 2, [0, 1, 2])],
    )
    def test_moving_one_moves_the_others(
        self, controller: Controller, three: list[str], which: int, to: int, expected: list[int]
    ) -> None:
        controller.admin.patch(f"/v3/buildpacks/{three[which]}", json={"position": to}).raise_for_status()
        assert positions(controller) == [(three[index], place) for place, index in enumerate(expected, 1)]

    def test_making_and_deleting_leave_no_gap(self, controller: Controller, three: list[str]) -> None:
        between = buildpack(controller, position=2)["guid"]
        buildpack(controller, lifecycle="cnb", position=1)
        assert positions(controller) == [(three[0], 1), (between, 2), (three[1], 3), (three[2], 4)]
        deleted = controller.admin.delete(f"/v3/buildpacks/{three[0]}")
        assert job_of(controller.admin, deleted)["operation"] == "buildpack.delete"
        assert positions(controller) == [(between, 1), (three[1], 2), (three[2], 3)]

    def test_many_made_at_the_same_time_have_a_place_each(self, controller: Controller, three: list[str]) -> None:
        with ThreadPoolExecutor(8) as threads:
            made = list(threads.map(lambda number: buildpack(controller, position=number % 4 + 1), range(12)))
        assert {one["position"] for one in made} <= set(range(1, 5))
        assert [position for _, position in positions(controller)] == list(range(1, 16))

    def test_name_stack_and_lifecycle_together_are_taken_once(self, controller: Controller, three: list[str]) -> None:
        bound, free = buildpack(controller, stack="cflinuxfs4"), buildpack(controller)
        again = controller.admin.post("/v3/buildpacks", json={"name": bound["name"], "stack": "cflinuxfs4"})
        text = f"Buildpack with name '{bound['name']}', stack 'cflinuxfs4' and lifecycle 'buildpack' already exists"
        assert (again.status_code, detail(again)) == (422, text)
        again = controller.admin.post("/v3/buildpacks", json={"name": free["name"]})
        assert detail(again) == f"Buildpack with name '{free['name']}' and an unassigned stack already exists"
        renamed = controller.admin.patch(f"/v3/buildpacks/{three[0]}", json={"name": free["name"], "position": 2})
        assert detail(renamed) == f"Buildpack with name '{free['name']}' and an unassigned stack already exists"
        buildpack(controller, name=bound["name"])
        buildpack(controller, name=bound["name"], stack="cflinuxfs4", lifecycle="cnb")
        by_stack = controller.admin.get(f"/v3/buildpacks?names={bound['name']}&stacks=cflinuxfs4").json()
        assert by_stack["pagination"]["total_results"] == 2

    def test_a_stack_is_given_once_and_must_be_there(self, controller: Controller, three: list[str]) -> None:
        path = f"/v3/buildpacks/{three[0]}"
        unknown = controller.admin.patch(path, json={"stack": "nothing"})
        assert (unknown.status_code, detail(unknown)) == (422, "Stack 'nothing' does not exist")
        unknown = controller.admin.post("/v3/buildpacks", json={"name": name("b"), "stack": "nothing"})
        assert detail(unknown) == "Stack 'nothing' does not exist"
        assert controller.admin.patch(path, json={"stack": "cflinuxfs4"}).json()["stack"] == "cflinuxfs4"
        changed = controller.admin.patch(path, json={"stack": None})
        assert detail(changed) == "Buildpack stack cannot be changed"

    @pytest.mark.parametrize("body", [{"name": "a b"}, {"name": "a", "position": 0}, {"name": "a", "lifecycle": "x"}])
    def test_what_may_not_be(self, controller: Controller, body: dict[str, Any]) -> None:
        assert controller.admin.post("/v3/buildpacks", json=body).status_code == 422
        assert controller.admin.get("/v3/buildpacks?lifecycle=docker").status_code == 400

    def test_they_are_the_admins(self, controller: Controller, three: list[str]) -> None:
        stranger, path = person(controller).client, f"/v3/buildpacks/{three[0]}"
        for refused in (
            stranger.post("/v3/buildpacks", json={"name": name("b")}),
            stranger.patch(path, json={"position": 3}),
            stranger.post(f"{path}/upload"),
            stranger.delete(path),
        ):
            assert (refused.status_code, code(refused)) == (403, 10003)
