"""The text of GET /metrics: what all workers counted, in the Prometheus text format 0.0.4.

Counters are summed over the workers that live and all that ever lived, so that a roll or a crash never makes one go
backwards (a worker that was killed takes with it what it counted since its last report). Gauges are of the living only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from router.config.settings import Settings
from router.metrics import gorouter_metrics, gorouter_page
from router.metrics.counters import BUCKETS, Metrics
from router.metrics.gorouter_metrics import Sums
from router.metrics.gorouter_page import NOTHING_OUTSIDE, Outside
from router.metrics.histogram import Histogram
from router.metrics.meters import Bounds
from router.processes.control import Message
from router.status.varz import Counts

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

COUNTERS: Final = {
    "requests": "Requests whose head was read, refused ones too.",
    "rejected_requests": "Requests that the router itself refused: malformed, or without a route.",
    "bad_gateways": "Exchanges that no endpoint answered as it should.",
    "backend_invalid_id": "Exchanges whose last endpoint had a certificate for another name.",
    "backend_invalid_tls_cert": "Exchanges whose last endpoint had a certificate that is not trusted, or expired.",
    "backend_certificate_refused": "Exchanges whose last endpoint refused our certificate, or the lack of one.",
    "backend_exhausted_conns": "Exchanges for which every endpoint had as many in flight as it may have.",
    "websocket_upgrades": "WebSockets opened.",
    "websocket_failures": "Requests for a WebSocket that no endpoint answered as it should.",
    "empty_content_length_header": "Requests whose Content-Length is empty.",
    "backend_tls_handshake_failed": "Exchanges whose last endpoint failed the TLS handshake otherwise.",
    "tls_handshakes": "TLS handshakes completed with clients.",
    "tls_handshakes_resumed": "Of those, the ones that resumed an earlier session.",
    "tls_handshakes_failed": "TLS handshakes that failed, of clients that sent something.",
    "tls_handshakes_timed_out": "TLS handshakes that a client did not complete in time.",
    "log_lines_dropped": "Lines of the router's own log given up because standard output took none.",
    "envelopes_sent": "Envelopes of single requests sent to Loggregator.",
    "envelopes_dropped": "Envelopes that the socket to Loggregator did not take, or nobody listened for.",
    "retries": "Attempts after the first one of an exchange.",
    "backend_connections_opened": "Connections opened to endpoints.",
    "client_connections_accepted": "Client connections accepted.",
    "tunnels_opened": "Tunnels opened by CONNECT, an upgrade or a TCP route.",
    "tunnels_idle_too_long": "Tunnels cut because no byte moved for tunnel_idle_timeout.",
    "tunnels_outlived": "Tunnels cut because they reached tunnel_max_lifetime.",
    "tunnels_reset": "Tunnels that one of their sides broke off.",
    "proxy_headers_refused": "Connections reset because their PROXY header was malformed, late, or missing.",
    "tcp_connections_accepted": "Connections accepted on TCP ports.",
    "tcp_connections_refused": "Connections to TCP ports reset because there was no route or no endpoint with room.",
    "tcp_connections_failed": "Connections to TCP ports reset because no endpoint could be connected to.",
    "tcp_bytes_from_clients": "Bytes from clients of TCP routes, counted when a connection ends.",
    "tcp_bytes_from_endpoints": "Bytes from endpoints of TCP routes, counted when a connection ends.",
}
"""Fields of `router.metrics.counters.Metrics` that only grow; published as ``millrace_<name>_total``."""
UNSHOWN: Final = ("bad_requests",)
"""Figures that grow, and that only Gorouter's names show."""
GAUGES: Final = {
    "tcp_connections": "Connections of TCP routes open now between a client and an endpoint.",
    "client_connections": "Client connections open now.",
    "tunnels": "Tunnels open now.",
}
PER_WORKER: Final = {
    "memory_bytes": ("worker_memory_bytes", "gauge", "Resident memory."),
    "cpu_seconds": ("worker_cpu_seconds_total", "counter", "Processor time, user and system."),
    "ready": ("registry_ready", "gauge", "1 once the worker's route table is complete."),
    "connected": ("registry_connected", "gauge", "1 while the worker hears from the registry."),
    "lag_seconds": ("registry_lag_seconds", "gauge", "How far the served table is behind the registry."),
    "resyncs": ("registry_resyncs_total", "counter", "Times the whole table was read again."),
    "reconnects": ("registry_reconnects_total", "counter", "Connections to the registry after the first."),
    "pruned": ("registry_pruned_total", "counter", "Endpoints of expired leases that this worker removed for all."),
    "unconfirmed": ("registry_unconfirmed", "gauge", "Endpoints served although the registry lost them."),
    "routes": ("routes", "gauge", "Routes in the table."),
    "endpoints": ("endpoints", "gauge", "Distinct endpoints in the table."),
}
"""Figures of a worker's report that make no sense as a sum, and how each is published, labelled with its slot."""


