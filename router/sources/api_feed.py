"""Keeps the announced table equal to one kind of route of a Routing API, by its lists and its events.

Theory of operation. A list is the truth about everything, a moment ago; an event is the truth about one endpoint, now.
So a list is asked for at the start, after every subscription, and every now and then; what it lacks of what is known
leaves. Events come on a connection of their own, also while a list is on its way, which may have been made before or
after them: what an event said meanwhile holds, and the list is not asked about that endpoint. Modification tags say
which of two words on an endpoint is the later one, and the table obeys them. Only if a list is behind the table twice
in a row has the API itself gone back in time, as after the restore of a backup: then the list is believed.

While no list can be had the table stays as it is. Whether its endpoints then expire by their TTLs is the caller's to
say, who may have them kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import orjson

from router.registry.slices import sliced
from router.sources.announced import NO_TAG, AnnouncedTable, Tag
from router.sources.api_routes import ApiRoute, RefusedRoute, http_route, tcp_route_mapping
from router.sources.http_client import RequestFailed
from router.sources.journal import Journal
from router.sources.oauth import NoToken
from router.sources.routing_api import RoutingApi, Unauthorized
from router.sources.sse import Event

UPSERT: Final = "Upsert"
DELETE: Final = "Delete"
RETRIES: Final = 3
"""Of a subscription that fails."""
RETRY_PAUSE: Final = 1.0
"""Between these, and between a subscription's end and the next one."""
KEEP_EVERY: Final = 1.0
LATE: Final = 5.0
"""Seconds by which a list may be late before the API counts as away."""
REPEAT_AFTER: Final = 600.0
"""Seconds after which the same refusal is reported again."""
MAX_REFUSALS: Final = 1000
"""Refusals that are remembered."""
_STEP: Final = 16
_KEY_BYTES: Final = 16
_SHOWN: Final = 2000

_log = logging.getLogger("router.route-fetcher")


class Kind(NamedTuple):
    """What there is a feed of."""

    name: str
    listed: str
    """Target of the list."""
    events: str
    """Target of the event stream."""
    read: Callable[[Any], ApiRoute]


HTTP_ROUTES: Final = Kind("routes", "/routing/v1/routes", "/routing/v1/events", http_route)
TCP_ROUTES: Final = Kind("tcp_routes", "/routing/v1/tcp_routes", "/routing/v1/tcp_routes/events", tcp_route_mapping)


class _Name(NamedTuple):
    route: str
    address: str


class _Known(NamedTuple):
    """What the API said of an endpoint, as much as is needed to take it out again."""

    guid: str
    """Of its modification tag."""
    segment: str


