"""``http_rewrite``: fields that leave every response and fields that every response has (gorouter reference 4.2).

Holds for responses of backends, 1xx included, and for the router's own answers; 101 is passed on as it came. Fields are
taken away first and added afterwards, so a rule of each kind replaces one. Responses are remembered by their heads, so
this is done once per head and never per request. How a message is framed is not for rules to say.
"""

from __future__ import annotations

import re
from typing import Final

from router.config.settings import HttpRewrite
from router.http1.fields import Line, field_lines, our_line
from router.http1.grammar import TOKEN
from router.http1.names import canonical

PROXY_SIGNATURE: Final = b"x-cf-proxy-signature"
"""Meant for the router alone (gorouter reference 7): no client may see one."""
REQUEST_ID: Final = b"x-vcap-request-id"

_FRAMING: Final = frozenset(
    (b"connection", b"content-length", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade")
)
_ALWAYS_PRESENT: Final = frozenset((b"date", REQUEST_ID))
"""The router adds these itself, so there is no response that has none."""


class Rewriting:
    __slots__ = ("_added", "_removed", "changes_answers", "hides_request_id")

    def __init__(self, settings: HttpRewrite) -> None:
        rules = settings.responses
        self._removed = frozenset(rule.name.lower().encode() for rule in rules.remove_headers) - _FRAMING
        self._added: dict[bytes, list[Line]] = {}
        """By name in lower case; the values of one name are added together or not at all."""
        for rule in rules.add_headers_if_not_present:
            line = our_line(canonical(rule.name.encode()), _one_line(rule.value))
            if line.name not in _FRAMING | _ALWAYS_PRESENT:
                self._added.setdefault(line.name, []).append(line)
        self.hides_request_id = REQUEST_ID in self._removed
        """Whether clients are not to be told the id of their request."""
        self.changes_answers = bool(self._removed or self._added)
        self._removed |= {PROXY_SIGNATURE}

    def apply(self, lines: list[Line]) -> list[Line]:
        """What a client gets of the fields of a response."""
        kept = [line for line in lines if line.name not in self._removed]
        if self._added:
            present = {line.name for line in kept}
            for name, added in self._added.items():
                if name not in present:
                    kept += added
        return kept

    def applied(self, fields: bytes) -> bytes:
        """As ``apply``, for field lines that the router has written, each with its CRLF."""
        if not self.changes_answers:
            return fields
        return b"".join([line.raw for line in self.apply(field_lines(fields))])


def problems(settings: HttpRewrite) -> list[str]:
    """What no response can have, one line per thing to mend."""
    found = []
    rules = settings.responses
    for key, names in (
        ("add_headers_if_not_present", [rule.name for rule in rules.add_headers_if_not_present]),
        ("remove_headers", [rule.name for rule in rules.remove_headers]),
    ):
        found += [
            f"http_rewrite.responses.{key}[{number}].name: {name!r} is no name of a header; "
            "give letters, digits and hyphens, without a colon"
            for number, name in enumerate(names)
            if not re.fullmatch(TOKEN, name.encode())
        ]
    found += [
        f"http_rewrite.responses.add_headers_if_not_present[{number}].value: holds a control character; remove it"
        for number, rule in enumerate(rules.add_headers_if_not_present)
        if re.search(rb"[\x00-\x08\x0a-\x1f\x7f]", _one_line(rule.value))
    ]
    return found


def _one_line(value: str) -> bytes:
    """A value as Go writes it: line ends become spaces, outer white space goes."""
    return value.replace("\r", " ").replace("\n", " ").strip().encode()
