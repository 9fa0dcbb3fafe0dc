"""The status port: /health, /is-process-alive-do-not-use-for-loadbalancing, /routes and /metrics over HTTP/1.1.

Served by the supervisor, so it answers whatever the workers are doing. One request per connection, every connection
with a deadline, and only so many at once: this port is for balancers, scrapers and people, and nobody may use it to
hold anything up. What it says comes from an `Overview`; it knows no worker.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from http import HTTPStatus
from typing import Final, Protocol

from router import metrics_page

ALIVE: Final = "/is-process-alive-do-not-use-for-loadbalancing"
MAX_HEAD_BYTES: Final = 8 * 1024
MAX_CONNECTIONS: Final = 128
HEAD_TIMEOUT: Final = 10.0
"""Seconds from the connection to the end of the request's head."""
WRITE_TIMEOUT: Final = 10.0
"""The longest a reader may take no byte, seconds."""

HEALTH_PAGES: Final = ("/health", ALIVE)
ALL_PAGES: Final = ("/health", "/routes", "/metrics", ALIVE)

_NEVER_CACHED: Final = "Cache-Control: private, max-age=0\r\nExpires: 0\r\n"
_TEXT: Final = "text/plain; charset=utf-8"


class NoWorker(Exception):
    """No ready worker could be asked."""


class Overview(Protocol):
    """What the supervisor tells of itself."""

    def trouble(self) -> str:
        """Why the router should get no new traffic, in one line; empty when it should."""

    async def metrics(self) -> str:
        """The page of /metrics."""

    def routes(self) -> AsyncGenerator[bytes, None]:
        """The page of /routes, in parts. Raises NoWorker before the first part, a ConnectionError midway."""


class StatusPort:
    """The server. ``open`` and ``close`` frame its life."""

    def __init__(self, overview: Overview, pages: tuple[str, ...] = ALL_PAGES) -> None:
        self._overview = overview
        self._pages = pages
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def open(self, host: str, port: int) -> int:
        """Listen; returns the port. Raises OSError."""
        self._server = await asyncio.start_server(self._serve, host, port, limit=MAX_HEAD_BYTES)
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening and break off what is being answered."""
        if self._server is not None:
            self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(self._connections) >= MAX_CONNECTIONS:
            writer.transport.abort()
            return
        self._connections.add(task)
        try:
            await self._answer(reader, _Response(writer))
            writer.close()
        except (TimeoutError, ConnectionError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            self._connections.discard(task)

    async def _answer(self, reader: asyncio.StreamReader, response: _Response) -> None:
        try:
            async with asyncio.timeout(HEAD_TIMEOUT):
                head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return
        except asyncio.LimitOverrunError:
            await response.whole(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, _TEXT, "the head is too long\n")
            return
        words = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
        if len(words) != 3 or words[2] not in ("HTTP/1.1", "HTTP/1.0"):
            await response.whole(HTTPStatus.BAD_REQUEST, _TEXT, "this port speaks HTTP/1.1\n")
            return
        method, path = words[0], words[1].split("?", 1)[0]
        response.has_body = method != "HEAD"
        response.may_chunk = words[2] == "HTTP/1.1"
        if path not in self._pages:
            known = ", ".join(self._pages)
            await response.whole(HTTPStatus.NOT_FOUND, _TEXT, f"nothing here; this port has {known}\n")
        elif path in HEALTH_PAGES:
            # Any method: load balancers ask with GET, HEAD or OPTIONS.
            trouble = self._overview.trouble() if path == "/health" else ""
            status = HTTPStatus.SERVICE_UNAVAILABLE if trouble else HTTPStatus.OK
            await response.whole(status, _TEXT, (trouble or "ok") + "\n", _NEVER_CACHED)
        elif method not in ("GET", "HEAD"):
            await response.whole(HTTPStatus.METHOD_NOT_ALLOWED, _TEXT, "GET or HEAD only\n", "Allow: GET, HEAD\r\n")
        elif path == "/metrics":
            await response.whole(HTTPStatus.OK, metrics_page.CONTENT_TYPE, await self._overview.metrics())
        else:
            await self._routes(response)

    async def _routes(self, response: _Response) -> None:
        async with contextlib.aclosing(self._overview.routes()) as parts:
            try:
                first = await anext(parts)
            except NoWorker:
                await response.whole(HTTPStatus.SERVICE_UNAVAILABLE, _TEXT, "no worker is ready\n")
                return
            await response.begin("application/json")
            if response.has_body:
                await response.part(first)
                async for part in parts:
                    await response.part(part)
                await response.end()


class _Response:
    """Writes one response, and lets no reader keep it waiting."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.has_body = True
        self.may_chunk = True
        self._writer = writer

    async def whole(self, status: HTTPStatus, content_type: str, body: str, more: str = "") -> None:
        raw = body.encode()
        await self._write(
            f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {content_type}\r\n{more}"
            f"Content-Length: {len(raw)}\r\nConnection: close\r\n\r\n".encode()
            + (raw if self.has_body else b"")
        )

    async def begin(self, content_type: str) -> None:
        framing = "Transfer-Encoding: chunked\r\n" if self.may_chunk else ""
        await self._write(
            f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\n{framing}Connection: close\r\n\r\n".encode()
        )

    async def part(self, raw: bytes) -> None:
        await self._write(b"%x\r\n%b\r\n" % (len(raw), raw) if self.may_chunk else raw)

    async def end(self) -> None:
        if self.may_chunk:
            await self._write(b"0\r\n\r\n")

    async def _write(self, raw: bytes) -> None:
        self._writer.write(raw)
        async with asyncio.timeout(WRITE_TIMEOUT):
            await self._writer.drain()
