"""The pages that the supervisor shows: health, routes, metrics and, on the debug port, levels and stacks.

What they say comes from an `Overview`; they know no worker. Which port has which is `router.status.status_ports`.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from http import HTTPStatus
from typing import Final, Protocol

from router.logs import component_log
from router.metrics import metrics_page
from router.status.pages import Page, Request, Response, read_only

HEALTH: Final = "/health"
ALIVE: Final = "/is-process-alive-do-not-use-for-loadbalancing"

_NEVER_CACHED: Final = "Cache-Control: private, max-age=0\r\nExpires: 0\r\n"
_JSON: Final = "application/json"


class NoWorker(Exception):
    """No ready worker could be asked."""


class Overview(Protocol):
    """What the supervisor tells of itself, and takes."""

    def trouble(self) -> str:
        """Why the router should get no new traffic, in one line; empty when it should."""

    async def metrics(self) -> str:
        """Our own page of /metrics."""

    async def prometheus(self) -> str:
        """The page of /metrics on prometheus.port, with Gorouter's names."""

    async def varz(self) -> str:
        """The page of /varz, JSON."""

    def routes(self) -> AsyncGenerator[bytes, None]:
        """The page of /routes, in parts. Raises NoWorker before the first part, a ConnectionError midway."""

    async def stacks(self) -> str:
        """Where every process is at work."""

    @property
    def log_level(self) -> str: ...

    def set_log_level(self, level: str) -> None:
        """Of every process, until the configuration is read again; ``level`` is a key of `logs.LEVELS`."""


def health(overview: Overview, *, says_why: bool) -> Page:
    """Any method: load balancers ask with GET, HEAD or OPTIONS. ``says_why``: for people, who read on at a 503."""

    async def page(_: Request, response: Response) -> None:
        trouble = overview.trouble()
        if trouble:
            await response.whole(HTTPStatus.SERVICE_UNAVAILABLE, f"{trouble}\n" if says_why else "", _NEVER_CACHED)
        else:
            await response.whole(HTTPStatus.OK, "ok\n", _NEVER_CACHED)

    return page


async def alive(_: Request, response: Response) -> None:
    """Always well, since it answers."""
    await response.whole(HTTPStatus.OK, "ok\n", _NEVER_CACHED)


def text(source: Callable[[], Awaitable[str]], content_type: str) -> Page:
    """What ``source`` says, whole."""

    async def page(_: Request, response: Response) -> None:
        await response.whole(HTTPStatus.OK, await source(), content_type=content_type)

    return read_only(page)


def metrics(source: Callable[[], Awaitable[str]]) -> Page:
    return text(source, metrics_page.CONTENT_TYPE)


def varz(overview: Overview) -> Page:
    return text(overview.varz, _JSON)


def routes(overview: Overview) -> Page:
    async def page(_: Request, response: Response) -> None:
        async with contextlib.aclosing(overview.routes()) as parts:
            try:
                first = await anext(parts)
            except NoWorker:
                await response.whole(HTTPStatus.SERVICE_UNAVAILABLE, "no worker is ready\n")
                return
            await response.begin(_JSON)
            if response.has_body:
                await response.part(first)
                async for part in parts:
                    await response.part(part)
                await response.end()

    return read_only(page)


def log_level(overview: Overview) -> Page:
    """GET shows the level, PUT (or POST) with a level as its body sets it."""

    async def page(request: Request, response: Response) -> None:
        if request.method in ("PUT", "POST"):
            wanted = request.body.decode("latin-1").strip().lower()
            if wanted not in component_log.LEVELS:
                known = ", ".join(component_log.LEVELS)
                await response.whole(HTTPStatus.BAD_REQUEST, f"{wanted[:100]!r} is no level; give one of {known}\n")
                return
            overview.set_log_level(wanted)
        elif request.method not in ("GET", "HEAD"):
            await response.whole(HTTPStatus.METHOD_NOT_ALLOWED, "GET or PUT only\n", "Allow: GET, HEAD, PUT\r\n")
            return
        await response.whole(HTTPStatus.OK, f"{overview.log_level}\n")

    return page
