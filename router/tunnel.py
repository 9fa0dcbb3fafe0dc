"""Bytes both ways after CONNECT, after an upgrade, or on a TCP route (RFC 9110 sections 7.8 and 9.3.6).

Theory of operation. A tunnel joins two transports: whatever a transport is (TCP, TLS, a stream of HTTP/2), it gets a
protocol that does nothing but write to the other one. The tunnel itself is asked only when something changes.

    OPEN --one side ends--> HALF --the other side ends--> CLOSING --all is delivered--> over
      |                      |                               |
      +--- a side closes ----+------> CLOSING                +-- nothing moves any more --> cut
      +--- a side breaks off, or a deadline passes: both sides are reset --> over

Each side ends by itself: an end of one direction is passed on, and the other direction goes on. A reader slower than
its writer pauses the writer. What one side has sent is delivered before the other is closed, and a side that broke off
looks broken off to the other. Nothing is ever added to the bytes. A message costs a sum and a write: no clock is read
and no state compared; the sweep finds by the number of bytes whether anything has moved.

Must know nothing of HTTP: whoever opens a tunnel learns by ``tunnel_over`` how it ended.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Protocol

from router.keep_alive import Probes

if TYPE_CHECKING:
    from router.edge import Edge

WRITE_AT_ONCE: Final = 0
"""Bytes that may wait in a transport before its writer is paused. None may: what is written goes to the kernel in the
same moment, and only what it does not take is kept. Saved up until the end of the loop's round, the writes of a
thousand connections would leave as one burst, which a loopback or a network card may not hold."""

LOOKS: Final = 4
"""How often within the idle timeout a tunnel is looked at: it ends up to a quarter of it too late, never too early."""

_PROBES: Final = Probes(silent=60, interval=15, times=4)

IDLE: Final = "tunnel_idle_timeout"
LIFETIME: Final = "tunnel_max_lifetime"
STALLED: Final = "tunnel_stalled"
STOPPED: Final = "router_stopped"
RESET_BY_CLIENT: Final = "tunnel_reset (client)"
RESET_BY_ENDPOINT: Final = "tunnel_reset (endpoint)"
"""How a tunnel may end that did not simply end; for logs."""


class Side(Protocol):
    """What a tunnel asks of a transport; `asyncio.Transport` has all of it.

    It calls its protocol's ``pause_writing`` and ``resume_writing``, reports an end of its bytes by ``eof_received``
    and its own end by ``connection_lost``, once, later than the call that brought it about.
    """

    def set_protocol(self, protocol: asyncio.Protocol, /) -> None: ...
    def get_extra_info(self, name: str, /) -> Any:
        """``socket``: the socket to reset where there is one that is this side's alone, else None."""

    def get_write_buffer_size(self) -> int: ...
    def is_closing(self) -> bool: ...
    def write(self, data: bytes, /) -> None: ...
    def write_eof(self) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...


class TunnelOwner(Protocol):
    """Whoever opened the tunnel."""

    def tunnel_over(self, from_client: int, from_backend: int, outcome: str) -> None:
        """Called once, when both sides are closed: bytes received from each; ``outcome`` is empty for a proper end."""


def reset(side: Side) -> None:
    """Close at once, and so that the peer does not take what it got for the whole."""
    sock = side.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    side.abort()


class TunnelEnd(asyncio.Protocol):
    """One side of a tunnel, and from ``Tunnel`` on the protocol of its transport."""

    __slots__ = ("_gone", "_write", "closed", "ended", "other", "received", "side", "stalled", "tunnel")

    def __init__(self, side: Side, gone: Callable[[], object], *, stalled: bool = False) -> None:
        """``gone`` is called when the transport is closed; ``stalled``: it has asked its former protocol to pause."""
        self.side = side
        self.received = 0
        """Bytes that came from this side."""
        self.stalled = stalled
        """Whether it takes no more for now; the other side is not read then."""
        self.ended = False
        """Whether it has said that it sends no more."""
        self.closed = False
        self._gone = gone
        self.tunnel: Tunnel
        self.other: TunnelEnd
        self._write: Callable[[bytes], None]

    def join(self, tunnel: Tunnel, other: TunnelEnd) -> None:
        """From here on what comes from this side is written to the other."""
        self.tunnel = tunnel
        self.other = other
        self._write = other.side.write
        self.side.set_protocol(self)

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        self._write(data)

    def pause_writing(self) -> None:
        self.stalled = True
        other = self.other
        if not other.ended and not other.side.is_closing():
            other.side.pause_reading()

    def resume_writing(self) -> None:
        self.stalled = False
        other = self.other
        if not other.ended and not other.side.is_closing():
            other.side.resume_reading()

    def eof_received(self) -> bool:
        """Returns whether the transport is to stay open for the other direction."""
        self.ended = True
        if self.other.ended or self.other.side.is_closing():
            self.tunnel.close()
            return False
        self.other.side.write_eof()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        if self.closed:
            return
        self.closed = True
        self._gone()
        self.tunnel.lost(self, exc)


