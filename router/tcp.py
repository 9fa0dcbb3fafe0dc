"""The client's side of a TCP route: finds its pool, opens a connection to an endpoint, and leaves the two to a tunnel.

    accepted --no route of this port has a name------------> DIALING --open--> TUNNEL, until both sides are closed
        |                                                     |   ^
        +--else--> PEEKING --ClientHello, other bytes, 5 s----+   +--refused, timed out: another endpoint
    no route, no endpoint, or none that can be reached: reset, so that the client sees a failure and not an empty answer

Nothing is decrypted and nothing changed: a TLS client that asks for a server name is led by that name to a server with
the certificate for it (TLS passthrough), and who speaks first something else, or nothing for 5 s, goes to the port's
own route. What comes before the endpoint is connected waits here: one read, or one ClientHello, and no more is read.

An endpoint that leaves its pool gets no new connections; those it has go on to their end. Must know nothing of HTTP.
"""

from __future__ import annotations

import asyncio
from functools import partial
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Final

from router.dialing import OUR_SHORTAGE
from router.proxy_protocol import Place, build_v1, build_v2
from router.tls.client_hello import NotTls, parse_client_hello
from router.tunnel import WRITE_AT_ONCE, Tunnel, TunnelEnd, reset

if TYPE_CHECKING:
    from router.edge import Edge
    from router.pool import Endpoint, Pool
    from router.proxy_layer import ProxyLayer

PEEKING, DIALING, TUNNEL, CLOSED = range(4)

HELLO_SECONDS: Final = 5.0
"""How long a client may take for its ClientHello, where a route of the port asks for a server name."""

_PROXY_HEADER: Final = {"v1": build_v1, "v2": build_v2}


