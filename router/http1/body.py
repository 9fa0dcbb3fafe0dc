"""A request's body as it comes in: which bytes belong to it, and when it is whole (RFC 9112 section 6)."""

from __future__ import annotations

from router.http1.chunked import ChunkScanner
from router.http1.grammar import BadMessage


class IncomingBody:
    """Framed by chunks (``length`` -1) or by its length. ``limit`` is the most it may hold, 0 for no limit."""

    __slots__ = ("_left", "_limit", "_scanner", "received")

    def __init__(self, length: int, limit: int) -> None:
        """Raises BadMessage (413): announced as longer than the limit."""
        self._left = length
        self._limit = limit
        self._scanner = ChunkScanner() if length < 0 else None
        self.received = 0
        """Bytes so far, without framing."""
        self._check(length)

    def feed(self, data: bytes) -> int:
        """How many bytes of ``data`` belong to this body. Raises BadMessage: 400 malformed, 413 over the limit."""
        if self._scanner is not None:
            used = self._scanner.feed(data)
            self.received = self._scanner.payload
            self._check(self.received)
        else:
            used = min(len(data), self._left)
            self._left -= used
            self.received += used
        return used

    @property
    def done(self) -> bool:
        return self._left == 0 if self._scanner is None else self._scanner.done

    def _check(self, size: int) -> None:
        if self._limit and size > self._limit:
            raise BadMessage(413, f"request body longer than {self._limit} bytes")
