"""Plain counters of one worker. The hot path adds to integers; whoever shows them reads and sums."""

from __future__ import annotations

from bisect import bisect_right
from typing import Final

from router.tls.failures import HANDSHAKE, NAME_MISMATCH, UNTRUSTED

BUCKETS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds of the latency histogram, seconds; one more bucket counts what is slower."""


class Metrics:
    """Every figure of one worker since it started."""

    __slots__ = (
        "backend_connections_opened",
        "backend_invalid_id",
        "backend_invalid_tls_cert",
        "backend_tls_handshake_failed",
        "bad_gateways",
        "client_connections",
        "client_connections_accepted",
        "durations",
        "latency_buckets",
        "latency_sum",
        "proxy_headers_refused",
        "rejected_requests",
        "requests",
        "retries",
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
    )

    def __init__(self) -> None:
        self.requests = 0
        """Requests whose head was read, refused ones too."""
        self.statuses = [0] * 1000
        """Final responses by status code; 499 where the client went away, [0] where it never learned one."""
        self.durations: list[float] = []
        """Seconds of exchanges that ended since ``settle`` was last called."""
        self.latency_buckets = [0] * (len(BUCKETS) + 1)
        self.latency_sum = 0.0
        self.rejected_requests = 0
        """Refused by the router itself: malformed, no route."""
        self.bad_gateways = 0
        """Exchanges that no endpoint answered as it should."""
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
        """One exchange ended, with the status the client saw."""
        self.statuses[status] += 1
        self.durations.append(seconds)

    def count_failure(self, status: int) -> None:
        """An exchange ends because no endpoint took it; ``status`` as in `router.answers.endpoint_failure`."""
        if status == NAME_MISMATCH:
            self.backend_invalid_id += 1
        elif status == UNTRUSTED:
            self.backend_invalid_tls_cert += 1
        elif status == HANDSHAKE:
            self.backend_tls_handshake_failed += 1
        else:
            self.bad_gateways += 1

    def settle(self) -> None:
        """Put the durations into their buckets: in one go, which costs far less than one by one."""
        durations = self.durations
        if not durations:
            return
        durations.sort()
        self.latency_sum += sum(durations)
        below = 0
        for index, bound in enumerate(BUCKETS):
            reached = bisect_right(durations, bound)
            self.latency_buckets[index] += reached - below
            below = reached
        self.latency_buckets[-1] += len(durations) - below
        durations.clear()

    @property
    def responses(self) -> list[int]:
        """Final responses by class: [2] counts 200 to 299; [0] those that no client saw."""
        return [sum(self.statuses[first : first + 100]) for first in range(0, 600, 100)]
