"""A stream of an HTTP/2 connection as one side of a tunnel (RFC 9113 section 8.5; RFC 8441)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from router.http2 import frames
from router.http2.stream import Stream


class StreamSide:
    """Implements `router.tunnel.Side`; the stream tells it what comes and when it is over."""

    __slots__ = ("_broken", "_call_soon", "_closing", "_protocol", "_stream", "error")

    def __init__(self, stream: Stream, call_soon: Callable[..., object], broken: int) -> None:
        """``broken`` is the code that tells the peer of a tunnel that did not come to its end."""
        self._stream = stream
        self._broken = broken
        self._call_soon = call_soon
        self._protocol: asyncio.Protocol | None = None
        self._closing = False
        self.error: Exception | None = None
        """How the stream ended if it did not simply end; said together with its end."""

    # What the tunnel asks of a transport -------------------------------------------------------------------------

    def set_protocol(self, protocol: asyncio.Protocol) -> None:
        self._protocol = protocol

    def get_extra_info(self, _name: str) -> Any:
        return None

    def get_write_buffer_size(self) -> int:
        return len(self._stream.unsent)

    def is_closing(self) -> bool:
        return self._closing

    def write(self, data: bytes) -> None:
        if not self._closing and not self._stream.local_ended and not self._stream.ends:
            self._stream.send_data(data, False)

    def write_eof(self) -> None:
        if not self._closing and not self._stream.local_ended and not self._stream.ends:
            self._stream.send_data(b"", True)

    def pause_reading(self) -> None:
        self._stream.hold()

    def resume_reading(self) -> None:
        if not self._closing:
            self._stream.let_flow()

    def close(self) -> None:
        """What was written is delivered; whatever still comes is nobody's."""
        if not self._closing:
            self.write_eof()
            self._closing = True
            if self._stream.local_ended:
                self._stream.reset(frames.NO_ERROR)

    def abort(self) -> None:
        self._closing = True
        self._stream.reset(self._broken)

    # What the stream tells ---------------------------------------------------------------------------------------

    def take(self, data: bytes, end: bool) -> None:
        if self._protocol is not None and not self._closing:
            if data:
                self._protocol.data_received(data)
            if end:
                self._protocol.eof_received()

    def stalled(self) -> None:
        if self._protocol is not None:
            self._protocol.pause_writing()

    def flowing(self) -> None:
        if self._protocol is not None:
            self._protocol.resume_writing()

    def local_ended(self) -> None:
        """The end of our direction has been sent."""
        if self._closing:
            self._stream.reset(frames.NO_ERROR)

    def over(self) -> None:
        """The stream is closed; said later than the call that brought it about, as transports do."""
        self._closing = True
        if self._protocol is not None:
            self._call_soon(self._report)

    def _report(self) -> None:
        assert self._protocol is not None
        self._protocol.connection_lost(self.error)
