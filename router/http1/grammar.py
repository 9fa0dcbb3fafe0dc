"""The byte classes and list rules that requests, responses and trailers share (RFC 9110 section 5, RFC 9112).

May hold: patterns, limits, and functions from bytes to values. Must never hold state.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
"""RFC 9110 section 5.6.2."""

FIELD_LINES: Final = re.compile(rb"(?:" + TOKEN + rb":[^\x00-\x08\x0a-\x1f\x7f]*+\r\n)*+")
"""Whole field lines and nothing else: no folding, no space before the colon, no control byte, no bare CR or LF."""

MAX_HOST: Final = 255 + len(":65535")
"""Bytes of a host name (RFC 1035 section 2.3.4) with its port: longer ones could only be meant to cost time."""

_DIGITS: Final = re.compile(rb"[0-9]{1,18}")
_HOST: Final = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,;=%-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")

NEVER_IN_TRAILERS: Final = frozenset(
    (
        b"authorization",
        b"connection",
        b"content-encoding",
        b"content-length",
        b"content-range",
        b"content-type",
        b"cookie",
        b"expect",
        b"host",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"set-cookie",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)
"""Fields that frame, route or modify a message and therefore cannot come after it (RFC 9110 section 6.5.1)."""

VOUCHED_FOR: Final = (b"x-forwarded-", b"x-request-", b"x-vcap-", b"x-cf-", b"x-b3-")
"""How the names of fields begin that backends believe because the router sets or passes them."""


class BadMessage(Exception):
    """A message that must not be passed on. ``status`` is the answer it deserves, ``reason`` says what was wrong."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class Limits:
    """Sizes beyond which a head is refused: whole head in bytes, number of field lines, request target in bytes."""

    __slots__ = ("fields", "head", "target")

    def __init__(self, head: int = 64 * 1024, fields: int = 128, target: int = 16 * 1024) -> None:
        self.head = head
        self.fields = fields
        self.target = target


def list_members(value: bytes) -> Iterator[bytes]:
    """The members of a comma-separated list, lower-cased, empty ones left out (RFC 9110 section 5.6.1)."""
    for member in value.split(b","):
        stripped = member.strip(b" \t").lower()
        if stripped:
            yield stripped


EMPTY_CONTENT_LENGTH: Final = "Content-Length is empty"


def content_length(value: bytes) -> int:
    """RFC 9110 section 8.6: digits only. A list of equal values counts as one of them; raises BadMessage (400)."""
    if not value:
        raise BadMessage(400, EMPTY_CONTENT_LENGTH)
    members = {member.strip(b" \t") for member in value.split(b",")}
    length = members.pop()
    if members or not _DIGITS.fullmatch(length):
        raise BadMessage(400, "Content-Length is not one number")
    return int(length)


def is_host(value: bytes) -> bool:
    """Whether the value is ``uri-host [":" port]`` (RFC 9110 section 7.2)."""
    return len(value) <= MAX_HOST and _is_host(value)


@lru_cache(1024)
def _is_host(value: bytes) -> bool:
    return _HOST.fullmatch(value) is not None


def broken_line_end(data: bytes) -> bool:
    """Whether some LF is not preceded by CR, or some CR (but the last byte) not followed by LF."""
    pairs = data.count(b"\r\n")
    return data.count(b"\n") != pairs or data.count(b"\r") - data.endswith(b"\r") != pairs
