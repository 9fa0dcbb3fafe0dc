"""The endpoints of a route and the choice among them.

An ``Endpoint`` is shared by all routes that registered the same record, and so are its count of exchanges, its failure
mark and its idle connections. A ``Pool`` belongs to one route. Choosing never blocks and never allocates more than it
returns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from math import inf
from random import getrandbits, random
from typing import TYPE_CHECKING, ClassVar, Final

from router.hashing import ALGORITHM as HASH
from router.hashing import HashOptions, Ring
from router.registry.records import EndpointRecord
from router.squeezed import whole

if TYPE_CHECKING:
    from router.backend import BackendConnection
    from router.http2_backend import Http2Backend
    from router.metrics.meters import Meter
    from router.route_services.service import RouteService

ROUND_ROBIN: Final = "round-robin"
LEAST_CONNECTION: Final = "least-connection"
ALGORITHMS: Final = frozenset((ROUND_ROBIN, LEAST_CONNECTION))

_NONE: Final[tuple[Endpoint, ...]] = ()


class Endpoint:
    """One backend address while it is in the table, and what the router learned of it."""

    is_backend: ClassVar[bool] = True
    """Whether it stands for an instance of an application."""

    __slots__ = (
        "_record",
        "address",
        "failed_until",
        "fields",
        "http1_only",
        "http2",
        "idle",
        "in_flight",
        "logged",
        "meter",
        "packed",
        "routes",
    )

    def __init__(self, address: str, packed: bytes) -> None:
        self.address = address
        self.packed = packed
        """Its record as JSON, checked, perhaps squeezed. Most endpoints of a big table are never asked for anything,
        and stay so."""
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
        self.logged: tuple[bytes, bytes] | None = None
        """Address and identity as the access log shows them, once it has."""
        self.meter: Meter | None = None
        """What its exchanges count for, once it had one."""

    @property
    def record(self) -> EndpointRecord:
        if self._record is None:
            self._record = EndpointRecord.from_json(whole(self.packed))
        return self._record

    def identity(self) -> bytes:
        """The field lines that tell the application who it is (gorouter reference 4.1)."""
        record = self.record
        self.fields = (
            f"X-Cf-Applicationid: {record.app}\r\n"
            f"X-Cf-Instanceid: {record.private_instance_id or self.address}\r\n"
            f"X-Cf-Instanceindex: {record.private_instance_index}\r\n"
        ).encode()
        return self.fields


class Pool:
    """The endpoints of one route, in order of registration."""

    __slots__ = ("_derived", "_next", "algorithm", "emptied_at", "endpoints", "hashing", "route", "service")

    def __init__(self, route: str = "") -> None:
        self.route = route
        """The key of the route."""
        self.algorithm = ""
        """What the registration that said so last asked for; empty: the router's own setting holds."""
        self.hashing: HashOptions | None = None
        """Where requests are balanced by hash; ``algorithm`` is then empty, for those that give nothing to hash."""
        self.service: RouteService | None = None
        """What the registration that came last wants requests to pass through first."""
        self.endpoints: tuple[Endpoint, ...] = _NONE
        self.emptied_at = 0.0
        """Monotonic seconds at which the last endpoint left, while there is none."""
        self._next = getrandbits(8)  # so small that the number is no object of its own
        self._derived: _Derived | None = None

    def ask_for(self, options: Mapping[str, str]) -> None:
        """Take over the balancing that a registration asks for; what is missing or unknown changes nothing."""
        algorithm = options.get("loadbalancing") or options.get("lb_algo")
        if algorithm in ALGORITHMS:
            self.algorithm = algorithm
            self.hashing = None
        elif algorithm == HASH:
            with suppress(ValueError):  # whoever reads the registration says so; the pool keeps what it had
                self.hashing = HashOptions.read(options.get("hash_header", ""), options.get("hash_balance", ""))
                self.algorithm = ""

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
            and (count == 1 or (self.algorithm or algorithm) != LEAST_CONNECTION)
        ):
            return chosen
        return self._search(position, now, algorithm, max_in_flight, tried)

    def _search(
        self, position: int, now: float, algorithm: str, max_in_flight: int, tried: list[Endpoint] | None
    ) -> Endpoint | None:
        """As ``pick``, looking at all of them, from ``position`` on."""
        start = position % len(self.endpoints)
        usable = _usable(self.endpoints[start:] + self.endpoints[:start], max_in_flight, tried)
        sound = _sound(usable, now) or _forgiven(usable, tried)
        if not sound:
            return None
        if (self.algorithm or algorithm) == LEAST_CONNECTION:
            return _least_busy(sound)
        self._next = position + (1 + self.endpoints.index(sound[0]) - start) % len(self.endpoints)
        return sound[0]

    def pick_near(self, now: float, algorithm: str, max_in_flight: int, zone: str) -> Endpoint | None:
        """As ``pick`` for a first attempt, among the endpoints of ``zone`` while one of them is sound and has room."""
        near = _sound(_usable(self._now_derived().near(zone), max_in_flight, None), now)
        if not near:
            return self.pick(now, algorithm, max_in_flight, None)
        if (self.algorithm or algorithm) == LEAST_CONNECTION:
            return _least_busy(near)
        self._next += 1
        return near[self._next % len(near)]

    def pick_hashed(self, key: bytes, now: float, max_in_flight: int, tried: list[Endpoint] | None) -> Endpoint | None:
        """The endpoint that ``key`` prefers among those that ``pick`` would choose from, within the balance factor."""
        endpoints = self.endpoints
        usable = _usable(endpoints, max_in_flight, tried)
        sound = _sound(usable, now) or _forgiven(usable, tried)
        if not sound:
            return None
        balance = self.hashing.balance if self.hashing is not None else 0.0
        most = balance * (1 + sum([endpoint.in_flight for endpoint in sound])) / len(sound) if balance else inf
        first: Endpoint | None = None
        for index in self._now_derived().ring().order(key):
            endpoint = endpoints[index]
            if endpoint in sound:
                if endpoint.in_flight < most:
                    return endpoint
                first = first or endpoint
        return first

    def instance(self, name: str) -> Endpoint | None:
        """The endpoint with this private_instance_id, or else with this address."""
        return self._now_derived().instances.get(name)

    def _now_derived(self) -> _Derived:
        derived = self._derived
        if derived is None or derived.endpoints is not self.endpoints:
            derived = self._derived = _Derived(self.endpoints)
        return derived


