"""The text of GET /metrics: what all workers counted, in the Prometheus text format 0.0.4.

Counters are summed over the workers that live and all that ever lived, so that a roll or a crash never makes one go
backwards (a worker that was killed takes with it what it counted since its last report). Gauges are of the living only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from router.control import Message
from router.metrics import BUCKETS

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

COUNTERS: Final = {
    "requests": "Requests whose head was accepted.",
    "rejected_requests": "Requests that the router itself refused: malformed, or without a route.",
    "bad_gateways": "Requests that no endpoint could serve.",
    "backend_attempts": "Attempts to have a request served by an endpoint.",
    "retries": "Attempts after the first one of a request.",
    "backend_connections_opened": "Connections opened to endpoints.",
    "client_connections_accepted": "Client connections accepted.",
    "tunnels_opened": "Tunnels opened by CONNECT or an upgrade.",
}
"""Fields of `router.metrics.Metrics` that only grow; published as ``millrace_<name>_total``."""
GAUGES: Final = {
    "client_connections": "Client connections open now.",
    "tunnels": "Tunnels open now.",
}
STATUS_GROUPS: Final = ("none", "1xx", "2xx", "3xx", "4xx", "5xx")

_COUNTED: Final = (*COUNTERS, "responses", "latency_buckets", "latency_sum")


class Totals:
    """Sums of counters: numbers, and lists of numbers place by place."""

    def __init__(self) -> None:
        self._sums: dict[str, Any] = {}

    def add(self, figures: Message) -> None:
        """Add the counters of one worker's report; an empty report adds nothing."""
        counted = figures.get("metrics", {})
        for name in _COUNTED:
            if name in counted:
                self._sums[name] = _plus(self._sums.get(name), counted[name])
        self._sums["access_log_dropped"] = self["access_log_dropped"] + figures.get("access_log_dropped", 0)

    def __getitem__(self, name: str) -> Any:
        return self._sums.get(name, 0)

    def with_those_of(self, living: Iterable[Message]) -> Totals:
        """A copy with the counters of ``living`` added."""
        copy = Totals()
        copy._sums = dict(self._sums)
        for figures in living:
            copy.add(figures)
        return copy


def _plus(total: Any, more: Any) -> Any:
    if isinstance(more, list):
        return [a + b for a, b in zip(total or [0] * len(more), more, strict=True)]
    return (total or 0) + more


def page(
    ended: Totals,
    serving: Sequence[tuple[str, Message]],
    leaving: Sequence[Message],
    *,
    restarts: int,
    healthy: bool,
) -> str:
    """The page. ``ended``: sums of the workers that are gone. ``serving``: slot and latest report of those that serve,
    one per slot; ``leaving``: reports of those that were rolled and still finish something. A report may be empty.
    """
    reports = [figures for figures in (*(figures for _, figures in serving), *leaving) if figures]
    totals = ended.with_those_of(reports)
    lines: list[str] = []
    for name, text in COUNTERS.items():
        _one(lines, f"{name}_total", "counter", text, totals[name])
    _one(
        lines,
        "access_log_dropped_total",
        "counter",
        "Access log lines given up for a slow or full disk.",
        totals["access_log_dropped"],
    )
    _one(lines, "worker_restarts_total", "counter", "Workers started because one died.", restarts)
    _head(lines, "responses_total", "counter", "Final responses by status class; none: the client had left.")
    for group, count in zip(STATUS_GROUPS, totals["responses"] or [0] * len(STATUS_GROUPS), strict=True):
        lines.append(f'millrace_responses_total{{status_group="{group}"}} {count}')
    _histogram(lines, totals["latency_buckets"] or [0] * (len(BUCKETS) + 1), totals["latency_sum"])
    for name, text in GAUGES.items():
        _one(lines, name, "gauge", text, sum(report["metrics"][name] for report in reports))
    _one(lines, "healthy", "gauge", "1 while /health answers 200.", int(healthy))
    _per_worker(lines, [(slot, figures) for slot, figures in serving if figures])
    return "\n".join(lines) + "\n"


def _histogram(lines: list[str], buckets: Sequence[int], seconds: float) -> None:
    name = "millrace_request_duration_seconds"
    _head(lines, "request_duration_seconds", "histogram", "From a request's head to the end of its response.")
    running = 0
    for bound, count in zip((*BUCKETS, "+Inf"), buckets, strict=True):
        running += count
        lines.append(f'{name}_bucket{{le="{bound}"}} {running}')
    lines.append(f"{name}_sum {seconds!r}")
    lines.append(f"{name}_count {running}")


_PER_WORKER: Final = (
    ("worker_memory_bytes", "gauge", "Resident memory.", ("memory_bytes",)),
    ("worker_cpu_seconds_total", "counter", "Processor time, user and system.", ("cpu_seconds",)),
    ("registry_ready", "gauge", "1 once the worker's route table is complete.", ("registry", "ready")),
    ("registry_connected", "gauge", "1 while the worker hears from the registry.", ("registry", "connected")),
    ("registry_lag_seconds", "gauge", "How far the served table is behind the registry.", ("registry", "lag_seconds")),
    (
        "registry_reconnects_total",
        "counter",
        "Connections to the registry after the first.",
        ("registry", "reconnects"),
    ),
    ("registry_pruned_total", "counter", "Endpoints of expired leases removed for all.", ("registry", "pruned")),
    ("registry_unconfirmed", "gauge", "Endpoints served that the registry has lost.", ("registry", "unconfirmed")),
    ("registry_resyncs_total", "counter", "Times the whole table was read again.", ("registry", "resyncs")),
    ("routes", "gauge", "Routes in the table.", ("registry", "routes")),
    ("endpoints", "gauge", "Distinct endpoints in the table.", ("registry", "endpoints")),
)


def _per_worker(lines: list[str], serving: Sequence[tuple[str, Message]]) -> None:
    for name, kind, text, place in _PER_WORKER:
        _head(lines, name, kind, text)
        for slot, figures in serving:
            value: Any = figures
            for step in place:
                value = value[step]
            lines.append(
                f'millrace_{name}{{worker="{slot}"}} {float(value) if isinstance(value, float) else int(value)}'
            )


def _one(lines: list[str], name: str, kind: str, text: str, value: float) -> None:
    _head(lines, name, kind, text)
    lines.append(f"millrace_{name} {value}")


def _head(lines: list[str], name: str, kind: str, text: str) -> None:
    lines.append(f"# HELP millrace_{name} {text}")
    lines.append(f"# TYPE millrace_{name} {kind}")
