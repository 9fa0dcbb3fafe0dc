"""What the router's own log says about single requests: failed attempts, error answers, what is deprecated.

Words and fields are Gorouter's (gorouter reference 3.5, 3.6, 3.7, 4.3). Everything here may happen to every request of
a bad hour, so it is bounded: at most so many lines a second, the rest is counted and said in one line
(``request-log-lines-suppressed``), and no line is waited for (`router.logs.component_log`). Never a header's value nor
a query.
"""

from __future__ import annotations

import logging
from traceback import format_exc
from typing import TYPE_CHECKING, Any

from router.attempts import NOTHING_OPENED, Opening
from router.heads.answers import SEMICOLONS, Answer, reason
from router.route_services.service import ServiceEndpoint, shown

if TYPE_CHECKING:
    from router.exchange import Exchange
    from router.pool import Endpoint


_log = logging.getLogger("router.proxy")


class RequestLog:
    """One per worker."""

    def __init__(self, most: int) -> None:
        """``most`` lines a second; 0 means no limit."""
        self._most = most
        self._second = 0
        self._said = 0
        self._suppressed = 0

    def attempt_failed(
        self,
        exchange: Exchange,
        endpoint: Endpoint,
        text: str,
        *,
        attempt: int,
        endpoints: int,
        retriable: bool,
        connected: bool = True,
        reused: bool = False,
        opening: Opening = NOTHING_OPENED,
        local_address: bytes = b"",
    ) -> None:
        """No response came of an attempt. ``connected``: there was a connection, and the head was sent on it.

        ``endpoints``: how many the route has.
        """
        if not self._may(logging.ERROR, exchange.started):
            return
        service = isinstance(endpoint, ServiceEndpoint)
        data = {
            **_endpoint(endpoint),
            "error": text,
            "attempt": attempt,
            **_request(exchange),
            "retriable": retriable,
            "num-endpoints": endpoints,
            "got-connection": connected,
            "wrote-headers": connected,
            "conn-reused": reused,
            "dns-lookup-time": opening.dns,
            "dial-time": opening.dial,
            "tls-handshake-time": opening.tls,
        }
        if local_address:
            data["local-address"] = local_address.decode()
        message = "route-service-connection-failed" if service else "backend-endpoint-failed"
        self._say(logging.ERROR, message, data)

    def endpoint_avoided(self, exchange: Exchange, endpoint: Endpoint, *, pruned: bool) -> None:
        """After a failed attempt: the endpoint is passed over for a while, or has left the table (``pruned``)."""
        if self._may(logging.ERROR, exchange.started):
            message = "prune-failed-endpoint" if pruned else "endpoint-marked-as-ineligible"
            self._say(logging.ERROR, message, _endpoint(endpoint))

    def nobody_to_ask(self, exchange: Exchange) -> None:
        """No endpoint is left for this request."""
        if self._may(logging.ERROR, exchange.started):
            host = exchange.plan.host_field or b""
            data = {"host": host.decode("ascii", "backslashreplace"), "error": "No endpoints available"}
            self._say(logging.ERROR, "select-endpoint-failed", {**data, **_request(exchange)})

    def timed_out(self, exchange: Exchange, text: str) -> None:
        """A backend did not answer, or go on answering, in time."""
        if self._may(logging.ERROR, exchange.started):
            data: dict[str, Any] = {"error": text, **_request(exchange)}
            if exchange.endpoint is not None:
                data |= _endpoint(exchange.endpoint)
            self._say(logging.ERROR, "backend-request-timeout", data)

    def answered(self, exchange: Exchange, answer: Answer) -> None:
        """The router answers itself. Failures of endpoints have lines of their own; 404 would be said for each scan."""
        if answer.status == 404 or not answer.has_words:
            return
        if self._may(logging.INFO, exchange.started):
            body = f"{answer.status} {reason(answer.status)}: {answer.body}"
            self._say(logging.INFO, "status", {"body": body, **_request(exchange)})

    def panicked(self, exchange: Exchange) -> None:
        """The router itself has failed; the exception is the one being handled."""
        if self._may(logging.ERROR, exchange.started):
            self._say(logging.ERROR, "panic-check", {"error": format_exc(limit=-8), **_request(exchange)})

    def semicolons(self, exchange: Exchange) -> None:
        """A target with a semicolon, which many programs once took for an ampersand."""
        if self._may(logging.WARNING, exchange.started):
            self._say(logging.WARNING, SEMICOLONS, _request(exchange))

    def service_answered(self, exchange: Exchange, url: str, status: int) -> None:
        """A route service has answered; operators look for what is not the applications' own word."""
        if not 200 <= status < 300 and self._may(logging.INFO, exchange.started):
            data = {"route-service-endpoint": shown(url), "status-code": status, **_request(exchange)}
            self._say(logging.INFO, "route-service-response", data)

    def say(self, exchange: Exchange, level: int, message: str, data: dict[str, Any]) -> None:
        """Anything else about a request, in words that other modules own."""
        if self._may(level, exchange.started):
            self._say(level, message, {**data, **_request(exchange)})

    # How much ---------------------------------------------------------------------------------------------------

    def _may(self, level: int, now: float) -> bool:
        """Whether one more line may be said; ``now`` is about now, monotonic seconds."""
        if not _log.isEnabledFor(level):
            return False
        second = int(now)
        if second > self._second:
            self.settle(second)
        if self._most and self._said >= self._most:
            self._suppressed += 1
            return False
        self._said += 1
        return True

    def settle(self, now: float) -> None:
        """Say how many lines were left out, if any were in a second that is over. Call now and then."""
        second = int(now)
        if second <= self._second:
            return
        self._second, self._said = second, 0
        suppressed, self._suppressed = self._suppressed, 0
        if suppressed:
            data = {"lines": suppressed, "limit": self._most}
            self._say(logging.WARNING, "request-log-lines-suppressed", data)

    def _say(self, level: int, message: str, data: dict[str, Any]) -> None:
        _log.log(level, message, extra={"data": data})


def _request(exchange: Exchange) -> dict[str, str]:
    trace, span = exchange.trace_ids
    return {"vcap_request_id": exchange.request_id.decode(), "trace-id": trace.decode(), "span-id": span.decode()}


def _endpoint(endpoint: Endpoint) -> dict[str, Any]:
    """Which one it was."""
    if isinstance(endpoint, ServiceEndpoint):
        return {"route-service-endpoint": shown(endpoint.url)}
    record = endpoint.record
    return {
        "route-endpoint": {
            "ApplicationId": record.app,
            "Addr": endpoint.address,
            "Tags": dict(record.tags),
            "RouteServiceUrl": shown(record.route_service_url),
            "AZ": record.availability_zone,
        }
    }
