"""The data plane of one worker: what all its connections share, and the sweep that minds their deadlines.

Holds settings as plain attributes (the hot path reads them), the plans remembered by their bytes, and every open
connection. Connections are spread over shards; each tick of the sweep looks at one shard, so that no tick is long and
no request needs a timer of its own.
"""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import Callable
from email.utils import formatdate
from math import inf
from time import monotonic, perf_counter_ns, time
from typing import TYPE_CHECKING, Any, Final, Protocol

from router import keep_alive
from router.client import ClientConnection, InnerClient
from router.config.settings import Settings
from router.dialing import Dial
from router.exchange import Exchange
from router.heads import client_cert
from router.heads.forwarding import ForwardingRules, RequestPlan
from router.heads.response_plan import ResponsePlan
from router.http1.request import RequestLine, parse_line
from router.http1.response import too_long
from router.http2_backend import Awaited, BackendStream, Http2Backend
from router.http2_client import Http2Client
from router.logs.access_log import AccessLog
from router.logs.request_log import RequestLog
from router.metrics.counters import Metrics
from router.route_services.turns import RouteServices
from router.table import RouteTable
from router.tls.backend_tls import BackendTls
from router.traced import TracedExchange
from router.tunnel import STOPPED, Tunnel

if TYPE_CHECKING:
    from router.heads.error_pages import ErrorPages
    from router.pool import Endpoint, Pool

SHARDS: Final = 8
TICK: Final = 0.05
"""Seconds between two ticks; a deadline is noticed at most SHARDS * TICK after it passed."""

_ID_ENDS: Final = [b"%02x\r\n" % n for n in range(255, -1, -1)]

REMEMBERED: Final = 2048
"""How many request lines, field blocks and response heads are remembered; then each memory starts anew."""
REMEMBERED_BYTES: Final = 2048
"""Longer ones are not remembered."""
SEEN_ONCE: Final = 16 * 1024
"""Of how many more it is known that they came once."""


class Minded(Protocol):
    """A client connection, or what goes before one on the same transport, as the edge sees it."""

    deadline: float
    """Monotonic seconds after which the sweep calls ``expired``."""
    shard: int
    """The edge's own note."""

    @property
    def transport(self) -> asyncio.Transport: ...
    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way."""

    def expired(self, now: float) -> None: ...
    def close_if_idle(self) -> None:
        """For a drain: close unless something is under way."""


class MindedBackend(Protocol):
    """A connection to a backend, or one that is being opened, as the edge sees it."""

    deadline: float
    """Monotonic seconds after which the sweep calls ``expired``."""
    shard: int
    """The edge's own note."""

    @property
    def is_idle(self) -> bool:
        """Whether it may be closed for another one's sake."""

    def expired(self, now: float) -> None: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...


Told = Callable[[Exchange, float], None]


class Events(Protocol):
    """Who is told of single exchanges, and of their attempts."""

    def answered_at_once(self, exchange: Exchange, took: float) -> None:
        """A response came whole, and the exchange is over."""

    def over(self, exchange: Exchange, took: float) -> None:
        """An exchange is over otherwise."""

    def head_came(self, exchange: Exchange, plan: ResponsePlan) -> None:
        """The head of a response whose end is still to come, or of a tunnel."""

    def attempt_failed(self, exchange: Exchange, began: float) -> None:
        """``began``: monotonic seconds."""