class Feed:
    """``list_now`` once if the start depends on it, then ``run``."""

    def __init__(
        self,
        kind: Kind,
        api: RoutingApi,
        table: AnnouncedTable,
        journal: Journal,
        *,
        interval: float,
        keeps: bool,
        clock: Callable[[], float],
    ) -> None:
        """``interval``: seconds between two lists. ``keeps``: whether what is known stays, whatever its TTL, while the
        API is away."""
        self._kind = kind
        self._api = api
        self._table = table
        self._journal = journal
        self._interval = interval
        self._keeps = keeps
        self._clock = clock
        self._due = asyncio.Event()
        self._known: dict[_Name, _Known] = {}
        self._meanwhile: set[_Name] | None = None
        """What events said something of since the list that is on its way was asked for."""
        self._by_key: dict[bytes, _Name] = {}
        """Of the last list, by digests of its items."""
        self._behind: dict[_Name, Tag] = {}
        """What the last list was behind in, and the tag that the table had."""
        self._heard: float | None = None
        self._complaint = ""
        """What was wrong with the last list."""
        self._lament_of_events = ""
        self._refusals: dict[str, float] = {}
        self.refused = 0
        """Routes that could not be used, counted as often as they were said."""
        self.subscribe_errors = 0
        """Subscriptions that failed in the end, and event streams that broke."""
        self.listed = asyncio.Event()
        """Set once there was a list."""

    @property
    def away(self) -> bool:
        """Whether no list can be had."""
        return self._heard is None or bool(self._complaint) or self._clock() - self._heard > self._interval + LATE

    def knows(self, route: str, address: str) -> bool:
        """Whether the API has this endpoint of this route."""
        return _Name(route, address) in self._known

    def __len__(self) -> int:
        """Endpoints, each counted once for each of its routes."""
        return len(self._known)

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_listing())
            group.create_task(self._keep_subscribed())
            if self._keeps:
                group.create_task(self._keep_what_is_known())

    async def list_now(self) -> None:
        """Make the table equal to a list that is asked for now; one at a time. Raises RequestFailed, NoToken."""
        self._meanwhile = set()
        try:
            await self._become(await self._api.listed(self._kind.listed), self._meanwhile)
        finally:
            self._meanwhile = None
        self._heard = self._clock()
        self.listed.set()

    async def _keep_listing(self) -> None:
        if not self.listed.is_set():
            self._due.set()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._interval):
                    await self._due.wait()
            self._due.clear()
            try:
                await self.list_now()
            except (RequestFailed, NoToken) as error:
                self._complain(str(error))
            else:
                if self._complaint:
                    self._complaint = ""
                    _log.info("fetched-routes-again", extra={"data": {"of": self._kind.name, "endpoints": len(self)}})

    def _complain(self, complaint: str) -> None:
        if complaint != self._complaint:
            self._complaint = complaint
            _log.error("failed-to-fetch-routes", extra={"data": {"of": self._kind.name, "error": complaint}})

    async def _keep_what_is_known(self) -> None:
        while True:
            await asyncio.sleep(KEEP_EVERY)
            if not self.away:
                continue
            async for part in sliced(list(self._known.items()), _STEP):
                for name, known in part:
                    present = self._table.find(name.route, name.address)
                    if present is not None and present.tag.guid == known.guid:
                        self._table.spare(present)

    # Lists ----------------------------------------------------------------------------------------------------

    async def _become(self, items: list[Any], meanwhile: set[_Name]) -> None:
        found: dict[_Name, _Known] = {}
        by_key: dict[bytes, _Name] = {}
        behind: dict[_Name, Tag] = {}
        async for part in sliced(items, _STEP):
            for item in part:
                key = self._key(item)
                name = self._by_key.get(key)
                known = None if name is None else self._known.get(name)
                if name is None or known is None or name in meanwhile or not self._table.refresh(key):
                    read = self._read(item)
                    if read is None:
                        continue
                    name, known = _Name(read.route, read.record.address), _of(read)
                    if name in meanwhile:
                        continue
                    self._register(name, read, key, behind)
                found[name] = known
                by_key[key] = name
        async for leaving in sliced(list(self._known.items()), _STEP):
            for name, known in leaving:
                if name not in found and name not in meanwhile:
                    self._leave(name, known)
        # What events said meanwhile is in what was known, or no longer there.
        found.update((name, self._known[name]) for name in meanwhile if name in self._known)
        self._known, self._by_key, self._behind = found, by_key, behind

    def _register(self, name: _Name, read: ApiRoute, key: bytes, behind: dict[_Name, Tag]) -> None:
        present = self._table.find(*name)
        if present is not None and present.tag.guid and present.tag.guid == read.tag.guid:
            if present.tag.index > read.tag.index and self._behind.get(name) != present.tag:
                behind[name] = present.tag
                self._table.spare(present)
                return
            if present.tag.index > read.tag.index:
                data = {"uri": name.route, "backend": name.address, "was": present.tag.index, "is": read.tag.index}
                self._journal.line(logging.WARNING, "modification-tag-went-back", data)
                present.tag = NO_TAG  # whatever comes now holds
        self._table.register((name.route,), read.record, read.ttl, read.tag, key=key)

    def _leave(self, name: _Name, known: _Known) -> None:
        present = self._table.find(*name)
        if present is None or present.tag.guid != known.guid:  # gone, or somebody else's word by now
            return
        self._table.unregister((name.route,), name.address, segment=known.segment, tag=present.tag)

    def _key(self, item: Any) -> bytes:
        return blake2b(orjson.dumps(item), digest_size=_KEY_BYTES, person=self._kind.name.encode()).digest()

    def _read(self, said: Any) -> ApiRoute | None:
        try:
            return self._kind.read(said)
        except RefusedRoute as problem:
            self._refuse(str(problem), said)
            return None

    def _refuse(self, problem: str, said: Any) -> None:
        self.refused += 1
        now = self._clock()
        if now < self._refusals.get(problem, 0.0):
            return
        if len(self._refusals) >= MAX_REFUSALS:
            del self._refusals[next(iter(self._refusals))]
        self._refusals[problem] = now + REPEAT_AFTER
        text = orjson.dumps(said)[:_SHOWN].decode(errors="replace")
        data = {"of": self._kind.name, "error": problem, "payload": text}
        self._journal.line(logging.ERROR, "validation-error", data)

    # Events ---------------------------------------------------------------------------------------------------

    async def _keep_subscribed(self) -> None:
        failures = 0
        while True:
            subscribed = False
            try:
                _log.debug("subscribing-to-routing-api-event-stream", extra={"data": {"of": self._kind.name}})
                async with self._api.subscribed(self._kind.events) as events:
                    subscribed, failures = True, 0
                    self._subscribed()
                    async for event in events:
                        self._take(event)
            except NoToken as error:
                self._lament("failed-to-fetch-token", error)
            except RequestFailed as error:
                failures += 1
                if subscribed or isinstance(error, Unauthorized) or failures > RETRIES:
                    failures = 0
                    self.subscribe_errors += 1
                    self._lament("failed-getting-next-event" if subscribed else "failed-to-subscribe", error)
            await asyncio.sleep(RETRY_PAUSE)

    def _subscribed(self) -> None:
        self._lament_of_events = ""
        _log.info("Successfully-subscribed-to-routing-api-event-stream", extra={"data": {"of": self._kind.name}})
        self._due.set()

    def _lament(self, message: str, error: Exception) -> None:
        """In the log, but not over and over again."""
        if str(error) != self._lament_of_events:
            self._lament_of_events = str(error)
            _log.error(message, extra={"data": {"of": self._kind.name, "error": str(error)}})

    def _take(self, event: Event) -> None:
        """Raises RequestFailed: the stream is not to be trusted any more."""
        _log.debug("received-event", extra={"data": {"of": self._kind.name, "action": event.name}})
        if event.name not in (UPSERT, DELETE):
            return
        try:
            said = orjson.loads(event.data)
        except orjson.JSONDecodeError as error:
            raise RequestFailed(f"an event is not JSON: {error}") from None
        read = self._read(said)
        if read is None:
            return
        name = _Name(read.route, read.record.address)
        if self._meanwhile is not None:
            self._meanwhile.add(name)
        if event.name == UPSERT:
            self._table.register((name.route,), read.record, read.ttl, read.tag)
            self._known[name] = _of(read)
        else:
            segment = read.record.isolation_segment
            self._table.unregister((name.route,), name.address, segment=segment, tag=read.tag)
            if self._table.find(*name) is None:
                self._known.pop(name, None)


def _of(read: ApiRoute) -> _Known:
    return _Known(read.tag.guid, read.record.isolation_segment)