class _Derived:
    """What some requests ask of a pool, worked out once for as long as its endpoints stay the same."""

    __slots__ = ("_near", "_ring", "_zone", "endpoints", "instances")

    def __init__(self, endpoints: tuple[Endpoint, ...]) -> None:
        self.endpoints = endpoints
        self.instances = {endpoint.address: endpoint for endpoint in endpoints}
        for endpoint in endpoints:
            name = endpoint.record.private_instance_id
            if name:
                self.instances[name] = endpoint
        self._ring: Ring | None = None
        self._zone: str | None = None
        self._near: tuple[Endpoint, ...] = _NONE

    def ring(self) -> Ring:
        if self._ring is None:
            self._ring = Ring([endpoint.address for endpoint in self.endpoints])
        return self._ring

    def near(self, zone: str) -> tuple[Endpoint, ...]:
        """The endpoints of an availability zone; those that name none are in the zone without a name."""
        if self._zone != zone:
            self._zone = zone
            self._near = tuple(e for e in self.endpoints if e.record.availability_zone == zone)
        return self._near


def _usable(endpoints: Sequence[Endpoint], max_in_flight: int, tried: list[Endpoint] | None) -> list[Endpoint]:
    return [
        endpoint
        for endpoint in endpoints
        if (not max_in_flight or endpoint.in_flight < max_in_flight) and (tried is None or endpoint not in tried)
    ]


def _sound(endpoints: list[Endpoint], now: float) -> list[Endpoint]:
    return [endpoint for endpoint in endpoints if endpoint.failed_until <= now]


def _forgiven(endpoints: list[Endpoint], tried: list[Endpoint] | None) -> list[Endpoint]:
    """All of them, none marked any more where a request found no other: else the first whose mark ends would have to
    take everything. A request that marked some itself has not seen them all fail yet; and one alone has nothing to
    share, while other routes may have it as well."""
    if tried is None and len(endpoints) > 1:
        for endpoint in endpoints:
            endpoint.failed_until = 0.0
    return endpoints


def _least_busy(endpoints: list[Endpoint]) -> Endpoint:
    return min(endpoints, key=lambda endpoint: (endpoint.in_flight, random()))
