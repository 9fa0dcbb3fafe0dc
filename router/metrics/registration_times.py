"""How long endpoints take from their registrar's own timestamp until requests can reach them (gorouter reference 8.6).

Stands between a follower and the table, in one worker of a router: in all of them each endpoint would count as many
times. What is there when the router starts is old, and says nothing: only after some time does it listen.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic, time

from router.metrics.counters import Metrics
from router.registry.records import EndpointRecord
from router.table import RouteTable


class TimedSink:
    """A `router.registry.sink.RouteSink` in front of the table."""

    def __init__(self, table: RouteTable, metrics: Metrics, muzzle: float) -> None:
        """``muzzle``: seconds from now in which nothing is counted."""
        self._table = table
        self._metrics = metrics
        self._from = monotonic() + muzzle

    def upsert(self, route: str, record: EndpointRecord) -> None:
        made = record.endpoint_updated_at_ns
        new = made > 0 and monotonic() >= self._from and not self._table.has(route, record.address)
        self._table.upsert(route, record)
        if new:
            self._metrics.registration_times.append(max(0.0, time() - made / 1e9))  # clocks of two machines

    def remove(self, route: str, address: str) -> None:
        self._table.remove(route, address)

    def routes(self) -> list[str]:
        return self._table.routes()

    def records(self, route: str) -> Sequence[EndpointRecord]:
        return self._table.records(route)
