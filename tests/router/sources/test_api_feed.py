"""A feed and a real API: whichever way lists and events cross each other, the table is what the API has."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from router.config.setting_sections import OAuth
from router.registry.records import EndpointRecord
from router.sources.announced import AnnouncedTable, Announcement, Tag
from router.sources.api_feed import HTTP_ROUTES, RETRIES, TCP_ROUTES, Feed, Kind
from router.sources.http_client import RequestFailed, parse_origin
from router.sources.journal import Journal
from router.sources.oauth import UaaTokens
from router.sources.routing_api import RoutingApi as Client
from router.tls.contexts import platform_context
from tests.router.sources.routing_api import (
    CLIENT,
    EVENTS,
    ROUTES,
    TOKEN,
    RoutingApi,
    event,
    json_answer,
    raw_answer,
    running_api,
)
from tests.router.wire import PATIENCE, wait_until

URI = "app.example.com"


@pytest.fixture
def api() -> Iterator[RoutingApi]:
    with running_api() as running:
        yield running


class Told:
    """The table's listener: what whoever follows the table would have."""

    def __init__(self) -> None:
        self.changes: list[str] = []

    def put(self, route: str, announcement: Announcement) -> None:
        self.changes.append(f"+{route} {announcement.address}")

    def put_again(self, route: str, announcement: Announcement) -> None:
        self.changes.append(f"*{route} {announcement.address}")

    def left(self, route: str, address: str) -> None:
        self.changes.append(f"-{route} {address}")


class Rig:
    """A feed of this API, and the table that it fills."""

    def __init__(self, api: RoutingApi, folder: Path, kind: Kind = HTTP_ROUTES, *, keeps: bool = False) -> None:
        clock = asyncio.get_running_loop().time
        log = logging.getLogger("router.test")
        self.told = Told()
        self.table = AnnouncedTable(self.told, Journal(log, clock), threshold=120, clock=clock)
        authorities = folder / "ca.pem"
        api.authority.cert_pem.write_to_path(str(authorities))
        said = OAuth("127.0.0.1", api.uaa_port, *CLIENT, ca_certs=str(authorities))
        self.tokens = UaaTokens(said, retries=0, pause=0.01, margin=0, clock=clock)
        origin, prefix = parse_origin("https://127.0.0.1", api.port, platform_context(*api.certificates()))
        client = Client(origin, prefix, self.tokens)
        self.feed = Feed(kind, client, self.table, Journal(log, clock), interval=3600, keeps=keeps, clock=clock)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.feed.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def addresses(self, route: str = URI) -> list[str]:
        pool = self.table.pool(route)
        return [] if pool is None else [each.address for each in pool.announcements]

    def ports(self, route: str = URI) -> list[int]:
        return [int(address.rpartition(":")[2]) for address in self.addresses(route)]


def run(work: Callable[[], Awaitable[None]]) -> None:
    uvloop.run(work())  # type: ignore[arg-type]


async def until(condition: Callable[[], object], what: str = "condition") -> None:
    await asyncio.to_thread(wait_until, condition, what)


