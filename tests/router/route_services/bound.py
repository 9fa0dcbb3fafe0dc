"""Routes bound to route services, for tests: services speak TLS, and send requests back to the router or do not."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from router.config.settings import RouteServices, Settings
from router.registry.records import EndpointRecord
from router.route_services.signature import Signer
from tests.router.tls.authority import CA_PEM, issue, over_tls, server_context
from tests.router.wire import OK, PATIENCE, Backend, Message, RunningEdge, Wire, answering, backend, running_edge

SECRET = "a secret of route services"
APP = "app.example.com"
GET = b"GET /where?q=1 HTTP/1.1\r\nHost: app.example.com\r\n\r\n"
SERVICE_CERT = issue("localhost")
SETTINGS = Settings(ca_certs=(CA_PEM,), route_services_secret=SECRET)
SIGNER = Signer(SECRET)
_HOP_BY_HOP = (b"connection", b"host", b"te", b"transfer-encoding", b"upgrade")


def with_settings(**changes: Any) -> Settings:
    """``route_services``: changes of that section."""
    section = replace(RouteServices(), **changes.pop("route_services", {}))
    return replace(SETTINGS, route_services=section, **changes)


def sent_back(request: Message, port: int, *, without: tuple[bytes, ...] = ()) -> bytes:
    """What the router at ``port`` answers to the request that a service got, sent on as a proxy would."""
    url = request.get("X-CF-Forwarded-Url") or b""
    host, slash, rest = url.partition(b"://")[2].partition(b"/")
    dropped = (*_HOP_BY_HOP, *without)
    lines = [b"%b: %b\r\n" % pair for pair in request.fields if pair[0].lower() not in dropped]
    method = request.first.split(b" ")[0]
    if request.raw_body:
        lines.append(b"Transfer-Encoding: chunked\r\n")
    wire = Wire(socket.create_connection(("127.0.0.1", port), PATIENCE))
    try:
        head = b"%b %b HTTP/1.1\r\nHost: %b\r\n" % (method, slash + rest, host)
        wire.send(b"".join((head, *lines, b"\r\n", request.raw_body or request.body)))
        wire.message(bodiless=method == b"HEAD")
        return wire.seen
    finally:
        wire.close()


@dataclass
class Bound:
    """An edge with app.example.com, bound to a service."""

    edge: RunningEdge
    app: Backend
    service: Backend
    at_app: list[Message]
    at_service: list[Message]
    wires: list[Wire] = field(default_factory=list)

    def url(self, rest: str = "") -> str:
        return f"https://localhost:{self.service.port}{rest}"

    def send(self, request: bytes) -> Wire:
        wire = self.edge.connect()
        self.wires.append(wire)
        wire.send(request)
        return wire

    def ask(self, request: bytes = GET) -> Message:
        return self.send(request).message(bodiless=request.startswith(b"HEAD"))

    def signed(self, url: str = f"https://{APP}/where?q=1", signer: Signer = SIGNER, more: bytes = b"") -> bytes:
        """A request that claims to be back from a service."""
        signature, metadata = signer.sign(url)
        lines = b"X-CF-Proxy-Signature: %b\r\nX-CF-Proxy-Metadata: %b\r\n" % (signature, metadata)
        return GET[:-2] + lines + more + b"\r\n"


@contextmanager
def bound(
    settings: Settings = SETTINGS,
    *,
    rest: str = "",
    service: Callable[[Wire], None] | None = None,
    response: bytes | Callable[[Message], bytes] = OK,
    context: ssl.SSLContext | None = None,
    without: tuple[bytes, ...] = (),
    **fields: Any,
) -> Iterator[Bound]:
    """``rest``: of the service's URL; ``service``: what it does instead of sending back; ``response``: the app's;
    ``without``: fields that the service keeps to itself."""
    at_app: list[Message] = []
    at_service: list[Message] = []
    edges: list[RunningEdge] = []
    sending_back = answering(lambda request: sent_back(request, edges[0].port, without=without), at_service)
    script = over_tls(service or sending_back, context or server_context(SERVICE_CERT))
    with backend(answering(response, at_app)) as app, backend(script) as proxy, running_edge(settings) as edge:
        edges.append(edge)
        made = Bound(edge, app, proxy, at_app, at_service)
        register(edge, APP, app, made.url(rest), app="app-guid", **fields)
        try:
            yield made
        finally:
            for wire in made.wires:
                wire.close()


def register(edge: RunningEdge, route: str, endpoint: Backend, url: str = "", **fields: Any) -> None:
    record = EndpointRecord(host="127.0.0.1", port=endpoint.port, route_service_url=url, **fields)
    edge.do(edge.table.upsert, route, record)
