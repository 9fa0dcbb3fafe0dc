"""A small HTTP/1.1 client for the platform's own APIs: one request per connection, TLS, and a bound for everything.

Made of the parsers that the router reads its backends with, and as strict. It follows no redirect, since a token must
not go to where somebody else points; it asks for no compression and keeps no connection, since what it is for happens
every few seconds. It knows no token, no JSON and no route.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from router.http1.chunked import ChunkScanner
from router.http1.grammar import BadMessage, Limits
from router.http1.response import ResponseHead, check_partial_head, parse_head, too_long
from router.keep_alive import GO_INTERVAL, Probes

ANSWER_SECONDS: Final = 30.0
"""To connect, to send a request and to receive the head of its answer."""
MAX_INTERIM: Final = 8
"""Responses 1xx before the final one."""
_READ_BYTES: Final = 256 * 1024
_LIMITS: Final = Limits()
_REFUSAL_BYTES: Final = 64 * 1024
_REFUSAL_SECONDS: Final = 5.0
_SHOWN: Final = 200
_PROBES: Final = Probes(GO_INTERVAL, GO_INTERVAL, 3)
"""A stream of events may say nothing for hours, and its server be gone."""
_VISIBLE: Final = re.compile(r"[\x21-\x7e]+")


class RequestFailed(Exception):
    """No answer, or none that can be used. The message says who was asked, and what is wrong."""


class Origin(NamedTuple):
    """Whom to ask."""

    host: str
    port: int
    context: ssl.SSLContext | None
    """None: in plain text."""

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Request(NamedTuple):
    method: str
    target: str
    fields: Mapping[str, str]
    body: bytes = b""


class Answer:
    """A response, its body still to come: read it once, by ``pieces`` or by ``whole``."""

    def __init__(self, origin: Origin, reader: asyncio.StreamReader) -> None:
        self._origin = origin
        self._reader = reader
        self._data = b""
        self.head = ResponseHead(0, 1, b"")

    @property
    def status(self) -> int:
        return self.head.status

    def field(self, name: bytes) -> str:
        """The value of the first field with this name (lower case); empty: there is none."""
        return next((line.value.decode("latin-1") for line in self.head.lines if line.name == name), "")

    async def read_head(self) -> None:
        """Raises BadMessage, and EOFError for an end in the middle."""
        for _ in range(MAX_INTERIM + 1):
            head = parse_head(await self._head_bytes(), _LIMITS)
            if head.status == 101:
                raise BadMessage(502, "an upgrade that was not asked for")
            if head.status >= 200:
                self.head = head
                return
        raise BadMessage(502, f"more than {MAX_INTERIM} interim responses")

    async def _head_bytes(self) -> bytes:
        while (end := self._data.find(b"\r\n\r\n") + 4) < 4:
            check_partial_head(self._data, _LIMITS)
            await self._more()
        if end > _LIMITS.head:
            raise too_long(_LIMITS)
        head, self._data = self._data[:end], self._data[end:]
        return head

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it comes. Raises RequestFailed."""
        head = self.head
        try:
            if head.chunked and not head.bodiless:
                scanner = ChunkScanner(502)
                while True:
                    found: list[bytes] = []
                    scanner.feed(self._data, found)
                    for piece in found:
                        yield piece
                    if scanner.done:
                        return
                    self._data = b""
                    await self._more()
            left = 0 if head.bodiless else head.content_length
            while left > 0:
                if not self._data:
                    await self._more()
                piece, self._data = self._data[:left], self._data[left:]
                left -= len(piece)
                yield piece
            while left < 0 and (self._data or await self._has_more()):
                piece, self._data = self._data, b""
                yield piece
        except _FAILURES as error:
            raise RequestFailed(f"{self._origin}: {_words(error)}") from error

    async def whole(self, limit: int, seconds: float = ANSWER_SECONDS) -> bytes:
        """The body. Raises RequestFailed: also where it is longer than ``limit`` bytes, or takes longer."""
        if self.head.content_length > limit:
            raise self._longer_than(limit)
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(seconds):
                async for piece in self.pieces():
                    size += len(piece)
                    if size > limit:
                        raise self._longer_than(limit)
                    parts.append(piece)
        except TimeoutError:
            raise RequestFailed(f"{self._origin}: the answer was not whole within {seconds:g} s") from None
        return b"".join(parts)

    async def refusal(self) -> RequestFailed:
        """What it says that is no success: its status, and the body's words."""
        body = b""
        with contextlib.suppress(RequestFailed):
            body = await self.whole(_REFUSAL_BYTES, _REFUSAL_SECONDS)
        text = _printable(body.decode(errors="replace"))
        return RequestFailed(f"{self._origin}: answered {self.status}" + (f": {text}" if text else ""))

    def _longer_than(self, limit: int) -> RequestFailed:
        return RequestFailed(f"{self._origin}: the answer is longer than {limit} bytes")

    async def _more(self) -> None:
        if not await self._has_more():
            raise EOFError("the connection ended in the middle of the answer")

    async def _has_more(self) -> bool:
        data = await self._reader.read(_READ_BYTES)
        self._data += data
        return bool(data)


