"""/varz, and what a component says of itself on NATS (gorouter reference 8.2, 1.1): old ways to watch a Cloud Foundry,
still asked for by some. Nothing of this costs anything where status.enable_deprecated_varz_healthz_endpoints is off.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import exp
from time import gmtime, monotonic, strftime, time
from typing import TYPE_CHECKING, Any, Final

from router.metrics.app_counts import BOUNDS, GROUPS
from router.metrics.histogram import Histogram

if TYPE_CHECKING:
    from router.config.settings import Settings
    from router.metrics.gorouter_page import Outside
    from router.metrics.metrics_page import Totals
    from router.processes.control import Message

TICK: Final = 5.0
"""Seconds between two calls of ``tick``."""
MINUTES: Final = (1, 5, 15)
"""Over which rates are averaged."""
WINDOW: Final = 300.0
"""Seconds that percentiles look back."""
SNAPSHOTS: Final = 5
PERCENTILES: Final = (50, 75, 90, 95, 99)
TOP: Final = 10
_SECONDS_IN: Final = {"d": 86_400, "h": 3600, "m": 60, "s": 1}


class LevelCounts(logging.Handler):
    """How many lines of each level this process has logged."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: dict[str, int] = {}

    @classmethod
    def begin(cls) -> LevelCounts:
        counts = cls()
        logging.getLogger("router").addHandler(counts)
        return counts

    def emit(self, record: logging.LogRecord) -> None:
        level = record.levelname.lower()
        self.counts[level] = self.counts.get(level, 0) + 1


@dataclass
class Component:
    """What is told of one, or of all together."""

    requests: int = 0
    responses: list[int] = field(default_factory=lambda: [0] * GROUPS)
    latency: Histogram = field(default_factory=lambda: Histogram(BOUNDS))


class Counts:
    """Sums of what `router.metrics.app_counts` reported, of workers that live and that lived."""

    def __init__(self) -> None:
        self.components: dict[str, Component] = {}

    def add(self, report: Message) -> None:
        for name, told in report.get("components", {}).items():
            component = self.components.setdefault(name, Component())
            component.responses = [a + b for a, b in zip(component.responses, told["responses"], strict=True)]
            component.latency.add_plain(told["latency"], BOUNDS)

    def copy(self) -> Counts:
        copy = Counts()
        for name, component in self.components.items():
            copy.components[name] = Component(0, list(component.responses), component.latency.copy())
        return copy


class Rates:
    """Requests a second, as load averages are: moving ones over 1, 5 and 15 minutes."""

    def __init__(self) -> None:
        self._count = 0
        self._rates: list[float] | None = None

    def tick(self, count: int) -> None:
        """``count``: requests since the start."""
        now = (count - self._count) / TICK
        self._count = count
        if self._rates is None:
            self._rates = [now] * len(MINUTES)
        else:
            decays = [exp(-TICK / 60 / minutes) for minutes in MINUTES]
            self._rates = [now + (rate - now) * decay for rate, decay in zip(self._rates, decays, strict=True)]

    @property
    def shown(self) -> list[float]:
        return list(self._rates or [0.0] * len(MINUTES))


