"""Where a request of a route with a route service goes: to the service, or, back from it, to the application.

Theory of operation (gorouter reference 7). The exchange asks once, when it knows its pool:

    no signature  --------------------------------> the service: its URL's path and Host, signed, counted by CDN-Loop
    signature that is ours, for this route -------> an endpoint of the route, as if the service had not been there
    any other signature, no usable service, loop -> an answer

A route without a service passes signatures on untouched, which is how an application behind this router can be a route
service; in strict mode they must be ours all the same. Nothing is kept between the two passes: all there is to know
comes back with the request.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import quote

from router.config.settings import Settings
from router.heads import answers
from router.heads.answers import Answer
from router.heads.forwarding import ForwardingRules, RequestPlan
from router.http1.request import ABSOLUTE, RequestFields, RequestLine, route_path
from router.pool import Pool
from router.registry.records import EndpointRecord
from router.route_services import loops, refusals
from router.route_services.hairpin import Allowlist
from router.route_services.service import RouteService, ServiceEndpoint, ServicePool, shown
from router.route_services.signature import InvalidSignature, Signer
from router.route_services.tls import ServiceTls
from router.table import RouteTable

if TYPE_CHECKING:
    from router.exchange import Exchange

SIGNATURE: Final = b"x-cf-proxy-signature"
METADATA: Final = b"x-cf-proxy-metadata"
FORWARDED_URL: Final = b"x-cf-forwarded-url"
OURS: Final = frozenset((SIGNATURE, METADATA, FORWARDED_URL))
"""What a request carries between router and service, and an application behind the service never sees."""

_REPLACED: Final = re.compile(rb"(?im)^(?:host|cdn-loop|%b):.*\r\n" % b"|".join(sorted(OURS)))
_PRINTABLE: Final = "".join(map(chr, range(0x21, 0x7F)))


class Turn(NamedTuple):
    """What an exchange goes on with."""

    pool: Pool
    line: RequestLine
    plan: RequestPlan


class RouteServices:
    """Of one worker."""

    def __init__(self, settings: Settings, table: RouteTable, rules: ForwardingRules) -> None:
        """Takes some 60 ms of CPU for each secret that is set."""
        self._table = table
        self._rules = rules
        self._signer: Signer | None = None
        if settings.route_services_secret:
            self._signer = Signer(settings.route_services_secret, settings.route_services_secret_decrypt_only)
        self._strict = settings.route_services.strict_signature_validation
        self._max_age = settings.route_services_timeout
        self._scheme = "https" if settings.route_services_recommend_https else "http"
        self._max_attempts = max(settings.route_services.max_attempts, 1)
        self._max_passes = settings.millrace.route_service_max_hops
        self._hairpins = settings.route_services_hairpinning
        self._allowlist = Allowlist(settings.route_services_hairpinning_allowlist)
        self._tls = ServiceTls(settings)
        self._changes_proto = settings.force_forwarded_proto_https or settings.sanitize_forwarded_proto

    def prepare(self) -> None:
        """Make now what the first request to a service should not have to wait for."""
        if self._signer is not None:
            self._tls.prepare()

    def turn(self, exchange: Exchange, pool: Pool) -> Turn | Answer | None:
        """For a request of a pool with a service, or with a signature; None: it goes on as it is."""
        service, signed = pool.service, exchange.plan.signed
        if service is None:
            return self._passing_by(exchange, pool, signed) if signed is not None else None
        if self._signer is None:
            self._tell(logging.INFO, "route-service-unsupported", exchange)
            return refusals.disabled()
        plan: RequestPlan | None = None
        if signed is not None and _value(signed, SIGNATURE):
            try:
                plan = self._returned(exchange, pool, signed, self._signer)
            except InvalidSignature as why:
                self._tell(logging.ERROR, "signature-validation-failed", exchange, error=str(why))
                return refusals.not_validated(why)
        if exchange.line.method == b"CONNECT" or b"websocket" in exchange.plan.upgrade.lower():
            self._tell(logging.INFO, "route-service-unsupported", exchange)
            return refusals.no_tunnels() if exchange.line.method == b"CONNECT" else refusals.no_websockets()
        if plan is not None:
            return Turn(pool, exchange.line, plan)
        most = exchange.edge.max_in_flight
        if most and all(endpoint.in_flight >= most for endpoint in pool.endpoints):
            return answers.connection_limit(exchange.plan.host_field or b"")  # nobody to serve it when it comes back
        return self._outbound(exchange, service, self._signer)

    # To the service ---------------------------------------------------------------------------------------------------

    def _outbound(self, exchange: Exchange, service: RouteService, signer: Signer) -> Turn | Answer:
        place = service.place
        if place is None:
            self._tell(logging.ERROR, "route-service-failed", exchange, route_service_endpoint=shown(service.url))
            return refusals.unusable()
        plan, line = exchange.plan, exchange.line
        names = loops.members(plan.fields)
        passes = loops.passes(names)
        if self._max_passes and passes > self._max_passes:
            self._tell(
                logging.ERROR, "route-service-loop", exchange, route_service_endpoint=shown(service.url), passes=passes
            )
            return refusals.loop(passes)
        forwarded_url = f"{self._scheme}://{_host(plan)}{_target(line)}"
        signature, metadata = signer.sign(forwarded_url)
        fields = b"".join(
            (
                b"Host: %b\r\n" % service.authority,
                _REPLACED.sub(b"", plan.fields),
                b"X-Cf-Forwarded-Url: %b\r\n" % forwarded_url.encode(),
                b"X-Cf-Proxy-Metadata: %b\r\nX-Cf-Proxy-Signature: %b\r\n" % (metadata, signature),
                loops.line(names),
            )
        )
        pool = self._way(service, place)
        return Turn(pool, line.with_target(service.target), plan.onward(fields))

    def _way(self, service: RouteService, place: EndpointRecord) -> ServicePool:
        if self._hairpins and self._is_here(service):
            if service.here is None:
                inside = EndpointRecord(host=place.host, port=place.tls_port)
                service.here = ServicePool(ServiceEndpoint(service.url, inside, None), self._max_attempts)
            return service.here
        if service.elsewhere is None:
            service.elsewhere = ServicePool(ServiceEndpoint(service.url, place, self._tls), self._max_attempts)
        return service.elsewhere

    def _is_here(self, service: RouteService) -> bool:
        """Whether the service is a route of this router itself that may be reached without a network."""
        pool = self._table.lookup(service.host, service.path)
        return pool is not None and self._allowlist.allows(pool.route.partition("/")[0])

    # Back from it -----------------------------------------------------------------------------------------------------

    def _returned(self, exchange: Exchange, pool: Pool, signed: RequestFields, signer: Signer) -> RequestPlan:
        """The plan for the application. Raises InvalidSignature."""
        said = signer.read(_value(signed, SIGNATURE), _value(signed, METADATA), self._max_age)
        host, path = _place(said.forwarded_url)
        meant = self._table.lookup(host, path)
        if meant is None:
            raise InvalidSignature(f"original request URL {host}{path} does not exist in the routing table")
        if meant.route != pool.route:
            raise InvalidSignature(
                f"route service forwarded URL {pool.route} does not match the original request URL {host}{path}"
            )
        kept = signed.without(OURS)
        plan = self._rules.plan_request(kept, returned=True)
        plan.trace = exchange.plan.trace
        return plan

    def _passing_by(self, exchange: Exchange, pool: Pool, signed: RequestFields) -> Turn | Answer | None:
        """A signature on a request to a route without a service."""
        if not self._strict and not (self._changes_proto and _value(signed, FORWARDED_URL)):
            return None
        try:
            if self._signer is None:
                raise InvalidSignature("no route_services_secret is set")
            self._signer.read(_value(signed, SIGNATURE), _value(signed, METADATA), self._max_age)
        except InvalidSignature as why:
            if not self._strict:
                return None
            self._tell(logging.ERROR, "signature-validation-failed", exchange, error=str(why))
            return refusals.not_valid_anywhere(why)
        if not self._changes_proto or not _value(signed, FORWARDED_URL):
            return None
        plan = self._rules.plan_request(signed, returned=True)  # what it says of the scheme was this router's own word
        plan.returned = False
        plan.trace = exchange.plan.trace
        return Turn(pool, exchange.line, plan)

    @staticmethod
    def _tell(level: int, message: str, exchange: Exchange, **data: Any) -> None:
        host = (exchange.plan.host_field or b"").decode("latin-1")
        named = {name.replace("_", "-"): value for name, value in data.items()}
        exchange.edge.request_log.say(exchange, level, message, {"route": host, **named})


def _value(fields: RequestFields, name: bytes) -> bytes:
    """Of the first line with this name (lower case), as Go reads fields; empty if there is none."""
    return next((line.value for line in fields.lines if line.name == name), b"")


def carries_both(signed: RequestFields | None) -> bool:
    """Whether it is a route service's own request: its application is no place for a session (reference 3.9)."""
    return signed is not None and bool(_value(signed, SIGNATURE) and _value(signed, METADATA))


# URLs -----------------------------------------------------------------------------------------------------------------


def _host(plan: RequestPlan) -> str:
    """The request's host as the client wrote it, without the port."""
    host = plan.host_field or b""
    name = host[: host.find(b"]") + 1] if host[:1] == b"[" else host.partition(b":")[0]
    return name.decode("latin-1")


def _target(line: RequestLine) -> str:
    """Path and query; what no URL can hold is percent-encoded."""
    target = line.target
    if line.form == ABSOLUTE:
        target = target.partition(b"://")[2][len(line.authority) :]
    return quote(target, _PRINTABLE)


def _place(url: str) -> tuple[str, str]:
    """Host and path of a URL, as the route table knows them. Raises InvalidSignature."""
    scheme, mark, rest = url.partition("://")
    end = next((place for place, char in enumerate(rest) if char in "/?"), len(rest))
    host = rest[:end].partition(":")[0].lower()
    if not mark or not scheme or not host:
        raise InvalidSignature(f"parse {url!r}: invalid URI for request")
    return host, route_path(quote(rest[end:], _PRINTABLE).encode() or b"/")
