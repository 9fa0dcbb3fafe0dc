"""A signature is checked once a minute, and no token lives longer for that."""

from __future__ import annotations

import time
from typing import Any

import pytest

from controller.uaa.verified import Verified
from tests.controller.running import Controller
from tests.controller.worlds import person


class Checks:
    """Counts checks; tokens are called by the second at which they end."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, token: str) -> dict[str, Any]:
        self.asked.append(token)
        if float(token) <= time.time():
            raise ValueError("over")
        return {"exp": float(token)}


def test_a_token_is_checked_once() -> None:
    checks = Checks()
    verified = Verified(checks)
    token = str(time.time() + 100)
    assert [verified.claims(token) for _ in range(3)] == [{"exp": float(token)}] * 3
    assert checks.asked == [token]


def test_after_its_time_it_is_checked_again() -> None:
    checks = Checks()
    verified = Verified(checks, seconds=0)
    token = str(time.time() + 100)
    verified.claims(token)
    verified.claims(token)
    assert checks.asked == [token, token]


def test_a_tokens_own_end_is_the_end() -> None:
    verified = Verified(Checks())
    token = str(time.time() + 0.1)
    verified.claims(token)
    time.sleep(0.11)
    with pytest.raises(ValueError, match="over"):
        verified.claims(token)


def test_what_fails_is_not_remembered_as_valid() -> None:
    verified = Verified(Checks())
    for _ in range(2):
        with pytest.raises(ValueError, match="over"):
            verified.claims("1")


def test_the_oldest_leave_when_there_are_too_many() -> None:
    checks = Checks()
    verified = Verified(checks, most=2)
    first, second, third = (str(time.time() + 100 + number) for number in range(3))
    for token in (first, second, third, second, third, first):
        verified.claims(token)
    assert checks.asked == [first, second, third, first]


def test_a_token_that_served_ends_within_two_seconds_of_its_revocation(controller: Controller) -> None:
    somebody = person(controller)
    assert somebody.client.get("/v3/organizations").status_code == 200
    token = somebody.client.headers["authorization"].partition(" ")[2]
    token_id = _claims(token)["jti"]
    assert somebody.client.delete(f"/oauth/token/revoke/{token_id}").status_code == 200
    deadline = time.monotonic() + 2
    while somebody.client.get("/v3/organizations").status_code != 401:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _claims(token: str) -> dict[str, Any]:
    import base64

    import orjson

    payload = token.split(".")[1]
    claims: dict[str, Any] = orjson.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return claims
