"""The first layer of a connection where ``enable_proxy`` is on: takes off the PROXY header and says who the client is.

Only peers in ``millrace.proxy_trusted`` are believed: whoever may write a PROXY header may claim any address, in
X-Forwarded-For, in the access log and towards backends of TCP routes. (Gorouter believes everybody.)

    peer is not trusted  --> served with its own address at once; a PROXY line is then just a malformed request
    peer is trusted      --> header: served with the address it says, or with its own for UNKNOWN and LOCAL
                             no header, first bytes of something else: served with its own address
                             nothing at all within 5 s: the same, for protocols in which the server speaks first
                             a malformed header, or one that stays incomplete for 5 s: reset

A header is optional, as with Gorouter, because load balancers check health, and operators look, without one. Where
every connection must carry one, ``millrace.proxy_required`` resets those of trusted peers that do not. The layer must
never look at what follows a header.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_network
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Final, TypeAlias

from router.proxy_protocol import (
    BadProxyHeader,
    NoProxyHeader,
    Place,
    ProxyHeader,
    parse_proxy_header,
    plain_address,
)
from router.tunnel import reset

if TYPE_CHECKING:
    from router.edge import Edge

HEADER_SECONDS: Final = 5.0
"""How long a trusted peer may take for its header, which a proxy sends before anything else."""
_ANSWERS_KEPT: Final = 4096

Network: TypeAlias = IPv4Network | IPv6Network


def networks(text: str) -> tuple[Network, ...]:
    """From addresses and networks with commas between, such as ``10.0.0.0/8, ::1``. Raises ValueError."""
    return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())


class ProxyRules:
    """Whom to believe, and whether to insist."""

    def __init__(self, trusted: tuple[Network, ...], *, required: bool) -> None:
        self.required = required
        self._trusted = trusted
        self.trusts: Callable[[str], bool] = lru_cache(_ANSWERS_KEPT)(self._trusts)
        """Whether a PROXY header from this IP address is believed."""

    def _trusts(self, ip: str) -> bool:
        address = plain_address(ip)
        return any(address in network for network in self._trusted)


class ProxyLayer(asyncio.Protocol):
    """Until the header is there; then ``following`` makes the protocol that goes on with the connection.

    ``following`` is given this layer, for ``Edge.replace`` and with what the header said, or None where the connection
    was not held up: whoever follows admits itself then.
    """

    __slots__ = ("_came", "_edge", "_following", "_rules", "deadline", "destination", "shard", "source", "transport")

    def __init__(
        self, edge: Edge, rules: ProxyRules, following: Callable[[ProxyLayer | None], asyncio.Protocol]
    ) -> None:
        self.transport: asyncio.Transport
        self.deadline = inf
        """Monotonic seconds; the edge's sweep calls ``expired`` after it."""
        self.shard = 0
        self.source: Place | None = None
        """The client, if it is not the peer."""
        self.destination: Place | None = None
        """Where the client connected to, if it is not this socket's address."""
        self._edge = edge
        self._rules = rules
        self._following = following
        self._came = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # TCP gives no other
        self.transport = transport
        peer = transport.get_extra_info("peername")
        if not peer or not self._rules.trusts(peer[0]):
            self._hand_over(self._following(None))
            return
        self.deadline = monotonic() + HEADER_SECONDS
        if not self._edge.admit(self):
            reset(transport)

    def data_received(self, data: bytes) -> None:
        self._came += data
        try:
            header = parse_proxy_header(self._came)
        except NoProxyHeader:
            if self._rules.required:
                self._refuse()
            else:
                self._go_on()
        except BadProxyHeader:
            self._refuse()
        else:
            if header is not None:
                self._believe(header)

    def _believe(self, header: ProxyHeader) -> None:
        self.source, self.destination = header.source, header.destination
        self._came = self._came[header.size :]
        self._go_on()

    def _go_on(self) -> None:
        came = self._came
        following = self._following(self)
        self._hand_over(following)
        if came:
            following.data_received(came)

    def _hand_over(self, following: asyncio.Protocol) -> None:
        self.transport.set_protocol(following)
        following.connection_made(self.transport)

    def _refuse(self) -> None:
        self._edge.metrics.proxy_headers_refused += 1
        self.deadline = inf
        reset(self.transport)

    def eof_received(self) -> bool:
        """Nothing followed: a health check."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._edge.forget_client(self)

    def expired(self, now: float) -> None:
        """The header did not come in time."""
        if self._came or self._rules.required:
            self._refuse()
        else:
            self._go_on()

    @property
    def is_idle(self) -> bool:
        return not self._came

    def close_if_idle(self) -> None:
        """For a drain: what has come only begins something."""
        if self.is_idle:
            self.transport.close()