_FAILURES: Final = (OSError, EOFError, BadMessage)
"""Of a connection, TLS included, and of what comes by it."""


def parse_origin(url: str, port: int, context: ssl.SSLContext | None) -> tuple[Origin, str]:
    """Where a URL leads, with this port, and its path without a slash at the end. ``context`` is for https.

    Raises ValueError: the message says what a URL must be like.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or "@" in url:
        raise ValueError(f"a URL such as https://routing-api.service.cf.internal, not {url!r}")
    path = parts.path.rstrip("/")
    if path and not _VISIBLE.fullmatch(path):
        raise ValueError(f"its path has characters that no URL may have: {path!r}")
    return Origin(parts.hostname, port, context if parts.scheme == "https" else None), path


@contextlib.asynccontextmanager
async def asking(origin: Origin, request: Request, seconds: float = ANSWER_SECONDS) -> AsyncIterator[Answer]:
    """One request on a connection of its own, which ends with the block.

    Raises RequestFailed: nobody there, no answer within ``seconds``, none in HTTP, or a redirect.
    """
    writer: asyncio.StreamWriter | None = None
    try:
        try:
            async with asyncio.timeout(seconds):
                reader, writer = await _connect(origin, seconds)
                _PROBES.watch(writer.transport)
                writer.write(_packed(origin, request))
                answer = Answer(origin, reader)
                await answer.read_head()
        except TimeoutError:
            raise RequestFailed(f"{origin}: no answer within {seconds:g} s") from None
        except (*_FAILURES, UnicodeError) as error:  # UnicodeError: a name that DNS cannot have
            raise RequestFailed(f"{origin}: {_words(error)}") from error
        if 300 <= answer.status < 400:
            to = _printable(answer.field(b"location"))
            raise RequestFailed(f"{origin}: answered {answer.status} and leads to {to!r}; redirects are not followed")
        yield answer
    finally:
        if writer is not None:
            writer.transport.abort()


async def _connect(origin: Origin, seconds: float) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """To the first of the name's addresses that answers: a machine that is down must not use up the time of all."""
    name = origin.host if origin.context is not None else None
    addresses = await _addresses(origin)
    for turn, address in enumerate(addresses, 1):
        try:
            async with asyncio.timeout(seconds / len(addresses)):
                return await asyncio.open_connection(
                    address, origin.port, ssl=origin.context, server_hostname=name, limit=_READ_BYTES
                )
        except (OSError, TimeoutError):
            if turn == len(addresses):
                raise
    raise OSError("the name has no address")


async def _addresses(origin: Origin) -> list[str]:
    found = await asyncio.get_running_loop().getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(place[0]) for *_, place in found))


def _packed(origin: Origin, request: Request) -> bytes:
    lines = [f"{request.method} {request.target} HTTP/1.1", f"Host: {origin}", "User-Agent: millrace"]
    lines += [f"{name}: {value}" for name, value in request.fields.items()]
    if request.body:
        lines.append(f"Content-Length: {len(request.body)}")
    return "\r\n".join((*lines, "Connection: close", "", "")).encode("ascii") + request.body


def _words(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _printable(text: str) -> str:
    """In one line, and not too long for a log."""
    text = "".join(character if character.isprintable() else " " for character in text).strip()
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
