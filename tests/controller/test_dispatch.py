"""Finding an endpoint by the tree gives what a search through all routes, one after the other, would give."""

from __future__ import annotations

import re

import pytest
import trio
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.routing import APIRoute
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message

from controller import application
from controller.dispatch import Dispatcher, Paths
from controller.uaa import endpoints

SEGMENT = st.sampled_from(["a", "b", "{x}", "{y}"])
PATTERN = st.lists(SEGMENT, min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts))
ASKED = st.lists(st.sampled_from(["a", "b", "c", ""]), min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts))


async def unused(_request: Request, _parameters: dict[str, str]) -> Response:
    raise AssertionError


def matches(pattern: str, path: str) -> dict[str, str] | None:
    """By a regular expression per pattern, as frameworks do it."""
    names = re.findall(r"\{(\w+)\}", pattern)
    found = re.fullmatch(re.sub(r"\{\w+\}", "([^/]+)", pattern), path)
    return dict(zip(names, found.groups(), strict=True)) if found else None


@given(st.lists(PATTERN, unique_by=lambda pattern: re.sub(r"\w}", "}", pattern), max_size=12), ASKED)
def test_of_the_patterns_that_match_the_most_literal_one_is_found(patterns: list[str], path: str) -> None:
    paths = Paths()
    made = {}
    for pattern in patterns:
        if len(set(re.findall(r"\{(\w+)\}", pattern))) == pattern.count("{"):
            made[pattern] = lambda request, parameters, _own=pattern: unused(request, parameters)
            paths.add("GET", pattern, made[pattern])
    possible = [pattern for pattern in made if matches(pattern, path) is not None]
    found = paths.find("GET", path)
    assert paths.find("POST", path) is None
    if not possible:
        assert found is None
        return
    best = min(possible, key=lambda pattern: [segment.startswith("{") for segment in pattern.split("/")])
    assert found == (made[best], matches(best, path))


def test_every_route_is_found_under_its_own_path() -> None:
    routes = [*endpoints.router.routes, *(r for module in application.MODULES for r in module.api.router.routes)]
    paths = Paths()
    declared = []
    for route in routes:
        assert isinstance(route, APIRoute)
        assert ":" not in route.path, "only whole segments are parameters"
        for method in route.methods or ():
            paths.add(method, route.path, route.endpoint)
            declared.append((method, route))
    assert len(declared) > 200
    for method, route in declared:
        values = {name: f"value-of-{name}" for name in re.findall(r"\{(\w+)\}", route.path)}
        assert paths.find(method, route.path.format(**values)) == (route.endpoint, values), route.path


async def ask(app: Dispatcher, path: str, method: str = "GET") -> tuple[int, bytes]:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": [], "root_path": ""}
    await app(scope, receive, send)
    return int(sent[0]["status"]), b"".join(message.get("body", b"") for message in sent[1:])


@pytest.fixture
def dispatcher() -> Dispatcher:
    router = APIRouter()

    @router.get("/things/{guid}")
    async def named(request: Request, guid: str) -> Response:
        return Response(f"{guid} of {request.app.title}")

    @router.get("/things/{guid}/whole")
    async def whole(request: Request) -> Response:
        return Response(request.path_params["guid"])

    @router.get("/broken")
    async def broken(_request: Request) -> Response:
        raise RuntimeError("a fault")

    app = FastAPI(title="test", openapi_url=None, docs_url=None, redoc_url=None)
    app.include_router(router)
    return Dispatcher(app, router.routes, lambda _request: Response("failed", 500))


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/things/1", (200, b"1 of test")),
        ("/things/1/", (200, b"1 of test")),
        ("/things/1//", (200, b"1 of test")),
        ("/things/1/whole", (200, b"1")),
        ("/broken", (500, b"failed")),
        ("/things", (404, b'{"detail":"Not Found"}')),
        ("/things//whole", (404, b'{"detail":"Not Found"}')),
        ("/", (404, b'{"detail":"Not Found"}')),
    ],
)
def test_what_is_not_found_is_the_frameworks(dispatcher: Dispatcher, path: str, answer: tuple[int, bytes]) -> None:
    assert trio.run(ask, dispatcher, path) == answer


def test_another_method_is_the_frameworks(dispatcher: Dispatcher) -> None:
    assert trio.run(ask, dispatcher, "/things/1", "POST")[0] == 405
