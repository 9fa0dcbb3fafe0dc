"""Manifests over HTTP: applied, compared, written down (cloud_controller reference 1.3, 3.4)."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.controller.running import Controller, job_of
from tests.controller.worlds import code, detail, member, name, space

YAML = {"Content-Type": "application/x-yaml"}
DOMAIN = "apps.example.com"


def send(client: httpx.Client, place: dict[str, Any], action: str, *applications: dict[str, Any]) -> httpx.Response:
    document = without_sharing({"applications": list(applications)})
    content = yaml.safe_dump(document, sort_keys=False)
    return client.post(f"/v3/spaces/{place['guid']}/{action}", content=content, headers=YAML)


def without_sharing(document: dict[str, Any]) -> Any:
    """Nothing in it twice: that would become an anchor and an alias."""
    return json.loads(json.dumps(document))


def apply(controller: Controller, place: dict[str, Any], *applications: dict[str, Any]) -> dict[str, Any]:
    """The job behind it, at its end."""
    response = send(controller.admin, place, "actions/apply_manifest", *applications)
    assert response.status_code == 202, response.text
    assert response.content == b""
    return job_of(controller.admin, response)


def applied(controller: Controller, place: dict[str, Any], *applications: dict[str, Any]) -> None:
    job = apply(controller, place, *applications)
    assert (job["operation"], job["state"]) == ("space.apply_manifest", "COMPLETE"), job["errors"]


def difference(controller: Controller, place: dict[str, Any], *applications: dict[str, Any]) -> list[dict[str, Any]]:
    response = send(controller.admin, place, "manifest_diff", *applications)
    assert response.status_code == 201, response.text
    found: list[dict[str, Any]] = response.json()["diff"]
    return found


def app_of(controller: Controller, place: dict[str, Any], called: str) -> dict[str, Any]:
    query = {"names": called, "space_guids": place["guid"]}
    (app,) = controller.admin.get("/v3/apps", params=query).json()["resources"]
    found: dict[str, Any] = app
    return found


def processes(controller: Controller, app: dict[str, Any]) -> dict[str, dict[str, Any]]:
    listed = controller.admin.get(f"/v3/apps/{app['guid']}/processes").json()["resources"]
    return {one["type"]: controller.admin.get(f"/v3/processes/{one['guid']}").json() for one in listed}


def urls(controller: Controller, app: dict[str, Any]) -> dict[str, list[str]]:
    """Of an app's routes, with the protocols that they are spoken to with."""
    listed = controller.admin.get(f"/v3/apps/{app['guid']}/routes").json()["resources"]
    return {route["url"]: [one["protocol"] for one in route["destinations"]] for route in listed}


@pytest.fixture
def place(controller: Controller) -> dict[str, Any]:
    return space(controller)


