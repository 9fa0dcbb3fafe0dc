"""What a follower fills: the router's table, seen from the registry. Says nothing of how routes are looked up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from router.registry.records import EndpointRecord


class RouteSink(Protocol):
    """Called on the event loop only, never from two places at once. No method may block or fail."""

    def upsert(self, route: str, record: EndpointRecord) -> None:
        """The endpoint `record.address` of `route` is now this. Doing it twice changes nothing."""

    def remove(self, route: str, address: str) -> None:
        """The endpoint leaves the route; one that is not there is no error."""

    def routes(self) -> list[str]:
        """The keys of all routes."""

    def records(self, route: str) -> Sequence[EndpointRecord]:
        """The endpoints of one route; none for a route that is not there."""
