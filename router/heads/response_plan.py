"""What the router changes in the fields of a response on its way to the client, worked out once per distinct head.

Follows gorouter reference 4.2 and RFC 9110 section 7.6. Made by `router.heads.forwarding`, which has the settings' say
in it; knows nothing of sockets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from router.heads.sticky import Session
from router.http1.fields import Line, field_lines
from router.http1.recode import FromChunks, Recoder, ToChunks
from router.http1.response import ResponseHead

if TYPE_CHECKING:
    from router.heads.forwarding import ForwardingRules

HOP_BY_HOP: Final = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"upgrade",
    )
)

NEVER_DROPPED: Final = frozenset(
    (
        b"authorization",
        b"b3",
        b"cdn-loop",
        b"content-length",
        b"cookie",
        b"host",
        b"traceparent",
        b"tracestate",
        b"transfer-encoding",
        b"forwarded",
    )
)
"""Fields that a client's Connection option cannot have removed; nor can it any that is vouched for."""


class ResponsePlan:
    """All that a response head decides. ``head`` is status line and fields as an HTTP/1.1 client gets them."""

    __slots__ = (
        "_unrewritten",
        "bodiless",
        "body_length",
        "chunked",
        "content_length",
        "has_date",
        "has_request_id",
        "head",
        "http2",
        "plain",
        "reusable",
        "session",
        "status",
    )

    def __init__(self, response: ResponseHead, rules: ForwardingRules) -> None:
        self.status = response.status
        self.bodiless = response.bodiless
        """No body whatever the fields say."""
        self.content_length = response.content_length
        self.body_length = -1 if response.bodiless else response.content_length
        """Bytes of the body where the head gives them, else -1."""
        self.chunked = response.chunked
        options = response.connection
        self.reusable = b"close" not in options and (response.minor == 1 or b"keep-alive" in options)
        """Whether the connection it came by takes another request afterwards, as far as its fields say."""
        dropped = HOP_BY_HOP | (options - NEVER_DROPPED) if options else HOP_BY_HOP
        if response.status == 101:
            dropped = frozenset()
        elif response.status < 200 or response.status == 204:
            dropped |= {b"content-length", b"transfer-encoding"}
        kept = [line for line in response.lines if line.name not in dropped]
        self._write(b"HTTP/1.1 %d %b" % (response.status, response.reason), kept, rules)
        self.session: Session | None = None
        """What the application says of a sticky session, or of what may become one."""

    def _write(self, status_line: bytes, lines: list[Line], rules: ForwardingRules) -> None:
        """Make the head from the lines that may be passed on, and work out what it still needs."""
        rewritten = lines if self.status == 101 else rules.rewriting.apply(lines)
        head = self.head = _head(status_line, rewritten, rules)
        """Without the empty line at the end."""
        self._unrewritten = head if rewritten == lines else _head(status_line, lines, rules)
        self.http2 = b""
        """The same as an HTTP/2 header block, once it has been sent by HTTP/2."""
        names = {line.name for line in rewritten if line.special}
        self.has_date = b"date" in names
        self.has_request_id = b"x-vcap-request-id" in names or (rules.rewriting.hides_request_id and self.status != 101)
        """Whether it has one already, or is to have none."""
        delimited = self.bodiless or self.chunked or self.content_length >= 0
        self.plain = self.has_date and not self.has_request_id and delimited and not rules.sorts
        """Needs nothing but the request id: what nearly every response is."""

    def with_lines(
        self, lines: bytes, rules: ForwardingRules, replaced: frozenset[bytes] = frozenset()
    ) -> ResponsePlan:
        """The same response with more field lines, each with its CRLF: for what differs from request to request.

        Lines with names in ``replaced`` (lower case) leave it. What is added is rewritten as all fields are.
        """
        other = ResponsePlan.__new__(ResponsePlan)
        for name in ResponsePlan.__slots__:
            setattr(other, name, getattr(self, name))
        status_line, _, fields = self._unrewritten.partition(b"\r\n")
        kept = [line for line in field_lines(fields) if line.name not in replaced]
        other._write(status_line, kept + field_lines(lines), rules)
        return other

    def framed_for(self, minor: int, is_head: bool) -> tuple[bytes, Recoder | None, bool]:
        """For a client of HTTP/1.``minor``: the head, how the body is to be recoded (None: as it comes), and whether
        the client can tell the end of the response from that of its connection (RFC 9112 section 6.3)."""
        if self.chunked and not minor:
            lines = self.head.splitlines(keepends=True)
            head = b"".join(line for line in lines if not line.lower().startswith(b"transfer-encoding:"))
            return (head, None, True) if self.bodiless or is_head else (head, FromChunks(), False)
        if self.bodiless or is_head or self.chunked or self.content_length >= 0:
            return self.head, None, True
        if minor:
            return self.head + b"Transfer-Encoding: chunked\r\n", ToChunks(), True
        return self.head, None, False


def _head(status_line: bytes, lines: list[Line], rules: ForwardingRules) -> bytes:
    return b"%b\r\n%b" % (status_line, b"".join(map(rules.spelt, lines)))