class TestApplying:
    def test_everything_at_once(self, controller: Controller, place: dict[str, Any]) -> None:
        called, host = name("app"), name("host")
        instance = {
            "type": "user-provided",
            "name": "db",
            "credentials": {"uri": "postgres://db"},
            "relationships": {"space": {"data": {"guid": place["guid"]}}},
        }
        controller.admin.post("/v3/service_instances", json=instance).raise_for_status()
        manifest = {
            "name": called,
            "path": "ignored by servers",
            "memory": "256M",
            "disk-quota": "1G",
            "instances": 2,
            "log_rate_limit_per_second": "1K",
            "command": "run web",
            "health-check-type": "http",
            "health-check-http-endpoint": "/up",
            "health-check-invocation-timeout": 3,
            "timeout": 90,
            "readiness-health-check-type": "port",
            "stack": "cflinuxfs4",
            "buildpacks": ["https://example.com/buildpack.git"],
            "env": {"WORD": "text", "NUMBER": 1, "TRUTH": True, "EMPTY": None},
            "features": {"ssh": False},
            "metadata": {"labels": {"tier": "one"}, "annotations": {"note": "a text"}},
            "routes": [{"route": f"{host}.{DOMAIN}", "protocol": "http2"}, {"route": f"{host}.{DOMAIN}/v2"}],
            "services": ["db"],
            "processes": [
                {"type": "web", "instances": 3},
                {"type": "worker", "instances": 1, "memory": "64M", "health-check-type": "none"},
            ],
            "sidecars": [{"name": "proxy", "command": "run proxy", "process_types": ["web"], "memory": "32M"}],
        }
        new = difference(controller, place, manifest)
        assert {each["op"] for each in new} == {"add"}
        applied(controller, place, manifest)

        app = app_of(controller, place, called)
        assert app["state"] == "STOPPED"
        assert app["lifecycle"]["data"]["buildpacks"] == ["https://example.com/buildpack.git"]
        assert app["metadata"] == {"labels": {"tier": "one"}, "annotations": {"note": "a text"}}
        web, worker = processes(controller, app)["web"], processes(controller, app)["worker"]
        assert (web["instances"], web["memory_in_mb"], web["disk_in_mb"], web["command"]) == (3, 256, 1024, "run web")
        assert web["log_rate_limit_in_bytes_per_second"] == 1024
        assert web["health_check"]["type"] == "http"
        assert web["health_check"]["data"] == {
            "timeout": 90,
            "invocation_timeout": 3,
            "interval": None,
            "endpoint": "/up",
        }
        assert web["readiness_health_check"]["type"] == "port"
        assert (worker["instances"], worker["memory_in_mb"], worker["health_check"]["type"]) == (1, 64, "process")
        environment = controller.admin.get(f"/v3/apps/{app['guid']}/env").json()
        assert environment["environment_variables"] == {"WORD": "text", "NUMBER": "1", "TRUTH": "true", "EMPTY": ""}
        assert [one["name"] for one in environment["system_env_json"]["VCAP_SERVICES"]["user-provided"]] == ["db"]
        assert controller.admin.get(f"/v3/apps/{app['guid']}/ssh_enabled").json()["enabled"] is False
        assert urls(controller, app) == {f"{host}.{DOMAIN}": ["http2"], f"{host}.{DOMAIN}/v2": ["http1"]}
        (sidecar,) = controller.admin.get(f"/v3/apps/{app['guid']}/sidecars").json()["resources"]
        assert (sidecar["name"], sidecar["memory_in_mb"]) == ("proxy", 32)

        assert difference(controller, place, manifest) == []
        written = controller.admin.get(f"/v3/apps/{app['guid']}/manifest")
        assert written.headers["content-type"] == "application/x-yaml"
        (described,) = yaml.safe_load(written.text)["applications"]
        assert difference(controller, place, described) == []
        applied(controller, place, described)
        assert controller.admin.get(f"/v3/apps/{app['guid']}/manifest").content == written.content
        events = controller.admin.get(f"/v3/apps/{app['guid']}").json()
        assert events["name"] == called

    def test_the_app_is_there_before_the_job_is_done(self, controller: Controller, place: dict[str, Any]) -> None:
        called = name("app")
        response = send(
            controller.admin, place, "actions/apply_manifest", {"name": called, "routes": [{"route": "no"}]}
        )
        assert app_of(controller, place, called)["name"] == called
        job = job_of(controller.admin, response)
        assert job["state"] == "FAILED"
        assert [error["detail"] for error in job["errors"]] == [
            f"For application '{called}': The route 'no' did not match any existing domains."
        ]

    def test_apps_are_found_by_their_names_whatever_the_case(
        self, controller: Controller, place: dict[str, Any]
    ) -> None:
        called = name("app")
        applied(controller, place, {"name": called}, {"name": called.upper(), "memory": "2G"})
        assert processes(controller, app_of(controller, place, called))["web"]["memory_in_mb"] == 2048

    def test_it_is_applied_whole_or_not_at_all(self, controller: Controller, place: dict[str, Any]) -> None:
        one, two = name("app"), name("app")
        job = apply(controller, place, {"name": one, "memory": "64M"}, {"name": two, "services": ["none"]})
        assert [(error["code"], error["detail"]) for error in job["errors"]] == [
            (10010, f"For application '{two}': Service instance 'none' not found")
        ]
        assert processes(controller, app_of(controller, place, one))["web"]["memory_in_mb"] == 1024

    def test_variables_merge_and_never_leave(self, controller: Controller, place: dict[str, Any]) -> None:
        called = name("app")
        applied(controller, place, {"name": called, "env": {"A": 1, "B": 1}})
        applied(controller, place, {"name": called, "env": {"B": 2}})
        app = app_of(controller, place, called)
        found = controller.admin.get(f"/v3/apps/{app['guid']}/environment_variables").json()["var"]
        assert found == {"A": "1", "B": "2"}

    def test_a_command_of_ones_own_is_given_up(self, controller: Controller, place: dict[str, Any]) -> None:
        called = name("app")
        applied(controller, place, {"name": called, "command": "mine"})
        applied(controller, place, {"name": called, "memory": "1G"})
        assert processes(controller, app_of(controller, place, called))["web"]["command"] == "mine"
        applied(controller, place, {"name": called, "command": "default"})
        assert processes(controller, app_of(controller, place, called))["web"]["command"] is None


