"""The answers that the router makes itself (gorouter reference 4.3), independent of the wire they leave by."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final, NamedTuple

ENDPOINT_FAILURE: Final = "endpoint_failure"
"""How the error begins when an attempt at an endpoint failed."""
SEMICOLONS: Final = "deprecated-semicolon-params"
"""What logs alone call an error: a target with a semicolon, whoever answered it."""
_SHORT_CACHE: Final = b"Cache-Control: public,max-age=2\r\n"
_NO_CACHE: Final = b"Cache-Control: no-cache, no-store\r\n"
TOO_LARGE: Final = "max-request-size-exceeded"
_REASONS: Final = {
    496: "SSL Certificate Required",
    525: "SSL Handshake Failed",
    526: "Invalid SSL Certificate",
}
"""Codes that RFC 9110 does not know and proxies use all the same."""


BAD_REQUESTS: Final = frozenset(
    ("empty_host", "unknown_route", "invalid_cf_app_instance_header", "invalid_cf_process_instance_header")
)
"""The errors that Gorouter counts as rejected requests."""


class Answer(NamedTuple):
    """A whole response of the router's own. ``error`` becomes X-Cf-RouterError."""

    status: int
    error: str
    body: str
    cache: bytes = b""
    bare: bool = False
    """Whether the payload is the status alone, with its text."""
    closes: bool = False
    """Whether the connection can carry no further request, because the framing of this one is in doubt."""
    page: bytes | None = None
    """HTML that stands for the text (`router.heads.error_pages`)."""

    @property
    def fields(self) -> bytes:
        """Field lines, each with its CRLF; Date, request id and connection fields are the wire's to add."""
        return b"".join(
            (
                self.cache,
                b"Content-Type: text/%b; charset=utf-8\r\n" % (b"plain" if self.page is None else b"html"),
                self._error_fields,
                b"Content-Length: %d\r\n" % len(self.payload),
            )
        )

    @property
    def named_fields(self) -> bytes:
        """Those of ``fields`` that say nothing about the payload."""
        return self.cache + self._error_fields

    @property
    def _error_fields(self) -> bytes:
        error = b"X-Cf-Routererror: " + _field_text(self.error) + b"\r\n" if self.error else b""
        return error + b"X-Content-Type-Options: nosniff\r\n"

    @property
    def has_words(self) -> bool:
        """Whether it says something of the router's own, not only that an endpoint failed."""
        return bool(self.body) and not self.bare and not self.error.startswith(ENDPOINT_FAILURE)

    @property
    def payload(self) -> bytes:
        if self.page is not None:
            return self.page
        if self.bare:
            return f"{self.status} {reason(self.status)}\n".encode()
        return f"{self.status} {reason(self.status)}: {self.body}\n".encode() if self.body else b""


class _Health(Answer):
    """What load balancers read, the same as /health says (gorouter reference 8.2)."""

    @property
    def fields(self) -> bytes:
        length = b"Content-Length: %d\r\n" % len(self.payload)
        return (
            b"Cache-Control: private, max-age=0\r\nContent-Type: text/plain; charset=utf-8\r\nExpires: 0\r\n" + length
        )

    @property
    def has_words(self) -> bool:
        return False

    @property
    def payload(self) -> bytes:
        return self.body.encode()


def health(well: bool) -> Answer:
    return _Health(200, "", "ok\n") if well else _Health(503, "", "")


def reason(status: int) -> str:
    """The status text; empty for codes that have none."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return _REASONS.get(status, "")


def _field_text(text: str) -> bytes:
    """Text that may hold bytes of a request, made harmless inside a field value."""
    return "".join(c if " " <= c <= "~" else "?" for c in text).encode()


def malformed(status: int, why: str) -> Answer:
    """A message that breaks the protocol or a limit; nothing of it went to a backend."""
    error = TOO_LARGE if status == 431 else f"malformed_request ({why})"
    return Answer(status, error, why, closes=True)


def head_too_large() -> Answer:
    """The head is longer than it may be, or has more lines (gorouter reference 5.1)."""
    return Answer(431, TOO_LARGE, "")


def options() -> Answer:
    """To OPTIONS *, which asks about the router itself (RFC 9110 section 9.3.7)."""
    return Answer(200, "", "")


def empty_host() -> Answer:
    return Answer(400, "empty_host", "Request had empty Host header", _SHORT_CACHE)


def unknown_route(host: bytes) -> Answer:
    return Answer(404, "unknown_route", f"Requested route ('{_shown(host)}') does not exist.", _NO_CACHE)


def unknown_instance(host: bytes, guid: str, index: str, *, of_process: bool) -> Answer:
    """The route is there, but no endpoint of it is the one that was asked for."""
    kind = "process guid" if of_process else "guid"
    text = f"Requested instance ('{index}') with {kind} ('{guid}') does not exist for route ('{_shown(host)}')"
    return Answer(400, "unknown_route", text, _NO_CACHE)


def invalid_app_instance() -> Answer:
    return Answer(400, "invalid_cf_app_instance_header", "Invalid X-CF-App-Instance Header", _NO_CACHE)


def invalid_process_instance() -> Answer:
    return Answer(400, "invalid_cf_process_instance_header", "Invalid X-CF-Process-Instance Header", _NO_CACHE)


def no_endpoints(host: bytes) -> Answer:
    return Answer(503, "no_endpoints", f"Requested route ('{_shown(host)}') has no available endpoints.", _SHORT_CACHE)


def connection_limit(host: bytes) -> Answer:
    return Answer(
        503, "Connection Limit Reached", f"Requested route ('{_shown(host)}') has reached the connection limit."
    )


def unknown_failure() -> Answer:
    """Something went wrong in the router itself."""
    return Answer(502, "unknown_failure", "", closes=True)


def too_many_clients() -> Answer:
    return Answer(503, "too_many_connections", "This router has reached its connection limit.", closes=True)


def tunnels_disabled() -> Answer:
    return Answer(405, "connect_disabled", "CONNECT is switched off on this router.")


def protocol_not_served() -> Answer:
    return Answer(501, "protocol_not_served", "Extended CONNECT is served for WebSockets only.")


def request_timeout() -> Answer:
    return Answer(408, "request_timeout", "The request did not arrive in time.", closes=True)


def endpoint_failure(text: str, status: int = 502) -> Answer:
    """The last attempt failed before a response; ``text`` says how, in the words of the operating system.

    ``status`` is 502, or that of a failure of TLS: 496, 503, 525 or 526 (`router.tls.failures`).
    """
    if status != 502:
        return Answer(status, f"{ENDPOINT_FAILURE} ({text})", "", bare=True)
    return Answer(502, f"{ENDPOINT_FAILURE} ({text})", "Registered endpoint failed to handle the request.")


def endpoint_timeout(text: str) -> Answer:
    return Answer(504, f"{ENDPOINT_FAILURE} ({text})", "Registered endpoint did not answer in time.")


def _shown(host: bytes) -> str:
    return host.decode("ascii", "backslashreplace")
