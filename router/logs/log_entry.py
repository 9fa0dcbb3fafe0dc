"""From an exchange to its access log line, by the quick way; and what is logged of bytes that were no request.

What repeats from request to request is quoted once and kept where it belongs: with the request line, the field block's
plan, the endpoint, the client's connection. The rest of a line is numbers and what the router made itself, so that one
formatting suffices. `router.logs.access_line` says what the result has to be.
"""

from __future__ import annotations

from time import time
from typing import TYPE_CHECKING, Final, NamedTuple

from router.attempts import ExtraFields
from router.heads.answers import Answer
from router.logs.access_line import Clock, Entry, dash_or_quoted, host_text, inside_quotes
from router.logs.logged_headers import LoggedHeaders
from router.logs.logged_target import logged_target

if TYPE_CHECKING:
    from router.config.settings import Settings
    from router.exchange import Exchange
    from router.heads.forwarding import RequestPlan
    from router.http1.request import RequestLine
    from router.pool import Endpoint

_LINE: Final = (
    b'%b - [%b%09dZ] "%b %b" %d %d %d %b "%b" %b x_forwarded_for:"%b%b" x_forwarded_proto:"%b" vcap_request_id:"%b"'
    b' response_time:%.6f gorouter_time:%.6f %b%b x_cf_routererror:"%b"%b\n'
)


_NO_ENDPOINT: Final = (b'"-"', b'app_id:"-" app_index:"-" instance_id:"-"')


class PlanText(NamedTuple):
    """What a field block contributes to lines, quoted."""

    host: bytes
    names: bytes
    """Referer and User-Agent, with their quotes."""
    forwarded_for: bytes
    """The client's own, or a dash."""
    before: bytes
    """What stands before the client's address in the one that is sent."""
    proto: bytes
    """What is sent if that does not depend on the connection, else empty."""


