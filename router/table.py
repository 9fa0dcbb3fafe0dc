"""The route table: from host and path, or from a TCP port and a server name, to a pool, and from the registry's changes
to pools.

Lookup costs a dictionary access per path segment and per wildcard level, whatever the number of routes. The rules are
those of gorouter's reference section 2: the longest prefix of whole segments whose pool has endpoints; wildcards only
where the host itself has none, the most specific first. A pool without endpoints hides no other one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from time import monotonic

from router.pool import Endpoint, Pool
from router.registry.records import EndpointRecord, tcp_route
from router.route_services.service import Services
from router.squeezed import squeezed, whole


class RouteTable:
    """Implements the registry's ``RouteSink``; the keys it is given are those of ``route_key``."""

    __slots__ = (
        "_deepest",
        "_emptied",
        "_endpoints",
        "_pools",
        "_segments",
        "_services",
        "_squeeze",
        "_superseded",
        "_wildcard_paths",
        "_wildcards",
        "empty_pool_timeout",
        "version",
    )

    def __init__(
        self, empty_pool_timeout: float = 0.0, segments: frozenset[str] | None = None, *, squeeze: bool = False
    ) -> None:
        """``segments``: the isolation segments whose endpoints are taken in; None: all. ``squeeze``: keep records in
        little memory (`router.squeezed`), where nobody else keeps them."""
        self.empty_pool_timeout = empty_pool_timeout
        """Seconds for which a route that lost its last endpoint is still known."""
        self.version = 0
        """Changes whenever ``lookup`` may answer otherwise than before; endpoints alone do not change it."""
        self._segments = segments
        self._squeeze = squeeze
        self._pools: dict[str, Pool] = {}
        self._endpoints: dict[str, Endpoint] = {}
        """By address; where records differ, the one registered last."""
        self._superseded: dict[str, list[Endpoint]] = {}
        """By address: those registered before it with another record, as long as some route still has them."""
        self._deepest: dict[str, list[int]] = {}
        """For hosts that have routes with a path, and TCP ports that have routes with a name (one segment): how many of
        these routes have 1, 2, ... segments (index 0 unused)."""
        self._wildcards = 0
        """How many routes begin with ``*.``, and how many of these have a path."""
        self._wildcard_paths = 0
        self._emptied: deque[tuple[float, str]] = deque()
        self._services = Services()

    def __len__(self) -> int:
        return len(self._pools)

    @property
    def endpoint_count(self) -> int:
        """Distinct endpoints, each counted once however many routes lead to it."""
        return len(self._endpoints)

    def lookup(self, host: str, path: str) -> Pool | None:
        """The pool for a host (lower case, no port) and a path (as ``route_path`` gives it), or None.

        A pool without endpoints is returned only if no other one matches.
        """
        if host not in self._deepest:
            pool = self._pools.get(host)
            if pool is not None and pool.endpoints:
                return pool
        else:
            pool = self._by_path(host, path)
        if self._wildcards and (pool is None or not pool.endpoints):
            wildcard = self._by_wildcard(host, path)
            if wildcard is not None and (pool is None or wildcard.endpoints):
                return wildcard
        return pool

    def path_matters(self, host: str) -> bool:
        """If not, one lookup holds for all paths of this host until ``version`` changes."""
        return host in self._deepest or self._wildcard_paths > 0

    def _by_path(self, host: str, path: str) -> Pool | None:
        deepest = self._deepest.get(host)
        empty: Pool | None = None
        key = host
        if deepest is not None and path:
            segments = path.split("/", len(deepest))
            key = host + "/".join(segments[: len(deepest)])
        while True:
            pool = self._pools.get(key)
            if pool is not None:
                if pool.endpoints:
                    return pool
                empty = empty or pool
            if key == host:
                return empty
            key = key[: key.rindex("/")]

    def _by_wildcard(self, host: str, path: str) -> Pool | None:
        empty: Pool | None = None
        _, dot, rest = host.partition(".")
        while dot:
            pool = self._by_path("*." + rest, path)
            if pool is not None:
                if pool.endpoints:
                    return pool
                empty = empty or pool
            _, dot, rest = rest.partition(".")
        return empty

    def tcp_lookup(self, port: int, name: str | None) -> Pool | None:
        """The pool for a connection to a TCP port, by the server name (lower case) that it asks for, if by any.

        A route of the name itself comes first, then wildcards, the most specific first, then the port's own route. A
        pool without endpoints is returned only if no other one matches.
        """
        empty: Pool | None = None
        keys = [tcp_route(port)]
        if name is not None and self.tcp_names_matter(port):
            labels = name.split(".")
            names = [name, *("*." + ".".join(labels[start:]) for start in range(1, len(labels)))]
            keys = [tcp_route(port, name) for name in names] + keys
        for key in keys:
            pool = self._pools.get(key)
            if pool is not None:
                if pool.endpoints:
                    return pool
                empty = empty or pool
        return empty

    def tcp_names_matter(self, port: int) -> bool:
        """Whether any route of this TCP port asks for a server name."""
        return tcp_route(port) in self._deepest

    def upsert(self, route: str, record: EndpointRecord) -> None:
        """Add an endpoint to a route, or replace the one with the same address. Doing it twice changes nothing."""
        address = record.address
        if self._segments is not None and record.isolation_segment not in self._segments:
            self.remove(route, address)
            return
        packed = record.packed or record.to_json()
        if self._squeeze:
            packed = squeezed(packed)
        pool = self._pools.get(route)
        if pool is None:
            pool = self._pools[route] = Pool(route)
            if "/" in route or route[0] == "*":
                self._count_route(route, 1)
        if record.options:
            pool.ask_for(record.options)
        if record.route_service_url or pool.service is not None:
            pool.service = self._services.rebound(pool.service, record.route_service_url)
        endpoints = pool.endpoints
        if not endpoints:
            self.version += 1
            pool.endpoints = (self._endpoint(address, packed),)
            return
        for index, present in enumerate(endpoints):
            if present.address == address:
                if present.packed != packed:
                    pool.endpoints = (*endpoints[:index], self._endpoint(address, packed), *endpoints[index + 1 :])
                    self._release(present)
                return
        pool.endpoints = (*endpoints, self._endpoint(address, packed))

    def _endpoint(self, address: str, packed: bytes) -> Endpoint:
        endpoint = self._endpoints.get(address)
        if endpoint is None or endpoint.packed != packed:
            if endpoint is not None:
                self._superseded.setdefault(address, []).append(endpoint)
            endpoint = self._endpoints[address] = Endpoint(address, packed)
        endpoint.routes += 1
        return endpoint

    def _release(self, endpoint: Endpoint) -> None:
        endpoint.routes -= 1
        if endpoint.routes:
            return
        self._forget_endpoint(endpoint)
        idle, endpoint.idle = endpoint.idle, None  # taken first: a connection that closes leaves the list it is on
        for connection in (*(idle or ()), *endpoint.http2):
            connection.close()

    def _forget_endpoint(self, endpoint: Endpoint) -> None:
        address = endpoint.address
        superseded = self._superseded.get(address)
        if superseded is None:
            del self._endpoints[address]
            return
        if self._endpoints[address] is endpoint:
            self._endpoints[address] = superseded.pop()
        else:
            superseded.remove(endpoint)
        if not superseded:
            del self._superseded[address]

    def remove(self, route: str, address: str) -> None:
        """Take an endpoint out of a route; unknown ones are no error."""
        pool = self._pools.get(route)
        if pool is None:
            return
        for index, present in enumerate(pool.endpoints):
            if present.address == address:
                pool.endpoints = pool.endpoints[:index] + pool.endpoints[index + 1 :]
                self._release(present)
                break
        else:
            return
        if not pool.endpoints:
            self.version += 1
            if self.empty_pool_timeout > 0:
                pool.emptied_at = monotonic()
                self._emptied.append((pool.emptied_at, route))
            else:
                self._forget(route)

    def forget_emptied(self, now: float) -> None:
        """Drop routes that have been without endpoints for longer than ``empty_pool_timeout``."""
        while self._emptied and self._emptied[0][0] + self.empty_pool_timeout <= now:
            emptied_at, route = self._emptied.popleft()
            pool = self._pools.get(route)
            if pool is not None and not pool.endpoints and pool.emptied_at == emptied_at:
                self._forget(route)

    def _forget(self, route: str) -> None:
        self.version += 1
        self._services.rebound(self._pools.pop(route).service, "")
        self._count_route(route, -1)

    def _count_route(self, route: str, change: int) -> None:
        host, slash, path = route.partition("/")
        if host.startswith("*"):
            self._wildcards += change
            self._wildcard_paths += change if slash else 0
        if not slash:
            return
        depths = self._deepest.setdefault(host, [])
        segments = path.count("/") + 1
        depths.extend([0] * (segments + 1 - len(depths)))
        depths[segments] += change
        while depths and not depths[-1]:
            depths.pop()
        if not depths:
            del self._deepest[host]

    def has(self, route: str, address: str) -> bool:
        """Whether the endpoint is one of the route's."""
        pool = self._pools.get(route)
        return pool is not None and any(endpoint.address == address for endpoint in pool.endpoints)

    def routes(self) -> list[str]:
        """All route keys, those without endpoints too."""
        return list(self._pools)

    def packed(self, route: str) -> Sequence[tuple[str, bytes]]:
        """Address and packed record of each of a route's endpoints; empty for an unknown route."""
        pool = self._pools.get(route)
        return [(endpoint.address, whole(endpoint.packed)) for endpoint in pool.endpoints] if pool is not None else ()

    def records(self, route: str) -> Sequence[EndpointRecord]:
        """The records of a route's endpoints; empty for an unknown route."""
        pool = self._pools.get(route)
        if pool is None:
            return ()
        return [EndpointRecord.from_json(whole(endpoint.packed)) for endpoint in pool.endpoints]
