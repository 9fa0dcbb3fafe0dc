"""The role matrix (cloud_controller reference 4), cell by cell: every action, as each of the eight roles, as admins of
three kinds, and as somebody without a role, over HTTP.

One line in ``role_rows`` and ``role_rows_apps`` is one action: who may, among ``role_world.RIGHTS``, and who is told
that they may not rather than that there is nothing. An endpoint without a line there, or that is said not to be there,
fails the test at the end. What is decided here does not depend on the database; the other tests of this folder run on
both.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pytest

from tests.controller.role_rows import DOMAINS_AND_ROUTES, ISOLATION_AND_SECURITY, SERVICES, TENANCY
from tests.controller.role_rows_apps import APPS, BITS, MANIFESTS, NO_BROKERS, PLATFORM, RUNS
from tests.controller.role_things import FLAGS, MAKERS, WORDS
from tests.controller.role_world import Row, World, unnamed
from tests.controller.running import running_controller

MATRIX: Final = [
    *TENANCY,
    *DOMAINS_AND_ROUTES,
    *SERVICES,
    *ISOLATION_AND_SECURITY,
    *APPS,
    *BITS,
    *RUNS,
    *PLATFORM,
    *MANIFESTS,
    *NO_BROKERS,
]

WITHOUT_A_TOKEN: Final = {
    "GET /",
    "GET /v3",
    "GET /v3/info",
    "GET /healthz",
    "GET /v3/service_offerings",
    "GET /v3/service_plans",
}

NOT_THERE: Final = """
"""
"""Of reference 2.9. Whoever brings one takes it from here and adds its lines above."""


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with running_controller() as controller:
        made = World(controller, MAKERS, WORDS)
        for flag in FLAGS:
            controller.admin.patch(f"/v3/feature_flags/{flag}", json={"enabled": True}).raise_for_status()
        yield made


@pytest.mark.parametrize("line", MATRIX, ids=lambda line: f"{line.action} ({line.may})")
def test_who_may(world: World, line: Row) -> None:
    assert world.answers(line) == line.expected


def test_every_endpoint_has_its_line(world: World) -> None:
    document = world.controller.admin.get("/openapi.json").json()
    there = {
        f"{method.upper()} {unnamed(path)}"
        for path, methods in document["paths"].items()
        if path.startswith("/v3") or path in ("/", "/healthz")
        for method in methods
    }
    lines = {line.endpoint for line in MATRIX}
    assert sorted(lines - there) == [], "lines for what is not there"
    assert sorted(there & set(NOT_THERE.splitlines())) == [], (
        "they are there now: give them lines, and take them from NOT_THERE"
    )
    assert sorted(there - lines - WITHOUT_A_TOKEN) == [], "nobody said who may"
