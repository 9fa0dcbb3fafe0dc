"""Tokens of a UAA: fetched once, kept while they are good, and asked for again when they are not."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
import trustme
import uvloop

from router.config.setting_sections import OAuth
from router.sources.oauth import NoToken, NoTokens, UaaTokens
from tests.router.sources.routing_api import CLIENT, TOKEN, RoutingApi, json_answer, raw_answer, running_api
from tests.router.wire import wait_until

T = TypeVar("T")


@pytest.fixture
def uaa() -> Iterator[RoutingApi]:
    with running_api() as api:
        yield api


@pytest.fixture
def authorities(tmp_path: Path) -> str:
    path = tmp_path / "ca.pem"
    RoutingApi.authority.cert_pem.write_to_path(str(path))
    return str(path)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def using(
    uaa: RoutingApi,
    authorities: str,
    work: Callable[[UaaTokens, Clock], Awaitable[T]],
    *,
    retries: int = 3,
    **said: Any,
) -> T:
    """Runs ``work`` with tokens of this UAA."""

    async def run() -> T:
        settings = {"client_name": CLIENT[0], "client_secret": CLIENT[1], "ca_certs": authorities, **said}
        uaa_settings = OAuth(token_endpoint="127.0.0.1", port=uaa.uaa_port, **settings)
        clock = Clock()
        tokens = UaaTokens(uaa_settings, retries=retries, pause=0.01, margin=30.0, clock=clock)
        return await work(tokens, clock)

    return uvloop.run(run())


def test_a_token_is_fetched_once_and_kept(uaa: RoutingApi, authorities: str) -> None:
    async def work(tokens: UaaTokens, clock: Clock) -> list[str]:
        return [*await asyncio.gather(tokens.get(), tokens.get()), await tokens.get()]

    assert using(uaa, authorities, work) == ["token-1"] * 3
    assert uaa.count(TOKEN) == 1


def test_the_request_is_that_of_a_client_with_credentials(uaa: RoutingApi, authorities: str) -> None:
    async def work(tokens: UaaTokens, clock: Clock) -> None:
        await tokens.get()

    using(uaa, authorities, work)
    [asked] = uaa.asked
    assert (asked.method, asked.target) == ("POST", "/oauth/token")
    assert asked.fields["content-type"] == "application/x-www-form-urlencoded"
    assert b"grant_type=client_credentials" in asked.body
    assert CLIENT[1] not in str(asked)


def test_it_is_used_until_a_margin_before_its_end(uaa: RoutingApi, authorities: str) -> None:
    uaa.lifetime = 100

    async def work(tokens: UaaTokens, clock: Clock) -> list[str]:
        seen = []
        for seconds in (0, 69.9, 0.1, 69.9):
            clock.now += seconds
            seen.append(await tokens.get())
        return seen

    assert using(uaa, authorities, work) == ["token-1", "token-1", "token-2", "token-2"]


def test_one_that_holds_for_less_than_the_margin_is_used_once(uaa: RoutingApi, authorities: str) -> None:
    uaa.lifetime = 10

    async def work(tokens: UaaTokens, clock: Clock) -> list[str]:
        return [await tokens.get() for _ in range(2)]

    assert using(uaa, authorities, work) == ["token-1", "token-2"]


def test_one_that_was_refused_is_replaced_once_for_all(uaa: RoutingApi, authorities: str) -> None:
    async def work(tokens: UaaTokens, clock: Clock) -> list[str]:
        old = await tokens.get()
        return [*await asyncio.gather(tokens.get(refused=old), tokens.get(refused=old)), await tokens.get()]

    assert using(uaa, authorities, work) == ["token-2"] * 3
    assert uaa.count(TOKEN) == 2


class TestFailures:
    def failing(self, uaa: RoutingApi, authorities: str, **said: Any) -> tuple[str, int]:
        """What is said of it, and how many times it was counted."""

        async def work(tokens: UaaTokens, clock: Clock) -> tuple[str, int]:
            with pytest.raises(NoToken) as caught:
                await tokens.get()
            return str(caught.value), tokens.errors

        return using(uaa, authorities, work, **said)

    def test_are_tried_again(self, uaa: RoutingApi, authorities: str, caplog: pytest.LogCaptureFixture) -> None:
        uaa.answers[TOKEN] = json_answer({"error": "down"}, 503)
        with caplog.at_level(logging.INFO):
            said, errors = self.failing(uaa, authorities)
        assert "answered 503" in said
        assert (uaa.count(TOKEN), errors) == (4, 1)
        assert [record.message for record in caplog.records] == ["retry-fetching-token"] * 3 + ["unable-to-fetch-token"]

    def test_may_pass(self, uaa: RoutingApi, authorities: str, caplog: pytest.LogCaptureFixture) -> None:
        uaa.kill()
        caplog.set_level(logging.INFO, "router")

        async def work(tokens: UaaTokens, clock: Clock) -> str:
            waiting = asyncio.create_task(tokens.get())
            await asyncio.to_thread(wait_until, lambda: caplog.records, "a first failure")
            await asyncio.to_thread(uaa.start)
            return await waiting

        assert using(uaa, authorities, work, retries=1000) == "token-1"

    def test_of_the_secret_are_final(self, uaa: RoutingApi, authorities: str) -> None:
        said, errors = self.failing(uaa, authorities, client_secret="wr0ng")
        assert "answered 401" in said
        assert "oauth.client_secret" in said
        assert "wr0ng" not in said
        assert (uaa.count(TOKEN), errors) == (1, 1)

    @pytest.mark.parametrize(
        ("said", "why"),
        [
            ({}, "no access_token"),
            ([], "no access_token"),
            (b"<html>", "no access_token"),
            ({"access_token": 7}, "no access_token"),
            ({"access_token": "a\r\nX-Evil: 1"}, "no access_token"),
            ({"access_token": ""}, "no access_token"),
            ({"access_token": "a", "token_type": "mac"}, "not a bearer token"),
            ({"access_token": "a", "expires_in": "soon"}, "expires_in"),
            ({"access_token": "a", "expires_in": -1}, "expires_in"),
            (b"x" * 300_000, "longer than 262144 bytes"),
        ],
    )
    def test_answers_that_hold_no_token(self, uaa: RoutingApi, authorities: str, said: Any, why: str) -> None:
        uaa.answers[TOKEN] = json_answer(said)
        assert why in self.failing(uaa, authorities, retries=0)[0]

    def test_a_redirect_gets_no_secret(self, uaa: RoutingApi, authorities: str) -> None:
        uaa.answers[TOKEN] = raw_answer(b"HTTP/1.1 302 Found\r\nLocation: https://evil.example.com\r\n\r\n")
        assert "redirects are not followed" in self.failing(uaa, authorities, retries=0)[0]


class TestTls:
    def get(self, uaa: RoutingApi, authorities: str, **said: Any) -> str:
        async def work(tokens: UaaTokens, clock: Clock) -> str:
            return await tokens.get()

        return using(uaa, authorities, work, retries=0, **said)

    def test_a_uaa_that_we_do_not_trust_gets_no_secret(self, uaa: RoutingApi, tmp_path: Path) -> None:
        other = tmp_path / "other.pem"
        trustme.CA().cert_pem.write_to_path(str(other))
        with pytest.raises(NoToken, match="certificate verify failed"):
            self.get(uaa, str(other))
        assert not uaa.asked

    def test_unless_so_configured(self, uaa: RoutingApi) -> None:
        assert self.get(uaa, "", skip_ssl_validation=True) == "token-1"

    @pytest.mark.parametrize("text", [None, "no PEM", "\x00"])
    def test_authorities_that_cannot_be_read_are_named(self, uaa: RoutingApi, tmp_path: Path, text: str | None) -> None:
        path = tmp_path / "ca.pem"
        if text is not None:
            path.write_text(text)
        with pytest.raises(NoToken, match=rf"oauth\.ca_certs {path}: "):
            self.get(uaa, str(path))


def test_an_api_may_ask_for_none() -> None:
    assert uvloop.run(NoTokens().get(refused="x")) == ""
