"""A small HTTP/1.1 server for the pages of a program: one request per connection, and nobody can hold it up.

Every connection has deadlines, and there are only so many at once, those included that are still at their TLS
handshake. A page is a function that writes a `Response`; which pages there are on which port is for
`router.status.status_ports` to say. Never serves traffic.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, Final, NamedTuple

MAX_HEAD_BYTES: Final = 8 * 1024
MAX_BODY_BYTES: Final = 1024
MAX_CONNECTIONS: Final = 128
HEAD_TIMEOUT: Final = 10.0
"""Seconds from the connection to the end of the request, and for a TLS handshake before."""
WRITE_TIMEOUT: Final = 10.0
"""The longest a reader may take no byte, seconds."""
SHUTDOWN_TIMEOUT: Final = 1.0
"""Seconds for the other side's last word in TLS."""
ACCEPT_PAUSE: Final = 0.1
"""Seconds until the next try when the system gives no connection."""
TEXT: Final = "text/plain; charset=utf-8"


class Request(NamedTuple):
    method: str
    path: str
    """Without the query."""
    authorization: str
    """Value of the header; empty where there is none."""
    body: bytes


Page = Callable[[Request, "Response"], Awaitable[None]]


class Response:
    """Writes one response, and lets no reader keep it waiting."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.has_body = True
        self.may_chunk = True
        self._writer = writer

    async def whole(self, status: HTTPStatus, body: str, more: str = "", content_type: str = TEXT) -> None:
        """A whole response; ``more`` are field lines, each with its CRLF."""
        raw = body.encode()
        await self._write(
            f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {content_type}\r\n{more}"
            f"Content-Length: {len(raw)}\r\nConnection: close\r\n\r\n".encode()
            + (raw if self.has_body else b"")
        )

    async def begin(self, content_type: str) -> None:
        """The head of a response whose body comes by ``part``, until ``end``."""
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


class BasicAuth(NamedTuple):
    """Who may see a page (RFC 7617)."""

    user: str
    password: str

    def allows(self, authorization: str) -> bool:
        """In a time that says nothing about the password."""
        scheme, _, given = authorization.partition(" ")
        try:
            shown = base64.b64decode(given.strip(" "), validate=True)
        except (binascii.Error, ValueError):
            return False
        return hmac.compare_digest(shown, f"{self.user}:{self.password}".encode()) and scheme.lower() == "basic"

    def before(self, page: Page) -> Page:
        """``page``, for those who know user and password."""

        async def guarded(request: Request, response: Response) -> None:
            if self.allows(request.authorization):
                await page(request, response)
            else:
                await response.whole(
                    HTTPStatus.UNAUTHORIZED, "401 Unauthorized\n", 'WWW-Authenticate: Basic realm="router"\r\n'
                )

        return guarded


class PageServer:
    """One port. ``open`` and ``close`` frame its life."""

    def __init__(self, pages: Mapping[str, Page], context: ssl.SSLContext | None = None) -> None:
        """``pages`` by their paths. With ``context``, TLS is spoken."""
        self._pages = pages
        self._context = context
        self._listening: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def open(self, host: str, port: int) -> int:
        """Listen; returns the port. Raises OSError."""
        self._listening = _listen(host, port)
        self._accepting = asyncio.create_task(self._accept(self._listening))
        return int(self._listening.getsockname()[1])

    async def close(self) -> None:
        """Stop listening and break off what is being answered."""
        tasks = [*self._connections, *filter(None, (self._accepting,))]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._listening is not None:
            self._listening.close()

    async def _accept(self, listening: socket.socket) -> None:
        """Let connections in one by one: handshakes of TLS are counted too, which asyncio's own server does not do."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                client, _ = await loop.sock_accept(listening)
            except OSError:  # no descriptors left, or the client is gone already
                await asyncio.sleep(ACCEPT_PAUSE)
                continue
            if len(self._connections) >= MAX_CONNECTIONS:
                client.close()
                continue
            task = asyncio.create_task(self._serve(client))
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)

    async def _serve(self, client: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(MAX_HEAD_BYTES, loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        secured: dict[str, Any] = {}
        if self._context is not None:
            secured = {
                "ssl": self._context,
                "ssl_handshake_timeout": HEAD_TIMEOUT,
                "ssl_shutdown_timeout": SHUTDOWN_TIMEOUT,
            }
        try:
            transport, _ = await loop.connect_accepted_socket(lambda: protocol, client, **secured)
        except OSError:  # a failed handshake, or none in time
            client.close()
            return
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        try:
            await self._answer(reader, Response(writer))
            writer.close()
            async with asyncio.timeout(WRITE_TIMEOUT):
                await writer.wait_closed()
        except (TimeoutError, OSError, asyncio.CancelledError):
            transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, response: Response) -> None:
        try:
            async with asyncio.timeout(HEAD_TIMEOUT):
                request = await _read(reader, response)
        except asyncio.IncompleteReadError:
            return
        except asyncio.LimitOverrunError:
            await response.whole(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the head is too long\n")
            return
        if request is None:
            await response.whole(HTTPStatus.BAD_REQUEST, "this port speaks HTTP/1.1\n")
            return
        page = self._pages.get(request.path)
        if page is None:
            known = ", ".join(self._pages)
            await response.whole(HTTPStatus.NOT_FOUND, f"nothing here; this port has {known}\n")
        else:
            await page(request, response)


def _listen(host: str, port: int) -> socket.socket:
    """Raises OSError."""
    family, _, _, _, place = socket.getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV
    )[0]
    sock = socket.create_server(
        (str(place[0]), port), family=family, backlog=MAX_CONNECTIONS, dualstack_ipv6=place[0] == "::"
    )
    sock.setblocking(False)
    return sock


async def _read(reader: asyncio.StreamReader, response: Response) -> Request | None:
    """One request; None if it is malformed. Tells ``response`` what its sender understands."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    words = head[0].split(" ")
    if len(words) != 3 or words[2] not in ("HTTP/1.1", "HTTP/1.0"):
        return None
    method, path = words[0], words[1].split("?", 1)[0]
    response.has_body = method != "HEAD"
    response.may_chunk = words[2] == "HTTP/1.1"
    fields = {name.lower(): value.strip(" \t") for name, _, value in (line.partition(":") for line in head[1:])}
    length = fields.get("content-length", "0")
    if not (length.isascii() and length.isdigit() and len(length) < 9):
        return None
    body = await reader.readexactly(min(int(length), MAX_BODY_BYTES))
    return Request(method, path, fields.get("authorization", ""), body)


def read_only(page: Page) -> Page:
    """``page``, for GET and HEAD alone."""

    async def asked(request: Request, response: Response) -> None:
        if request.method in ("GET", "HEAD"):
            await page(request, response)
        else:
            await response.whole(HTTPStatus.METHOD_NOT_ALLOWED, "GET or HEAD only\n", "Allow: GET, HEAD\r\n")

    return asked
