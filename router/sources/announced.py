"""The announced table: which endpoint serves which route, as registrars announce it again and again.

Theory of operation (gorouter reference 1.3, 1.4). An `Announcement` is what one message said: an endpoint, its TTL, and
the routes it serves. A route has a `Pool` of announcements, one per address. The same message said again finds its
announcement by a key (a digest of its bytes) and, if that still holds all of its routes, only moves its time: nothing
is parsed, compared or told. That is the usual case by far, and what makes 100,000 routes announced every 20 s cheap.
Everything else goes the slow way, route by route, and what differs from before is told to the listener at once.

Pure: no I/O, no tasks, clocks from outside. Never judges whether an endpoint lives: who is overdue is listed, and
leaves when the caller says so. Redis, NATS and the Routing API are not known here; tags and TTLs say all that differs.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from router.hashing import ALGORITHM as HASH
from router.hashing import HashOptions
from router.pool import ALGORITHMS
from router.registry.records import EndpointRecord
from router.sources.journal import Journal

MAX_COMPONENTS: Final = 200
"""Registrars that are counted by name; further ones together, as OTHER_COMPONENTS."""
OTHER_COMPONENTS: Final = "other"
EXAMINED: Final = 500
"""Announcements looked at in one step of ``overdue``: well under a millisecond."""

ADDED: Final = "added"
UPDATED: Final = "updated"
UNMODIFIED: Final = "unmodified"
_LINES: Final = {
    ADDED: (logging.INFO, "endpoint-registered"),
    UPDATED: (logging.DEBUG, "endpoint-registered"),
    UNMODIFIED: (logging.DEBUG, "endpoint-not-registered"),
}


@dataclass(frozen=True, slots=True)
class Tag:
    """A modification tag of the Routing API: versions of one route, counted under a guid."""

    guid: str
    index: int

    def succeeded_by(self, other: Tag) -> bool:
        return not self.guid or not other.guid or self.guid != other.guid or self.index < other.index


NO_TAG: Final = Tag("", 0)
"""Of what comes by NATS: whatever comes later holds."""


class Asks(NamedTuple):
    """What an endpoint asks of its whole pool, where the last one that said something counts."""

    balancing: tuple[str, ...] = ()
    """Algorithm and its options; empty: nothing said, or nothing that can be used, and the pool keeps what it has."""
    route_service_url: str = ""


NO_ASKS: Final = Asks()


class Announcement:
    """One endpoint as one message announced it."""

    __slots__ = (
        "address",
        "asks",
        "component",
        "held",
        "key",
        "packed",
        "pools",
        "refreshed",
        "restored",
        "segment",
        "tag",
        "tls",
        "ttl",
    )

    def __init__(self, record: EndpointRecord, ttl: float, tag: Tag, key: bytes | None, now: float) -> None:
        self.address = record.address
        self.packed = record.packed or record.to_json()
        self.component = record.tags.get("component", "")
        self.segment = record.isolation_segment
        self.tls = record.tls_port != 0
        self.asks = _asks(record)
        self.ttl = ttl
        self.tag = tag
        self.key = key
        self.refreshed = now
        """When it was last announced."""
        self.restored = False
        """Whether it is known from an earlier life of this router alone."""
        self.pools: tuple[Pool, ...] = ()
        """Of the routes that it was announced for."""
        self.held = 0
        """How many of them have it still: some may have lost it, or have been told otherwise since."""

    def __repr__(self) -> str:
        return f"<{self.address} for {', '.join(pool.route for pool in self.pools)}>"


class Pool:
    """The endpoints of one route, in the order of their coming."""

    __slots__ = ("announcements", "asks", "route")

    def __init__(self, route: str) -> None:
        self.route = route
        self.announcements: tuple[Announcement, ...] = ()
        self.asks = NO_ASKS


class Listener(Protocol):
    """Who is told of every difference, in order. Must not block, fail, or change the table."""

    def put(self, route: str, announcement: Announcement) -> None:
        """The endpoint at this address of this route is new, has changed, or was only restored before."""

    def put_again(self, route: str, announcement: Announcement) -> None:
        """It is as before, but what it asks of the pool holds again instead of what another one asked."""

    def left(self, route: str, address: str) -> None:
        """It is not there, though it may never have been: a listener may know more than a table that is young."""


class AnnouncedTable:
    """See the module's theory of operation."""

    def __init__(
        self,
        listener: Listener,
        journal: Journal,
        *,
        threshold: float,
        clock: Callable[[], float],
        wall_ns: Callable[[], int] = lambda: 0,
        on_latency: Callable[[float], None] = lambda seconds: None,
        segments: frozenset[str] | None = None,
    ) -> None:
        """``threshold``: the longest TTL, and the one of who says none, seconds. ``segments``: the isolation segments
        whose endpoints are taken in; None: all. ``on_latency`` is given, for each endpoint that is new and says when
        it was made, how long that is ago by ``wall_ns``, in seconds."""
        self._listener = listener
        self._journal = journal
        self._threshold = threshold
        self._clock = clock
        self._wall_ns = wall_ns
        self._on_latency = on_latency
        self._segments = segments
        self._pools: dict[str, Pool] = {}
        self._announcements: dict[Announcement, None] = {}
        self._by_key: dict[bytes, Announcement] = {}
        self._components: dict[str, str] = {}
        self._floor = float("-inf")
        self._endpoints = 0
        self.last_update: float | None = None
        """When something was last registered or unregistered, news or not, by ``clock``."""
        self.registered: Counter[tuple[str, str]] = Counter()
        """Endpoints per route said to be there: by component and what came of it (added, updated, unmodified)."""
        self.unregistered: Counter[str] = Counter()
        """The same, said to leave: by component."""
        self.pruned = 0
        """Endpoints per route that nobody announced any more."""
        self.changes = 0
        """Rises whenever an endpoint of a route comes, changes or leaves."""

    def __len__(self) -> int:
        """Routes."""
        return len(self._pools)

    @property
    def endpoints(self) -> int:
        """Endpoints, each counted once for each of its routes."""
        return self._endpoints

    def refresh(self, key: bytes) -> bool:
        """What the message with this key said is said again. False: it is not known, or no longer holds whole."""
        announcement = self._by_key.get(key)
        if announcement is None:
            return False
        pools = announcement.pools
        if announcement.held != len(pools):
            return False
        asks = announcement.asks
        for pool in pools:
            if pool.asks is not asks and pool.asks != asks:
                return False
        self.last_update = announcement.refreshed = self._clock()
        self.registered[announcement.component, UPDATED] += len(pools)
        return True

    def register(
        self,
        routes: Iterable[str],
        record: EndpointRecord,
        ttl: float = 0.0,
        tag: Tag = NO_TAG,
        *,
        key: bytes | None = None,
        updated_at_ns: int = 0,
    ) -> None:
        """The endpoint serves these routes (their keys, each once) for another ``ttl`` seconds.

        0, and what is longer than the table's threshold, means that threshold; below 0: not a moment longer. With
        ``key`` the same may be said again by ``refresh``.
        """
        if self._segments is not None and record.isolation_segment not in self._segments:
            return
        now = self.last_update = self._clock()
        ttl = min(ttl, self._threshold) or self._threshold
        new = Announcement(record, ttl, tag, key, now)
        new.component = component = self._component(new.component)
        if not new.asks.balancing and record.options.get("loadbalancing"):
            self._balancing_refused(record)
        pools = []
        for route in routes:
            pool = self._pools.get(route)
            if pool is None:
                pool = self._pools[route] = Pool(route)
                self._journal.line(logging.INFO, "route-registered", {"uri": route})
            pools.append(pool)
            outcome = self._put(pool, new)
            self.registered[component, outcome] += 1
            level, message = _LINES[outcome]
            self._say(level, message, route, new)
            if outcome is ADDED and updated_at_ns > 0:
                self._on_latency((self._wall_ns() - updated_at_ns) / 1e9)
        self._adopt(new, pools)

    def restore(self, route: str, record: EndpointRecord) -> None:
        """It was announced to an earlier life of this router, and has a threshold's time to be announced to this one.

        What has been announced already is newer, and stays."""
        pool = self._pools.setdefault(route, Pool(route))
        if _at(pool, record.address) is None:
            restored = Announcement(record, self._threshold, NO_TAG, None, self._clock())
            restored.component = self._component(restored.component)
            restored.restored = True
            self._put(pool, restored)
            self._adopt(restored, [pool])

    def unregister(
        self, routes: Iterable[str], address: str, *, segment: str = "", component: str = "", tag: Tag = NO_TAG
    ) -> None:
        """The endpoint leaves these routes, unless it was announced there with a later tag."""
        if self._segments is not None and segment not in self._segments:
            return
        self.last_update = self._clock()
        component = self._component(component)
        for route in routes:
            self.unregistered[component] += 1
            pool = self._pools.get(route)
            present = None if pool is None else _at(pool, address)
            if pool is None or present is None:
                self._journal.line(logging.INFO, "endpoint-not-unregistered", {"uri": route, "backend": address})
                self._listener.left(route, address)
            elif present.tag == tag or present.tag.succeeded_by(tag):
                self._say(logging.INFO, "endpoint-unregistered", route, present)
                if self._remove(pool, present):
                    self._journal.line(logging.INFO, "route-unregistered", {"uri": route})
            else:
                self._say(logging.INFO, "endpoint-not-unregistered", route, present)

    def overdue(self) -> Iterator[Announcement | None]:
        """Whatever was not announced again within its TTL. None now and then, after as much work as one may do at a
        stretch; the table may change meanwhile, and what is given always was overdue in that moment."""
        for number, announcement in enumerate(list(self._announcements), 1):
            if announcement.held and self.is_overdue(announcement):
                yield announcement
            if number % EXAMINED == 0:
                yield None

    def is_overdue(self, announcement: Announcement) -> bool:
        return self._clock() - max(announcement.refreshed, self._floor) > announcement.ttl

    def prune(self, announcement: Announcement) -> int:
        """It leaves every route that has it. Returns how many these were."""
        count = 0
        for pool in announcement.pools:
            if _at(pool, announcement.address) is announcement:
                self._journal.line(
                    logging.INFO,
                    "pruned-route",
                    {"uri": pool.route, "endpoints": [announcement.address], "isolation_segment": announcement.segment},
                )
                self._remove(pool, announcement)
                count += 1
        self.pruned += count
        return count

    def spare(self, announcement: Announcement) -> None:
        """It counts as announced just now: somebody has seen it alive."""
        announcement.refreshed = self._clock()

    def fail(self, route: str, address: str) -> bool:
        """An endpoint that speaks TLS failed: it leaves this route at once (reference 3.5). Whether it was there."""
        pool = self._pools.get(route)
        present = None if pool is None else _at(pool, address)
        if pool is None or present is None or not present.tls:
            return False
        self._say(logging.INFO, "prune-failed-endpoint", route, present)
        self._remove(pool, present)
        return True

    def find(self, route: str, address: str) -> Announcement | None:
        """What was announced of this endpoint of this route."""
        pool = self._pools.get(route)
        return None if pool is None else _at(pool, address)

    def renew_all(self) -> None:
        """Everything counts as announced just now: nobody could have done it while the bus was away."""
        self._floor = self._clock()

    def settle(self) -> None:
        """To be called about once a second: log lines that were left out are summed up."""
        self._journal.settle()

    def routes(self) -> list[str]:
        return list(self._pools)

    def pool(self, route: str) -> Pool | None:
        return self._pools.get(route)

    def _put(self, pool: Pool, new: Announcement) -> str:
        """Into this pool, and what came of it."""
        present = _at(pool, new.address)
        same = restored = False
        if present is None:
            pool.announcements = (*pool.announcements, new)
            self._endpoints += 1
            outcome = ADDED
        else:
            same, restored = present.packed == new.packed, present.restored
            if not (same and present.tag == new.tag) and not present.tag.succeeded_by(new.tag):
                return UNMODIFIED
            if same:
                new.packed = present.packed
            pool.announcements = tuple([new if each is present else each for each in pool.announcements])
            self._let_go(present)
            outcome = UPDATED
        new.held += 1
        asks = new.asks
        if pool.asks.balancing and not asks.balancing:
            asks = Asks(pool.asks.balancing, asks.route_service_url)
        if not same:
            self.changes += 1
        if not same or restored:
            self._listener.put(pool.route, new)
        if same and asks != pool.asks:
            self._listener.put_again(pool.route, new)
        pool.asks = asks
        return outcome

    def _adopt(self, new: Announcement, pools: list[Pool]) -> None:
        new.pools = tuple(pools)
        if new.held:
            self._announcements[new] = None
            if new.key is not None:
                self._by_key[new.key] = new

    def _remove(self, pool: Pool, present: Announcement) -> bool:
        """Out of this pool, and whether the route went with it."""
        pool.announcements = tuple([each for each in pool.announcements if each is not present])
        self._endpoints -= 1
        self.changes += 1
        self._let_go(present)
        if not pool.announcements:
            del self._pools[pool.route]
        self._listener.left(pool.route, present.address)
        return not pool.announcements

    def _let_go(self, announcement: Announcement) -> None:
        announcement.held -= 1
        if announcement.held:
            return
        self._announcements.pop(announcement, None)
        if announcement.key is not None and self._by_key.get(announcement.key) is announcement:
            del self._by_key[announcement.key]

    def _component(self, name: str) -> str:
        """A name to count by: registrars make these up, and must not fill the memory with them."""
        if name in self._components:
            return self._components[name]
        if len(self._components) >= MAX_COMPONENTS:
            return OTHER_COMPONENTS
        return self._components.setdefault(name, name)

    def _balancing_refused(self, record: EndpointRecord) -> None:
        self._journal.line(
            logging.ERROR,
            "invalid-endpoint-load-balancing-algorithm-provided-keeping-pool-lb-algo",
            {"backend": record.address, "options": dict(record.options)},
        )

    def _say(self, level: int, message: str, route: str, announcement: Announcement) -> None:
        if not self._journal.wants(level):
            return
        self._journal.line(
            level,
            message,
            {
                "uri": route,
                "backend": announcement.address,
                "modification_tag": {"guid": announcement.tag.guid, "index": announcement.tag.index},
                "isolation_segment": announcement.segment or "-",
                "isTLS": announcement.tls,
            },
        )


def _at(pool: Pool, address: str) -> Announcement | None:
    for announcement in pool.announcements:
        if announcement.address == address:
            return announcement
    return None


def _asks(record: EndpointRecord) -> Asks:
    """What can be used of what it asks for (reference 1.3: what cannot is reported, and the pool keeps what it has)."""
    options = record.options
    algorithm = options.get("loadbalancing", "") if options else ""
    balancing: tuple[str, ...] = ()
    if algorithm in ALGORITHMS:
        balancing = (algorithm,)
    elif algorithm == HASH:
        asked = options.get("hash_header", ""), options.get("hash_balance", "")
        try:
            HashOptions.read(*asked)
            balancing = (algorithm, *asked)
        except ValueError:
            pass
    if not balancing and not record.route_service_url:
        return NO_ASKS
    return Asks(balancing, record.route_service_url)
