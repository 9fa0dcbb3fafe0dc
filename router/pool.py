"""The endpoints of a route and the choice among them.

An ``Endpoint`` is shared by all routes that registered the same record, and so are its count of exchanges, its failure
mark and its idle connections. A ``Pool`` belongs to one route. Choosing never blocks and never allocates more than it
returns.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import getrandbits, random
from typing import TYPE_CHECKING, Final

from router.registry.records import EndpointRecord

if TYPE_CHECKING:
    from router.backend import BackendConnection
    from router.http2_backend import Http2Backend

ROUND_ROBIN: Final = "round-robin"
LEAST_CONNECTION: Final = "least-connection"
ALGORITHMS: Final = frozenset((ROUND_ROBIN, LEAST_CONNECTION))

_NONE: Final[tuple[Endpoint, ...]] = ()


class Endpoint:
    """One backend address while it is in the table, and what the router learned of it."""

    __slots__ = (
        "_record",
        "address",
        "failed_until",
        "fields",
        "http1_only",
        "http2",
        "idle",
        "in_flight",
        "packed",
        "routes",
    )

    def __init__(self, address: str, packed: bytes) -> None:
        self.address = address
        self.packed = packed
        """Its record as JSON, checked. Most endpoints of a big table are never asked for anything: they stay so."""
        self._record: EndpointRecord | None = None
        self.routes = 0
        """How many pools hold it; 0 once it has left the table."""
        self.in_flight = 0
        self.failed_until = 0.0
        """Monotonic seconds until which it is passed over."""
        self.idle: list[BackendConnection] | None = None
        """Open connections without an exchange, the most recently used last."""
        self.http2: Sequence[Http2Backend] = ()
        """Connections that exchanges share, being opened or open, where it speaks HTTP/2."""
        self.http1_only = False
        """Whether it said that it speaks HTTP/2, and did not."""
        self.fields = b""
        """What ``identity`` made, once the endpoint has been used."""

    @property
    def record(self) -> EndpointRecord:
        if self._record is None:
            self._record = EndpointRecord.from_json(self.packed)
        return self._record

    def identity(self) -> bytes:
        """The field lines that tell the application who it is (gorouter reference 4.1)."""
        record = self.record
        self.fields = (
            f"X-CF-ApplicationID: {record.app}\r\n"
            f"X-CF-InstanceID: {record.private_instance_id or self.address}\r\n"
            f"X-CF-InstanceIndex: {record.private_instance_index}\r\n"
        ).encode()
        return self.fields


class Pool:
    """The endpoints of one route, in order of registration."""

    __slots__ = ("_next", "algorithm", "emptied_at", "endpoints")

    def __init__(self) -> None:
        self.algorithm = ""
        """What the registration that said so last asked for; empty: the router's own setting holds."""
        self.endpoints: tuple[Endpoint, ...] = _NONE
        self.emptied_at = 0.0
        """Monotonic seconds at which the last endpoint left, while there is none."""
        self._next = getrandbits(16)

    def pick(self, now: float, algorithm: str, max_in_flight: int, tried: list[Endpoint] | None) -> Endpoint | None:
        """The endpoint for the next attempt, or None if all are tried or at ``max_in_flight`` (0: no limit).

        Endpoints marked as failed are passed over while another one is left.
        """
        endpoints = self.endpoints
        count = len(endpoints)
        if not count:
            return None
        position = self._next
        self._next = position + 1
        chosen = endpoints[position % count]
        if (
            chosen.failed_until <= now
            and tried is None
            and (not max_in_flight or chosen.in_flight < max_in_flight)
            and (count == 1 or (self.algorithm or algorithm) == ROUND_ROBIN)
        ):
            return chosen
        return self._search(position, now, algorithm, max_in_flight, tried)

    def _search(
        self, position: int, now: float, algorithm: str, max_in_flight: int, tried: list[Endpoint] | None
    ) -> Endpoint | None:
        """As ``pick``, looking at all of them, from ``position`` on."""
        start = position % len(self.endpoints)
        usable = [
            endpoint
            for endpoint in self.endpoints[start:] + self.endpoints[:start]
            if (not max_in_flight or endpoint.in_flight < max_in_flight) and (tried is None or endpoint not in tried)
        ]
        sound = [endpoint for endpoint in usable if endpoint.failed_until <= now] or usable
        if not sound:
            return None
        if (self.algorithm or algorithm) == LEAST_CONNECTION:
            return min(sound, key=lambda endpoint: (endpoint.in_flight, random()))
        self._next = position + (1 + self.endpoints.index(sound[0]) - start) % len(self.endpoints)
        return sound[0]
