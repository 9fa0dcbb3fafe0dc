"""How often a request has been sent to route services already, said by itself: CDN-Loop (RFC 8586).

Whoever forwards a request to where it might come back from adds its name to this field, and nobody takes names away. A
service that sends its requests on with the fields it got, as proxies do, cannot keep a loop secret.
"""

from __future__ import annotations

import re
from typing import Final

NAME: Final = b"millrace"
"""The name that all routers of this kind add: a loop may lead through several of them."""

_QUOTED: Final = re.compile(rb'"(?:[^"\\]|\\.)*"')
_LINE: Final = re.compile(rb"(?im)^cdn-loop:[ \t]*(.*)\r\n")


def members(fields: bytes) -> list[bytes]:
    """The names that the field lines (each with its CRLF) hold, as they were added, with their parameters."""
    found = []
    for value in _LINE.findall(fields):
        hidden = _QUOTED.sub(lambda match: b"_" * len(match[0]), value)  # a comma in quotes separates nothing
        start = 0
        for end in [match.start() for match in re.finditer(b",", hidden)] + [len(value)]:
            member = value[start:end].strip(b" \t")
            start = end + 1
            if member:
                found.append(member)
    return found


def passes(names: list[bytes]) -> int:
    """How many of them are ours."""
    return sum(name.partition(b";")[0].strip(b" \t").lower() == NAME for name in names)


def line(names: list[bytes]) -> bytes:
    """The one line that says all of them, and that we are next."""
    return b"Cdn-Loop: %b\r\n" % b", ".join([*names, NAME])
