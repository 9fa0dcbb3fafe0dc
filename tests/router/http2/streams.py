"""What a test's peer has received: streams, messages, and the ways in which waiting for one can end."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.router.http2.frames import DEFAULT_WINDOW, Code, Fields, Frame


class StreamReset(Exception):
    """The other side reset the stream that was waited for."""

    def __init__(self, stream: int, code: int) -> None:
        super().__init__(f"stream {stream} reset: {Code(code).name}")
        self.code = Code(code)


class ConnectionOver(Exception):
    """The connection ended while something was waited for; ``code`` is that of its GOAWAY, None without one."""

    def __init__(self, code: Code | None) -> None:
        super().__init__(f"connection over: {code!r}")
        self.code = code


@dataclass
class Message:
    """A request or a response, whole."""

    fields: Fields
    body: bytes
    trailers: Fields
    informational: list[Fields] = field(default_factory=list)

    @property
    def status(self) -> int:
        return int(self.get(":status") or b"0")

    def get(self, name: str) -> bytes | None:
        """The value of a field, None if absent; fails on a repeated one."""
        values = self.all(name)
        assert len(values) <= 1, values
        return values[0] if values else None

    def all(self, name: str) -> list[bytes]:
        return [value for key, value in self.fields if key == name.encode()]


@dataclass
class Stream:
    """What was received of one stream, and what may be sent on it."""

    number: int
    window: int
    heads: list[Fields] = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)
    frames: list[Frame] = field(default_factory=list)
    ended: bool = False
    reset: int | None = None
    credit: int = DEFAULT_WINDOW
    """Bytes that the other side may still send."""

    @property
    def final_head(self) -> int | None:
        """Which of the heads is the final one; None before it came."""
        for index, fields in enumerate(self.heads):
            if not dict(fields).get(b":status", b"").startswith(b"1"):
                return index
        return None

    @property
    def message(self) -> Message:
        final = self.final_head
        assert final is not None, f"no head on stream {self.number}"
        trailers = self.heads[final + 1 :]
        assert len(trailers) <= 1, trailers
        return Message(self.heads[final], bytes(self.body), trailers[0] if trailers else [], self.heads[:final])
