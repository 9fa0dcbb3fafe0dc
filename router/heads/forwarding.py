"""What the router changes in a message's fields on its way through (gorouter reference 4.1, 4.2; RFC 9110 section 7.6).

Everything that depends on the fields alone is worked out once per distinct field block and kept as a plan; what
differs from request to request (request id, start time, client address) is added by the exchange. Plans know nothing of
sockets, and any wire can make them.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import ip_address
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from router.config.settings import Settings
from router.heads import client_cert
from router.heads.instances import Chosen, chosen
from router.heads.response_plan import HOP_BY_HOP, NEVER_DROPPED, ResponsePlan
from router.heads.rewriting import Rewriting
from router.heads.sticky import StickyRules, Wish
from router.heads.tracing import Continued, Tracing
from router.heads.vcap_trace import VcapTrace
from router.http1.fields import Line, our_line
from router.http1.grammar import VOUCHED_FOR, Limits, list_members
from router.http1.request import RequestFields, parse_fields
from router.http1.response import parse_head
from router.logs.logged_headers import LoggedHeaders

if TYPE_CHECKING:
    from collections.abc import Callable

    from router.heads.answers import Answer
    from router.logs.log_entry import PlanText
    from router.pool import Pool

_REPLACED: Final = frozenset(
    (
        b"http2-settings",
        b"x-cf-app-instance",
        b"x-cf-applicationid",
        b"x-cf-instanceid",
        b"x-cf-instanceindex",
        b"x-vcap-request-id",
    )
)
"""Fields of requests that are the router's to set."""

HEAD_SLACK: Final = 4096
"""Bytes by which a head may be longer than its limit and is looked at all the same, as in Go's server."""
LINES_SLACK: Final = 4
"""How many times its limit of lines a head may have and is looked at all the same."""
LINE_SLACK: Final = 64
"""Bytes of a request line beyond its target."""
_PER_LINE: Final = len(": \r\n")

_REPEATABLE: Final = frozenset((b"idempotency-key", b"x-idempotency-key"))

_H2C: Final = frozenset((b"h2c", b"h2"))
"""Upgrades that would be a way around the router: they leave the list, and the request goes on without them."""


_NOBODY: Final = b"\n"
"""A User-Agent that no request can have."""