class TestRoutes:
    def test_they_are_added_and_stay_until_there_is_to_be_none(
        self, controller: Controller, place: dict[str, Any]
    ) -> None:
        called, host = name("app"), name("host")
        applied(controller, place, {"name": called, "routes": [{"route": f"{host}-1.{DOMAIN}"}]})
        applied(controller, place, {"name": called, "routes": [{"route": f"https://{host}-2.{DOMAIN.upper()}/"}]})
        app = app_of(controller, place, called)
        assert set(urls(controller, app)) == {f"{host}-1.{DOMAIN}", f"{host}-2.{DOMAIN}"}
        applied(controller, place, {"name": called, "routes": [{"route": f"{host}-1.{DOMAIN}", "protocol": "http2"}]})
        assert urls(controller, app)[f"{host}-1.{DOMAIN}"] == ["http2"]
        assert (
            difference(controller, place, {"name": called, "no-route": True})[0]["path"] == "/applications/0/no-route"
        )
        applied(controller, place, {"name": called, "no-route": True})
        assert urls(controller, app) == {}
        assert difference(controller, place, {"name": called, "no-route": True}) == []
        query = {"hosts": f"{host}-1"}
        assert controller.admin.get("/v3/routes", params=query).json()["pagination"]["total_results"] == 1

    def test_the_default_one_is_called_like_the_app(self, controller: Controller, place: dict[str, Any]) -> None:
        called = name("My_App!")
        applied(controller, place, {"name": called, "default-route": True})
        app = app_of(controller, place, called)
        expected = f"{called.lower().replace('_', '-').replace('!', '')}.{DOMAIN}"
        assert list(urls(controller, app)) == [expected]
        applied(controller, place, {"name": called, "random-route": True})
        assert list(urls(controller, app)) == [expected], "there was one already"

    def test_a_random_one_has_words(self, controller: Controller, place: dict[str, Any]) -> None:
        called = name("app")
        applied(controller, place, {"name": called, "random-route": True})
        (url,) = urls(controller, app_of(controller, place, called))
        assert url.startswith(f"{called}-")
        assert len(url.removeprefix(f"{called}-").split(".")[0].split("-")) == 3

    def test_the_longest_domain_counts(self, controller: Controller, place: dict[str, Any]) -> None:
        called, label = name("app"), name("sub")
        controller.admin.post("/v3/domains", json={"name": f"{label}.{DOMAIN}"}).raise_for_status()
        applied(controller, place, {"name": called, "routes": [{"route": f"www.{label}.{DOMAIN}"}]})
        (route,) = controller.admin.get(
            f"/v3/apps/{app_of(controller, place, called)['guid']}/routes?include=domain"
        ).json()["resources"]
        assert (route["host"], route["url"]) == ("www", f"www.{label}.{DOMAIN}")

    def test_a_route_of_another_space_is_refused(self, controller: Controller, place: dict[str, Any]) -> None:
        host, one, two = name("host"), name("app"), name("app")
        applied(controller, place, {"name": one, "routes": [{"route": f"{host}.{DOMAIN}"}]})
        job = apply(controller, space(controller), {"name": two, "routes": [{"route": f"{host}.{DOMAIN}"}]})
        assert [error["detail"] for error in job["errors"]] == [
            f"For application '{two}': For route '{host}.{DOMAIN}': "
            "Routes cannot be mapped to destinations in different spaces"
        ]


