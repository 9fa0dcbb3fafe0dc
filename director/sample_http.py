"""An HTTP/1.1 server just large enough for the sample backend (RFC 9112): keep-alive, bodies read and thrown away.

On trio streams. Must never hold a request's body or a large answer in memory, nor guess where a message ends: what is
not understood is answered with 400, and the connection closed.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import Final

import trio

MAX_HEAD_BYTES: Final = 64 * 1024
IDLE_SECONDS: Final = 120.0
"""How long a connection may wait for its next request: longer than the router keeps one that it does not use."""

_REQUEST_LINE: Final = re.compile(r"([!-~]+) ([!-~]+) (HTTP/1\.[01])")
_FIELD: Final = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*", re.DOTALL)
_CHUNK_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?\r\n")
_PIECE: Final = b"millrace " * 7282


class BadRequest(Exception):
    """What the client sent cannot be understood; the text says what."""


class _Closed(Exception):
    """The client left."""


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    target: str
    version: str
    fields: tuple[tuple[str, str], ...]
    """In the order and with the names as they came."""

    def all(self, name: str) -> list[str]:
        """The values of a field, by its lower-case name."""
        return [value for known, value in self.fields if known.lower() == name]

    def lists(self, name: str, token: str) -> bool:
        return any(part.strip().lower() == token for value in self.all(name) for part in value.split(","))

    @property
    def keeps_alive(self) -> bool:
        """RFC 9112 section 9.3."""
        if self.lists("connection", "close"):
            return False
        return self.version == "HTTP/1.1" or self.lists("connection", "keep-alive")


@dataclass(frozen=True, slots=True)
class Answer:
    """Plain text, or so many bytes of filling."""

    text: str = ""
    status: HTTPStatus = HTTPStatus.OK
    filling: int = 0


Handler = Callable[[Request], Awaitable[Answer]]


class Server:
    """Answers connections with a handler. ``serve_connection`` is the handler of ``trio.serve_listeners``."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._busy = 0
        self._changed = trio.Event()

    async def idle(self) -> None:
        """Returns when no request is being answered."""
        while self._busy:
            self._changed = trio.Event()
            await self._changed.wait()

    async def serve_connection(self, stream: trio.abc.Stream) -> None:
        """Returns when the connection is over; a client that vanishes is no error."""
        reader = _Reader(stream)
        try:
            try:
                while await self._exchange(stream, reader):
                    pass
            except BadRequest as error:
                await _send(stream, Answer(f"{error}\n", HTTPStatus.BAD_REQUEST), "GET", keep=False)
        except (_Closed, trio.BrokenResourceError):
            return
        finally:
            await trio.aclose_forcefully(stream)

    async def _exchange(self, stream: trio.abc.Stream, reader: _Reader) -> bool:
        """One request and its answer; whether there may be another."""
        with trio.move_on_after(IDLE_SECONDS) as idle:
            head = await reader.until(b"\r\n\r\n")
        if idle.cancelled_caught:
            return False
        self._busy += 1
        try:
            request = parse(head)
            if request.lists("expect", "100-continue"):
                await stream.send_all(b"HTTP/1.1 100 Continue\r\n\r\n")
            await _discard_body(request, reader)
            await _send(stream, await self._handler(request), request.method, request.keeps_alive)
            return request.keeps_alive
        finally:
            self._busy -= 1
            self._changed.set()


def parse(head: bytes) -> Request:
    """A request's head, final empty line included. Raises BadRequest."""
    first, *lines = head.removesuffix(b"\r\n\r\n").decode("latin-1").split("\r\n")
    line = _REQUEST_LINE.fullmatch(first)
    if not line:
        raise BadRequest("the first line is not: method, target, HTTP/1.1")
    fields = []
    for text in lines:
        found = _FIELD.fullmatch(text)
        if not found or any(c in text for c in "\r\n\0"):
            raise BadRequest(f"not a header field: {text[:40]!r}")
        fields.append((found[1], found[2]))
    return Request(line[1], line[2], line[3], tuple(fields))


class _Reader:
    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._buffer = bytearray()

    async def _more(self) -> None:
        received = await self._stream.receive_some(65536)
        if not received:
            raise _Closed
        self._buffer += received

    async def until(self, end: bytes) -> bytes:
        """Up to and with ``end``. Raises BadRequest where that is not within MAX_HEAD_BYTES, _Closed."""
        searched = 0
        while (at := self._buffer.find(end, searched)) < 0:
            if len(self._buffer) > MAX_HEAD_BYTES:
                raise BadRequest(f"more than {MAX_HEAD_BYTES} bytes of header")
            searched = max(0, len(self._buffer) - len(end) + 1)
            await self._more()
        taken = bytes(self._buffer[: at + len(end)])
        del self._buffer[: at + len(end)]
        return taken

    async def skip(self, count: int) -> None:
        while count > len(self._buffer):
            count -= len(self._buffer)
            self._buffer.clear()
            await self._more()
        del self._buffer[:count]


async def _discard_body(request: Request, reader: _Reader) -> None:
    """RFC 9112 section 6.3. Raises BadRequest: it is not clear where the body ends."""
    codings, lengths = request.all("transfer-encoding"), request.all("content-length")
    if codings:
        if lengths or [coding.lower() for coding in codings] != ["chunked"]:
            raise BadRequest("transfer-encoding: only chunked, and without content-length")
        await _discard_chunks(reader)
    elif lengths:
        if len(lengths) > 1 or not re.fullmatch(r"[0-9]{1,18}", lengths[0]):
            raise BadRequest("content-length: one number")
        await reader.skip(int(lengths[0]))


async def _discard_chunks(reader: _Reader) -> None:
    """RFC 9112 section 7.1."""
    while True:
        size = _CHUNK_SIZE.fullmatch(await reader.until(b"\r\n"))
        if not size:
            raise BadRequest("a bad chunk size")
        count = int(size[1], 16)
        if not count:
            break
        await reader.skip(count)
        if await reader.until(b"\r\n") != b"\r\n":
            raise BadRequest("a chunk longer than its size")
    while await reader.until(b"\r\n") != b"\r\n":
        pass


async def _send(stream: trio.abc.Stream, answer: Answer, method: str, keep: bool) -> None:
    body = answer.text.encode()
    head = (
        f"HTTP/1.1 {answer.status.value} {answer.status.phrase}\r\nDate: {formatdate(usegmt=True)}\r\n"
        f"Content-Type: text/plain; charset=utf-8\r\nContent-Length: {answer.filling or len(body)}\r\n"
    )
    if not keep:
        head += "Connection: close\r\n"
    await stream.send_all(head.encode() + b"\r\n" + (b"" if method == "HEAD" or answer.filling else body))
    if method == "HEAD":
        return
    left = answer.filling
    while left:
        piece = _PIECE[:left]
        await stream.send_all(piece)
        left -= len(piece)
