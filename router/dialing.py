"""The one place that opens HTTP connections to endpoints: TCP, and TLS for endpoints with a tls_port.

Theory of operation. Whoever wants a connection gives a ``Dial`` to hold and hears of the outcome once, later:

    DIALING --TCP open--> (HANDSHAKE --complete-->) dialed: the protocol it returns has the connection
       +-- refused, unreachable, no such name, deadline --+
                              +-- refused, deadline ------+--> dial_failed: what it was, and whose fault

``abort`` ends a dial in silence. A dial is minded by the edge like the connection that it becomes.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from router.attempts import NOTHING_OPENED, Opening
from router.backend import reason
from router.route_services import hairpin
from router.route_services.service import ServiceEndpoint
from router.tls import failures
from router.tls.backend_tls import BackendTls, server_name
from router.tls.contexts import H2
from router.tls.handshake import Handshake
from router.tls.layer import TlsLayer

if TYPE_CHECKING:
    from router.edge import Edge
    from router.pool import Endpoint

NO_SUCH_HOST: Final = frozenset((socket.EAI_NONAME, socket.EAI_NODATA))
"""Errors of a lookup that say that there is no such name, not that nobody could say."""
OUR_SHORTAGE: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL))
"""Errors of a dial that say nothing about the endpoint."""


class DialFailure(NamedTuple):
    """Why there is no connection."""

    text: str
    """In Go's words, which operators grep for."""
    status: int = 502
    """What the client is told if no other endpoint does better: 502, or one of `router.tls.failures`."""
    marks: bool = True
    """Whether it says something about the endpoint."""
    opening: Opening = NOTHING_OPENED
    """How long what was tried took."""


class Dialer(Protocol):
    """Whoever asked for a connection. Exactly one of these is called, never from within ``begin_dial``."""

    def dialed(self, dial: Dial, http2: bool) -> asyncio.Protocol:
        """It is open, and both sides speak HTTP/2 or HTTP/1.1 on it. Returns the protocol to put there.

        The protocol is to be minded in the dial's place: see ``Edge.replace_backend``.
        """

    def dial_failed(self, failure: DialFailure) -> None: ...


