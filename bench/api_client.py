"""Requests to an API as bytes, and a client that sends one after the other over one connection.

It must never take an answer for good that has another status than the one expected.
"""

from __future__ import annotations

import base64
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import orjson

from bench.machine import BenchError

ANSWER_SECONDS: Final = 30.0
"""Who does not answer for so long has failed."""
FORM: Final = "application/x-www-form-urlencoded"
NO_FIELDS: Final[Mapping[str, str]] = MappingProxyType({})
_CONTENT_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)[ \t]*\r\n", re.IGNORECASE)
_NO_BODY: Final = (204, 304)


class Unreadable(Exception):
    """An answer whose end nobody can know."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One request as it goes on the wire, and the status that a right answer has."""

    raw: bytes
    status: int


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    head: bytes
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    def field(self, name: str) -> str:
        """The value of a field of the head; empty where there is none."""
        found = re.search(rf"\r\n{re.escape(name)}:[ \t]*([^\r]*)".encode(), self.head, re.IGNORECASE)
        return found[1].decode("latin-1") if found else ""

    def wrong(self, asked: Ask) -> str:
        """What is wrong with it, for people; empty: nothing."""
        return "" if self.status == asked.status else f"{self.status} {self.body[:300].decode(errors='replace')}"


def read(received: bytes) -> Answer | None:
    """The answer in these bytes, once it is whole. Raises Unreadable."""
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return None
    status = int(received[9:12])
    length = _CONTENT_LENGTH.search(received, 0, end + 2)
    if length is None and status not in _NO_BODY:
        raise Unreadable(f"an answer without a length: {received[:end].decode('latin-1')}")
    whole = end + 4 + (int(length[1]) if length else 0)
    return Answer(status, received[: end + 2], received[end + 4 : whole]) if len(received) >= whole else None


def ask(
    method: str,
    host: str,
    path: str,
    status: int,
    *,
    fields: Mapping[str, str] = NO_FIELDS,
    body: object = None,
    kind: str = "application/json",
) -> Ask:
    """``body`` is sent as it is where it is bytes, else as JSON."""
    content = b"" if body is None else body if isinstance(body, bytes) else orjson.dumps(body)
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *(f"{name}: {value}" for name, value in fields.items())]
    if body is not None:
        lines.append(f"Content-Type: {kind}")
    if method != "GET":
        lines.append(f"Content-Length: {len(content)}")
    return Ask("\r\n".join([*lines, "", ""]).encode() + content, status)


def basic(name: str, secret: str) -> str:
    """The value of an Authorization field (RFC 7617)."""
    return "Basic " + base64.b64encode(f"{name}:{secret}".encode()).decode()


class Caller:
    """One keep-alive connection to a port of the loopback address."""

    def __init__(self, port: int) -> None:
        """Raises OSError."""
        self._socket = socket.create_connection(("127.0.0.1", port), ANSWER_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def call(self, asked: Ask) -> Answer:
        """The right answer. Raises BenchError: another one, or none."""
        what = asked.raw.partition(b" HTTP/")[0].decode("latin-1")
        try:
            self._socket.sendall(asked.raw)
            received = b""
            while (answer := read(received)) is None:
                more = self._socket.recv(1 << 18)
                if not more:
                    raise BenchError(f"{what}: the connection was closed")
                received += more
        except (OSError, Unreadable) as error:
            raise BenchError(f"{what}: {error or 'no answer'}") from None
        if wrong := answer.wrong(asked):
            raise BenchError(f"{what}: {wrong}")
        return answer

    def close(self) -> None:
        self._socket.close()