@pytest.mark.parametrize(
    ("application", "text"),
    [
        ({"name": ""}, "For application at index 0: Name must not be empty"),
        ({"name": 1}, "For application at index 0: Name must be a string"),
        ({"memory": "1"}, 'Process "web": Memory must use a supported unit: B, K, KB, M, MB, G, GB, T, or TB'),
        ({"disk_quota": "big"}, 'Process "web": Disk quota is not a number'),
        ({"instances": -1}, 'Process "web": Instances must be greater than or equal to 0'),
        ({"instances": 1.5}, 'Process "web": Instances must be an integer'),
        ({"health-check-type": "tcp"}, 'Process "web": Health check type must be "port", "process", or "http"'),
        ({"processes": {"type": "web"}}, "Processes must be an array of process configurations"),
        ({"processes": [{"memory": "1G"}]}, "All Processes must specify a type"),
        ({"processes": [{"type": "a"}, {"type": "a"}]}, 'Process "a" may only be present once'),
        ({"processes": [{"type": "a", "timeout": 0}]}, 'Process "a": Timeout must be greater than or equal to 1'),
        ({"routes": "a.b"}, "Routes must be a list of route objects"),
        ({"routes": [{"route": "a b"}]}, "The route 'a b' is not a properly formed URL"),
        ({"routes": [{"route": "a.b", "protocol": "spdy"}]}, "Route protocol must be 'http1', 'http2' or 'tcp'."),
        ({"no-route": "yes please"}, "No-route must be a boolean"),
        ({"random-route": True, "default-route": True}, "Random-route and default-route may not be used together"),
        ({"buildpack": "a", "buildpacks": ["b"]}, "Buildpack and Buildpacks fields cannot be used together."),
        ({"docker": {"image": "a"}, "buildpack": "b"}, "Cannot specify both buildpack(s) and docker keys"),
        ({"env": ["a"]}, "Env must be an object of keys and values"),
        ({"env": {"VCAP_A": "1"}}, "Env cannot start with VCAP_"),
        ({"services": [1]}, "Services must be a list of service instances"),
        ({"sidecars": [{"name": "a", "process_types": ["web"]}]}, 'Sidecar "a": Command must be a text'),
        ({"metadata": {"labels": {"cloudfoundry.org/a": "b"}}}, "Metadata label key error:"),
        ({"features": {"flying": True}}, "Features must be some of ssh, "),
    ],
)
def test_what_cannot_be_applied_is_told_with_the_name(
    controller: Controller, place: dict[str, Any], application: dict[str, Any], text: str
) -> None:
    whole = {"name": "app", **application}
    for action in ("actions/apply_manifest", "manifest_diff"):
        response = send(controller.admin, place, action, whole)
        expected = text if text.startswith("For application") else f"For application 'app': {text}"
        assert (response.status_code, code(response)) == (422, 10008), response.text
        assert detail(response).startswith(expected)
    assert controller.admin.get("/v3/apps", params={"space_guids": place["guid"]}).json()["resources"] == []


def test_all_problems_are_told_at_once(controller: Controller, place: dict[str, Any]) -> None:
    response = send(controller.admin, place, "manifest_diff", {"name": "a", "memory": 1, "env": 1}, {"instances": "x"})
    assert [error["detail"].partition(":")[0] for error in response.json()["errors"]] == [
        "For application 'a'",
        "For application 'a'",
        "For application at index 1",
        "For application at index 1",
    ]


def test_a_manifest_has_to_be_yaml(controller: Controller, place: dict[str, Any]) -> None:
    path = f"/v3/spaces/{place['guid']}/actions/apply_manifest"
    response = controller.admin.post(path, json={"applications": [{"name": "a"}]})
    assert (response.status_code, detail(response)) == (400, "Bad request: Content-Type must be yaml")
    response = controller.admin.post(path, content=b"#" * (1024 * 1024 + 1), headers=YAML)
    assert detail(response).endswith("The maximum supported manifest size is 1MB.")


