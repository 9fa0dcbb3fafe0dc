"""Value metrics of single requests and registrations: latency, gorouter_time, route_lookup_time and
route_registration_latency (reference 8.6).

They are sent when the sweep settles what has gathered, as whole batches: requests pay nothing for the making.
"""

from __future__ import annotations

from time import time_ns
from typing import TYPE_CHECKING, Final

from router.loggregator.envelopes import Series
from router.loggregator.wire import Timestamps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from router.loggregator.metron import Metron

AT_ONCE: Final = 64
"""Values that are made into envelopes in one piece."""


class RequestValues:
    """What `router.metrics.counters.Metrics` tells of what it settles. ``per_request``: not only registrations."""

    def __init__(self, metron: Metron, *, per_request: bool) -> None:
        self._metron = metron
        self._per_request = per_request
        self._times = Timestamps()
        self._latency = Series("latency", "ms")
        self._latencies: dict[str, Series] = {}
        """By component; there are as many as `router.metrics.meters` admits."""
        self._own_time = Series("gorouter_time", "ms")
        self._lookup = Series("route_lookup_time", "ns")
        self._registration = Series("route_registration_latency", "ms")

    def latencies(self, component: str, seconds: Sequence[float]) -> None:
        """Whole milliseconds."""
        if self._per_request:
            values = [value * 1000 // 1 for value in seconds]
            self._send(self._latency, values)
            if component:
                series = self._latencies.get(component)
                if series is None:
                    series = self._latencies[component] = Series(f"latency.{component}", "ms")
                self._send(series, values)

    def own_times(self, seconds: Sequence[float]) -> None:
        if self._per_request:
            self._send(self._own_time, [value * 1000 for value in seconds])

    def lookups(self, nanoseconds: Sequence[float]) -> None:
        if self._per_request:
            self._send(self._lookup, nanoseconds)

    def registrations(self, seconds: Sequence[float]) -> None:
        """Whole milliseconds."""
        self._send(self._registration, [value * 1000 // 1 for value in seconds])

    def _send(self, series: Series, values: Sequence[float]) -> None:
        if not values:
            return
        now = self._times.varint(time_ns())
        for start in range(0, len(values), AT_ONCE):
            self._metron.send_same_size(series.envelopes(values[start : start + AT_ONCE], now), series.size)
