"""The route services that routes are bound to: each URL taken apart once, and shared by all pools that name it.

A service is reached like an endpoint (`ServicePool`, `ServiceEndpoint`): dials, idle connections and failures are those
of `router.dialing` and `router.backend`. Whether a request goes there is for `router.route_services.turns` to say. The
route table knows no more of services than `Services`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from router.http1.grammar import is_host
from router.http1.request import route_path
from router.pool import Endpoint, Pool
from router.registry.records import EndpointRecord, InvalidRecord

if TYPE_CHECKING:
    from router.tls.backend_tls import BackendTls

HTTPS_PORT: Final = 443
_URL: Final = re.compile(r"(?i)https://(?:[^/?#@]*@)?([^/?#@]+)([^?#]*)(\?[^#]*)?(?:#.*)?")
_AUTHORITY: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(?::([0-9]*))?")
_BROKEN_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_SECRETS: Final = re.compile(r"(?<=//)[^/?#]*@|[?#].*")
_SAFE: Final = "".join(map(chr, range(0x21, 0x7F)))


def shown(url: str) -> str:
    """A URL without what is nobody's business: who logs in, and the query."""
    return _SECRETS.sub("", url)


class RouteService:
    """What one URL says, for as long as some route is bound to it."""

    __slots__ = ("authority", "elsewhere", "here", "host", "path", "place", "routes", "target", "url")

    def __init__(self, url: str) -> None:
        """An URL that cannot be used is no error yet: its requests are answered (`place` is None)."""
        self.url = url
        self.routes = 0
        """How many pools are bound to it."""
        self.authority = b""
        """What the service gets as Host."""
        self.target = b""
        """Path and query of the URL: the target of every request to the service."""
        self.host = ""
        """As the route table knows hosts, and path below."""
        self.path = ""
        self.place: EndpointRecord | None = None
        """Where it is; None for an URL that cannot be used."""
        self.elsewhere: ServicePool | None = None
        """How it is reached over the network, once it has been."""
        self.here: ServicePool | None = None
        """How it is reached where it is an application behind this router itself, once it has been."""
        self._take_apart(url)

    def _take_apart(self, url: str) -> None:
        match = _URL.fullmatch(url)
        authority = _AUTHORITY.fullmatch(match[1]) if match is not None else None
        if match is None or authority is None or _BROKEN_ESCAPE.search(match[2]) or not is_host(match[1].encode()):
            return
        port = int(authority[2] or HTTPS_PORT)
        host = authority[1].lower()
        try:
            place = EndpointRecord(host=host.strip("[]"), tls_port=port)
        except InvalidRecord:
            return
        self.authority = match[1].encode()
        self.target = (quote(match[2], _SAFE) or "/").encode() + quote(match[3] or "", _SAFE).encode()
        self.host = host
        self.path = route_path(self.target)
        self.place = place

    def retire(self) -> None:
        """No route is bound to it any more: what is in flight ends by itself, what is idle is closed."""
        for pool in (self.elsewhere, self.here):
            if pool is not None:
                pool.retire()


class Services:
    """All services that a route table's routes are bound to, by their URLs."""

    __slots__ = ("_services",)

    def __init__(self) -> None:
        self._services: dict[str, RouteService] = {}

    def __len__(self) -> int:
        return len(self._services)

    def rebound(self, former: RouteService | None, url: str) -> RouteService | None:
        """The service for a route that was bound to ``former``, and now is to the one at ``url``, or to none ("")."""
        if former is not None:
            if former.url == url:
                return former
            former.routes -= 1
            if not former.routes:
                del self._services[former.url]
                former.retire()
        if not url:
            return None
        service = self._services.get(url)
        if service is None:
            service = self._services[url] = RouteService(url)
        service.routes += 1
        return service


class ServiceEndpoint(Endpoint):
    """A service as something that requests are sent to."""

    is_backend = False

    __slots__ = ("hairpins", "tls", "url")

    def __init__(self, url: str, record: EndpointRecord, tls: BackendTls | None) -> None:
        """``tls``: None for a service behind this router itself, which is reached without a network."""
        super().__init__(record.address, b"")
        self._record = record
        self.url = url
        self.tls = tls
        self.hairpins = tls is None
        self.routes = 1

    def identity(self) -> bytes:
        """A service is no instance of the application: nothing is said."""
        return b""


class ServicePool(Pool):
    """One service. It is asked again where a route's next endpoint would be, and never passed over."""

    __slots__ = ("max_attempts",)

    def __init__(self, endpoint: ServiceEndpoint, max_attempts: int) -> None:
        super().__init__()
        self.endpoints = (endpoint,)
        self.max_attempts = max_attempts

    def pick(self, now: float, algorithm: str, max_in_flight: int, tried: list[Endpoint] | None) -> Endpoint | None:
        return self.endpoints[0]

    def pick_near(self, now: float, algorithm: str, max_in_flight: int, zone: str) -> Endpoint | None:
        return self.endpoints[0]

    def retire(self) -> None:
        endpoint = self.endpoints[0]
        endpoint.routes = 0
        idle, endpoint.idle = endpoint.idle, None  # taken first: a connection that closes leaves the list it is on
        for connection in idle or ():
            connection.close()