class RequestPlan:
    """All that a request's field block decides. ``fields`` are the lines a backend gets, each with its CRLF."""

    __slots__ = (
        "app_instance",
        "checks_health",
        "chosen",
        "chunked",
        "client_cert",
        "close",
        "common",
        "content_length",
        "excessive",
        "fields",
        "forwarded_for",
        "forwarded_proto",
        "host",
        "host_address",
        "host_field",
        "http2",
        "keep_alive",
        "last",
        "logged",
        "logged_headers",
        "needs_start",
        "odd",
        "plain",
        "pool",
        "pool_version",
        "process_instance",
        "referer",
        "repeatable",
        "returned",
        "signed",
        "size",
        "special",
        "trace",
        "trailers",
        "upgrade",
        "user_agent",
        "vcap_traced",
        "wants_lines",
        "wish",
    )

    def __init__(self, host_field: bytes | None) -> None:
        self.host_field = host_field
        """As the client sent it, for messages and logs."""
        self.host = host_key(host_field or b"")
        """For the route table."""
        self.fields = b""
        self.http2 = b""
        """``fields`` as an HTTP/2 header block, once they have been sent by HTTP/2."""
        self.content_length = -1
        self.chunked = False
        self.close = False
        self.keep_alive = False
        self.trailers = False
        """The client accepts trailers (TE: trailers)."""
        self.upgrade = b""
        """Value of Upgrade where the client really asks for one."""
        self.forwarded_for: bytes | None = None
        """The client's X-Forwarded-For lines folded into one value."""
        self.forwarded_proto: bytes | None = None
        """What X-Forwarded-Proto says already; None where the router has to add its scheme."""
        self.client_cert = b""
        """X-Forwarded-Client-Cert lines that only some connections may pass on (`router.heads.client_cert`)."""
        self.needs_start = True
        self.odd = False
        """Its head needs more than lines to be joined: see ``BackendConnection``."""
        self.last = False
        """The backend is told that its connection ends with the response."""
        self.repeatable = False
        """Has an idempotency key."""
        self.common = False
        """No body, a host, and the connection stays."""
        self.plain = False
        """Needs nothing but the connection's own forwarding lines and a start time: what nearly every request is."""
        self.size = 0
        """Bytes of the field lines as the limit counts them."""
        self.excessive = False
        """Has more field lines than it may."""
        self.special = False
        """Asks for something of the router before it is routed as others are: see ``Exchange.begin``."""
        self.checks_health = False
        """Comes from a load balancer that asks whether this router is well."""
        self.app_instance = b""
        """The first value of X-CF-App-Instance, and of X-CF-Process-Instance below."""
        self.process_instance = b""
        self.chosen: Chosen | Answer | None = None
        """The instance that those two ask for, or the answer to what is malformed in them."""
        self.host_address = b""
        """Host, if it is an IP address."""
        self.wish: Wish | None = None
        """Of a sticky session."""
        self.trace: Continued | None = None
        """What trace headers of the client's ask for."""
        self.vcap_traced = False
        """Asks, with the right key, who serves it."""
        self.wants_lines = False
        """Its response may get field lines of its own, or is looked at on its way back: see ``Exchange.respond``."""
        self.signed: RequestFields | None = None
        """All of its fields, where a route service's signature is among them (`router.route_services.turns`)."""
        self.returned = False
        """It is back from a route service, and proved to be."""
        self.referer: bytes | None = None
        self.user_agent: bytes | None = None
        self.logged: PlanText | None = None
        """What the access log shows of it, once it has."""
        self.logged_headers = b""
        """Of further headers that the access log shows: see `router.logs.logged_headers`."""
        self.pool: Pool | None = None
        """What the route table said of ``host`` at ``pool_version``, where the path does not matter."""
        self.pool_version = -1

    def onward(self, fields: bytes) -> RequestPlan:
        """The same request with other field lines, for a route service: nothing that endpoints are chosen by holds."""
        other = RequestPlan.__new__(RequestPlan)
        for name in RequestPlan.__slots__:
            setattr(other, name, getattr(self, name))
        other.fields = fields
        other.http2 = b""
        other.chosen = other.wish = other.signed = None
        other.wants_lines = True
        return other

    def value(self, name: bytes) -> bytes | None:
        """Of the first field with this name (lower case) that a backend gets; None if it gets none."""
        for line in self.fields.splitlines():
            field, _, value = line.partition(b":")
            if field.lower() == name:
                return value.strip(b" \t")
        return None


@lru_cache(1024)
def host_key(host: bytes) -> str:
    """Host without port, in lower case: what routes are matched with."""
    literal, bracket, _ = host.partition(b"]")
    name = literal + bracket if bracket else host.partition(b":")[0]
    return name.decode("latin-1").lower()


@lru_cache(1024)
def host_address(host: str) -> bytes:
    """``host`` without brackets if it is an IP address, empty otherwise."""
    name = host.strip("[]")
    if not name[-1:].isdigit() and ":" not in name:
        return b""
    try:
        ip_address(name)
    except ValueError:
        return b""
    return name.encode()


def _upgrades(value: bytes) -> bytes:
    """The protocols of an Upgrade field that may be passed on (RFC 9110 section 7.8)."""
    protocols = [protocol.strip(b" \t") for protocol in value.split(b",")]
    return b", ".join(p for p in protocols if p and p.partition(b"/")[0].lower() not in _H2C)


@lru_cache(1024)
def forwarded_from(ip: str, scheme: bytes) -> tuple[bytes, bytes]:
    """The client's address, and the lines that say so where a request does not; one copy for all its connections."""
    address = ip.encode()
    return address, b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\n" % (address, scheme)


def origin(ip: bytes, port: int) -> bytes:
    """``ip:port``, with brackets where the address needs them."""
    return (b"[%b]:%d" if b":" in ip else b"%b:%d") % (ip, port)