class Varz:
    """Of the supervisor."""

    def __init__(self, settings: Settings, router_id: str, host: str) -> None:
        """``host``: where the page is, as others reach it."""
        self._settings = settings
        self._router_id = router_id
        self._host = host
        self.started = time()
        """Seconds since the epoch."""
        self._rates: dict[str, Rates] = {}
        """By component; "" is all together."""
        self._snapshots: deque[tuple[float, dict[str, Histogram]]] = deque()

    def component(self) -> dict[str, Any]:
        """What is announced on NATS; whoever tells it adds the uptime."""
        status = self._settings.status
        return {
            "type": "Router",
            "index": self._settings.index,
            "host": self._host,
            "credentials": [status.user, status.pass_],
            "uuid": self._router_id,
            "start": strftime("%Y-%m-%d %H:%M:%S +0000", gmtime(self.started)),
        }

    def tick(self, totals: Totals) -> None:
        """To be called every TICK seconds."""
        requests = totals.gorouter.requests
        for name, count in {**requests, "": sum(requests.values())}.items():
            self._rates.setdefault(name, Rates()).tick(count)
        now = monotonic()
        if not self._snapshots or now - self._snapshots[-1][0] >= WINDOW / SNAPSHOTS:
            current = {name: one.latency.copy() for name, one in totals.apps.components.items()}
            self._snapshots.append((now, current))
        while len(self._snapshots) > 1 and self._snapshots[1][0] <= now - WINDOW:
            self._snapshots.popleft()

    def page(self, totals: Totals, outside: Outside, reports: Iterable[Message]) -> dict[str, Any]:
        """``mem`` is KiB, ``cpu`` percent of one core since the start: of all workers."""
        told = [report for report in reports if report]
        requests = totals.gorouter.requests
        everything = Component(sum(requests.values()))
        tagged = {}
        for name, counted in totals.apps.components.items():
            recent = self._recent(name, counted.latency)
            everything.responses = [a + b for a, b in zip(everything.responses, counted.responses, strict=True)]
            everything.latency.add_plain(recent.plain(), BOUNDS)
            if name:
                one = Component(requests.get(name, 0), counted.responses, recent)
                tagged[name] = self._shown(one, self._rates.get(name, Rates()))
        rates = self._rates.get("", Rates())
        return {
            **self.component(),
            "uptime": uptime(time() - self.started),
            "num_cores": os.cpu_count() or 1,
            "mem": sum(report["memory_bytes"] for report in told) // 1024,
            "cpu": round(100 * sum(report["cpu_seconds"] for report in told) / (time() - self.started), 1),
            "log_counts": _log_counts(told),
            **self._shown(everything, rates),
            "tags": {"component": tagged},
            "urls": outside.routes,
            "droplets": max((report["endpoints"] for report in told), default=0),
            "bad_requests": totals.numbers["bad_requests"],
            "bad_gateways": totals.numbers["bad_gateways"],
            "requests_per_sec": rates.shown[0],
            "top10_app_requests": _top(told),
            "ms_since_last_registry_update": outside.since_update_ms,
        }

    def _recent(self, name: str, latency: Histogram) -> Histogram:
        """What has come within the window."""
        recent = latency.copy()
        before = self._snapshots[0][1].get(name) if self._snapshots else None
        if before is not None:
            recent.counts = [max(0, now - then) for now, then in zip(recent.counts, before.counts, strict=True)]
        return recent

    def _shown(self, component: Component, rates: Rates) -> dict[str, Any]:
        names = ("responses_2xx", "responses_3xx", "responses_4xx", "responses_5xx", "responses_xxx")
        percentiles = {str(p): percentile(component.latency, p) for p in PERCENTILES}
        return {
            "requests": component.requests,
            "rate": rates.shown,
            **dict(zip(names, component.responses, strict=True)),
            "latency": {**percentiles, "value": percentiles["50"], "samples": 1},
        }


def percentile(histogram: Histogram, percent: float) -> float:
    """By straight lines between the bounds; 0 where there is no value, the last bound for what is above it."""
    wanted = histogram.count * percent / 100
    lower, below = 0.0, 0
    for bound, count in zip(histogram.bounds, histogram.counts, strict=False):
        if count and below + count >= wanted:
            return lower + (bound - lower) * (wanted - below) / count
        lower, below = bound, below + count
    return lower if histogram.count else 0.0


def uptime(seconds: float) -> str:
    """As Gorouter writes it: ``0d:3h:22m:31s``."""
    rest, parts = int(seconds), []
    for unit, length in _SECONDS_IN.items():
        parts.append(f"{rest // length}{unit}")
        rest %= length
    return ":".join(parts)


def _log_counts(reports: Iterable[Message]) -> dict[str, int]:
    """Of workers and supervisor."""
    counts: dict[str, int] = {}
    for report in reports:
        for level, count in report.get("log_counts", {}).items():
            counts[level] = counts.get(level, 0) + count
    return counts


def _top(reports: Iterable[Message]) -> list[dict[str, Any]]:
    """The apps with most requests in the last minute."""
    apps: dict[str, int] = {}
    for report in reports:
        told: Mapping[str, int] = report.get("apps", {}).get("apps", {})
        for app, count in told.items():
            apps[app] = apps.get(app, 0) + count
    top = sorted(apps.items(), key=lambda item: (-item[1], item[0]))[:TOP]
    return [{"application_id": app, "rps": count // 60, "rpm": count} for app, count in top]
