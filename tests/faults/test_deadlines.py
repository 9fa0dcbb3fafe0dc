"""Deadlines measure what they are named after: who is served slowly, but in time, is not cut off."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from router.registry.writer import Lease
from tests.router.registry.conftest import RedisServer
from tests.router.supervised import GET, Router, running_router
from tests.router.wire import Wire

SECONDS = 0.6
"""Each deadline, which the responses outlast."""


@pytest.fixture
def short_heads(redis: RedisServer, lease: Lease) -> Iterator[Router]:
    with running_router(redis.url, read_header_timeout=f"{SECONDS}s", millrace={"workers": 1}) as router:
        yield router.until_healthy()


@pytest.fixture
def short_idling(redis: RedisServer, lease: Lease) -> Iterator[Router]:
    with running_router(redis.url, frontend_idle_timeout=f"{SECONDS}s", millrace={"workers": 1}) as router:
        yield router.until_healthy()


def ask(wire: Wire, path: str) -> int:
    wire.send(GET.replace(b" / ", f" {path} ".encode()))
    return wire.message().status


def test_a_head_that_came_in_time_is_not_late_while_its_response_is_awaited(short_heads: Router) -> None:
    """The third time the request is one that the router remembers."""
    slow = f"/wait/{round(SECONDS * 2500)}"
    assert [ask(short_heads.connect(), slow) for _ in range(3)] == [200, 200, 200]


def test_a_connection_is_not_idle_while_its_response_is_awaited(short_idling: Router) -> None:
    slow = f"/wait/{round(SECONDS * 2500)}"
    wire = short_idling.connect()
    assert [ask(wire, slow) for _ in range(3)] == [200, 200, 200]