class Edge:
    """Accepts client connections through ``client`` and serves them until ``drain`` or ``abort``."""

    def __init__(
        self,
        settings: Settings,
        table: RouteTable,
        metrics: Metrics,
        access_log: AccessLog | None,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        native = settings.millrace
        self.table = table
        self.metrics = metrics
        self.access_log = access_log
        self.over: Told | None = None if access_log is None else access_log.exchange_over
        self.over_at_once: Told | None = self.over
        """Told of every exchange that is over, and how many seconds it took; ``over_at_once`` of those whose response
        came whole."""
        self.events: Events | None = None
        self.timed = access_log is not None or metrics.per_request
        """Whether anybody wants to know when requests were sent on."""
        self.loop = loop
        self.draining = False
        self.healthy = True
        """Whether health checks on the traffic ports are answered 200."""
        self.rules = ForwardingRules(settings)
        self.tracing = self.rules.tracing
        self.error_pages = _error_pages(settings)
        self.exchange = Exchange if self.tracing is None else TracedExchange
        self.request_log = RequestLog(native.request_log_limit)
        self.request_limits = self.rules.request_limits
        self.response_limits = self.rules.response_limits
        self.shows_client_certs = self.rules.client_cert_mode != client_cert.ALWAYS_FORWARD
        """Whether backends learn of the certificates that clients show."""
        self.algorithm = settings.balancing_algorithm
        self.near: str | None = None
        """The availability zone whose endpoints come first, where one does."""
        if settings.balancing_algorithm_az_preference == "locally-optimistic":
            self.near = settings.zone
        self.failed_tls_endpoint: Callable[[str, str], None] | None = None
        """Told the route and the address of an endpoint with a tls_port that no connection can be opened to."""
        self.max_in_flight = settings.backends.max_conns
        self.max_attempts = settings.backends.max_attempts
        self.max_body = native.max_request_body_bytes
        self.max_idle = 0 if settings.disable_keep_alives else settings.max_idle_conns_per_host
        self.backend_head_end = b"Connection: close\r\n\r\n" if settings.disable_keep_alives else b"\r\n"
        self.connect_allowed = native.connect
        self.http2_enabled = settings.enable_http2
        self.max_streams = native.max_http2_streams
        self.tunnel_idle_timeout = native.tunnel_idle_timeout or inf
        self.tunnel_max_lifetime = native.tunnel_max_lifetime or inf
        self.pipeline_buffer = native.pipeline_buffer_bytes
        self.retry_buffer = native.retry_buffer_bytes
        self.dial_timeout = settings.endpoint_dial_timeout or inf
        self.probes = keep_alive.every(settings.endpoint_keep_alive_probe_interval)
        self.tls_handshake_timeout = settings.tls_handshake_timeout or inf
        self.backend_tls = BackendTls(settings)
        self.route_services = RouteServices(settings, table, self.rules)
        self.endpoint_timeout = settings.endpoint_timeout or inf
        self.head_timeout = native.response_header_timeout or inf
        self.response_timeout = min(self.endpoint_timeout, self.head_timeout)
        self.progress_timeout = native.body_progress_timeout
        self.idle_timeout = settings.frontend_idle_timeout or inf
        self.read_header_timeout = settings.read_header_timeout or inf
        self.backend_idle_timeout = native.backend_idle_timeout
        self.unsafe_reuse_seconds = native.unsafe_reuse_seconds
        self.failed_endpoint_seconds = native.failed_endpoint_seconds or settings.droplet_stale_threshold / 4
        self.request_lines: dict[bytes, RequestLine] = {}
        self.request_plans: dict[bytes, RequestPlan] = {}
        """By the field block with its empty line: by all that follows the request line, where there is no body."""
        self.response_plans: dict[bytes, ResponsePlan] = {}
        self._seen_once: set[int] = set()
        self.id_fields: list[bytes] = []
        """X-Vcap-Request-Id lines that no request has yet, with the trace headers where those are switched on."""
        self.start_field = b""
        """X-Request-Start line, right until the monotonic second ``start_field_until``."""
        self.start_field_until = 0.0
        self._id_prefix = _id_prefix()
        self._id_batches = 0
        self.max_backends = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2
        """Connections to backends, idle ones included; for one more, an idle one is closed."""
        self._max_clients = native.max_connections
        self._clients: list[set[Minded]] = [set() for _ in range(SHARDS)]
        self._backends: list[set[MindedBackend]] = [set() for _ in range(SHARDS)]
        self._tunnels: list[set[Tunnel]] = [set() for _ in range(SHARDS)]
        self._next_shard = 0
        self._swept = 0
        self._timer: asyncio.TimerHandle | None = None
        self._drained = asyncio.Event()
        self._date_second = 0
        self._date_field = b""

    # Life -------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to mind deadlines."""
        self._timer = self.loop.call_later(TICK, self._sweep)

    def client(
        self, peer: tuple[str, int] | None = None, scheme: bytes = b"http", layer: Minded | None = None
    ) -> ClientConnection:
        """The protocol of a new connection from a client.

        ``peer`` is who it comes from where the transport cannot know; ``layer`` is what was admitted before it on the
        same connection, and whose place it takes.
        """
        return ClientConnection(self, peer, scheme, layer)

    def inner_client(self, peer: tuple[str, int]) -> ClientConnection:
        """The protocol of a connection that the router has opened to itself."""
        return InnerClient(self, peer, b"https")

    def http2_client(
        self, peer: tuple[str, int] | None = None, scheme: bytes = b"http", layer: Minded | None = None
    ) -> Http2Client:
        """As ``client``, for a connection that speaks HTTP/2 from its first byte."""
        return Http2Client(self, peer, scheme, layer)

    @property
    def connections(self) -> int:
        """Client connections that are open, tunnels included."""
        return self.metrics.client_connections

    def drain(self) -> None:
        """From now on a connection closes after its next response, and clients that can be told are told."""
        self.draining = True
        self.healthy = False
        for shard in self._clients:
            for client in list(shard):
                if isinstance(client, Http2Client):
                    client.begin_drain()
        if not self.connections:
            self._drained.set()

    async def drained(self) -> None:
        """Returns once no client connection is left."""
        await self._drained.wait()

    def census(self) -> tuple[int, int]:
        """Client connections with something under way, tunnels apart, and those without."""
        idle = sum(client.is_idle for shard in self._clients for client in shard)
        return max(0, sum(map(len, self._clients)) - idle - self.metrics.tunnels), idle

    def close_idle(self) -> None:
        """Close client connections without an exchange."""
        for shard in self._clients:
            for client in list(shard):
                client.close_if_idle()

    def abort(self) -> None:
        """Close everything at once."""
        if self._timer is not None:
            self._timer.cancel()
        for tunnels in self._tunnels:
            for tunnel in list(tunnels):
                tunnel.cut(STOPPED)
        for clients in self._clients:
            for client in list(clients):
                client.transport.abort()
        for backends in self._backends:
            for backend in list(backends):
                backend.abort()

    def watch(self, events: Events) -> None:
        """From now on tell ``events`` of exchanges, too."""
        self.timed = True
        self.events = events
        self.also_tell(events.over, events.answered_at_once)

    def also_tell(self, over: Told, at_once: Told) -> None:
        """Of exchanges that are over."""
        self.over = _both(self.over, over)
        self.over_at_once = _both(self.over_at_once, at_once)

    # Connections ------------------------------------------------------------------------------------------------

    def admit(self, client: Minded) -> bool:
        """Mind a new client connection. Returns False if there are too many already: it is to be refused."""
        metrics = self.metrics
        metrics.client_connections += 1
        metrics.client_connections_accepted += 1
        client.shard = self._shard()
        self._clients[client.shard].add(client)
        return not self._max_clients or metrics.client_connections <= self._max_clients

    def replace(self, layer: Minded, client: Minded) -> None:
        """``client`` goes on with the connection that ``layer`` was admitted for."""
        client.shard = layer.shard
        shard = self._clients[layer.shard]
        shard.discard(layer)
        shard.add(client)

    def forget_client(self, client: Minded) -> None:
        shard = self._clients[client.shard]
        if client in shard:
            shard.remove(client)
            self.metrics.client_connections -= 1
            if self.draining and not self.metrics.client_connections:
                self._drained.set()

    def dial(self, exchange: Exchange, endpoint: Endpoint) -> Dial | BackendStream | Awaited:
        """A new connection to an endpoint for this exchange, being opened; or a stream of one that is shared."""
        if (
            endpoint.record.protocol == "http2"
            and self.http2_enabled
            and not endpoint.http1_only
            and not exchange.plan.upgrade
            and exchange.line.method != b"CONNECT"
        ):
            shared = next((backend for backend in endpoint.http2 if backend.has_room()), None)
            return (shared or Http2Backend(self, endpoint)).take(exchange)
        dial = Dial(self, endpoint, exchange)
        dial.begin_dial()
        return dial

    def mind_backend(self, backend: MindedBackend) -> None:
        """Count a connection that is about to be opened, and look after its deadline until ``forget``."""
        if sum(map(len, self._backends)) >= self.max_backends:
            self._make_room()
        backend.shard = self._shard()
        self._backends[backend.shard].add(backend)

    def _make_room(self) -> None:
        """Close some idle connection to a backend: with very many endpoints, one each is more than there may be."""
        for number in range(SHARDS):
            for backend in self._backends[(self._next_shard + number) % SHARDS]:
                if backend.is_idle:
                    backend.close()
                    return

    def replace_backend(self, dial: MindedBackend, backend: MindedBackend) -> None:
        """``backend`` goes on with the connection that ``dial`` opened."""
        backend.shard = dial.shard
        shard = self._backends[dial.shard]
        shard.discard(dial)
        shard.add(backend)

    def forget(self, backend: MindedBackend) -> None:
        self._backends[backend.shard].discard(backend)

    def mind_tunnel(self, tunnel: Tunnel) -> None:
        """Look after its deadline until ``forget_tunnel``; its two connections stay minded besides."""
        self.metrics.tunnels += 1
        self.metrics.tunnels_opened += 1
        tunnel.shard = self._shard()
        self._tunnels[tunnel.shard].add(tunnel)

    def forget_tunnel(self, tunnel: Tunnel) -> None:
        self.metrics.tunnels -= 1
        self._tunnels[tunnel.shard].discard(tunnel)

    def _shard(self) -> int:
        self._next_shard = (self._next_shard + 1) % SHARDS
        return self._next_shard

    def _sweep(self) -> None:
        now = monotonic()
        self._swept = (self._swept + 1) % SHARDS
        for client in [c for c in self._clients[self._swept] if c.deadline <= now]:
            client.expired(now)
        for backend in [b for b in self._backends[self._swept] if b.deadline <= now]:
            backend.expired(now)
        for tunnel in [t for t in self._tunnels[self._swept] if t.deadline <= now]:
            tunnel.expired(now)
        self.metrics.settle(self._swept, SHARDS)
        if not self._swept:
            self.table.forget_emptied(now)
            self.request_log.settle(now)
        self._timer = self.loop.call_later(TICK, self._sweep)

    # What requests need -----------------------------------------------------------------------------------------

    def find_pool(self, plan: RequestPlan, path: str) -> Pool | None:
        """The route table's answer, kept in the plan where it holds for every path."""
        table = self.table
        if self.metrics.per_request:
            began = perf_counter_ns()
            pool = table.lookup(plan.host, path)
            self.metrics.lookup_times.append(perf_counter_ns() - began)
        else:
            pool = table.lookup(plan.host, path)
        if not table.path_matters(plan.host):
            plan.pool = pool
            plan.pool_version = table.version
        return pool

    def more_ids(self) -> bytes:
        """Make the next batch of request id lines and return one of them."""
        if self.tracing is not None:
            self.id_fields += self.tracing.more()
            return self.id_fields.pop()
        lead = b"X-Vcap-Request-Id: %b%010x" % (self._id_prefix, self._id_batches)
        self._id_batches += 1
        self.id_fields += [lead + end for end in _ID_ENDS]
        return self.id_fields.pop()

    def renew_start_field(self, now: float) -> bytes:
        """The X-Request-Start line for ``now`` (monotonic seconds); it holds for what is left of this millisecond."""
        wall = time()
        milliseconds = int(wall * 1000)
        self.start_field = b"X-Request-Start: %d\r\n" % milliseconds
        self.start_field_until = now + (milliseconds + 1) / 1000 - wall
        return self.start_field

    # What is remembered -----------------------------------------------------------------------------------------

    def remember_line(self, text: bytes) -> RequestLine:
        """Parse a request line. Raises BadMessage."""
        line = parse_line(text, self.request_limits)
        if self._worth_keeping(text, self.request_lines):
            self.request_lines[text] = line
        return line

    def remember_request(self, block: bytes) -> RequestPlan:
        """Plan for a request's field block, given with its empty line. Raises BadMessage."""
        plan = self.rules.request_plan(block[:-2])
        if self._worth_keeping(block, self.request_plans):
            self.request_plans[block] = plan
        return plan

    def remember_response(self, head: bytes) -> ResponsePlan:
        """Plan for a response head, given without its empty line. Raises BadMessage."""
        if len(head) > self.response_limits.head:
            raise too_long(self.response_limits)
        plan = self.rules.response_plan(head + b"\r\n\r\n")
        if self._worth_keeping(head, self.response_plans):
            self.response_plans[head] = plan
        return plan

    def _worth_keeping(self, text: bytes, kept: dict[bytes, Any]) -> bool:
        """Whether to keep something under ``text``: what comes a second time is kept, the rest would only take room."""
        if len(text) > REMEMBERED_BYTES:
            return False
        seen = self._seen_once
        key = hash(text)
        if key not in seen:
            if len(seen) >= SEEN_ONCE:
                seen.clear()
            seen.add(key)
            return False
        if len(kept) >= REMEMBERED:
            kept.clear()
        return True

    def date_field(self) -> bytes:
        """The Date line, made once a second."""
        second = int(time())
        if second != self._date_second:
            self._date_second = second
            self._date_field = f"Date: {formatdate(second, usegmt=True)}\r\n".encode()
        return self._date_field


def _error_pages(settings: Settings) -> ErrorPages | None:
    """What the router's own answers wear; None where they are plain text. Raises ConfigError."""
    if not settings.html_error_template_file and not settings.millrace.html_error_template:
        return None
    from router.heads.error_pages import ErrorPages  # noqa: PLC0415 - costs 1 MiB, so not without need

    return ErrorPages.from_settings(settings)


def _both(first: Told | None, second: Told) -> Told:
    if first is None:
        return second
    told = first

    def both(exchange: Exchange, took: float) -> None:
        told(exchange, took)
        second(exchange, took)

    return both


def _id_prefix() -> bytes:
    """The first 24 characters of this worker's request ids: a random version 4 UUID; a serial number follows."""
    random = bytearray(os.urandom(10))
    random[6] = random[6] & 0x0F | 0x40
    random[8] = random[8] & 0x3F | 0x80
    text = random.hex().encode()
    return b"%b-%b-%b-%b-" % (text[:8], text[8:12], text[12:16], text[16:20])
