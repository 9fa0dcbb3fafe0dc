"""What exchanges with endpoints come to, by the component and, where asked for, by the source that endpoints are tagged
with (gorouter reference 8.6).

An endpoint finds its ``Meter`` once; from then on a request costs an addition and an append. Durations are put into
their buckets by the edge's sweep. How many labels there may be is bounded, whatever registrars write into tags: what
comes after MAX_COMPONENTS or MAX_SOURCES others counts as OTHER.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from router.metrics.histogram import Histogram

if TYPE_CHECKING:
    from router.config.settings import Settings
    from router.pool import Endpoint

MAX_COMPONENTS: Final = 1000
MAX_SOURCES: Final = 4000
LABEL_LENGTH: Final = 128
"""Characters of a label's value; what is longer is cut."""
OTHER: Final = "other"
ROUTER: Final = "gorouter"
"""The source of requests to endpoints without the tag ``source_id``."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of the histograms, in the units they are counted in."""

    lookup: tuple[float, ...] = tuple(10_000.0 * n for n in range(1, 11))
    """Of route_lookup_time, nanoseconds."""
    own_time: tuple[float, ...] = (0.001, 0.002, 0.004, 0.006, 0.008, 0.01, 0.02, 0.04, 0.05, 0.1, 0.5, 1.0)
    """Of gorouter_time, seconds."""
    latency: tuple[float, ...] = own_time
    """Of latency, seconds."""
    registration: tuple[float, ...] = (0.0001, 0.0005, 0.001, 0.0015, 0.002, 0.0025, 0.003, 0.0035, 0.004)
    """Of route_registration_latency, seconds."""
    source: tuple[float, ...] = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6)
    """Of http_latency_seconds, seconds."""

    @classmethod
    def from_settings(cls, settings: Settings) -> Bounds:
        """The settings' numbers are in the unit that their keys have always meant: milliseconds, but for lookups
        (nanoseconds) and http_latency (seconds)."""
        meters = settings.prometheus.meters
        own_time = meters.gorouter_time_histogram_buckets
        return cls(
            lookup=meters.route_lookup_time_histogram_buckets,
            own_time=own_time if settings.millrace.gorouter_time_bucket_unit == "s" else _from_ms(own_time),
            latency=_from_ms(meters.routing_response_latency_histogram_buckets),
            registration=_from_ms(meters.route_registration_latency_histogram_buckets),
            source=meters.http_latency_histogram_buckets,
        )


DEFAULT_BOUNDS: Final = Bounds()


def _from_ms(numbers: Sequence[float]) -> tuple[float, ...]:
    return tuple(number / 1000 for number in numbers)


class Labels:
    """The values a label may have: the first ``most`` that come, each under its own name, and OTHER."""

    __slots__ = ("_known", "_most")

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: set[str] = set()

    def admit(self, value: str) -> str:
        value = value[:LABEL_LENGTH]
        if value not in self._known:
            if len(self._known) >= self._most:
                return OTHER
            self._known.add(value)
        return value


class Meter:
    """Of all endpoints with the same labels."""

    __slots__ = ("component", "durations", "latency", "requests", "source")

    def __init__(self, component: str, latency: Histogram, source: Histogram | None) -> None:
        self.component = component
        self.requests = 0
        """Attempts."""
        self.durations: list[float] = []
        """Seconds of exchanges that ended since the last ``Meters.settle``."""
        self.latency = latency
        """Shared by all meters of the component."""
        self.source = source
        """Shared by all meters of the source; None where sources are not told apart."""


class Meters:
    """All meters of one worker."""

    def __init__(self, bounds: Bounds, *, per_request: bool, per_source: bool) -> None:
        """``per_request``: whether latencies are put into buckets by component; ``per_source``: by source."""
        self.bounds = bounds
        self._per_request = per_request
        self._per_source = per_source
        self._components = Labels(MAX_COMPONENTS)
        self._sources = Labels(MAX_SOURCES)
        self._meters: dict[tuple[str, str], Meter] = {}
        self._latencies: dict[str, Histogram] = {}
        self._by_source: dict[str, Histogram] = {}
        self._in_turn: list[Meter] = []
        self.on_durations: Callable[[str, list[float]], object] | None = None
        """Told a component and the seconds of exchanges with its endpoints, when they are settled."""
        self.services = self._of("", ROUTER)
        """Of requests to route services, which count as no component's requests."""
        del self._meters["", self._source(ROUTER)]

    def of(self, endpoint: Endpoint) -> Meter:
        """The endpoint's meter, which it keeps."""
        if not endpoint.is_backend:
            meter = self.services
        else:
            tags = endpoint.record.tags
            meter = self._of(tags.get("component", ""), tags.get("source_id") or ROUTER)
        endpoint.meter = meter
        return meter

    def _of(self, component: str, source: str) -> Meter:
        component, source = self._components.admit(component), self._source(source)
        meter = self._meters.get((component, source))
        if meter is None:
            latency = self._latencies.setdefault(component, Histogram(self.bounds.latency))
            by_source = self._by_source.setdefault(source, Histogram(self.bounds.source)) if source else None
            meter = self._meters[component, source] = Meter(component, latency, by_source)
            self._in_turn.append(meter)
        return meter

    def _source(self, source: str) -> str:
        return self._sources.admit(source) if self._per_source else ""

    def settle(self, part: int = 0, parts: int = 1) -> list[float]:
        """Put durations into their buckets, of every ``parts``-th meter from ``part`` on. Returns them all."""
        settled: list[float] = []
        for meter in self._in_turn[part::parts]:
            durations = meter.durations
            if durations:
                meter.durations = []
                if self._per_request:
                    meter.latency.add(durations)
                if meter.source is not None:
                    meter.source.add(durations)
                if self.on_durations is not None:
                    self.on_durations(meter.component, durations)
                settled += durations
        return settled

    def plain(self) -> dict[str, Any]:
        """For a worker's report."""
        requests: dict[str, int] = {}
        for meter in self._meters.values():
            requests[meter.component] = requests.get(meter.component, 0) + meter.requests
        latencies = {name: one.plain() for name, one in self._latencies.items() if any(one.counts)}
        sources = {name: one.plain() for name, one in self._by_source.items() if any(one.counts)}
        return {"requests": {k: v for k, v in requests.items() if v}, "latency": latencies, "http_latency": sources}
