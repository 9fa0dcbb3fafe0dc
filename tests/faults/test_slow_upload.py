"""An upload over a slow line is not late: the time for the response begins when the request has been sent."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from router.registry.writer import Lease
from tests.faults.processes import HOST
from tests.router.registry.conftest import RedisServer
from tests.router.supervised import Router, running_router

SECONDS = 0.6


@pytest.fixture
def short_responses(redis: RedisServer, lease: Lease) -> Iterator[Router]:
    native = {"workers": 1, "response_header_timeout": f"{SECONDS}s"}
    with running_router(redis.url, millrace=native) as router:
        yield router.until_healthy()


def test_a_response_is_not_late_while_its_request_still_comes(short_responses: Router) -> None:
    wire, pieces = short_responses.connect(), 20
    wire.send(f"POST /take HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {pieces}\r\n\r\n".encode())
    for _ in range(pieces):
        time.sleep(4 * SECONDS / pieces)
        wire.send(b"x")
    answer = wire.message()
    assert (answer.status, answer.body) == (200, b"%d" % pieces)
