"""What applying a manifest would change, by its description of apps as they are (cloud_controller reference 3.4)."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.v3.manifests import differences

CURRENT: dict[str, Any] = {
    "name": "app",
    "env": {"A": "1", "B": "2"},
    "lifecycle": "buildpack",
    "buildpacks": ["ruby", "go"],
    "stack": "cflinuxfs4",
    "features": {"ssh": True, "revisions": True},
    "metadata": {"labels": {"tier": "one"}},
    "routes": [{"route": "app.example.com/v1", "protocol": "http1"}],
    "services": ["db", {"name": "queue", "binding_name": "q"}],
    "sidecars": [{"name": "side", "process_types": ["web"], "command": "run", "memory": "32M"}],
    "processes": [
        {
            "type": "web",
            "instances": 2,
            "memory": "1024M",
            "disk_quota": "512M",
            "log-rate-limit-per-second": "16K",
            "health-check-type": "http",
            "health-check-http-endpoint": "/up",
            "timeout": 60,
            "readiness-health-check-type": "process",
        },
        {"type": "worker", "instances": 0, "memory": "256M", "health-check-type": "process"},
    ],
}


def found(application: dict[str, Any], current: dict[str, Any] | None = CURRENT) -> list[dict[str, Any]]:
    return differences.of_application(0, {"name": "app", **application}, current)


def test_what_describes_an_app_as_it_is_is_no_difference() -> None:
    assert found(deepcopy(CURRENT)) == []


@pytest.mark.parametrize(
    "application",
    [
        {"memory": "1G"},
        {"disk-quota": "0.5g", "disk_quota": "512MB"},
        {"log-rate-limit-per-second": "16384B"},
        {"instances": "2", "timeout": 60},
        {"health-check-type": "http", "health-check-http-endpoint": "/up"},
        {"command": None},
        {"command": "default"},
        {"processes": [{"type": "worker", "health-check-type": "none", "memory": "0.25G"}]},
        {"memory": "8G", "processes": [{"type": "web", "memory": "1G"}]},
        {"env": {"A": 1}},
        {"env": {}},
        {"env": None},
        {"metadata": {"labels": {"gone": None}}},
        {"routes": [{"route": "https://App.example.com/v1"}]},
        {"default-route": True},
        {"random-route": True},
        {"no-route": False},
        {"services": ["queue", {"name": "DB"}]},
        {"sidecars": [{"name": "side", "command": "run", "memory": "32MB", "more": 1}]},
        {"features": {"ssh": True}},
        {"path": "/somewhere", "docker-credentials": 1},
    ],
)
def test_what_means_the_same_is_no_difference(application: dict[str, Any]) -> None:
    assert found(application) == []


@pytest.mark.parametrize(
    ("application", "expected"),
    [
        ({"memory": "2G"}, {"op": "replace", "path": "/applications/0/memory", "was": "1024M", "value": "2048M"}),
        ({"command": "run"}, {"op": "add", "path": "/applications/0/command", "value": "run"}),
        (
            {"log-rate-limit-per-second": -1},
            {"op": "replace", "path": "/applications/0/log-rate-limit-per-second", "was": "16K", "value": -1},
        ),
        ({"env": {"C": True}}, {"op": "add", "path": "/applications/0/env/C", "value": "true"}),
        ({"env": {"A": 2}}, {"op": "replace", "path": "/applications/0/env/A", "was": "1", "value": "2"}),
        (
            {"metadata": {"labels": {"a/b": "x"}}},
            {"op": "add", "path": "/applications/0/metadata/labels/a~1b", "value": "x"},
        ),
        (
            {"metadata": {"labels": {"tier": None}}},
            {"op": "remove", "path": "/applications/0/metadata/labels/tier", "was": "one"},
        ),
        ({"buildpacks": ["ruby"]}, {"op": "remove", "path": "/applications/0/buildpacks/1", "was": "go"}),
        (
            {"buildpack": "go"},
            {"op": "replace", "path": "/applications/0/buildpack", "was": ["ruby", "go"], "value": "go"},
        ),
        ({"stack": "other"}, {"op": "replace", "path": "/applications/0/stack", "was": "cflinuxfs4", "value": "other"}),
        ({"no-route": True}, {"op": "add", "path": "/applications/0/no-route", "value": True}),
        (
            {"routes": [{"route": "other.example.com"}]},
            {"op": "add", "path": "/applications/0/routes/0", "value": {"route": "other.example.com"}},
        ),
        (
            {"routes": [{"route": "app.example.com/v1", "protocol": "http2"}]},
            {"op": "replace", "path": "/applications/0/routes/0/protocol", "was": "http1", "value": "http2"},
        ),
        ({"services": ["db", "new"]}, {"op": "add", "path": "/applications/0/services/1", "value": "new"}),
        (
            {"processes": [{"type": "worker", "instances": 3}]},
            {"op": "replace", "path": "/applications/0/processes/0/instances", "was": 0, "value": 3},
        ),
        (
            {"processes": [{"type": "clock", "instances": 1, "memory": "1G"}]},
            {
                "op": "add",
                "path": "/applications/0/processes/0",
                "value": {"type": "clock", "instances": 1, "memory": "1024M"},
            },
        ),
        (
            {"sidecars": [{"name": "side", "command": "walk"}]},
            {"op": "replace", "path": "/applications/0/sidecars/0/command", "was": "run", "value": "walk"},
        ),
        (
            {"features": {"ssh": False}},
            {"op": "replace", "path": "/applications/0/features/ssh", "was": True, "value": False},
        ),
    ],
)
def test_what_is_another_is_told_with_what_it_was(application: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found(application) == [expected]


def test_of_an_app_that_is_not_there_everything_is_new() -> None:
    assert found({"memory": "1G", "default-route": True, "env": {"A": 1}}, None) == [
        {"op": "add", "path": "/applications/0/name", "value": "app"},
        {"op": "add", "path": "/applications/0/memory", "value": "1024M"},
        {"op": "add", "path": "/applications/0/default-route", "value": True},
        {"op": "add", "path": "/applications/0/env", "value": {"A": "1"}},
    ]


TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=4)


@given(was=st.dictionaries(TEXTS, TEXTS), wanted=st.dictionaries(TEXTS, TEXTS))
def test_carrying_out_the_differences_of_an_environment_merges_it(was: dict[str, str], wanted: dict[str, str]) -> None:
    result = dict(was)
    for each in found({"env": wanted}, {"name": "app", "env": was}):
        key = each["path"].removeprefix("/applications/0/env/").replace("~1", "/").replace("~0", "~")
        assert (each["op"], each.get("was")) == (("replace", was[key]) if key in was else ("add", None))
        result[key] = each["value"]
    assert result == {**was, **wanted}


@given(was=st.lists(TEXTS.filter(bool), min_size=1), wanted=st.lists(TEXTS.filter(bool)))
def test_carrying_out_the_differences_of_buildpacks_replaces_them(was: list[str], wanted: list[str]) -> None:
    result = list(was)
    for each in found({"buildpacks": wanted}, {"name": "app", "buildpacks": was}):
        index = int(each["path"].rsplit("/", 1)[1])
        match each["op"]:
            case "remove":
                assert result.pop(index) == each["was"]
            case "add":
                result.insert(index, each["value"])
            case _:
                assert result[index] == each["was"]
                result[index] = each["value"]
    assert result == wanted