class TcpConnection(asyncio.Protocol):
    """Until its tunnel is open; the edge counts and minds it until its end. Implements ``tunnel.TunnelOwner``."""

    __slots__ = (
        "_destination",
        "_dial",
        "_early",
        "_edge",
        "_ended",
        "_endpoint",
        "_pool",
        "_port",
        "_proxied",
        "_source",
        "_state",
        "_tried",
        "deadline",
        "shard",
        "transport",
    )

    def __init__(self, edge: Edge, port: int, proxied: ProxyLayer | None = None) -> None:
        """``port`` is that of the route; ``proxied``: the layer that went before, and knows who the client is."""
        self.transport: asyncio.Transport
        self.deadline = inf
        """Monotonic seconds; the edge's sweep calls ``expired`` after it."""
        self.shard = 0
        self._edge = edge
        self._port = port
        self._proxied = proxied
        self._source: Place | None = None
        self._destination: Place | None = None
        self._state = PEEKING
        self._early = b""
        """What came before there was a tunnel."""
        self._ended = False
        """Whether the client has said before that it sends no more."""
        self._pool: Pool
        self._tried: list[Endpoint] = []
        self._endpoint: Endpoint | None = None
        """Counts this connection as one of its own."""
        self._dial: TcpDial | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # TCP gives no other
        edge, proxied = self._edge, self._proxied
        self.transport = transport
        transport.set_write_buffer_limits(WRITE_AT_ONCE)
        admitted = True
        if proxied is not None:
            self._source, self._destination = proxied.source, proxied.destination
            edge.replace(proxied, self)
            self._proxied = None
        else:
            admitted = edge.admit(self)
        edge.metrics.tcp_connections_accepted += 1
        if not admitted:
            self._refuse()
        elif edge.table.tcp_names_matter(self._port):
            self.deadline = monotonic() + HELLO_SECONDS
        else:
            self._find_pool(None)

    # Before the tunnel ------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._state == CLOSED:
            return
        self._early += data
        if self._state == DIALING:
            self.transport.pause_reading()
            return
        try:
            hello = parse_client_hello(self._early)
        except NotTls:
            self._find_pool(None)
        else:
            if hello is not None:
                self._find_pool(hello.server_name)

    def eof_received(self) -> bool:
        """Returns whether the transport is to stay open for the other direction."""
        self._ended = True
        if self._state == PEEKING and self._early:
            self._find_pool(None)
        return self._state == DIALING

    def _find_pool(self, name: str | None) -> None:
        self.deadline = inf
        pool = self._edge.table.tcp_lookup(self._port, name)
        if pool is None:
            self._refuse()
            return
        self._pool = pool
        if self._early:
            self.transport.pause_reading()
        if not self._attempt():
            self._refuse()

    def _attempt(self) -> bool:
        """Try the next endpoint; False: there is none."""
        edge = self._edge
        endpoint = self._pool.pick(monotonic(), edge.algorithm, edge.max_in_flight, self._tried or None)
        if endpoint is None:
            return False
        self._state = DIALING
        self._endpoint = endpoint
        endpoint.in_flight += 1
        self._dial = TcpDial(edge, endpoint, self)
        self._dial.open()
        return True

    def dial_failed(self, *, marks: bool) -> None:
        """The endpoint cannot be connected to. ``marks``: that is its own fault."""
        edge = self._edge
        endpoint = self._leave_endpoint()
        if marks:
            endpoint.failed_until = monotonic() + edge.failed_endpoint_seconds
        self._tried.append(endpoint)
        if len(self._tried) < edge.max_attempts and self._attempt():
            edge.metrics.retries += 1
            return
        edge.metrics.tcp_connections_failed += 1
        self._cut()

    def _leave_endpoint(self) -> Endpoint:
        endpoint = self._endpoint
        assert endpoint is not None
        endpoint.in_flight -= 1
        self._endpoint = self._dial = None
        return endpoint

    def _refuse(self) -> None:
        self._edge.metrics.tcp_connections_refused += 1
        self._cut()

    def _cut(self) -> None:
        self._state = CLOSED
        self.deadline = inf
        self._early = b""
        reset(self.transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client went away before its tunnel was open."""
        self._edge.forget_client(self)
        self._state = CLOSED
        if self._dial is not None:
            self._dial.abort()
            self._leave_endpoint()

    def expired(self, now: float) -> None:
        """No ClientHello in time: perhaps a protocol in which the server speaks first."""
        self._find_pool(None)

    @property
    def is_idle(self) -> bool:
        return False

    def close_if_idle(self) -> None:
        """For a drain: a connection of a TCP route is never between two exchanges."""

    # The tunnel -------------------------------------------------------------------------------------------------

    def connected(self, dial: TcpDial) -> None:
        """The endpoint is connected: join the two."""
        edge = self._edge
        endpoint = dial.endpoint
        self._dial = None
        self._state = TUNNEL
        edge.metrics.tcp_connections += 1
        ours = TunnelEnd(self.transport, partial(edge.forget_client, self))
        theirs = TunnelEnd(dial.transport, partial(edge.forget, dial))
        Tunnel(edge, self, ours, theirs)
        build = _PROXY_HEADER.get(endpoint.record.options.get("proxy", ""))
        if build is not None:
            dial.transport.write(build(*self._places()))
        early, self._early = self._early, b""
        if early:
            ours.data_received(early)
            if not theirs.stalled and not self._ended and not self.transport.is_closing():
                self.transport.resume_reading()
        if self._ended:
            ours.eof_received()

    def _places(self) -> tuple[Place | None, Place | None]:
        """Where the client is, and where it connected to."""
        if self._source is not None:
            return self._source, self._destination
        peer, own = (self.transport.get_extra_info(name) for name in ("peername", "sockname"))
        return (peer[:2], own[:2]) if peer and own else (None, None)

    def tunnel_over(self, from_client: int, from_backend: int, outcome: str) -> None:
        """Both sides are closed."""
        self._state = CLOSED
        self._leave_endpoint()
        metrics = self._edge.metrics
        metrics.tcp_connections -= 1
        metrics.tcp_bytes_from_clients += from_client
        metrics.tcp_bytes_from_endpoints += from_backend


class TcpDial(asyncio.Protocol):
    """A connection to an endpoint that is being opened; the edge counts it among those to backends until its end."""

    __slots__ = ("_client", "_edge", "_task", "deadline", "endpoint", "shard", "transport")

    is_idle = False

    def __init__(self, edge: Edge, endpoint: Endpoint, client: TcpConnection) -> None:
        self.transport: asyncio.Transport
        self.endpoint = endpoint
        self.deadline = monotonic() + edge.dial_timeout
        """Monotonic seconds; the edge's sweep calls ``expired`` after it."""
        self.shard = 0
        self._edge = edge
        self._client: TcpConnection | None = client
        self._task: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Begin; the client hears of the outcome later."""
        self._edge.mind_backend(self)
        self._task = self._edge.loop.create_task(self._open())

    async def _open(self) -> None:
        # An endpoint that is registered with a tls_port speaks TLS there: with the client, not with the router.
        record = self.endpoint.record
        try:
            await self._edge.loop.create_connection(lambda: self, record.host, record.tls_port or record.port)
        except (OSError, UnicodeError) as error:  # UnicodeError: a name that DNS cannot have
            self._task = None
            self._failed(marks=not isinstance(error, OSError) or error.errno not in OUR_SHORTAGE)

    def _failed(self, *, marks: bool) -> None:
        client = self._client
        self.abort()
        if client is not None:
            client.dial_failed(marks=marks)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # TCP gives no other
        self.transport = transport
        self.deadline = inf
        self._task = None
        transport.set_write_buffer_limits(WRITE_AT_ONCE)
        self._edge.metrics.backend_connections_opened += 1
        client, self._client = self._client, None
        if client is None:
            transport.abort()
        else:
            client.connected(self)

    def expired(self, now: float) -> None:
        """The endpoint did not answer in time."""
        self._failed(marks=True)

    def close(self) -> None:
        """As ``abort``: while it is being opened there is nothing to finish."""
        self.abort()

    def abort(self) -> None:
        """Give up; nothing is told to the client."""
        self._client = None
        self.deadline = inf
        if self._task is not None:
            self._task.cancel()
            self._task = None
        self._edge.forget(self)