class TestLists:
    def test_what_is_listed_is_there_and_what_is_missing_leaves(self, api: RoutingApi, tmp_path: Path) -> None:
        async def work() -> None:
            rig = Rig(api, tmp_path)
            for port in (1, 2):
                api.put(URI, port)
            await rig.feed.list_now()
            assert rig.ports() == [1, 2]
            api.delete(URI, 1)
            api.put(URI, 3)
            await rig.feed.list_now()
            assert rig.ports() == [2, 3]
            assert (len(rig.feed), rig.feed.knows(URI, "127.0.0.1:3")) == (2, True)

        run(work)

    def test_one_that_says_the_same_again_only_moves_times(self, api: RoutingApi, tmp_path: Path) -> None:
        async def work() -> None:
            rig = Rig(api, tmp_path)
            api.put(URI, 1)
            await rig.feed.list_now()
            announcement = rig.table.find(URI, "127.0.0.1:1")
            assert announcement is not None
            before = announcement.refreshed
            await rig.feed.list_now()
            assert rig.table.find(URI, "127.0.0.1:1") is announcement
            assert announcement.refreshed > before
            assert rig.told.changes == [f"+{URI} 127.0.0.1:1"]

        run(work)

    def test_what_cannot_be_used_is_said_once_and_the_rest_stands(
        self, api: RoutingApi, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def work() -> None:
            rig = Rig(api, tmp_path)
            api.put("no such.host", 1)
            api.put(URI, 1)
            for _ in range(3):
                await rig.feed.list_now()
            assert rig.ports() == [1]
            assert rig.feed.refused == 3

        run(work)
        assert [record.message for record in caplog.records] == ["validation-error"]

    def test_one_that_fails_changes_nothing(self, api: RoutingApi, tmp_path: Path) -> None:
        async def work() -> None:
            rig = Rig(api, tmp_path)
            api.put(URI, 1)
            await rig.feed.list_now()
            for answer in (json_answer([], 500), json_answer({}), raw_answer(b""), json_answer(b"[{]")):
                api.answers[ROUTES] = answer
                with pytest.raises(RequestFailed):
                    await rig.feed.list_now()
            assert rig.ports() == [1]

        run(work)

    def test_an_endpoint_that_somebody_else_announced_since_stays(self, api: RoutingApi, tmp_path: Path) -> None:
        async def work() -> None:
            rig = Rig(api, tmp_path)
            api.put(URI, 1)
            await rig.feed.list_now()
            rig.table.register((URI,), EndpointRecord("127.0.0.1", 1, app="by NATS"))
            api.delete(URI, 1)
            await rig.feed.list_now()
            assert rig.ports() == [1]

        run(work)

    def test_go_writes_null_for_an_empty_one(self, api: RoutingApi, tmp_path: Path) -> None:
        async def work() -> None:
            rig = Rig(api, tmp_path)
            api.put(URI, 1)
            await rig.feed.list_now()
            api.answers[ROUTES] = json_answer(b"null")
            await rig.feed.list_now()
            assert not rig.ports()

        run(work)


class TestEvents:
    def test_come_one_by_one(self, api: RoutingApi, tmp_path: Path) -> None:
        async def work() -> None:
            rig = Rig(api, tmp_path)
            async with rig.running():
                await until(lambda: api.count(ROUTES) >= 1, "a list")
                await until(rig.feed.listed.is_set)
                api.put(URI, 1)
                await until(lambda: rig.ports() == [1], "an endpoint")
                api.put(URI, 1, log_guid="other")
                await until(lambda: b"other" in rig.table.pool(URI).announcements[0].packed, "its change")  # type: ignore[union-attr]
                api.delete(URI, 1)
                await until(lambda: not rig.ports(), "its end")

        run(work)

    def test_that_nobody_knows_are_passed_over(self, api: RoutingApi, tmp_path: Path) -> None:
        async def work() -> None:
            rig = Rig(api, tmp_path)
            async with rig.running():
                await asyncio.to_thread(api.until_subscribed)
                said = api.put("other.example.com", 1, event=False)
                api.say(event("Invalid", said))
                api.say(event("Upsert", {**said, "route": "no such.host"}))
                api.put(URI, 2)
                await until(lambda: rig.ports() == [2], "an endpoint")
                assert rig.feed.subscribe_errors == 0

        run(work)

    def test_out_of_order_the_later_tag_holds(self, api: RoutingApi, tmp_path: Path) -> None:
        async def work() -> None:
            rig = Rig(api, tmp_path)
            said = [api.put(URI, 1, log_guid=f"v{number}", event=False) for number in range(3)]
            async with rig.running():
                await until(rig.feed.listed.is_set)
                await asyncio.to_thread(api.until_subscribed)
                api.say(event("Delete", said[1]) + event("Upsert", said[0]))
                await until(lambda: rig.table.registered["", "unmodified"] == 1, "both events")
                assert sum(rig.table.unregistered.values()) == 1
                assert rig.ports() == [1]
                assert b'"v2"' in rig.table.pool(URI).announcements[0].packed  # type: ignore[union-attr]

        run(work)

    def test_of_a_stream_that_ends_are_made_up_for_by_a_list(self, api: RoutingApi, tmp_path: Path) -> None:
        async def work() -> None:
            rig = Rig(api, tmp_path)
            async with rig.running():
                await until(rig.feed.listed.is_set)
                await asyncio.to_thread(api.until_subscribed)
                said = api.put(URI, 1, event=False)
                api.cut(after=event("Upsert", said)[:-1])
                await until(lambda: api.count(EVENTS) == 2, "another subscription")
                await until(lambda: rig.ports() == [1], "the endpoint")
                assert rig.feed.subscribe_errors == 1

        run(work)


class TestCrossing:
    """A list takes its time, and events come meanwhile."""

    async def crossing(
        self, rig: Rig, api: RoutingApi, meanwhile: Callable[[], None], seen: Callable[[], bool]
    ) -> None:
        """A list that is made before ``meanwhile`` and arrives after it."""
        body = json_answer(list(api._routes.values()))
        arrived, go = asyncio.Event(), asyncio.Event()
        here = asyncio.get_running_loop()

        async def late(writer: asyncio.StreamWriter) -> None:
            del api.answers[ROUTES]  # the next one is made after the events
            here.call_soon_threadsafe(arrived.set)
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(go.wait(), here))
            await body(writer)

        api.answers[ROUTES] = late
        rig.feed._due.set()
        await asyncio.wait_for(arrived.wait(), PATIENCE)
        heard = rig.feed._heard
        meanwhile()
        await until(seen, "the events")
        go.set()
        await until(lambda: rig.feed._heard != heard, "the list")

    def test_what_an_event_took_away_is_not_brought_back(self, api: RoutingApi, tmp_path: Path) -> None:
        async def work() -> None:
            rig = Rig(api, tmp_path)
            api.put(URI, 1)
            async with rig.running():
                await until(rig.feed.listed.is_set)
                await asyncio.to_thread(api.until_subscribed)
                await self.crossing(rig, api, lambda: api.delete(URI, 1), lambda: not rig.ports())
                assert not rig.ports()
                assert len(rig.feed) == 0

        run(work)

    def test_what_an_event_brought_does_not_leave(self, api: RoutingApi, tmp_path: Path) -> None:
        async def work() -> None:
            rig = Rig(api, tmp_path)
            async with rig.running():
                await until(rig.feed.listed.is_set)
                await asyncio.to_thread(api.until_subscribed)
                api.put(URI, 1)
                await until(lambda: rig.ports() == [1])

                def meanwhile() -> None:
                    api.put(URI, 2)
                    api.delete(URI, 1)
                    api.put(URI, 1)
                    api.put(URI, 3)

                await self.crossing(rig, api, meanwhile, lambda: 3 in rig.ports())
                assert sorted(rig.ports()) == [1, 2, 3]
                assert len(rig.feed) == 3

        run(work)

    def test_a_later_word_is_not_taken_back_by_an_earlier_list(self, api: RoutingApi, tmp_path: Path) -> None:
        async def work() -> None:
            rig = Rig(api, tmp_path)
            api.put(URI, 1, log_guid="old")
            async with rig.running():
                await until(rig.feed.listed.is_set)
                await asyncio.to_thread(api.until_subscribed)
                new = lambda: b'"new"' in rig.table.pool(URI).announcements[0].packed  # type: ignore[union-attr]  # noqa: E731
                await self.crossing(rig, api, lambda: api.put(URI, 1, log_guid="new"), new)
                assert new()

        run(work)

    @pytest.mark.parametrize("seed", range(5))
    def test_in_the_end_the_table_is_what_the_api_has(self, api: RoutingApi, tmp_path: Path, seed: int) -> None:
        """Registrations and ends in any order, some without an event, lists and cuts in between."""
        dice = random.Random(seed)

        async def work() -> None:
            rig = Rig(api, tmp_path)
            async with rig.running():
                await until(rig.feed.listed.is_set)
                for _ in range(200):
                    route, port = dice.choice(["a.com", "b.com/x", "c.com"]), dice.randint(1, 4)
                    present = (route, "127.0.0.1", port) in api._routes
                    told = dice.random() < 0.8
                    match dice.randint(0, 9):
                        case 0 | 1 | 2 | 3 | 4:
                            api.put(route, port, event=told, log_guid=f"g{dice.randint(0, 2)}")
                        case 5 | 6 | 7 if present:
                            api.delete(route, port, event=told)
                        case 8:
                            rig.feed._due.set()
                        case 9 if dice.random() < 0.1:
                            api.cut()
                    if dice.random() < 0.5:
                        await asyncio.sleep(dice.random() * 0.003)
                heard = rig.feed._heard
                await asyncio.to_thread(api.until_subscribed)
                await until(lambda: rig.feed._meanwhile is None, "a list that was on its way")
                rig.feed._due.set()
                await until(lambda: rig.feed._heard != heard, "a list")
                wanted = {(route, f"{ip}:{port}", said["log_guid"]) for (route, ip, port), said in api._routes.items()}
                await until(lambda: self.held(rig) == wanted, "the same table")
                assert len(rig.feed) == len(wanted)

        run(work)

    def held(self, rig: Rig) -> set[tuple[str, str, str]]:
        found = set()
        for route in rig.table.routes():
            pool = rig.table.pool(route)
            for each in pool.announcements if pool is not None else ():
                found.add((route, each.address, EndpointRecord.from_json(each.packed).app))
        return found


