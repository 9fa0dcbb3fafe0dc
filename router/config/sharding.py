"""Which endpoints a router takes in, by their isolation segments (gorouter reference 1.3); others are not there."""

from __future__ import annotations

from router.config.settings import Settings

NO_SEGMENT = ""
"""Of endpoints that all routers share."""


def accepted_segments(settings: Settings) -> frozenset[str] | None:
    """The segments whose endpoints are taken in; None: all of them."""
    match settings.routing_table_sharding_mode:
        case "segments":
            return frozenset(settings.isolation_segments)
        case "shared-and-segments":
            return frozenset((*settings.isolation_segments, NO_SEGMENT))
    return None