class Dial(Handshake):
    """One connection being opened."""

    __slots__ = (
        "_begun",
        "_connected",
        "_dialer",
        "_edge",
        "_http2",
        "_resolved",
        "_task",
        "_tls_wanted",
        "deadline",
        "endpoint",
        "shard",
    )

    is_idle = False

    def __init__(self, edge: Edge, endpoint: Endpoint, dialer: Dialer, *, http2: bool = False) -> None:
        """``http2``: offer it to an endpoint with a tls_port."""
        super().__init__()
        self._edge = edge
        self._dialer = dialer
        self._http2 = http2
        self._tls_wanted = False
        self._task: asyncio.Task[None] | None = None
        self.endpoint = endpoint
        self._begun = monotonic()
        self._resolved = 0.0
        """When the address was known, 0 before."""
        self._connected = 0.0
        """When TCP was open, 0 before."""
        self.deadline = self._begun + edge.dial_timeout
        """Monotonic seconds; the edge's sweep calls ``expired`` after it."""
        self.shard = 0

    def begin_dial(self) -> None:
        """Start."""
        self._edge.mind_backend(self)
        self._task = self._edge.loop.create_task(self._open())

    async def _open(self) -> None:
        record = self.endpoint.record
        self._tls_wanted = bool(record.tls_port)
        try:
            if isinstance(self.endpoint, ServiceEndpoint) and self.endpoint.hairpins:
                self._resolved = self._begun
                await hairpin.connect(self._edge, self)
            else:
                await self._connect(await self._addresses(record.host, record.tls_port or record.port))
        except (socket.gaierror, UnicodeError) as error:  # UnicodeError: a name that DNS cannot have
            unknown = not isinstance(error, socket.gaierror) or error.errno in NO_SUCH_HOST
            why = "no such host" if unknown else str(error.args[-1]).lower()
            self._give_up(DialFailure(f"dial tcp: lookup {record.host}: {why}"))
        except OSError as error:
            marks = error.errno not in OUR_SHORTAGE
            self._give_up(DialFailure(self._told(f"connect: {reason(error)}"), marks=marks))
        finally:
            self._task = None

    @property
    def _sessions(self) -> BackendTls:
        own = self.endpoint.tls if isinstance(self.endpoint, ServiceEndpoint) else None
        return own or self._edge.backend_tls

    async def _addresses(self, host: str, port: int) -> list[tuple[str, int]]:
        """Of a name, as the system resolves it; an address is its own. Raises socket.gaierror, UnicodeError."""
        if ":" in host or host.replace(".", "").isdigit():
            self._resolved = self._begun
            return [(host, port)]
        found = await self._edge.loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        self._resolved = monotonic()
        return [(str(address[0]), port) for *_, address in found]

    async def _connect(self, addresses: list[tuple[str, int]]) -> None:
        """To the first address that lets us. Raises OSError: what the last one said."""
        *others, last = addresses
        for host, port in others:
            try:
                await self._edge.loop.create_connection(lambda: self, host, port)
            except OSError:
                continue
            return
        await self._edge.loop.create_connection(lambda: self, *last)

    def _told(self, what: str) -> str:
        return f"dial tcp {self.endpoint.address}: {what}"

    # The connection ---------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # TCP gives no other
        super().connection_made(transport)
        self._connected = monotonic()
        self._edge.probes.watch(transport)
        if self._over:
            self._edge.metrics.backend_connections_opened += 1
            transport.abort()
        elif self._tls_wanted:
            edge, record = self._edge, self.endpoint.record
            self.deadline = monotonic() + edge.tls_handshake_timeout
            tls = self._sessions
            self.begin(
                tls.context(self._http2),
                server_side=False,
                server_hostname=server_name(record),
                session=tls.session(record, self._http2),
            )
        else:
            self._over = True
            protocol = self._dialer.dialed(self, False)
            transport.set_protocol(protocol)
            protocol.connection_made(transport)

    def opened(self, layer: TlsLayer) -> asyncio.Protocol:
        layer.at_end = partial(self._sessions.keep_session, self.endpoint.record, self._http2)
        return self._dialer.dialed(self, layer.alpn == H2)

    def failed(self, error: Exception) -> None:
        if isinstance(error, OSError) and not isinstance(error, ssl.SSLError):
            self._finish(DialFailure(f"read tcp {self.endpoint.address}: read: {reason(error)}"))
        else:
            failure = failures.of(error)
            self._finish(DialFailure(failure.text, failure.status))

    # Ends -------------------------------------------------------------------------------------------------------

    def expired(self, now: float) -> None:
        """The endpoint did not answer in time."""
        if self.transport is None:
            self._give_up(DialFailure(self._told("i/o timeout")))
        else:
            self._give_up(DialFailure("net/http: TLS handshake timeout"))

    def _give_up(self, failure: DialFailure) -> None:
        if not self._over:
            self._stop()
            self._finish(failure)

    def _finish(self, failure: DialFailure) -> None:
        self._edge.forget(self)
        self._dialer.dial_failed(failure._replace(opening=self.opening()))

    def opening(self) -> Opening:
        """How long each phase has taken up to now; 0 for one that was not needed or not reached."""
        now = monotonic()
        resolved = self._resolved or now
        connected = self._connected or now
        return Opening(
            dns=resolved - self._begun, dial=connected - resolved, tls=now - connected if self._tls_wanted else 0.0
        )

    def _stop(self) -> None:
        self._over = True
        if self._task is not None:
            self._task.cancel()
        if self.transport is not None:
            self.transport.abort()

    def abort(self) -> None:
        """Give up; nothing is told to the dialer."""
        self._stop()
        self._edge.forget(self)

    def close(self) -> None:
        """As ``abort``: nothing is under way that could be finished."""
        self.abort()

    def pause_response(self) -> None:
        """Whoever opens a connection has no response to hold back."""

    def resume_response(self) -> None:
        """As ``pause_response``."""
