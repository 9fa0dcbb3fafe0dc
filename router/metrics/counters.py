"""Plain counters of one worker. The hot path adds to integers; whoever shows them reads and sums."""

from __future__ import annotations

from typing import Final, Protocol, Self

from router.config.settings import Settings
from router.heads.answers import Answer
from router.http1.grammar import EMPTY_CONTENT_LENGTH
from router.metrics.histogram import Histogram
from router.metrics.meters import DEFAULT_BOUNDS, Bounds, Meters
from router.tls.failures import CLIENT_CERTIFICATE, HANDSHAKE, NAME_MISMATCH, UNTRUSTED

BUCKETS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds of the latency histogram, seconds; one more bucket counts what is slower."""


class Listener(Protocol):
    """Who is told of single requests, a little later and many at a time."""

    def latencies(self, component: str, seconds: list[float]) -> None:
        """Of exchanges with endpoints of this component."""

    def own_times(self, seconds: list[float]) -> None: ...
    def lookups(self, nanoseconds: list[float]) -> None: ...
    def registrations(self, seconds: list[float]) -> None: ...


class Metrics:
    """Every figure of one worker since it started."""

    __slots__ = (
        "_listener",
        "_lookups",
        "backend_certificate_refused",
        "backend_connections_opened",
        "backend_exhausted_conns",
        "backend_invalid_id",
        "backend_invalid_tls_cert",
        "backend_tls_handshake_failed",
        "bad_gateways",
        "bad_requests",
        "client_connections",
        "client_connections_accepted",
        "durations",
        "empty_content_length_header",
        "envelopes_dropped",
        "envelopes_sent",
        "latency",
        "log_lines_dropped",
        "lookup",
        "lookup_times",
        "meters",
        "own_time",
        "own_times",
        "per_request",
        "proxy_headers_refused",
        "registration",
        "registration_times",
        "rejected_requests",
        "requests",
        "retries",
        "service_responses",
        "statuses",
        "tcp_bytes_from_clients",
        "tcp_bytes_from_endpoints",
        "tcp_connections",
        "tcp_connections_accepted",
        "tcp_connections_failed",
        "tcp_connections_refused",
        "tls_handshakes",
        "tls_handshakes_failed",
        "tls_handshakes_resumed",
        "tls_handshakes_timed_out",
        "tunnels",
        "tunnels_idle_too_long",
        "tunnels_opened",
        "tunnels_outlived",
        "tunnels_reset",
        "unrouted",
        "websocket_failures",
        "websocket_upgrades",
        "without_lookup",
    )

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        return cls(
            Bounds.from_settings(settings),
            per_request=settings.per_request_metrics_reporting,
            per_source=settings.per_app_prometheus_http_metrics_reporting,
        )

    def __init__(self, bounds: Bounds = DEFAULT_BOUNDS, *, per_request: bool = True, per_source: bool = False) -> None:
        """As `Meters`: ``per_request`` is for latencies by component, and for lookups and the router's own time."""
        self.per_request = per_request
        self.meters = Meters(bounds, per_request=per_request, per_source=per_source)
        self.requests = 0
        """Requests whose head was read, refused ones too."""
        self.statuses = [0] * 1000
        """Final responses by status code; 499 where the client went away, [0] where it never learned one."""
        self.unrouted = [0] * 1000
        """Of those: the ones that no endpoint was chosen for."""
        self.durations: list[float] = []
        """Seconds of exchanges without an endpoint that ended since ``settle`` was last called; those of the others are
        with ``meters``."""
        self.latency = Histogram(BUCKETS)
        self.own_times: list[float] = []
        """Seconds from requests to their first attempts, since ``settle`` was last called."""
        self.own_time = Histogram(bounds.own_time)
        self.lookup_times: list[float] = []
        """Nanoseconds of lookups in the route table, since ``settle`` was last called. Most requests need none, because
        what the table said before still holds: these are counted as 0, which is less than a clock could tell."""
        self.without_lookup = 0
        """Requests that were refused before anybody looked for a route."""
        self._lookups = 0
        self._listener: Listener | None = None
        self.lookup = Histogram(bounds.lookup)
        self.registration_times: list[float] = []
        """Seconds from an endpoint's own timestamp until it was in the table, since ``settle`` was last called."""
        self.registration = Histogram(bounds.registration)
        self.rejected_requests = 0
        """Refused by the router itself: malformed, no route."""
        self.bad_requests = 0
        """Of those: what Gorouter counts as rejected (gorouter reference 4.3)."""
        self.empty_content_length_header = 0
        """Of those: requests with a Content-Length that says nothing."""
        self.bad_gateways = 0
        """Exchanges that no endpoint answered as it should."""
        self.backend_certificate_refused = 0
        """Exchanges whose last endpoint refused the router's certificate, or the lack of one."""
        self.backend_exhausted_conns = 0
        """Exchanges for which every endpoint had as many in flight as it may have."""
        self.service_responses = [0] * 6
        """Final responses of route services by class: [2] counts 200 to 299, [0] what is in no class."""
        self.websocket_upgrades = 0
        """WebSockets opened."""
        self.websocket_failures = 0
        """Requests for a WebSocket that no endpoint answered as it should."""
        self.backend_invalid_id = 0
        """Exchanges whose last endpoint had a certificate for another name."""
        self.backend_invalid_tls_cert = 0
        """Exchanges whose last endpoint had a certificate that is not trusted, or expired."""
        self.backend_tls_handshake_failed = 0
        """Exchanges whose last endpoint failed the TLS handshake otherwise."""
        self.tls_handshakes = 0
        """Completed with clients."""
        self.tls_handshakes_resumed = 0
        """Of those: by resuming an earlier session."""
        self.tls_handshakes_failed = 0
        """With clients that sent something."""
        self.tls_handshakes_timed_out = 0
        self.log_lines_dropped = 0
        """Lines of the router's own log that standard output did not take."""
        self.envelopes_sent = 0
        """To Loggregator."""
        self.envelopes_dropped = 0
        self.retries = 0
        """Attempts beyond the first of an exchange."""
        self.backend_connections_opened = 0
        self.client_connections = 0
        """Open now."""
        self.client_connections_accepted = 0
        self.proxy_headers_refused = 0
        """Connections of trusted peers whose PROXY header was malformed, incomplete, or missing though required."""
        self.tcp_connections = 0
        """Of TCP routes, open now between a client and an endpoint."""
        self.tcp_connections_accepted = 0
        """On TCP ports."""
        self.tcp_connections_refused = 0
        """Reset because there was no route, no endpoint with room, or too many connections."""
        self.tcp_connections_failed = 0
        """Reset because no endpoint that was tried could be connected to."""
        self.tcp_bytes_from_clients = 0
        """Carried by connections of TCP routes that have ended."""
        self.tcp_bytes_from_endpoints = 0
        self.tunnels = 0
        """Open now."""
        self.tunnels_opened = 0
        self.tunnels_idle_too_long = 0
        """Cut because nothing moved for tunnel_idle_timeout."""
        self.tunnels_outlived = 0
        """Cut because they reached tunnel_max_lifetime."""
        self.tunnels_reset = 0
        """Broken off by one of their sides."""

    def observe(self, status: int, seconds: float) -> None:
        """One exchange ended without an endpoint, with the status the client saw."""
        self.statuses[status] += 1
        self.unrouted[status] += 1
        self.durations.append(seconds)

    def refused(self, answer: Answer) -> None:
        """What came from a client was no request, and ``answer`` said so."""
        self.requests += 1
        self.rejected_requests += 1
        self.without_lookup += 1
        if answer.body == EMPTY_CONTENT_LENGTH:
            self.empty_content_length_header += 1
        self.observe(answer.status, 0.0)

    def count_failure(self, status: int) -> None:
        """An exchange ends because no endpoint took it; ``status`` as in `router.heads.answers.endpoint_failure`."""
        if status == NAME_MISMATCH:
            self.backend_invalid_id += 1
        elif status == UNTRUSTED:
            self.backend_invalid_tls_cert += 1
        elif status == HANDSHAKE:
            self.backend_tls_handshake_failed += 1
        elif status == CLIENT_CERTIFICATE:
            self.backend_certificate_refused += 1
        else:
            self.bad_gateways += 1

    def tell(self, listener: Listener) -> None:
        """From now on tell ``listener`` of what is settled."""
        self._listener = listener
        self.meters.on_durations = listener.latencies

    def settle(self, part: int = 0, parts: int = 1) -> None:
        """Put what has gathered into its buckets: in batches, which costs far less than one by one.

        Of the meters only every ``parts``-th one from ``part`` on: with thousands of them each turn stays short.
        """
        unrouted, self.durations = self.durations, []
        if unrouted and self.meters.services.source is not None:
            self.meters.services.source.add(unrouted)
        self.latency.add(unrouted + self.meters.settle(part, parts))
        own_times, self.own_times = self.own_times, []
        lookups, self.lookup_times = self.lookup_times, []
        registrations, self.registration_times = self.registration_times, []
        done = self.requests - self.without_lookup
        remembered, self._lookups = done - self._lookups - len(lookups), done
        self.registration.add(registrations)
        if self.per_request:
            self.own_time.add(own_times)
            self.lookup.add(lookups)
            self.lookup.add_same(0.0, remembered)
        if self._listener is not None:
            self._listener.own_times(own_times)
            self._listener.lookups(lookups + [0.0] * remembered)
            self._listener.registrations(registrations)