class TestTagsThatGoBack:
    """The API's store was restored from a backup."""

    def test_a_list_behind_the_table_is_believed_the_second_time(self, api: RoutingApi, tmp_path: Path) -> None:
        async def work() -> None:
            rig = Rig(api, tmp_path)
            for number in range(5):
                api.put(URI, 1, log_guid=f"v{number}")
            await rig.feed.list_now()
            api.wind_back(URI, 1, 2, log_guid="v2")
            await rig.feed.list_now()
            present = rig.table.find(URI, "127.0.0.1:1")
            assert present is not None
            assert (present.tag.index, b'"v4"' in present.packed) == (4, True)
            await rig.feed.list_now()
            present = rig.table.find(URI, "127.0.0.1:1")
            assert present is not None
            assert (present.tag, b'"v2"' in present.packed) == (Tag("guid-1", 2), True)
            assert rig.told.changes == [f"+{URI} 127.0.0.1:1"] * 2
            api.delete(URI, 1)
            await rig.feed.list_now()
            assert not rig.ports()

        run(work)

    def test_an_endpoint_behind_which_the_list_is_does_not_expire(self, api: RoutingApi, tmp_path: Path) -> None:
        async def work() -> None:
            rig = Rig(api, tmp_path)
            api.put(URI, 1)
            api.put(URI, 1)
            await rig.feed.list_now()
            present = rig.table.find(URI, "127.0.0.1:1")
            assert present is not None
            before = present.refreshed
            api.wind_back(URI, 1, 0)
            await rig.feed.list_now()
            assert present.refreshed > before

        run(work)

    def test_one_that_leaves_meanwhile_leaves(self, api: RoutingApi, tmp_path: Path) -> None:
        async def work() -> None:
            rig = Rig(api, tmp_path)
            api.put(URI, 1)
            api.put(URI, 1)
            await rig.feed.list_now()
            api.wind_back(URI, 1, 0)
            await rig.feed.list_now()
            api.delete(URI, 1)
            await rig.feed.list_now()
            assert not rig.ports()

        run(work)


