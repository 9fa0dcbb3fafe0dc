"""Bytes both ways after CONNECT or an upgrade (RFC 9110 sections 7.8 and 9.3.6).

Each side ends by itself: an end of one direction is passed on and the other direction goes on, until both have ended or
one side breaks off. A reader slower than its writer pauses the writer.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from router.exchange import Exchange

WRITE_AT_ONCE: Final = 0
"""Bytes that may wait in a transport before its writer is paused. None may: what is written goes to the kernel in the
same moment, and only what it does not take is kept. Saved up until the end of the loop's round, the writes of a
thousand connections would leave as one burst, which a loopback or a network card may not hold."""


class Tunnel:
    """Two transports joined. Each protocol reports what happens to its own transport."""

    __slots__ = ("_a", "_b", "_ended", "_exchange")

    def __init__(self, exchange: Exchange, a: asyncio.Transport, b: asyncio.Transport) -> None:
        self._exchange: Exchange | None = exchange
        self._a = a
        self._b = b
        self._ended: asyncio.Transport | None = None
        """The side that has sent its end, if one has."""
        metrics = exchange.edge.metrics
        metrics.tunnels += 1
        metrics.tunnels_opened += 1

    def _other(self, side: asyncio.Transport) -> asyncio.Transport:
        return self._b if side is self._a else self._a

    def carry(self, side: asyncio.Transport, data: bytes) -> None:
        """Bytes that came from ``side``."""
        self._other(side).write(data)

    def pause(self, side: asyncio.Transport) -> None:
        """``side`` is not read fast enough by its peer."""
        other = self._other(side)
        if not other.is_closing():
            other.pause_reading()

    def resume(self, side: asyncio.Transport) -> None:
        other = self._other(side)
        if not other.is_closing():
            other.resume_reading()

    def end_of(self, side: asyncio.Transport) -> bool:
        """``side`` sends no more. Returns whether its transport stays open for the other direction."""
        if self._ended is not None and self._ended is not side:
            self._a.close()
            self._b.close()
            return False
        self._ended = side
        other = self._other(side)
        if other.is_closing():
            return False
        other.write_eof()
        return True

    def lost(self, side: asyncio.Transport, error: Exception | None) -> None:
        """``side`` is closed."""
        other = self._other(side)
        if error is not None:
            other.abort()
        else:
            other.close()
        exchange = self._exchange
        if exchange is not None:
            self._exchange = None
            exchange.edge.metrics.tunnels -= 1
            exchange.tunnel_over()
