"""An HTTP/2 connection on a transport, whichever end of it: what client and backend connections have in common.

Frames that belong to several streams leave in one write: what is put while something arrives goes out at its end, and
what is put by the other side of the router at the end of the loop's round. Must not know requests or routes.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Final, TypeVar

from router.http2 import frames
from router.http2.connection import Connection
from router.http2.stream import Fault, Stream
from router.tunnel import WRITE_AT_ONCE

if TYPE_CHECKING:
    from router.edge import Edge

TICK: Final = 0.5
"""Seconds between two looks at the deadlines of the streams of one connection."""
LINGER_SECONDS: Final = 2.0
LINGER_BYTES: Final = 1024 * 1024
"""How long, and for how much, a closing side listens on so that its last frames are not lost to a reset."""
UNREAD_CONTROL: Final = 256 * 1024
"""Bytes of answers to its frames that a peer may leave unread before it is cut off."""

_DATA: Final = bytes([frames.DATA])

S = TypeVar("S", bound=Stream)


class Http2Wire(Connection[S], asyncio.Protocol):
    __slots__ = (
        "_flush_due",
        "_over",
        "_partial",
        "_shut",
        "_undelivered",
        "_unread",
        "deadline",
        "edge",
        "idle_until",
        "shard",
        "transport",
    )

    def __init__(self, edge: Edge, max_list: int) -> None:
        super().__init__(max_list)
        self.edge = edge
        self.transport: asyncio.Transport = None  # type: ignore[assignment]  # set before any use, by connection_made
        self.deadline = inf
        """Monotonic seconds; the edge's sweep calls ``expired`` after it."""
        self.shard = 0
        self.idle_until = inf
        """Until when the connection may be without a stream; holds while it is."""
        self._flush_due = False
        self._partial = inf
        """Until when a frame or a header block that has begun must be whole."""
        self._over = False
        """Whether the connection has ended, as far as streams go."""
        self._shut = False
        """Whether nothing can be sent any more."""
        self._undelivered = 0
        """Once it has ended: bytes that the peer still had to take when it was last looked at."""
        self._unread = 0

    @abstractmethod
    def reset_all(self) -> None:
        """The connection ends: every stream with it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # TCP gives no other
        self.transport = transport
        transport.set_write_buffer_limits(WRITE_AT_ONCE)

    # Bytes ------------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._over:
            self._unread += len(data)
            if self._unread > LINGER_BYTES:
                self.transport.abort()
            return
        progress = False
        try:
            progress = self.feed(data)
        except Fault as fault:
            self.fail(fault)
        if self.in_header_block:
            self._must_go_on(progress)
        else:
            self._partial = inf
        self.flush()

    def _must_go_on(self, progress: bool) -> None:
        """Something has begun and not ended: a header block has its time as a whole, any other frame has its own.

        ``progress``: a frame has come to its end, so that what has begun is new.
        """
        if not self._over and (self._partial == inf or (progress and not self._block_stream)):
            edge = self.edge
            is_body = not self._block_stream and self._tail[3:4] == _DATA
            self._partial = monotonic() + (edge.progress_timeout if is_body else edge.read_header_timeout)
            self.deadline = min(self.deadline, self._partial)

    def wake(self) -> None:
        if not self._flush_due:
            self._flush_due = True
            self.edge.loop.call_soon(self._flush_now)

    def _flush_now(self) -> None:
        self._flush_due = False
        self.flush()

    def flush(self) -> None:
        out = self.out
        if out and self._shut:
            out.clear()
            self.out_bytes = 0
        elif out:
            self.transport.write(out[0] if len(out) == 1 else b"".join(out))
            out.clear()
            self.out_bytes = 0
            if self.blocked and self.transport.get_write_buffer_size() > UNREAD_CONTROL:
                self.transport.abort()

    def pause_writing(self) -> None:
        self.blocked = True

    def resume_writing(self) -> None:
        self.blocked = False
        self.pump_waiting()
        self.flush()

    # Ends -------------------------------------------------------------------------------------------------------

    def fail(self, fault: Fault) -> None:
        """A connection error (RFC 9113 section 5.4.1)."""
        self.put(frames.goaway(self.newest, fault.code, fault.why))
        self.end()

    def end(self) -> None:
        """Send what is to be sent, take nothing more, and close."""
        self._over = True
        self.reset_all()
        self.flush()
        self._shut = True
        if not self.transport.is_closing():
            self.transport.write_eof()
        self._undelivered = self.transport.get_write_buffer_size()
        self.deadline = monotonic() + (self.edge.progress_timeout if self._undelivered else LINGER_SECONDS)

    def eof_received(self) -> bool:
        return False

    def expired(self, now: float) -> None:
        """Something's deadline may have passed: the connection's own, or that of a stream."""
        if self._over:
            self._leave_undelivered(now)
        elif self._partial <= now:
            self.fail(Fault(frames.PROTOCOL_ERROR, "a frame or a header block that did not come to its end in time"))
        elif not self.streams:
            if self.idle_until <= now:
                self.idle_too_long()
            else:
                self.deadline = min(self.idle_until, self._partial)
        else:
            for stream in [stream for stream in self.streams.values() if stream.deadline <= now]:
                stream.expired(now)
            self.flush()
            if self.streams:
                self.deadline = now + TICK

    def _leave_undelivered(self, now: float) -> None:
        """The connection has ended; a slow peer may still be reading what was said before."""
        left = self.transport.get_write_buffer_size()
        if not self._undelivered or left >= self._undelivered:
            self.transport.abort()
        else:
            self._undelivered = left
            self.deadline = now + (self.edge.progress_timeout if left else LINGER_SECONDS)

    @abstractmethod
    def idle_too_long(self) -> None:
        """No stream for as long as the connection may be without one."""