@pytest.mark.parametrize("kind", ["space_developer", "space_supporter", "space_manager", "space_auditor"])
def test_who_may(controller: Controller, place: dict[str, Any], kind: str) -> None:
    called = name("app")
    applied(controller, place, {"name": called})
    path = f"/v3/apps/{app_of(controller, place, called)['guid']}/manifest"
    somebody = member(controller, kind, place).client
    expected = (202, 201, 200) if kind == "space_developer" else (403, 403, 403)
    apply_it = send(somebody, place, "actions/apply_manifest", {"name": called, "default-route": True})
    compare = send(somebody, place, "manifest_diff", {"name": called})
    assert (apply_it.status_code, compare.status_code, somebody.get(path).status_code) == expected
    if kind == "space_developer":
        assert job_of(somebody, apply_it)["state"] == "COMPLETE"


# Any manifest ---------------------------------------------------------------------------------------------------------

SIZES = st.sampled_from(["64M", "0.125G", "131072K", "1g", "256MB"])
TEXTS = st.text("abc 1_é'\":#", max_size=6)
CHECKS = st.one_of(
    st.fixed_dictionaries({"health-check-type": st.sampled_from(["none", "process", "port"])}),
    st.fixed_dictionaries({"health-check-type": st.just("http"), "health-check-http-endpoint": st.just("/up")}),
)
PROCESS = st.builds(
    lambda check, rest: {**check, **rest},
    CHECKS,
    st.fixed_dictionaries(
        {},
        optional={
            "memory": SIZES,
            "disk_quota": SIZES,
            "log-rate-limit-per-second": st.sampled_from([-1, "-1", 0, "16K", "1.5K"]),
            "instances": st.integers(0, 3),
            "command": st.sampled_from([None, "default", "run", "a: 'b'"]),
            "timeout": st.integers(1, 180),
            "health-check-interval": st.one_of(st.none(), st.integers(1, 9)),
            "readiness-health-check-type": st.sampled_from(["process", "port", "http"]),
        },
    ),
)
APPLICATION = st.builds(
    lambda own, rest, web, worker: {
        **own,
        **rest,
        "processes": [{"type": "web", **web}, {"type": "worker", **worker}][: 1 + bool(worker)],
    },
    PROCESS,
    st.fixed_dictionaries(
        {},
        optional={
            "env": st.dictionaries(st.sampled_from("ABC"), st.one_of(TEXTS, st.integers(), st.booleans(), st.none())),
            "features": st.dictionaries(st.sampled_from(["ssh", "revisions"]), st.booleans()),
            "metadata": st.fixed_dictionaries(
                {"labels": st.dictionaries(st.sampled_from(["a", "b.c/d"]), st.sampled_from([None, "", "x"]))}
            ),
            "buildpacks": st.lists(st.sampled_from(["https://a.com/b", "https://a.com/c"]), max_size=3),
            "default-route": st.booleans(),
            "stack": st.sampled_from([None, "cflinuxfs4"]),
            "sidecars": st.lists(
                st.fixed_dictionaries(
                    {
                        "name": st.sampled_from(["one", "two"]),
                        "command": st.sampled_from(["a", "b"]),
                        "process_types": st.just(["web"]),
                    },
                    optional={"memory": st.just("16M")},
                ),
                unique_by=lambda sidecar: sidecar["name"],
                max_size=2,
            ),
        },
    ),
    st.one_of(st.just({}), PROCESS),
    st.one_of(st.just({}), PROCESS),
)


@settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(applications=st.lists(APPLICATION, min_size=1, max_size=3))
def test_after_any_manifest_was_applied_there_is_no_difference(
    controller: Controller, place: dict[str, Any], applications: list[dict[str, Any]]
) -> None:
    """Also where it changes an app that an earlier one made."""
    called = name("app")
    for each in applications:
        whole = {"name": called, **each}
        applied(controller, place, whole)
        assert difference(controller, place, whole) == []
        app = app_of(controller, place, called)
        written = controller.admin.get(f"/v3/apps/{app['guid']}/manifest").text
        assert difference(controller, place, *yaml.safe_load(written)["applications"]) == []
