"""Which sources of routes a router follows, by its settings (gorouter reference 1.5, 1.7)."""

from __future__ import annotations

from typing import NamedTuple

from router.config.settings import Settings
from router.config.settings_rules import asks_routing_api


class Wanted(NamedTuple):
    """At least one is True."""

    redis: bool
    """The route registry. Together with nats: what NATS says is written to it as well, for all routers."""
    nats: bool
    routing_api: bool

    @property
    def process(self) -> bool:
        """Whether there is a sources process, `router.sources.process`."""
        return self.nats or self.routing_api

    @property
    def bridge(self) -> bool:
        """Whether it writes to the registry, which the workers follow."""
        return self.process and self.redis

    @property
    def stream(self) -> bool:
        """Whether the workers follow its stream."""
        return self.process and not self.redis


def wanted(settings: Settings) -> Wanted:
    """Sources of settings as `router.config.settings_rules.completed` leaves them."""
    return Wanted(
        redis=bool(settings.millrace.redis),
        nats=bool(settings.nats.hosts),
        routing_api=asks_routing_api(settings),
    )
