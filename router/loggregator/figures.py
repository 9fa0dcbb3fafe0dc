"""What the supervisor tells Loggregator: counters summed over workers, and values of the whole router (reference 8.6).

Workers send what concerns single requests themselves. Sums come from here, so that no counter is counted once per
worker. Go's names for its runtime's figures are kept, with what comes nearest to them here; `_runtime` says what.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from time import monotonic, time_ns
from typing import TYPE_CHECKING, Any, Final, Protocol

from router.loggregator.envelopes import Series, counter
from router.loggregator.metron import Metron
from router.loggregator.wire import Timestamps
from router.metrics.gorouter_metrics import group, no_groups
from router.metrics.gorouter_page import COUNTERS, Outside

if TYPE_CHECKING:
    from router.config.settings import Settings
    from router.metrics.metrics_page import Totals
    from router.processes.control import Message

UPTIME_EVERY: Final = 1
COUNTERS_EVERY: Final = 5
DESCRIPTORS_EVERY: Final = 5
RUNTIME_EVERY: Final = 10
"""Seconds."""
ALWAYS: Final = frozenset(
    (
        "total_requests",
        "responses",
        "responses.2xx",
        "responses.3xx",
        "responses.4xx",
        "responses.5xx",
        "responses.xxx",
        "rejected_requests",
        "bad_gateways",
        "backend_exhausted_conns",
        "backend_invalid_id",
        "backend_invalid_tls_cert",
        "backend_tls_handshake_failed",
        "routed_app_requests",
        "websocket_upgrades",
        "websocket_failures",
        "routes_pruned",
    )
)
"""Counters that are sent also when nothing was counted."""
_OLD_APPS: Final = "dea-"
"""What the components of `routed_app_requests` begin with."""


class Overview(Protocol):
    """What the supervisor knows."""

    def totals(self) -> Totals: ...
    def outside(self) -> Outside:
        """Costs a look at every process."""

    def sources(self) -> Message: ...
    def reports(self) -> list[Message]:
        """The latest ones of all living workers."""

    def pids(self) -> list[int]:
        """Of all processes of the router."""


class Figures:
    """Sends them for as long as ``run`` runs; a second run goes on where the first one ended."""

    def __init__(self, overview: Overview) -> None:
        self._overview = overview
        self._sent: dict[str, int] = {}
        """Counts that have been told."""
        self._began = monotonic()
        self._times = Timestamps()
        self._registered: int | None = None

    async def run(self, settings: Settings) -> None:
        """Until cancelled."""
        metron = Metron(settings.logging.metron_address)
        connection = asyncio.create_task(metron.run())
        routes_every = round(settings.prune_stale_droplets_interval)
        second = 0
        try:
            while True:
                await asyncio.sleep(1.0)
                second += 1
                if second % COUNTERS_EVERY == 0:
                    self._send_counters(metron)
                self._send_values(metron, self._due(second, routes_every))
                self._send_registrations(metron)
                metron.flush()
        finally:
            self._send_counters(metron)
            connection.cancel()
            await asyncio.gather(connection, return_exceptions=True)

    def _due(self, second: int, routes_every: int) -> Iterator[tuple[str, float, str]]:
        """Name, value and unit of what is to be sent in this second."""
        if second % UPTIME_EVERY == 0:
            yield "uptime", monotonic() - self._began, "seconds"
        if second % DESCRIPTORS_EVERY == 0:
            outside = self._overview.outside()
            yield "file_descriptors", outside.file_descriptors, "file"
            yield "buffered_messages", outside.sources.get("buffered_messages", 0), "message"
            yield "total_dropped_messages", outside.sources.get("total_dropped_messages", 0), "message"
        if second % RUNTIME_EVERY == 0:
            yield from _runtime(self._overview.pids(), self._overview.reports())
        if routes_every and second % routes_every == 0:
            outside = self._overview.outside()
            yield "total_routes", outside.routes, ""
            yield "ms_since_last_registry_update", outside.since_update_ms, "ms"

    def _send_values(self, metron: Metron, values: Iterable[tuple[str, float, str]]) -> None:
        now = self._times.varint(time_ns())
        for name, value, unit in values:
            series = Series(name, unit)
            metron.send_same_size(series.envelopes((value,), now), series.size)

    def _send_counters(self, metron: Metron) -> None:
        now = self._times.varint(time_ns())
        counts = counters(self._overview.totals(), self._overview.sources())
        for name, count in counts.items():
            delta = max(0, count - self._sent.get(name, 0))
            if delta or name in ALWAYS:
                metron.send(counter(name, delta, now))
        self._sent = {**self._sent, **counts}

    def _send_registrations(self, metron: Metron) -> None:
        """Those by NATS; the sources process tells how many there were, and the latest one by one."""
        sources = self._overview.sources()
        count = (sources.get("registration_latency") or {}).get("count", 0)
        new = min(count - (self._registered or 0), len(sources.get("registration_latency_latest", ())))
        self._registered = count
        if new > 0:
            now = self._times.varint(time_ns())
            series = Series("route_registration_latency", "ms")
            values = [seconds * 1000 // 1 for seconds in sources["registration_latency_latest"][-new:]]
            metron.send_same_size(series.envelopes(values, now), series.size)


def counters(totals: Totals, sources: Message) -> dict[str, int]:
    """All counters since the router's start, by the names of dropsonde's counters."""
    sums = totals.gorouter
    counts = {name: int(totals.numbers[figure]) for name, figure in COUNTERS.items()}
    counts |= {
        "total_requests": sum(sums.requests.values()),
        "routed_app_requests": sum(n for name, n in sums.requests.items() if name.startswith(_OLD_APPS)),
        "routes_pruned": sources.get("routes_pruned", 0),
        "token_fetch_errors": sources.get("token_fetch_errors", 0),
        "subscribe_events_errors": sources.get("subscribe_events_errors", 0),
    }
    counts |= {f"requests.{name}": count for name, count in sums.requests.items() if name}
    counts |= _groups("responses", sums.responses(totals.statuses))
    of_services = no_groups()
    for number, count in enumerate(sums.service_responses):
        of_services[group(number * 100)] += count
    counts |= _groups("responses.route_services", of_services)
    for component, actions in sums.by_component(sources.get("register")).items():
        counts[_named("registry_message", component)] = sum(actions.values())
    for component, count in sums.by_component(sources.get("unregister")).items():
        counts[_named("unregistry_message", component)] = count
    return counts


def _groups(name: str, counts: Mapping[str, int]) -> dict[str, int]:
    return {name: sum(counts.values()), **{f"{name}.{status_group}": count for status_group, count in counts.items()}}


def _named(name: str, component: str) -> str:
    return f"{name}.{component}" if component else name


def _runtime(pids: Iterable[int], reports: Iterable[Message]) -> Iterator[tuple[str, float, str]]:
    """Of all processes together: threads for goroutines, what the system says of their memory for what Go's allocator
    would; live objects are mallocs less frees there, and mallocs here. The pause is the longest of the workers' last.
    """
    status = [_status(pid) for pid in pids]
    told = [report for report in reports if report]
    yield "numCPUS", os.cpu_count() or 1, "count"
    yield "numGoRoutines", sum(one.get("Threads", 0) for one in status), "count"
    yield "memoryStats.numBytesAllocatedHeap", _bytes(status, "RssAnon"), "count"
    yield "memoryStats.numBytesAllocatedStack", _bytes(status, "VmStk"), "count"
    yield "memoryStats.numBytesAllocated", _bytes(status, "VmRSS"), "count"
    yield "memoryStats.numMallocs", sum(report.get("allocated_blocks", 0) for report in told), "count"
    yield "memoryStats.numFrees", 0, "count"
    pause = max((report.get("gc_pause_ns", 0) for report in told), default=0)
    yield "memoryStats.lastGCPauseTimeNS", pause, "count"


def _bytes(status: Iterable[Mapping[str, int]], key: str) -> int:
    return 1024 * sum(one.get(key, 0) for one in status)


def _status(pid: int) -> dict[str, int]:
    """The numbers of /proc/PID/status (memory in KiB); nothing where there is none."""
    found: dict[str, Any] = {}
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return found
    for line in lines:
        key, _, value = line.partition(":")
        first = value.split()[:1]
        if first and first[0].isdigit():
            found[key] = int(first[0])
    return found