class TestSubscriptions:
    def test_are_counted_as_failed_after_three_retries(self, api: RoutingApi, tmp_path: Path) -> None:
        async def work() -> None:
            rig = Rig(api, tmp_path)
            api.answers[EVENTS] = json_answer({}, 500)
            async with rig.running():
                await until(lambda: api.count(EVENTS) >= RETRIES, "attempts")
                assert rig.feed.subscribe_errors == 0
                await until(lambda: rig.feed.subscribe_errors == 1, "a failure")
                assert api.count(EVENTS) == RETRIES + 1

        run(work)

    def test_that_are_not_allowed_are_asked_for_with_a_new_token(self, api: RoutingApi, tmp_path: Path) -> None:
        async def work() -> None:
            rig = Rig(api, tmp_path)
            await rig.tokens.get()
            api.forget_tokens()
            async with rig.running():
                await asyncio.to_thread(api.until_subscribed)
                assert (api.count(TOKEN), rig.feed.subscribe_errors) == (2, 0)
                api.answers[EVENTS] = json_answer({"name": "UnauthorizedError"}, 401)
                api.cut()
                await until(lambda: rig.feed.subscribe_errors == 2, "the end of one, and no other")

        run(work)

    def test_need_an_event_stream(self, api: RoutingApi, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        async def work() -> None:
            rig = Rig(api, tmp_path)
            api.answers[EVENTS] = json_answer([])
            async with rig.running():
                await until(lambda: rig.feed.subscribe_errors == 1, "a failure")

        run(work)
        assert "is no event stream" in [record.data for record in caplog.records][-1]["error"]  # type: ignore[attr-defined]


class TestTcp:
    def test_routes_and_their_segments(self, api: RoutingApi, tmp_path: Path) -> None:
        async def work() -> None:
            rig = Rig(api, tmp_path, TCP_ROUTES)
            api.put_tcp(1024, 1, isolation_segment="east")
            api.put_tcp(1024, 2, backend_sni_hostname="a.example.com")
            await rig.feed.list_now()
            assert (rig.ports("tcp:1024"), rig.ports("tcp:1024/a.example.com")) == ([1], [2])
            api.delete_tcp(1024, 1)
            api.delete_tcp(1024, 2, name="a.example.com")
            await rig.feed.list_now()
            assert len(rig.table) == 0

        run(work)


def test_while_the_api_is_away_what_is_known_is_kept_alive(
    api: RoutingApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router.sources.api_feed.KEEP_EVERY", 0.02)

    async def work() -> None:
        rig = Rig(api, tmp_path, keeps=True)
        api.put(URI, 1, ttl=1)
        async with rig.running():
            await until(rig.feed.listed.is_set)
            present: Any = rig.table.find(URI, "127.0.0.1:1")
            await asyncio.sleep(0.1)
            before = present.refreshed
            await asyncio.sleep(0.1)
            assert (rig.feed.away, present.refreshed) == (False, before)
            await asyncio.to_thread(api.kill)
            rig.feed._due.set()
            await until(lambda: rig.feed.away, "the API's absence")
            await until(lambda: present.refreshed > before, "a reprieve")

    run(work)
