"""Reads access log lines back (gorouter reference 8.5)."""

from __future__ import annotations

import re
from dataclasses import dataclass

_QUOTED = rb'"((?:[^"\\\n]|\\.)*)"'
_LINE = re.compile(
    rb'(?P<host>"-"|[^"\n]*?(?:\\"[^"\n]*?)*) - \[(?P<moment>[-0-9T:.]+Z)\] '
    + rb'"(?P<request>(?:[^"\\\n]|\\.)*)" (?P<status>\d+|"-") (?P<received>\d+) (?P<sent>\d+) '
    + b" ".join(rb'"(?P<%b>(?:[^"\\\n]|\\.)*)"' % n for n in (b"referer", b"user_agent", b"client", b"backend"))
    + rb'(?P<named>(?: [^ ":\n]+:(?:-?[0-9.]+|"(?:[^"\\\n]|\\.)*"))+)\n'
)
_NAMED = re.compile(rb' ([^ ":\n]+):(-?[0-9.]+|"(?:[^"\\\n]|\\.)*")')
_ESCAPE = re.compile(rb'\\(?:([abfnrtv\\"])|x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8}))')
_ONE = dict(zip(b'abfnrtv\\"', b'\a\b\f\n\r\t\v\\"', strict=True))


@dataclass
class Line:
    """One line, unquoted. Numbers and ``"-"`` are as they stand."""

    host: bytes
    moment: bytes
    request: bytes
    status: bytes
    received: int
    sent: int
    referer: bytes
    user_agent: bytes
    client: bytes
    backend: bytes
    named: dict[str, bytes]
    """What has its name before it, in the order of the line; of a name that stands twice the first."""

    def __getitem__(self, name: str) -> bytes:
        return self.named[name]


def parse(line: bytes) -> Line:
    """One whole line, with its newline. Raises AssertionError: it is none."""
    match = _LINE.fullmatch(line)
    assert match is not None, line
    named: dict[str, bytes] = {}
    for name, value in _NAMED.findall(match["named"]):
        named.setdefault(name.decode(), unquoted(value[1:-1]) if value[:1] == b'"' else value)
    return Line(
        unquoted(match["host"]), match["moment"], unquoted(match["request"]), match["status"],
        int(match["received"]), int(match["sent"]),
        *(unquoted(match[name]) for name in ("referer", "user_agent", "client", "backend")), named,
    )  # fmt: skip


def unquoted(text: bytes) -> bytes:
    """What Go's strconv.Quote was given."""

    def one(match: re.Match[bytes]) -> bytes:
        if match[1]:
            return bytes((_ONE[match[1][0]],))
        if match[2]:
            return bytes((int(match[2], 16),))
        return chr(int(match[3] or match[4], 16)).encode("utf-8", "surrogatepass")

    return _ESCAPE.sub(one, text)
