"""Apps as records: made, shown, listed, changed, started, stopped, deleted (cloud_controller reference 1.4, 3.2)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.controller.running import Controller, job_of
from tests.controller.worlds import app, code, detail, droplet, member, name, set_droplet, space, started_app


def test_an_app_is_made_shown_renamed_and_deleted(controller: Controller) -> None:
    place, called = space(controller), name("app")
    body = {"name": called, "relationships": {"space": {"data": {"guid": place["guid"]}}}}
    made = controller.admin.post("/v3/apps", json={**body, "environment_variables": {"A": "1", "B": True, "C": 2}})
    assert made.status_code == 201, made.text
    shown = made.json()
    guid = shown["guid"]
    assert (shown["name"], shown["state"]) == (called, "STOPPED")
    assert shown["lifecycle"] == {"type": "buildpack", "data": {"buildpacks": [], "stack": "cflinuxfs4"}}
    assert shown["relationships"] == {
        "space": {"data": {"guid": place["guid"]}},
        "current_droplet": {"data": None},
    }
    assert shown["links"]["start"] == {
        "href": f"http://api.example.com/v3/apps/{guid}/actions/start",
        "method": "POST",
    }
    assert all(link is not None for link in shown["links"].values())
    assert controller.admin.get(f"/v3/apps/{guid}").json() == shown
    variables = controller.admin.get(f"/v3/apps/{guid}/environment_variables").json()
    assert variables["var"] == {"A": "1", "B": "true", "C": "2"}
    taken = controller.admin.post("/v3/apps", json={**body, "name": called.upper()})
    assert (taken.status_code, detail(taken)) == (422, f"App with the name '{called.upper()}' already exists.")
    renamed = controller.admin.patch(f"/v3/apps/{guid}", json={"name": called + "-2"})
    assert (renamed.status_code, renamed.json()["name"]) == (200, called + "-2")
    deleted = controller.admin.delete(f"/v3/apps/{guid}")
    job = job_of(controller.admin, deleted)
    assert (deleted.status_code, job["operation"], job["state"]) == (202, "app.delete", "COMPLETE")
    assert detail(controller.admin.get(f"/v3/apps/{guid}")) == "App not found"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"name": ""}, "Name is too short (minimum is 1 character(s))"),
        ({"colour": "red"}, "Unknown field(s): 'colour'"),
        ({"lifecycle": {"type": "buildpack", "data": {"stack": "none"}}}, "Stack must be an existing stack"),
        (
            {"lifecycle": {"type": "buildpack", "data": {"buildpacks": ["none"]}}},
            'Buildpack "none" must be an existing admin buildpack or a valid git URI',
        ),
        ({"environment_variables": {"VCAP_X": "1"}}, "Environment variables cannot start with VCAP_"),
        ({"environment_variables": {"VMC": "1"}}, "Environment variables cannot start with VMC_"),
        ({"environment_variables": {"port": "1"}}, "Environment variables cannot set PORT"),
        (
            {"environment_variables": {"A": [1]}},
            "Non-string value in environment variable for key 'A', value '[1]'",
        ),
        (
            {"relationships": {"space": {"data": {"guid": "none"}}}},
            "Invalid space. Ensure that the space exists and you have access to it.",
        ),
    ],
)
def test_what_no_app_can_be(controller: Controller, change: dict[str, Any], text: str) -> None:
    body = {"name": "x", "relationships": {"space": {"data": {"guid": space(controller)["guid"]}}}}
    response = controller.admin.post("/v3/apps", json={**body, **change})
    assert (response.status_code, code(response), detail(response)) == (422, 10008, text)


class TestLists:
    def test_filter_order_and_include(self, controller: Controller) -> None:
        place = space(controller)
        owner = place["relationships"]["organization"]["data"]["guid"]
        one = app(controller, place["guid"], name="b", metadata={"labels": {"env": "prod"}})
        two = started_app(controller, place["guid"], name="a")
        app(controller)

        def found(**query: str) -> list[str]:
            response = controller.admin.get("/v3/apps", params={"space_guids": place["guid"], **query})
            assert response.status_code == 200, response.text
            return [row["guid"] for row in response.json()["resources"]]

        assert found() == [one["guid"], two["guid"]]
        assert found(order_by="name") == [two["guid"], one["guid"]]
        assert found(order_by="state") == [two["guid"], one["guid"]]
        assert found(names="A,c") == [two["guid"]]
        assert found(organization_guids=owner) == [one["guid"], two["guid"]]
        assert found(organization_guids="none") == []
        assert found(stacks="cflinuxfs4") == [one["guid"], two["guid"]]
        assert found(stacks="") == []
        assert found(lifecycle_type="docker") == []
        assert found(label_selector="env=prod") == [one["guid"]]
        query = {"guids": one["guid"], "include": "space,space.organization"}
        included = controller.admin.get("/v3/apps", params=query).json()["included"]
        assert [row["guid"] for row in included["spaces"]] == [place["guid"]]
        assert [row["guid"] for row in included["organizations"]] == [owner]
        assert controller.admin.get(f"/v3/apps/{one['guid']}?include=space").json()["included"].keys() == {"spaces"}


def test_null_bytes_are_never_a_fault_of_ours(controller: Controller) -> None:
    guid = app(controller)["guid"]
    annotations = {"metadata": {"annotations": {"a": "x\0y"}}}
    answers = [
        controller.admin.get("/v3/apps?names=%00"),
        controller.admin.get("/v3/apps/%00"),
        controller.admin.patch(f"/v3/apps/{guid}", json=annotations),
        controller.admin.post("/v3/builds", json={"package": {"guid": "\0"}}),
    ]
    assert [answer.status_code for answer in answers if answer.status_code >= 500] == []


class TestLifecycle:
    def test_stack_and_buildpacks_change_each_alone(self, controller: Controller) -> None:
        made = app(controller)
        url = "https://me:secret@example.com/pack.git"
        change = {"lifecycle": {"type": "buildpack", "data": {"buildpacks": [url]}}}
        changed = controller.admin.patch(f"/v3/apps/{made['guid']}", json=change).json()
        assert changed["lifecycle"]["data"] == {
            "buildpacks": ["https://***:***@example.com/pack.git"],
            "stack": "cflinuxfs4",
        }
        change = {"lifecycle": {"type": "buildpack", "data": {"stack": "cflinuxfs4"}}}
        changed = controller.admin.patch(f"/v3/apps/{made['guid']}", json=change).json()
        assert len(changed["lifecycle"]["data"]["buildpacks"]) == 1

    def test_a_type_is_for_ever_and_docker_for_where_it_is_allowed(self, controller: Controller) -> None:
        place = space(controller)
        change = {"lifecycle": {"type": "docker", "data": {}}}
        response = controller.admin.patch(f"/v3/apps/{app(controller, place['guid'])['guid']}", json=change)
        assert (response.status_code, detail(response)) == (422, "Lifecycle type cannot be changed")
        made = app(controller, place["guid"], **change)
        assert made["lifecycle"] == {"type": "docker", "data": {}}
        body = {"name": name("app"), "relationships": {"space": {"data": {"guid": place["guid"]}}}, **change}
        refused = member(controller, "space_developer", place).client.post("/v3/apps", json=body)
        assert (refused.status_code, code(refused), detail(refused)) == (403, 330002, "Feature Disabled: diego_docker")


class TestStartAndStop:
    def test_need_a_droplet_and_make_new_versions(self, controller: Controller) -> None:
        made = app(controller)
        path = f"/v3/apps/{made['guid']}"
        for action in ("start", "restart"):
            refused = controller.admin.post(f"{path}/actions/{action}")
            assert (refused.status_code, detail(refused)) == (422, "Assign a droplet before starting this app.")
        set_droplet(controller, made["guid"])

        def version() -> str:
            return str(controller.admin.get(f"/v3/processes/{made['guid']}").json()["version"])

        versions = [version()]
        for action, state, is_another in (
            ("start", "STARTED", True),
            ("start", "STARTED", False),
            ("restart", "STARTED", True),
            ("stop", "STOPPED", False),
            ("stop", "STOPPED", False),
            ("restart", "STARTED", True),
        ):
            response = controller.admin.post(f"{path}/actions/{action}")
            assert (response.status_code, response.json()["state"]) == (200, state)
            versions.append(version())
            assert (versions[-1] != versions[-2]) is is_another, action

    def test_within_the_quota(self, controller: Controller) -> None:
        place = space(controller)
        made = app(controller, place["guid"])
        set_droplet(controller, made["guid"])
        scale = {"memory_in_mb": 102_401}
        scaled = controller.admin.post(f"/v3/processes/{made['guid']}/actions/scale", json=scale)
        assert scaled.status_code == 202
        refused = controller.admin.post(f"/v3/apps/{made['guid']}/actions/start")
        assert (refused.status_code, code(refused), detail(refused)) == (422, 10008, "memory quota_exceeded")
        assert controller.admin.get(f"/v3/apps/{made['guid']}").json()["state"] == "STOPPED"


class TestCurrentDroplet:
    def test_makes_the_processes_that_it_has_types_for(self, controller: Controller) -> None:
        made = app(controller)
        path = f"/v3/apps/{made['guid']}"
        missing = controller.admin.get(f"{path}/relationships/current_droplet")
        assert (missing.status_code, detail(missing)) == (404, "Droplet not found")
        types = {"web": "run web", "worker": "run worker"}
        guid = set_droplet(controller, made["guid"], process_types=types)
        assert controller.admin.get(f"{path}/relationships/current_droplet").json() == {
            "data": {"guid": guid},
            "links": {
                "self": {"href": f"http://api.example.com{path}/relationships/current_droplet"},
                "related": {"href": f"http://api.example.com{path}/droplets/current"},
            },
        }
        rows = controller.admin.get(f"{path}/processes").json()["resources"]
        assert [(row["type"], row["instances"]) for row in rows] == [("web", 1), ("worker", 0)]
        assert rows[0]["guid"] == made["guid"]
        assert controller.admin.get(path).json()["relationships"]["current_droplet"] == {"data": {"guid": guid}}

    def test_is_staged_and_the_apps_own(self, controller: Controller) -> None:
        one, two = app(controller), app(controller)
        path = f"/v3/apps/{one['guid']}/relationships/current_droplet"
        other = droplet(controller, two["guid"])
        unfinished = droplet(controller, one["guid"], state="FAILED")
        for body, text in (
            ({"data": None}, "Current droplet cannot be removed. Replace it with a preferred droplet."),
            (
                {"data": {"guid": other}},
                "Unable to assign current droplet. Ensure the droplet exists and belongs to this app.",
            ),
            ({"data": {"guid": unfinished}}, "Unable to assign current droplet. Ensure the droplet is staged."),
        ):
            response = controller.admin.patch(path, json=body)
            assert (response.status_code, detail(response)) == (422, text)


class TestFeatures:
    def test_are_listed_shown_and_switched(self, controller: Controller) -> None:
        path = f"/v3/apps/{app(controller)['guid']}/features"
        listed = controller.admin.get(path).json()["resources"]
        assert {row["name"]: row["enabled"] for row in listed} == {
            "ssh": True,
            "revisions": True,
            "service-binding-k8s": False,
            "file-based-vcap-services": False,
        }
        for name_of_it, enabled, status in (
            ("revisions", False, 200),
            ("file-based-vcap-services", True, 200),
            ("service-binding-k8s", True, 422),
            ("colours", True, 404),
        ):
            assert controller.admin.patch(f"{path}/{name_of_it}", json={"enabled": enabled}).status_code == status
        assert controller.admin.get(f"{path}/revisions").json()["enabled"] is False
        assert detail(controller.admin.get(f"{path}/colours")) == "Feature not found"

    def test_ssh_says_who_forbids_it(self, controller: Controller) -> None:
        path = f"/v3/apps/{app(controller)['guid']}"
        assert controller.admin.get(f"{path}/ssh_enabled").json() == {"enabled": True, "reason": ""}
        controller.admin.patch(f"{path}/features/ssh", json={"enabled": False}).raise_for_status()
        shown = controller.admin.get(f"{path}/ssh_enabled").json()
        assert shown == {"enabled": False, "reason": "Disabled for app"}


class TestEnvironment:
    def test_variables_merge_and_null_takes_away(self, controller: Controller) -> None:
        path = f"/v3/apps/{app(controller, environment_variables={'A': '1', 'B': '2'})['guid']}"
        change = {"var": {"A": None, "C": "3"}}
        changed = controller.admin.patch(f"{path}/environment_variables", json=change)
        assert changed.status_code == 200
        assert changed.json()["var"] == {"B": "2", "C": "3"}
        assert changed.json()["links"]["app"] == {"href": f"http://api.example.com{path}"}
        refused = controller.admin.patch(f"{path}/environment_variables", json={"var": {"VCAP_A": "1", "": "2"}})
        text = "Var cannot start with VCAP_, Var key must be a minimum length of 1"
        assert (refused.status_code, detail(refused)) == (422, text)

    def test_all_of_it_shows_what_the_platform_adds(self, controller: Controller) -> None:
        made = app(controller, environment_variables={"A": "1"})
        shown = controller.admin.get(f"/v3/apps/{made['guid']}/env").json()
        assert shown["environment_variables"] == {"A": "1"}
        assert shown["system_env_json"] == {"VCAP_SERVICES": {}}
        application = shown["application_env_json"]["VCAP_APPLICATION"]
        assert (application["application_id"], application["name"]) == (made["guid"], made["name"])
        assert application["uris"] == []
        assert shown["running_env_json"] == shown["staging_env_json"] == {}
        switch = f"/v3/apps/{made['guid']}/features/service-binding-k8s"
        controller.admin.patch(switch, json={"enabled": True}).raise_for_status()
        shown = controller.admin.get(f"/v3/apps/{made['guid']}/env").json()
        assert shown["system_env_json"] == {"SERVICE_BINDING_ROOT": "/etc/cf-service-bindings"}

    def test_whoever_reads_it_is_recorded(self, controller: Controller) -> None:
        guid = started_app(controller)["guid"]
        (revision,) = controller.admin.get(f"/v3/apps/{guid}/revisions").json()["resources"]
        reader = controller.client("reader", "cloud_controller.admin_read_only")
        for path in (
            f"/v3/apps/{guid}/env",
            f"/v3/apps/{guid}/environment_variables",
            f"/v3/revisions/{revision['guid']}/environment_variables",
        ):
            reader.get(path).raise_for_status()
        query = {"target_guids": guid, "order_by": "-created_at", "per_page": "3"}
        events = controller.admin.get("/v3/audit_events", params=query).json()["resources"]
        assert {event["type"] for event in events} == {
            "audit.app.environment.show",
            "audit.app.environment_variables.show",
            "audit.app.revision.environment_variables.show",
        }
        assert {event["actor"]["name"] for event in events} == {"reader"}


def test_permissions_and_the_cache_of_buildpacks(controller: Controller) -> None:
    place = space(controller)
    path = f"/v3/apps/{app(controller, place['guid'])['guid']}"
    auditor = member(controller, "space_auditor", place).client
    assert auditor.get(f"{path}/permissions").json() == {"read_basic_data": True, "read_sensitive_data": False}
    for action in (f"{path}/actions/clear_buildpack_cache", "/v3/admin/actions/clear_buildpack_cache"):
        cleared = controller.admin.post(action)
        assert cleared.status_code == 202
        assert job_of(controller.admin, cleared)["state"] == "COMPLETE"
