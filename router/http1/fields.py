"""Field lines, parsed one by one and remembered: most lines of a new head have been seen before in other heads."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from router.http1.grammar import TOKEN, VOUCHED_FOR, BadMessage
from router.http1.names import canonical

REMEMBERED: Final = 4096
"""How many lines are remembered, the least recently seen making room."""
REMEMBERED_BYTES: Final = 512
"""Longer ones are not remembered."""

SPECIAL: Final = frozenset(
    (
        b"connection",
        b"content-length",
        b"date",
        b"expect",
        b"host",
        b"http2-settings",
        b"idempotency-key",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"referer",
        b"set-cookie",
        b"te",
        b"transfer-encoding",
        b"upgrade",
        b"user-agent",
        b"www-authenticate",
        b"x-cf-app-instance",
        b"x-cf-applicationid",
        b"x-cf-instanceid",
        b"x-cf-instanceindex",
        b"x-cf-process-instance",
        b"x-cf-proxy-signature",
        b"x-forwarded-client-cert",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-proto",
        b"x-idempotency-key",
        b"x-request-start",
        b"x-vcap-request-id",
        b"x-vcap-trace",
    )
)
"""Names that some rule, here or in the forwarding rules, looks at. Lines of all others pass as they are."""


def _is_special(name: bytes) -> bool:
    """Spelt with underscores, names are looked at too that hyphens would make special or vouched for."""
    if b"_" in name:
        name = name.replace(b"_", b"-")
        return name in SPECIAL or name.startswith(VOUCHED_FOR)
    return name in SPECIAL


_LINE: Final = re.compile(rb"(" + TOKEN + rb"):[ \t]*+([^\x00-\x08\x0a-\x1f\x7f]*+)")


class Line:
    """One field line (RFC 9112 section 5): no folding, no space before the colon, no control byte, no bare CR or LF."""

    __slots__ = ("canonical", "name", "raw", "special", "value")

    def __init__(self, spelt: bytes, value: bytes, raw: bytes) -> None:
        """``spelt``: the name as it came."""
        self.name = spelt.lower()
        self.value = value
        """Without outer white space."""
        self.raw = raw
        """As it came, with its CRLF."""
        rewritten = b"%b: %b\r\n" % (canonical(spelt), value)
        self.canonical = raw if raw == rewritten else rewritten
        """As Go would write it, with its CRLF."""
        self.special = _is_special(self.name)


@lru_cache(REMEMBERED)
def _parse(text: bytes) -> Line:
    match = _LINE.fullmatch(text)
    if match is None:
        raise BadMessage(400, "malformed header field")
    return Line(match[1], match[2].rstrip(b" \t"), text + b"\r\n")


_parse_long = _parse.__wrapped__


def field_lines(block: bytes) -> list[Line]:
    """The lines of a block, each of which ends in CRLF. Raises BadMessage (400)."""
    texts = block.split(b"\r\n")
    if texts.pop():
        raise BadMessage(400, "malformed header field")
    return [_parse(text) if len(text) <= REMEMBERED_BYTES else _parse_long(text) for text in texts]


def our_line(name: bytes, value: bytes) -> Line:
    """A line that the router writes."""
    return Line(name, value, b"%b: %b\r\n" % (name, value))