class ForwardingRules:
    """The settings' say in it: makes plans from field blocks and response heads."""

    __slots__ = (
        "_client_cert_passes",
        "_close_after_expect",
        "_force_https",
        "_forwarded_host",
        "_health_agent",
        "_kept_from_connection",
        "_max_lines",
        "_sanitize_proto",
        "client_cert_mode",
        "logged_headers",
        "max_counted",
        "request_limits",
        "response_limits",
        "rewriting",
        "sorts",
        "spelt",
        "sticky",
        "tracing",
        "vcap_trace",
    )

    def __init__(self, settings: Settings) -> None:
        self._force_https = settings.force_forwarded_proto_https
        self._health_agent = settings.healthcheck_user_agent.encode() or _NOBODY
        self._sanitize_proto = settings.sanitize_forwarded_proto
        self._forwarded_host = settings.millrace.forwarded_host
        self._client_cert_passes = settings.forwarded_client_cert == client_cert.ALWAYS_FORWARD
        self._close_after_expect = not settings.keep_alive_100_continue_requests
        self._kept_from_connection = frozenset(name.lower().encode() for name in settings.hop_by_hop_headers_to_filter)
        self.client_cert_mode = settings.forwarded_client_cert
        self.vcap_trace = VcapTrace(settings.trace_key)
        self.rewriting = Rewriting(settings.http_rewrite)
        self.sorts = settings.millrace.header_order == "sorted"
        """Whether fields are put into Go's order on HTTP/1 wires, by who writes them."""
        canonical = settings.millrace.header_names == "canonical"
        self.spelt: Callable[[Line], bytes] = attrgetter("canonical" if canonical else "raw")
        """A field line as it is passed on."""
        self.sticky = StickyRules(settings)
        self.tracing = Tracing.from_settings(settings)
        self.max_counted = settings.max_request_header_bytes
        """From so many bytes on, counted as gorouter reference 5.1 does, a head is too long."""
        self._max_lines = settings.max_request_headers
        self.logged_headers = LoggedHeaders.from_settings(settings)
        self.request_limits = Limits(
            settings.max_request_header_bytes + HEAD_SLACK,
            settings.max_request_headers * LINES_SLACK,
            settings.millrace.max_request_target_bytes,
        )
        """Beyond these a head is refused while it arrives, whatever its route."""
        self.response_limits = Limits(settings.max_response_header_bytes, settings.max_response_headers)

    def request_plan(self, block: bytes) -> RequestPlan:
        """From a request's field lines. Raises BadMessage."""
        return self.plan_request(parse_fields(block, self.request_limits))

    def request_plan_for(self, block: bytes, authority: bytes = b"", *, may_upgrade: bool = True) -> RequestPlan:
        """As ``request_plan``, with Host replaced by the target's authority where it has one (RFC 9112 section 3.2.2).

        ``may_upgrade``: False for a sender that may not ask for another protocol (RFC 9110 section 7.8).
        """
        fields = parse_fields(block, self.request_limits)
        if authority:
            fields.lines = [line for line in fields.lines if line.name != b"host"]
            fields.lines.insert(0, our_line(b"Host", authority))
            fields.host = authority
        if not may_upgrade:
            fields.connection -= {b"upgrade"}
        return self.plan_request(fields)

    def plan_request(self, fields: RequestFields, *, returned: bool = False) -> RequestPlan:
        """From checked fields, whatever wire they came by.

        ``returned``: verified traffic back from a route service, whose X-Forwarded-Proto is the first way's.
        """
        plan = RequestPlan(fields.host)
        plan.returned = returned
        if self.logged_headers is not None:
            plan.logged_headers = self.logged_headers.text(fields.lines)
        plan.content_length = fields.content_length
        plan.chunked = fields.chunked
        options = fields.connection
        lines = fields.lines
        if options:
            plan.close = b"close" in options
            plan.keep_alive = b"keep-alive" in options
            listed = options - NEVER_DROPPED - self._kept_from_connection
            dropped = {name for name in listed if not name.startswith(VOUCHED_FOR)}
            lines = [line for line in lines if line.name not in dropped or line.name in HOP_BY_HOP]
        if self.tracing is not None:
            lines, plan.trace = self.tracing.take(lines)
        spelt = self.spelt
        kept = [spelt(line) for line in lines if not line.special or self._keep(plan, fields, line, returned=returned)]
        if plan.trailers:
            kept.append(b"Te: trailers\r\n")
        if plan.upgrade:
            kept.append(b"Connection: Upgrade\r\nUpgrade: %b\r\n" % plan.upgrade)
        elif fields.expect_continue and self._close_after_expect:
            plan.last = True
            kept.append(b"Connection: close\r\n")
        if self._forwarded_host == "set" and fields.host is not None:
            kept.append(b"X-Forwarded-Host: %b\r\n" % fields.host)
        if returned:
            plan.forwarded_proto = plan.forwarded_proto or b""
        elif self._force_https:
            plan.forwarded_proto = b"https"
            kept.append(b"X-Forwarded-Proto: https\r\n")
        elif not plan.forwarded_proto:
            plan.forwarded_proto = None
        plan.fields = b"".join(kept)
        plan.common = bool(plan.host) and not (plan.close or plan.chunked or plan.content_length > 0)
        plan.chosen = chosen(plan.app_instance, plan.process_instance)
        cookies = [line.value for line in lines if line.name == b"cookie"]
        if cookies:
            authorization = next((line.value for line in lines if line.name == b"authorization"), b"")
            plan.wish = self.sticky.wish(cookies, authorization)
        plan.host_address = host_address(plan.host)
        plan.size = sum([len(line.name) + len(line.value) for line in fields.lines]) + _PER_LINE * len(fields.lines)
        plan.excessive = len(fields.lines) - (fields.host is not None) > self._max_lines
        near_limit = plan.size + self.request_limits.target + LINE_SLACK >= self.max_counted
        plan.checks_health = plan.user_agent == self._health_agent
        asks = plan.chosen or plan.checks_health
        plan.special = bool(asks or plan.signed or near_limit or plan.excessive)
        plan.wants_lines = plan.vcap_traced or plan.wish is not None
        usual = plan.forwarded_for is None and plan.forwarded_proto is None and plan.needs_start
        plan.odd = bool(self.sorts or plan.last or plan.upgrade)
        plan.plain = usual and not (plan.odd or plan.client_cert)
        return plan

    def _keep(self, plan: RequestPlan, fields: RequestFields, line: Line, *, returned: bool) -> bool:
        """Whether a line is passed on; notes in the plan what it says."""
        name, value = line.name, line.value
        if name == b"host":
            return True
        if b"_" in name:  # many backends read X_Forwarded_For as X-Forwarded-For
            return False
        if name in HOP_BY_HOP:
            if name == b"upgrade" and b"upgrade" in fields.connection:
                plan.upgrade = b", ".join(filter(None, (plan.upgrade, _upgrades(value))))
            elif name == b"te":
                plan.trailers = plan.trailers or b"trailers" in list_members(value)
            return False
        if name == b"x-cf-app-instance":
            plan.app_instance = plan.app_instance or value
        if name in _REPLACED:
            return False
        if name == b"x-forwarded-for":
            plan.forwarded_for = value if plan.forwarded_for is None else plan.forwarded_for + b", " + value
            return False
        if name == b"x-forwarded-proto":
            if (self._force_https or self._sanitize_proto) and not returned:
                return False
            if plan.forwarded_proto is None:
                plan.forwarded_proto = value
            return returned or bool(plan.forwarded_proto)  # the first one decides for all
        if name == client_cert.NAME and not self._client_cert_passes:
            plan.client_cert += self.spelt(line)
            return False
        if name == b"x-forwarded-host":
            return self._forwarded_host == "pass"
        if name == b"x-request-start":
            plan.needs_start = False
        elif name == b"x-cf-process-instance":
            plan.process_instance = plan.process_instance or value
        elif name == b"x-vcap-trace":
            plan.vcap_traced = self.vcap_trace.knows_key(value)
        elif name == b"x-cf-proxy-signature":
            plan.signed = fields
        elif name == b"referer":
            plan.referer = plan.referer or value
        elif name == b"user-agent":
            plan.user_agent = plan.user_agent or value
        elif name in _REPEATABLE:
            plan.repeatable = True
        return True

    def response_plan(self, head: bytes) -> ResponsePlan:
        """From a whole response head. Raises BadMessage (502)."""
        response = parse_head(head, self.response_limits)
        plan = ResponsePlan(response, self)
        plan.session = self.sticky.session(line for line in response.lines if line.special)
        return plan
