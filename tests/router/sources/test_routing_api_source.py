"""The Routing API as a source: what a router that begins needs of it, and what one that goes on does without it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
import uvloop
import yaml

from router.config.config_file import parse
from router.config.settings_rules import check, completed
from router.registry.records import EndpointRecord
from router.sources.announced import AnnouncedTable
from router.sources.journal import Journal
from router.sources.routing_api_source import RoutingApiSource, RoutingApiUnreachable
from tests.router.registry.conftest import free_port
from tests.router.sources.routing_api import (
    ROUTES,
    TCP_ROUTES,
    TOKEN,
    RoutingApi,
    json_answer,
    raw_answer,
    running_api,
)
from tests.router.sources.test_api_feed import Told
from tests.router.wire import PATIENCE

URI = "app.example.com"


@pytest.fixture
def api() -> Iterator[RoutingApi]:
    with running_api() as running:
        yield running


class Rig:
    """A source with these settings, and its table."""

    def __init__(self, settings: dict[str, Any], *, first: bool = True, alone: bool = True) -> None:
        read = completed(parse(yaml.safe_dump({"token_fetcher_retry_interval": "10ms", **settings}), "router.yml"))
        check(read)
        clock = asyncio.get_running_loop().time
        journal = Journal(logging.getLogger("router.test"), clock)
        self.table = AnnouncedTable(Told(), journal, threshold=120, clock=clock)
        self.known = asyncio.Event()
        self.source = RoutingApiSource(read, self.table, None, first=first, alone=alone, on_change=self.known.set)

    async def until_known(self) -> None:
        """Until everything that the API has is known; then it ends."""
        running = asyncio.create_task(self.source.run())
        try:
            await asyncio.wait_for(self.known.wait(), PATIENCE)
            assert self.source.known
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


def failing(settings: dict[str, Any]) -> str:
    """What a router says that does not start."""

    async def work() -> str:
        with pytest.raises(RoutingApiUnreachable) as caught:
            await asyncio.wait_for(Rig(settings).source.run(), PATIENCE)
        return str(caught.value)

    return uvloop.run(work())


class TestAStartNeeds:
    def test_the_right_secret(self, api: RoutingApi, tmp_path: Path) -> None:
        said = failing(api.settings(tmp_path, oauth={"client_secret": "wrong"}))
        assert "answered 401" in said
        assert "oauth.client_secret" in said

    def test_the_uaa(self, api: RoutingApi, tmp_path: Path) -> None:
        api.answers[TOKEN] = json_answer({}, 500)
        assert "answered 500" in failing({**api.settings(tmp_path), "token_fetcher_max_retries": 2})
        assert api.count(TOKEN) == 3

    def test_a_token_that_opens_the_api(self, api: RoutingApi, tmp_path: Path) -> None:
        api.answers[ROUTES] = json_answer({"name": "UnauthorizedError", "message": "Token lacks a scope"}, 401)
        assert "Token lacks a scope" in failing(api.settings(tmp_path))
        assert (api.count(TOKEN), api.count(ROUTES)) == (2, 2)

    def test_a_list(self, api: RoutingApi, tmp_path: Path) -> None:
        api.answers[ROUTES] = json_answer({"routes": []})
        assert "the list is no array" in failing(api.settings(tmp_path))
        api.answers[ROUTES] = raw_answer(b"HTTP/1.1 301 Moved\r\nLocation: http://evil/\r\n\r\n")
        assert "redirects are not followed" in failing(api.settings(tmp_path))

    def test_a_list_of_tcp_routes_where_there_are_ports(self, api: RoutingApi, tmp_path: Path) -> None:
        api.answers[TCP_ROUTES] = json_answer({}, 404)
        assert "answered 404" in failing({**api.settings(tmp_path), "millrace": {"tcp_ports": "1024-1025"}})

    def test_certificates_on_both_sides(self, api: RoutingApi, tmp_path: Path) -> None:
        _, chain, key = api.certificates(trustme.CA())
        assert failing(api.settings(tmp_path, routing_api={"cert_chain": chain, "private_key": key}))
        other = trustme.CA().cert_pem.bytes().decode()
        assert "certificate verify failed" in failing(api.settings(tmp_path, routing_api={"ca_certs": other}))
        assert api.count(ROUTES) == 0

    def test_authorities_of_the_uaa_that_can_be_read(self, api: RoutingApi, tmp_path: Path) -> None:
        said = failing(api.settings(tmp_path, oauth={"ca_certs": "/no/such/file"}))
        assert said.startswith("oauth.ca_certs /no/such/file: ")

    def test_somebody_there(self, api: RoutingApi, tmp_path: Path) -> None:
        assert "refused" in failing(api.settings(tmp_path, routing_api={"port": free_port()})).lower()


class TestALaterLife:
    def test_waits_for_what_is_not_there_yet(self, api: RoutingApi, tmp_path: Path) -> None:
        settings = api.settings(tmp_path)
        authorities = Path(settings["oauth"]["ca_certs"])
        pem = authorities.read_text()
        authorities.unlink()

        async def work() -> None:
            rig = Rig(settings, first=False)
            known = asyncio.create_task(rig.until_known())
            await asyncio.sleep(0.1)
            assert not rig.source.known
            await asyncio.to_thread(authorities.write_text, pem)
            await known

        uvloop.run(work())


class TestWhatEarlierLivesHaveLeft:
    def restored(self, api: RoutingApi, folder: Path, *, alone: bool) -> list[str]:
        """The routes that are there once the API's are known."""

        async def work() -> list[str]:
            rig = Rig(api.settings(folder), alone=alone)
            for uri in (URI, "gone.example.com"):
                rig.table.restore(uri, EndpointRecord("127.0.0.1", 1))
            api.put(URI, 1)
            await rig.until_known()
            return sorted(rig.table.routes())

        return uvloop.run(work())

    def test_leaves_if_the_api_lacks_it(self, api: RoutingApi, tmp_path: Path) -> None:
        assert self.restored(api, tmp_path, alone=True) == [URI]

    def test_may_be_somebody_elses_where_there_is_another_source(self, api: RoutingApi, tmp_path: Path) -> None:
        assert self.restored(api, tmp_path, alone=False) == [URI, "gone.example.com"]


def test_what_is_counted(api: RoutingApi, tmp_path: Path) -> None:
    async def work() -> None:
        rig = Rig(api.settings(tmp_path))
        assert rig.source.report()["routing_api_connected"] is False
        api.put(URI, 1)
        api.put("no such.host", 1)
        await rig.until_known()
        assert rig.source.report() == {
            "token_fetch_errors": 0,
            "subscribe_events_errors": 0,
            "routing_api_connected": True,
            "routing_api_endpoints": 1,
        }
        assert rig.source.refused >= 1

    uvloop.run(work())