def counted(metrics: Metrics, access_log_dropped: int) -> Message:
    """The ``counted`` of a worker's report: plain JSON, with those status codes only that occurred."""
    metrics.settle()
    return {
        **{name: getattr(metrics, name) for name in (*COUNTERS, *UNSHOWN, *GAUGES)},
        "latency": metrics.latency.plain(),
        "gorouter": gorouter_metrics.counted(metrics),
        "statuses": {str(code): count for code, count in enumerate(metrics.statuses) if count},
        "access_log_dropped": access_log_dropped,
    }


class Totals:
    """Sums of what workers counted."""

    def __init__(self, gorouter: Sums | None = None) -> None:
        self.numbers: dict[str, float] = dict.fromkeys((*COUNTERS, *UNSHOWN, "access_log_dropped"), 0)
        self.statuses: dict[str, int] = {}
        """Responses by status code."""
        self.latency = Histogram(BUCKETS)
        self.gorouter = gorouter or Sums(Bounds())
        self.apps = Counts()

    @classmethod
    def from_settings(cls, settings: Settings) -> Totals:
        return cls(Sums(Bounds.from_settings(settings)))

    def rebound(self, settings: Settings) -> None:
        """From now on the buckets are those of other settings."""
        self.gorouter = self.gorouter.copy(Bounds.from_settings(settings))

    def add(self, report: Message) -> None:
        """Add one worker's report; an empty one adds nothing."""
        if not report:
            return
        more = report["counted"]
        for name in self.numbers:
            self.numbers[name] += more[name]
        for code, count in more["statuses"].items():
            self.statuses[code] = self.statuses.get(code, 0) + count
        self.latency.add_plain(more["latency"], BUCKETS)
        self.gorouter.add(more["gorouter"])
        self.apps.add(report.get("apps", {}))

    def with_those_of(self, reports: Iterable[Message]) -> Totals:
        """A copy to which ``reports`` are added."""
        copy = Totals(self.gorouter.copy())
        copy.numbers, copy.statuses = dict(self.numbers), dict(self.statuses)
        copy.latency.add_plain(self.latency.plain(), BUCKETS)
        copy.apps = self.apps.copy()
        for report in reports:
            copy.add(report)
        return copy


def page(
    ended: Totals,
    serving: Sequence[tuple[str, Message]],
    leaving: Sequence[Message],
    *,
    restarts: int,
    healthy: bool,
    outside: Outside = NOTHING_OUTSIDE,
) -> str:
    """The page, ending with a newline; a report may be empty.

    ``ended``: sums of the workers that are gone; ``serving``: slot and report of those that serve, one per slot;
    ``leaving``: reports of those that were rolled and still finish something; ``outside``: what none of them knows.
    """
    serving = [(slot, report) for slot, report in serving if report]
    living = [*(report for _, report in serving), *filter(None, leaving)]
    totals = ended.with_those_of(living)
    lines: list[str] = []
    for name, text in COUNTERS.items():
        _single(lines, f"{name}_total", "counter", text, totals.numbers[name])
    dropped = "Access log lines given up for a slow or full disk."
    _single(lines, "access_log_dropped_total", "counter", dropped, totals.numbers["access_log_dropped"])
    _single(lines, "worker_restarts_total", "counter", "Workers started because one died.", restarts)
    _head(lines, "responses_total", "counter", "Final responses; code 000: no client saw one.")
    for code in sorted(totals.statuses, key=int):
        labels = f'status_group="{int(code) // 100}xx",code="{code:0>3}"'
        lines.append(f"millrace_responses_total{{{labels}}} {totals.statuses[code]}")
    _histogram(lines, totals)
    for name, text in GAUGES.items():
        _single(lines, name, "gauge", text, sum(report["counted"][name] for report in living))
    _single(lines, "healthy", "gauge", "1 while /health answers 200.", healthy)
    for key, (name, kind, text) in PER_WORKER.items():
        _head(lines, name, kind, text)
        lines += [f'millrace_{name}{{worker="{slot}"}} {_number(report[key])}' for slot, report in serving]
    lines += gorouter_page.page(totals.gorouter, totals.numbers, totals.statuses, outside)
    return "\n".join(lines) + "\n"


def _histogram(lines: list[str], totals: Totals) -> None:
    name = "request_duration_seconds"
    _head(lines, name, "histogram", "From a request's head to the end of its response.")
    reached = totals.latency.cumulative
    for bound, count in zip((*BUCKETS, "+Inf"), reached, strict=True):
        lines.append(f'millrace_{name}_bucket{{le="{bound}"}} {count}')
    lines.append(f"millrace_{name}_sum {totals.latency.sum}")
    lines.append(f"millrace_{name}_count {reached[-1]}")


def _single(lines: list[str], name: str, kind: str, text: str, value: float) -> None:
    _head(lines, name, kind, text)
    lines.append(f"millrace_{name} {_number(value)}")


def _head(lines: list[str], name: str, kind: str, text: str) -> None:
    lines.append(f"# HELP millrace_{name} {text}")
    lines.append(f"# TYPE millrace_{name} {kind}")


def _number(value: float) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)