class ExchangeLines:
    """Makes the lines of one worker."""

    __slots__ = ("_fields", "_headers", "_hide_client", "_hide_forwarded_for", "_redaction", "clock")

    def __init__(self, settings: Settings) -> None:
        logging = settings.logging
        self.clock = Clock(local=settings.millrace.access_log_local_time)
        self._hide_client = logging.disable_log_source_ip
        self._hide_forwarded_for = logging.disable_log_forwarded_for
        self._redaction = logging.redact_query_params
        self._fields = ExtraFields(logging.extra_access_log_fields) if logging.extra_access_log_fields else None
        self._headers = LoggedHeaders.from_settings(settings)

    def line(self, exchange: Exchange, took: float) -> bytes:
        """The line, with its newline, of an exchange that is over ``took`` seconds after its request had come."""
        plan = exchange.plan
        line = exchange.line
        client = exchange.client
        endpoint = exchange.endpoint
        host, names, forwarded_for, before, proto = plan.logged or self._plan_text(plan)
        if endpoint is None:  # nothing was sent: these are what the client said
            backend, identity = _NO_ENDPOINT
            ip = b""
            proto = proto or b"-"
        else:
            backend, identity = endpoint.logged or _endpoint_text(endpoint)
            forwarded_for = before
            ip = client.ip
            proto = proto or client.scheme
        if self._hide_forwarded_for:
            forwarded_for, ip = b"-", b""
        error = exchange.error
        started = time() - took
        second = int(started)
        return _LINE % (
            host,
            self.clock.to_the_second(second),
            (started - second) * 1e9,
            line.logged or self._line_text(line),
            client.version or (b"HTTP/1.1" if line.minor else b"HTTP/1.0"),
            exchange.status,
            exchange.request_bytes,
            exchange.response_bytes,
            names,
            b"-" if self._hide_client else client.origin,
            backend,
            forwarded_for,
            ip,
            proto,
            exchange.id_field[19:-2],
            took,
            exchange.sent_at - exchange.started if exchange.sent_at else 0.0,
            identity,
            b"" if self._fields is None else self._fields.text(exchange, took),
            inside_quotes(error.encode()) if error else b"-",
            b"" if self._headers is None else self._headers.complete(plan.logged_headers, exchange),
        )

    def _line_text(self, line: RequestLine) -> bytes:
        line.logged = inside_quotes(line.method + b" " + logged_target(line, self._redaction))
        return line.logged

    def _plan_text(self, plan: RequestPlan) -> PlanText:
        forwarded_for = inside_quotes(plan.forwarded_for) if plan.forwarded_for else b""
        text = plan.logged = PlanText(
            host_text(plan.host_field),
            f"{dash_or_quoted(plan.referer)} {dash_or_quoted(plan.user_agent)}".encode(),
            forwarded_for or b"-",
            forwarded_for + b", " if forwarded_for else b"",
            inside_quotes(plan.forwarded_proto) if plan.forwarded_proto else b"",
        )
        return text

    def entry(self, exchange: Exchange, took: float) -> Entry:
        """The same, value by value, as the backend got them."""
        plan, line, client, endpoint = exchange.plan, exchange.line, exchange.client, exchange.endpoint
        sent = endpoint is not None
        record = endpoint.record if endpoint is not None else None
        forwarded_for = plan.forwarded_for
        if sent:
            forwarded_for = forwarded_for + b", " + client.ip if forwarded_for else client.ip
        return Entry(
            host=plan.host_field or b"",
            started=time() - took,
            method=line.method,
            target=logged_target(line, self._redaction),
            version=client.version or (b"HTTP/1.1" if line.minor else b"HTTP/1.0"),
            status=exchange.status,
            request_bytes=exchange.request_bytes,
            response_bytes=exchange.response_bytes,
            referer=plan.referer,
            user_agent=plan.user_agent,
            client=b"" if self._hide_client else client.origin,
            backend=endpoint.address.encode() if endpoint is not None else b"",
            x_forwarded_for=None if self._hide_forwarded_for else forwarded_for,
            x_forwarded_proto=plan.forwarded_proto or (client.scheme if sent else None),
            vcap_request_id=exchange.request_id,
            response_time=took,
            gorouter_time=exchange.sent_at - exchange.started if exchange.sent_at else 0.0,
            app_id=record.app.encode() if record is not None else b"",
            app_index=record.private_instance_index.encode() if record is not None else b"",
            instance_id=record.private_instance_id.encode() if record is not None else b"",
            router_error=exchange.error.encode(),
            fields=b"" if self._fields is None else self._fields.text(exchange, took),
            headers=b"" if self._headers is None else self._headers.complete(plan.logged_headers, exchange),
        )

    def refusal(self, client: bytes, answer: Answer) -> Entry:
        """What came from ``client`` (``ip:port``) was no request, and ``answer`` said so."""
        return Entry(
            host=b"",
            started=time(),
            method=b"",
            target=b"",
            version=b"",
            status=answer.status,
            request_bytes=0,
            response_bytes=len(answer.payload),
            referer=None,
            user_agent=None,
            client=b"" if self._hide_client else client,
            backend=b"",
            x_forwarded_for=None,
            x_forwarded_proto=None,
            vcap_request_id=None,
            response_time=0.0,
            gorouter_time=0.0,
            app_id=b"",
            app_index=b"",
            instance_id=b"",
            router_error=answer.error.encode(),
        )


def _endpoint_text(endpoint: Endpoint) -> tuple[bytes, bytes]:
    """Address, and who it is, as they stand in lines."""
    record = endpoint.record
    app, index, instance = (
        dash_or_quoted(value.encode()).encode()
        for value in (record.app, record.private_instance_index, record.private_instance_id)
    )
    endpoint.logged = (
        dash_or_quoted(endpoint.address.encode()).encode(),
        b"app_id:%b app_index:%b instance_id:%b" % (app, index, instance),
    )
    return endpoint.logged
