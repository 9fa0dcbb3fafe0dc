"""The Routing API as a source of routes, beside NATS or alone: what it needs from the settings, its start and its end.

At a router's first start any failure is fatal, as in Gorouter: a wrong password should be seen by whoever deploys it.
Once there were routes, they are served whatever becomes of the API. TCP routes are followed where the router has ports
for them (millrace.tcp_ports).
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from typing import Final
from urllib.parse import urlencode

from router.config.settings import Settings
from router.processes.control import Message
from router.registry.slices import sliced
from router.sources.announced import AnnouncedTable
from router.sources.api_feed import HTTP_ROUTES, TCP_ROUTES, Feed
from router.sources.http_client import RequestFailed, parse_origin
from router.sources.journal import Journal
from router.sources.oauth import NoToken, NoTokens, Tokens, UaaTokens
from router.sources.routing_api import RoutingApi
from router.tls.contexts import platform_context

DEFAULT_INTERVAL: Final = 15.0
"""Seconds between two lists where prune_stale_droplets_interval, of which they are the half, is 0."""
LATER_PAUSE: Final = 1.0
"""Between attempts to begin of a process that is not a router's first: there are routes to serve meanwhile."""
_STEP: Final = 16

_log = logging.getLogger("router.route-fetcher")


class RoutingApiUnreachable(Exception):
    """There is no Routing API to begin with; the message says what it, or its UAA, answered."""


class RoutingApiSource:
    """``run`` is its whole life."""

    def __init__(
        self,
        settings: Settings,
        table: AnnouncedTable,
        segments: frozenset[str] | None,
        *,
        first: bool,
        alone: bool,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        """``first``: whether the router begins, and should not without the API. ``alone``: whether no other source
        fills the table. ``on_change`` is called when a list came in."""
        self._settings = settings
        self._table = table
        self._segments = segments
        self._first = first
        self._alone = alone
        self._on_change = on_change
        self._clock = asyncio.get_running_loop().time
        self._uaa: UaaTokens | None = None
        self._feeds: list[Feed] = []
        self._journal = Journal(_log, self._clock)
        self._known = False

    @property
    def known(self) -> bool:
        """Whether all that the API has became known, in this life of the process."""
        return self._known

    @property
    def away(self) -> bool:
        """Whether the API cannot be asked now."""
        return not self._feeds or any(feed.away for feed in self._feeds)

    async def run(self) -> None:
        """Until cancelled. Raises RoutingApiUnreachable."""
        logging.getLogger("router").info("setting-up-routing-api")
        await self._begin()
        async with asyncio.TaskGroup() as group:
            for feed in self._feeds:
                group.create_task(feed.run())
            for feed in self._feeds:
                await feed.listed.wait()
            if self._alone:
                await self._forget_what_is_not_there()
            self._known = True
            self._on_change()

    async def _begin(self) -> None:
        """Makes the feeds, and sees that they work where the start depends on it. Raises RoutingApiUnreachable."""
        complaint = ""
        while True:
            try:
                self._feeds = self._make_feeds()
                if self._first:
                    for feed in self._feeds:
                        await feed.list_now()
                return
            except (RequestFailed, NoToken, ValueError, ssl.SSLError) as error:
                if self._first:
                    raise RoutingApiUnreachable(str(error)) from None
                if str(error) != complaint:
                    complaint = str(error)
                    data = {"error": complaint, "what": "trying again"}
                    _log.error("routing-api-connection-failed", extra={"data": data})
            await asyncio.sleep(LATER_PAUSE)

    async def _forget_what_is_not_there(self) -> None:
        """What an earlier life of the router has left on disk, and the API has no more."""
        async for part in sliced(self._table.routes(), _STEP):
            for route in part:
                pool = self._table.pool(route)
                for each in pool.announcements if pool is not None else ():
                    if not any(feed.knows(route, each.address) for feed in self._feeds):
                        self._table.prune(each)

    def _make_feeds(self) -> list[Feed]:
        """Raises NoToken, ValueError, ssl.SSLError: the settings cannot be used."""
        settings, said = self._settings, self._settings.routing_api
        context = platform_context(said.ca_certs, said.cert_chain, said.private_key)
        origin, prefix = parse_origin(said.uri, said.port, context)
        api = RoutingApi(origin, prefix, self._make_tokens())
        kinds = [HTTP_ROUTES]
        if settings.millrace.tcp_ports:
            kinds.append(TCP_ROUTES._replace(listed=TCP_ROUTES.listed + _query(self._segments)))
        return [
            Feed(
                kind,
                api,
                self._table,
                self._journal,
                interval=settings.prune_stale_droplets_interval / 2 or DEFAULT_INTERVAL,
                keeps=settings.suspend_pruning_if_nats_unavailable,
                clock=self._clock,
            )
            for kind in kinds
        ]

    def _make_tokens(self) -> Tokens:
        """Raises NoToken."""
        settings = self._settings
        if settings.routing_api.auth_disabled:
            _log.info("using-noop-token-fetcher")
            return NoTokens()
        self._uaa = UaaTokens(
            settings.oauth,
            retries=settings.token_fetcher_max_retries,
            pause=settings.token_fetcher_retry_interval,
            margin=settings.token_fetcher_expiration_buffer_time,
            clock=self._clock,
        )
        return self._uaa

    @property
    def refused(self) -> int:
        """Routes of the API that could not be used."""
        return sum(feed.refused for feed in self._feeds)

    def report(self) -> Message:
        """What is counted, for the process's report."""
        return {
            "token_fetch_errors": 0 if self._uaa is None else self._uaa.errors,
            "subscribe_events_errors": sum(feed.subscribe_errors for feed in self._feeds),
            "routing_api_connected": not self.away,
            "routing_api_endpoints": sum(map(len, self._feeds)),
        }


def _query(segments: frozenset[str] | None) -> str:
    """Asks for the TCP routes of these isolation segments only."""
    return "" if segments is None else "?" + urlencode([("isolation_segment", each) for each in sorted(segments)])
