"""What workers count in Gorouter's sense, in their reports and as sums (gorouter reference 8.6).

`router.metrics.gorouter_page` shows it under Gorouter's names, `router.loggregator` sends it, `router.status.varz` has
some of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

from router.metrics.counters import Metrics
from router.metrics.histogram import Histogram
from router.metrics.meters import MAX_COMPONENTS, MAX_SOURCES, Bounds, Labels
from router.processes.control import Message

GROUPS: Final = ("2xx", "3xx", "4xx", "5xx", "xxx")


def no_groups() -> dict[str, int]:
    return dict.fromkeys(GROUPS, 0)


def group(status: int) -> str:
    """The status group that Gorouter counts a response in; 101 is in none of the four."""
    return f"{status // 100}xx" if 200 <= status < 600 else "xxx"


def counted(metrics: Metrics) -> Message:
    """Of a worker that has settled, for its report."""
    return {
        "meters": metrics.meters.plain(),
        "unrouted": {str(code): count for code, count in enumerate(metrics.unrouted) if count},
        "service_responses": metrics.service_responses,
        "histograms": {
            "own_time": metrics.own_time.plain(),
            "lookup": metrics.lookup.plain(),
            "registration": metrics.registration.plain(),
        },
        "bounds": asdict(metrics.meters.bounds),
    }


class Sums:
    """Of what workers counted."""

    def __init__(self, bounds: Bounds, components: Labels | None = None, sources: Labels | None = None) -> None:
        self._bounds = bounds
        # One memory for all copies: a label that was admitted once must not become another one's in the next page.
        self._components = components or Labels(MAX_COMPONENTS)
        self._sources = sources or Labels(MAX_SOURCES)
        self.requests: dict[str, int] = {}
        self.latency: dict[str, Histogram] = {}
        self.http_latency: dict[str, Histogram] = {}
        self.unrouted: dict[str, int] = {}
        self.service_responses = [0] * 6
        self.histograms = {
            "own_time": Histogram(bounds.own_time),
            "lookup": Histogram(bounds.lookup),
            "registration": Histogram(bounds.registration),
        }

    def add(self, more: Message) -> None:
        """What ``counted`` made of one worker."""
        meters, bounds = more["meters"], more["bounds"]
        for name, count in meters["requests"].items():
            label = self._components.admit(name)
            self.requests[label] = self.requests.get(label, 0) + count
        for name, plain in meters["latency"].items():
            own = self.latency.setdefault(self._components.admit(name), Histogram(self._bounds.latency))
            own.add_plain(plain, bounds["latency"])
        for name, plain in meters["http_latency"].items():
            own = self.http_latency.setdefault(self._sources.admit(name), Histogram(self._bounds.source))
            own.add_plain(plain, bounds["source"])
        for code, count in more["unrouted"].items():
            self.unrouted[code] = self.unrouted.get(code, 0) + count
        self.service_responses = [a + b for a, b in zip(self.service_responses, more["service_responses"], strict=True)]
        for name, histogram in self.histograms.items():
            histogram.add_plain(more["histograms"][name], bounds[name])

    def copy(self, bounds: Bounds | None = None) -> Sums:
        """``bounds``: of a configuration that has others."""
        copy = Sums(bounds or self._bounds, self._components, self._sources)
        copy.add(self.plain())
        return copy

    def by_component(self, counts: Any) -> dict[str, Any]:
        """What somebody else counted by component, with as many labels as there may be."""
        bounded: dict[str, Any] = {}
        for name, count in (counts if isinstance(counts, dict) else {}).items():
            label = self._components.admit(name)
            bounded[label] = _added(bounded[label], count) if label in bounded else count
        return bounded

    def plain(self) -> Message:
        """As ``counted`` gives it."""
        return {
            "meters": {
                "requests": self.requests,
                "latency": {name: one.plain() for name, one in self.latency.items()},
                "http_latency": {name: one.plain() for name, one in self.http_latency.items()},
            },
            "unrouted": self.unrouted,
            "service_responses": self.service_responses,
            "histograms": {name: one.plain() for name, one in self.histograms.items()},
            "bounds": asdict(self._bounds),
        }

    def responses(self, statuses: Mapping[str, int]) -> dict[str, int]:
        """Final responses for which an endpoint had been chosen, by status group; ``statuses`` counts all, by code."""
        counts = no_groups()
        for code, count in statuses.items():
            counts[group(int(code))] += count - self.unrouted.get(code, 0)
        return counts


def _added(one: Any, other: Any) -> Any:
    if isinstance(one, dict):
        return {key: one.get(key, 0) + other.get(key, 0) for key in one | other}
    return one + other
