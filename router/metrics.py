"""Plain counters of one worker. The hot path adds to integers; whoever shows them reads and sums."""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

BUCKETS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds of the latency histogram, seconds; one more bucket counts what is slower."""


class Metrics:
    """Every figure of one worker since it started."""

    __slots__ = (
        "backend_attempts",
        "backend_connections_opened",
        "bad_gateways",
        "client_connections",
        "client_connections_accepted",
        "latency_buckets",
        "latency_sum",
        "rejected_requests",
        "requests",
        "responses",
        "retries",
        "tunnels",
        "tunnels_opened",
    )

    def __init__(self) -> None:
        self.requests = 0
        """Requests whose head was accepted."""
        self.responses = [0] * 6
        """Final responses by status class; [0] counts those that never got one (client gone)."""
        self.latency_buckets = [0] * (len(BUCKETS) + 1)
        self.latency_sum = 0.0
        self.rejected_requests = 0
        """Refused by the router itself: malformed, no route."""
        self.bad_gateways = 0
        self.backend_attempts = 0
        self.retries = 0
        self.backend_connections_opened = 0
        self.client_connections = 0
        """Open now."""
        self.client_connections_accepted = 0
        self.tunnels = 0
        """Open now."""
        self.tunnels_opened = 0

    def observe(self, status: int, seconds: float) -> None:
        """One exchange ended, with the status the client saw (0: none)."""
        self.responses[status // 100] += 1
        self.latency_buckets[bisect_left(BUCKETS, seconds)] += 1
        self.latency_sum += seconds
