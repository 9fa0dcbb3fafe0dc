"""A request's target as the access log shows it (gorouter reference 8.5): path and query, the latter perhaps redacted.

Follows what Go's URL makes of a target: an absolute one loses scheme and authority, and a path with bytes that no path
may hold is percent-encoded anew, as a whole. Queries are never looked into.
"""

from __future__ import annotations

import hashlib
from typing import Final
from urllib.parse import quote, unquote_to_bytes

from router.http1.request import ABSOLUTE, ASTERISK, AUTHORITY, RequestLine

AS_IS, LEFT_OUT, HASHED = REDACTIONS = ("none", "all", "hash")
"""What ``logging.redact_query_params`` may be."""

_IN_PATHS: Final = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~%!$&'()*+,;=:@[]/"
"""Bytes that leave a path as it is."""
_UNTOUCHED: Final = "$&+,/:;=@"
"""What is not encoded where something in the path has to be, besides letters, digits and -._~."""


def logged_target(line: RequestLine, redaction: str) -> bytes:
    """Path and query. Only queries of GET are redacted: the original does so, and other methods rarely have secrets."""
    if line.form in (AUTHORITY, ASTERISK):
        return line.target
    target = line.target
    if line.form == ABSOLUTE:
        target = target.partition(b"://")[2][len(line.authority) :]
    path, mark, query = target.partition(b"?")
    if path.translate(None, _IN_PATHS):
        path = quote(unquote_to_bytes(path), safe=_UNTOUCHED).encode()
    if query and redaction != AS_IS and line.method == b"GET":
        mark, query = (b"?", b"hash=" + _digest(query)) if redaction == HASHED else (b"", b"")
    return (path or b"/") + mark + query


def _digest(query: bytes) -> bytes:
    """What the original uses; it hides short secrets from the eye, not from somebody who tries them all."""
    return hashlib.sha1(query, usedforsecurity=False).hexdigest().encode()