class Tunnel:
    """Two sides joined. What has come before may be passed on by ``data_received`` of its end."""

    __slots__ = (
        "_backend",
        "_client",
        "_edge",
        "_ends_at",
        "_moved",
        "_outcome",
        "_owner",
        "_quiet",
        "deadline",
        "shard",
    )

    def __init__(self, edge: Edge, owner: TunnelOwner, client: TunnelEnd, backend: TunnelEnd) -> None:
        self._edge = edge
        self._owner = owner
        self._client = client
        self._backend = backend
        self._outcome = ""
        self._moved = 0
        self._quiet = 0
        """How many looks have seen nothing move."""
        now = monotonic()
        self._ends_at = now + edge.tunnel_max_lifetime
        self.deadline = min(now + edge.tunnel_idle_timeout / LOOKS, self._ends_at)
        """Monotonic seconds; the edge's sweep calls ``expired`` after it."""
        self.shard = 0
        edge.mind_tunnel(self)
        client.join(self, backend)
        backend.join(self, client)
        for end in (client, backend):
            _PROBES.watch(end.side)

    # Deadlines --------------------------------------------------------------------------------------------------

    def _bytes_moved(self) -> int:
        """A number that grows with every byte that comes and every byte that is delivered."""
        client, backend = self._client, self._backend
        unsent = sum(end.side.get_write_buffer_size() for end in (client, backend) if not end.closed)
        return 2 * (client.received + backend.received) - unsent

    def expired(self, now: float) -> None:
        """Time to look whether anything has moved since the last look."""
        moved = self._bytes_moved()
        still = moved == self._moved
        self._moved = moved
        self._quiet = self._quiet + 1 if still else 0
        if self._closing:
            if still:
                self.cut(STALLED)
            else:
                self.deadline = now + self._edge.progress_timeout
        elif now >= self._ends_at:
            self._edge.metrics.tunnels_outlived += 1
            self.cut(LIFETIME)
        elif self._quiet >= LOOKS:
            self._edge.metrics.tunnels_idle_too_long += 1
            self.cut(IDLE)
        else:
            self.deadline = min(now + self._edge.tunnel_idle_timeout / LOOKS, self._ends_at)

    # Ends -------------------------------------------------------------------------------------------------------

    @property
    def _closing(self) -> bool:
        return self._client.side.is_closing() or self._backend.side.is_closing()

    def close(self) -> None:
        """Close both sides once what they still have to get is delivered."""
        self._moved = self._bytes_moved()
        self.deadline = monotonic() + self._edge.progress_timeout
        for end in (self._client, self._backend):
            if not end.closed:
                end.side.close()

    def cut(self, outcome: str) -> None:
        """Reset both sides; neither has come to its end."""
        if not self._outcome:
            self._outcome = outcome
        self.deadline = inf
        for end in (self._client, self._backend):
            if not end.closed:
                reset(end.side)

    def lost(self, end: TunnelEnd, error: Exception | None) -> None:
        """The transport of ``end`` is closed, with ``error`` if it broke off."""
        if end.other.closed:
            self._over()
        elif error is not None:
            self._edge.metrics.tunnels_reset += 1
            self.cut(RESET_BY_CLIENT if end is self._client else RESET_BY_ENDPOINT)
        else:
            self.close()

    def _over(self) -> None:
        self.deadline = inf
        self._edge.forget_tunnel(self)
        self._owner.tunnel_over(self._client.received, self._backend.received, self._outcome)
