"""What only some settings ask for: requests by component and by app, for /varz (gorouter reference 8.2) and for telling
NATS which apps are in use (1.1). A router without these settings counts none of it.
"""

from __future__ import annotations

from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from router.metrics.histogram import Histogram

if TYPE_CHECKING:
    from router.config.settings import Settings
    from router.edge import Edge
    from router.exchange import Exchange

BOUNDS: Final = tuple(50e-6 * 1.1**n for n in range(170))
"""Seconds, from 50 µs to some minutes: close enough together that a percentile is off by a twentieth at most."""
GROUPS: Final = 5
"""2xx to 5xx, and all others."""
MAX_APPS: Final = 50_000
"""Apps with requests in the last minute; what comes after these is not told apart."""
TOP: Final = 100
"""Apps that a worker reports: enough that the ten of the whole router are among them."""
MINUTE: Final = 60.0
SLICE: Final = 5.0
"""Requests by app are forgotten so many seconds at a time."""


class Component:
    __slots__ = ("durations", "latency", "responses")

    def __init__(self) -> None:
        self.responses = [0] * GROUPS
        self.durations: list[float] = []
        self.latency = Histogram(BOUNDS)


class AppCounts:
    """Of one worker."""

    @classmethod
    def from_settings(cls, settings: Settings) -> AppCounts | None:
        """None where nobody asks."""
        varz = settings.status.enable_deprecated_varz_healthz_endpoints
        return cls() if varz or settings.publish_active_apps_interval else None

    def __init__(self) -> None:
        self._components: dict[str, Component] = {}
        self._active: set[str] = set()
        self._now: dict[str, int] = {}
        self._now_since = monotonic()
        self._before: deque[tuple[float, dict[str, int]]] = deque()

    def attach(self, edge: Edge) -> None:
        edge.also_tell(self.over, self.over)

    def over(self, exchange: Exchange, took: float) -> None:
        """An exchange is over."""
        endpoint = exchange.endpoint
        if endpoint is None or endpoint.meter is None:
            return
        name = endpoint.meter.component
        component = self._components.get(name)
        if component is None:
            component = self._components[name] = Component()
        status = exchange.status // 100
        component.responses[status - 2 if 2 <= status <= 5 else 4] += 1
        component.durations.append(took)
        app = endpoint.record.app
        if app and (app in self._now or len(self._now) < MAX_APPS):
            self._active.add(app)
            self._now[app] = self._now.get(app, 0) + 1

    def report(self) -> dict[str, Any]:
        """Counts by component since the start, and the apps with most requests in the last minute."""
        self._forget(monotonic())
        components = {}
        for name, component in self._components.items():
            durations, component.durations = component.durations, []
            component.latency.add(durations)
            components[name] = {"responses": component.responses, "latency": component.latency.plain()}
        apps: dict[str, int] = dict(self._now)
        for _, counts in self._before:
            for app, count in counts.items():
                apps[app] = apps.get(app, 0) + count
        top = sorted(apps.items(), key=lambda item: -item[1])[:TOP]
        return {"components": components, "apps": dict(top)}

    def take_active(self) -> list[str]:
        """The apps that had requests since the last call."""
        active, self._active = self._active, set()
        return sorted(active)

    def _forget(self, now: float) -> None:
        if now - self._now_since >= SLICE:
            self._before.append((now, self._now))
            self._now, self._now_since = {}, now
        while self._before and self._before[0][0] <= now - MINUTE:
            self._before.popleft()
