"""The OpenAPI document: whole, valid, and so true that programs may be written by it."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import pytest

from controller.application import MODULES
from controller.v3.openapi import shapes
from controller.v3.openapi.shapes import ANYTHING, Maybe, Resource, Text, Values
from tests.controller.running import Controller

NEVER_RIGHT = ("/v3/service_brokers", "/v3/service_offerings/", "/v3/service_plans/", "usage_events/", "/parameters")
"""There are none of these, so that nothing about one is ever answered as asked."""
EMPTY = ("/actions/cancel", "/actions/continue", "/download")
"""Answers without a body, or with one that is no JSON."""


def operations() -> list[tuple[str, str, Any]]:
    return [
        (method, route.path, route.openapi_extra)
        for module in MODULES
        for route in module.api.router.routes
        for method in sorted(route.methods)
    ]


@pytest.fixture(scope="module")
def document(controller: Controller) -> dict[str, Any]:
    found: dict[str, Any] = controller.client("").get("/openapi.json").json()
    return found


def test_every_operation_is_there(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    for method, path, _ in operations():
        assert method.lower() in document["paths"][path], (method, path)


@pytest.mark.parametrize(
    ("method", "path", "extra"),
    [pytest.param(*one, id=f"{one[0]} {one[1]}") for one in operations() if one[0] != "DELETE"],
)
def test_every_right_answer_is_described(method: str, path: str, extra: dict[str, Any]) -> None:
    right = next(response for status, response in extra["responses"].items() if status.startswith("2"))
    if "content" not in right:
        expected = (*NEVER_RIGHT, *EMPTY, "/healthz", "/actions/apply_manifest", "/actions/clear_buildpack_cache")
        assert any(part in path for part in expected), f"{method} {path} answers with what nobody knows"


def test_all_schemas_are_schemas(document: dict[str, Any]) -> None:
    for methods in document["paths"].values():
        for operation in methods.values():
            contents = [operation.get("requestBody", {}), *operation["responses"].values()]
            for content in contents:
                for described in content.get("content", {}).values():
                    whole = {**described["schema"], "components": document["components"]}
                    jsonschema_rs.meta.validate(whole)
                    jsonschema_rs.validator_for(whole)
            for parameter in operation.get("parameters", ()):
                jsonschema_rs.meta.validate(parameter["schema"])


@pytest.mark.parametrize(
    ("shape", "right", "wrong"),
    [
        (str, ["", "a"], [None, 1, []]),
        (int, [0, 1], [True, "1", 1.5]),
        (str | None, ["a", None], [1]),
        (("a", "b"), ["a"], ["c", None]),
        ([int], [[], [1]], [["a"], {}]),
        ({"a": int, "b?": str}, [{"a": 1}, {"a": 1, "b": ""}], [{}, {"a": 1, "c": 1}, {"a": 1, "b": None}]),
        (Values(int), [{}, {"x": 1}], [{"x": "y"}, []]),
        (Maybe({"a": int}), [None, {"a": 1}], [{}]),
        (Text("^[ab]$", "a"), ["a"], ["c", ""]),
        (ANYTHING, [None, 1, {}], []),
    ],
)
def test_shapes_are_exact(shape: Any, right: list[Any], wrong: list[Any]) -> None:
    validator = jsonschema_rs.validator_for(shapes.schema(shape))
    assert all(validator.is_valid(value) for value in right)
    assert not any(validator.is_valid(value) for value in wrong)


def test_resources_are_found_however_deep() -> None:
    inner = Resource("Inner", {"a": int})
    outer = Resource("Outer", {"list": [Values(Maybe(inner))]})
    assert [resource.name for resource in shapes.resources_in({"x": outer})] == ["Outer", "Inner"]
    assert shapes.schema(inner) == {"$ref": "#/components/schemas/Inner"}
