"""One stream of an HTTP/2 connection, whoever opened it: its window, what waits in it, its end (RFC 9113 section 5).

Backpressure. A body goes out as fast as the peer's two windows and the transport allow. What does not fit waits in
its stream, which hears ``stalled`` and stops its source; when all is out it hears ``flowing``. The other way, ``hold``
keeps the peer from sending more than one window, and ``let_flow`` lets it. Whose stream it is only subclasses know.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import inf
from typing import TYPE_CHECKING, Any, Final

from router.http2 import frames
from router.http2.frames import DEFAULT_WINDOW, HEADER, SMALLEST_MAX_FRAME
from router.http2.hpack import Pair

if TYPE_CHECKING:
    from router.http2.connection import Connection

STREAM_WINDOW: Final = DEFAULT_WINDOW
"""Bytes of a body that a peer may send ahead of its reader: the memory that a stalled stream costs."""


class Fault(Exception):
    """The connection cannot go on: a connection error (section 5.4.1)."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(f"{frames.error_name(code)}: {why}")
        self.code = code
        self.why = why


class Stream(ABC):
    """One stream, as flow control and the life of streams see it."""

    __slots__ = (
        "connection",
        "deadline",
        "ends",
        "held",
        "id",
        "local_ended",
        "receive_window",
        "remote_ended",
        "send_window",
        "trailers",
        "unsent",
    )

    def __init__(self, connection: Connection[Any], number: int) -> None:
        self.connection = connection
        self.id = number
        self.send_window = connection.peer_window
        self.receive_window = STREAM_WINDOW
        self.held = False
        """Whether the peer is to wait before it sends more."""
        self.unsent = b""
        """Of the body, what the windows or the transport did not take yet."""
        self.ends = False
        """Whether the stream ends after ``unsent``."""
        self.trailers = b""
        """The header block that ends the stream, where one does."""
        self.local_ended = False
        self.remote_ended = False
        self.deadline = inf
        """Monotonic seconds; the connection's ``expired`` looks at it."""

    @abstractmethod
    def take_headers(self, pairs: list[Pair] | None, end: bool) -> None:
        """A header block on an open stream; None: longer than allowed."""

    @abstractmethod
    def take_data(self, data: bytes, end: bool) -> None: ...

    @abstractmethod
    def take_reset(self, code: int) -> None:
        """The peer gave the stream up, or the connection ended; it is forgotten already."""

    @abstractmethod
    def expired(self, now: float) -> None:
        """``deadline`` has passed."""

    @abstractmethod
    def stalled(self) -> None:
        """More of the body than can be sent is waiting."""

    @abstractmethod
    def flowing(self) -> None:
        """All of the body so far has been sent."""

    def send_data(self, data: bytes, end: bool) -> None:
        """More of the body; ``end``: it is the last."""
        size = len(data)
        connection = self.connection
        if (
            not self.unsent
            and size <= self.send_window
            and size <= connection.send_window
            and size <= SMALLEST_MAX_FRAME
            and not connection.blocked
        ):
            if size or end:
                self.send_window -= size
                connection.send_window -= size
                header = HEADER.pack(0, size, frames.DATA, frames.END_STREAM if end else 0, self.id)
                connection.put(header + data if size else header)
                connection.earn(2)  # a peer may well answer each frame with two WINDOW_UPDATEs
                if end:
                    self.end_local()
            return
        self.unsent = self.unsent + data if self.unsent else data
        self.ends = end
        if not connection.pump(self):
            connection.waiting[self.id] = self
            self.stalled()

    def send_trailers(self, block: bytes) -> None:
        """End the stream with a header block."""
        if self.unsent:
            self.trailers = block
            self.ends = True
        else:
            self.connection.put(frames.header_frames(self.id, block, frames.END_STREAM, SMALLEST_MAX_FRAME))
            self.end_local()

    def end_local(self) -> None:
        self.local_ended = True
        if self.remote_ended:
            self.connection.forget(self, forgiven=False)

    def hold(self) -> None:
        """Give the peer no more room than it has."""
        self.held = True

    def let_flow(self) -> None:
        """Give the peer its whole window again."""
        self.held = False
        if not self.remote_ended:
            self.give_room(STREAM_WINDOW - self.receive_window)

    def give_room(self, size: int) -> None:
        if size > 0:
            self.receive_window += size
            self.connection.put(frames.window_update(self.id, size))

    def reset(self, code: int) -> None:
        """Give the stream up."""
        connection = self.connection
        if connection.streams.get(self.id) is self:
            connection.put(frames.rst_stream(self.id, code))
            connection.forget(self, forgiven=True)
