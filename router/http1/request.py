"""Request heads: the request line and the field block, each parsed alone so that each can be remembered alone.

A client repeats its header fields from request to request and many clients ask for the same targets. The two halves
of a head are therefore pure functions of their bytes (``parse_line``, ``parse_fields``), and whoever calls them may
keep the results by those bytes.
"""

from __future__ import annotations

import re
from typing import Final

from router.http1.fields import Line, field_lines, our_line
from router.http1.grammar import TOKEN, BadMessage, Limits, broken_line_end, content_length, is_host
from router.http1.grammar import list_members as members

_METHOD: Final = re.compile(TOKEN).fullmatch
_TARGET_BYTES: Final = bytes(byte for byte in range(0x21, 0x100) if byte != 0x7F)
"""No space and no control byte. Bytes beyond ASCII are against RFC 3986, but pass: browsers of old send them."""
_PATH_BYTES: Final = b"%/:@[]!$&'()*+,;=-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
"""What may stand in a path (RFC 3986 section 3.3), and brackets, which browsers leave as they are."""
_VERSIONS: Final = {b"HTTP/1.1": 1, b"HTTP/1.0": 0}
_OTHER_VERSION: Final = re.compile(rb"HTTP/[0-9]\.[0-9]")
_ABSOLUTE: Final = re.compile(rb"(?i)([a-z][a-z0-9+.-]*)://([^/?#]*)([^#]*)")
_SCHEMES: Final = frozenset((b"http", b"https"))
"""Both on every listener: what came by TLS to a load balancer comes without it from there."""

_IDEMPOTENT: Final = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))
"""Methods that a proxy may repeat by itself (RFC 9110 section 9.2.2)."""

WITH_LENGTH: Final = frozenset((b"POST", b"PUT", b"PATCH"))

ORIGIN, ABSOLUTE, AUTHORITY, ASTERISK = range(4)
"""Forms of a request target (RFC 9112 section 3.2)."""


class RequestLine:
    """``method SP target SP version``, checked. ``path`` is the target's path as a route key wants it."""

    __slots__ = (
        "authority",
        "common",
        "form",
        "idempotent",
        "is_head",
        "logged",
        "method",
        "minor",
        "path",
        "semicolons",
        "size",
        "target",
        "wants_length",
        "wire",
    )

    def __init__(self, method: bytes, target: bytes, minor: int, form: int, authority: bytes, path: str) -> None:
        self.method = method
        self.target = target
        self.minor = minor
        self.form = form
        self.authority = authority
        """From an absolute or authority form; empty otherwise."""
        self.path = path
        """Lower-cased, percent-encoded as on the wire, no query, no trailing slash: ``""`` or ``/a/b``."""
        self.idempotent = method in _IDEMPOTENT
        self.is_head = method == b"HEAD"
        self.wants_length = method in WITH_LENGTH
        """Whether a request without a body says so by ``Content-Length: 0`` (RFC 9110 section 8.6)."""
        self.semicolons = b";" in target
        self.common = form == ORIGIN and minor == 1 and not self.wants_length and not self.semicolons
        self.wire = b"%b %b HTTP/1.1\r\n" % (method, target)
        """The line as a backend gets it."""
        self.size = len(self.wire)
        """Bytes, its CRLF included."""
        self.logged = b""
        """Method and target as the access log shows them, once it has."""

    def with_target(self, target: bytes) -> RequestLine:
        """The same request as a backend gets it where it is to be asked for something else."""
        other = RequestLine.__new__(RequestLine)
        for name in RequestLine.__slots__:
            setattr(other, name, getattr(self, name))
        other.wire = b"%b %b HTTP/1.1\r\n" % (self.method, target)
        return other


def route_path(target: bytes) -> str:
    """The part of an origin-form target that routes are matched with; bytes that no path may hold as %XX."""
    path = target.partition(b"?")[0]
    if path == b"/":
        return ""
    if path.translate(None, _PATH_BYTES):
        path = b"".join(b"%c" % c if c in _PATH_BYTES else b"%%%02x" % c for c in path)
    return path.decode().lower().removesuffix("/")


def parse_line(line: bytes, limits: Limits) -> RequestLine:
    """One request line without its CRLF (RFC 9112 section 3).

    Raises BadMessage: 400 malformed, 414 target too long, 421 a scheme that this listener does not serve, 505 version.
    """
    parts = line.split(b" ")
    if len(parts) != 3:
        raise BadMessage(400, "malformed request line")
    method, target, protocol = parts
    version = _VERSIONS.get(protocol)
    if not target or target.translate(None, _TARGET_BYTES) or (method not in _IDEMPOTENT and not _METHOD(method)):
        raise BadMessage(400, "malformed request line")
    if version is None:
        if _OTHER_VERSION.fullmatch(protocol):
            raise BadMessage(505, "only HTTP/1.0 and HTTP/1.1 are spoken here")
        raise BadMessage(400, "malformed request line")
    if len(target) > limits.target:
        raise BadMessage(414, f"request target longer than {limits.target} bytes")
    if method == b"CONNECT":
        host, _, port = target.rpartition(b":")
        if not host or not port.isdigit() or int(port) > 65535 or not is_host(target):
            raise BadMessage(400, "CONNECT wants host:port")
        return RequestLine(method, target, version, AUTHORITY, target, "")
    if target.startswith(b"/"):
        if b"#" in target:
            raise BadMessage(400, "request target with a fragment")
        return RequestLine(method, target, version, ORIGIN, b"", route_path(target))
    if target == b"*":
        if method != b"OPTIONS":
            raise BadMessage(400, "request target * is for OPTIONS only")
        return RequestLine(method, target, version, ASTERISK, b"", "")
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None:
        raise BadMessage(400, "malformed request target")
    scheme, authority, rest = absolute.groups()
    if scheme.lower() not in _SCHEMES:
        raise BadMessage(421, "request target with a scheme that is not served here")
    if not is_host(authority):
        raise BadMessage(400, "request target with a malformed authority")
    if method == b"OPTIONS" and not rest:
        asterisk = RequestLine(method, b"*", version, ABSOLUTE, authority, "")  # RFC 9112 section 3.2.4
        asterisk.target = target
        return asterisk
    return RequestLine(method, target, version, ABSOLUTE, authority, route_path(rest if rest[:1] == b"/" else b"/"))


class RequestFields:
    """What the fields of one request say about framing and the connection, and all lines in order."""

    __slots__ = ("chunked", "connection", "content_length", "expect_continue", "host", "lines")

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.host: bytes | None = None
        self.content_length = -1
        """-1: not given."""
        self.chunked = False
        self.connection: frozenset[bytes] = frozenset()
        """Connection options in lower case."""
        self.expect_continue = False

    def without(self, names: frozenset[bytes]) -> RequestFields:
        """The same fields but for those with these names (lower case), which say nothing of framing."""
        other = RequestFields()
        for name in RequestFields.__slots__:
            setattr(other, name, getattr(self, name))
        other.lines = [line for line in self.lines if line.name not in names]
        return other


def parse_fields(block: bytes, limits: Limits) -> RequestFields:
    """All field lines of a request head, each ending in CRLF (RFC 9112 section 5).

    Raises BadMessage: 400 malformed or ambiguous framing, 417 unknown expectation, 431 too many, 501 unknown coding.
    """
    if block.count(b"\r\n") > limits.fields:
        raise BadMessage(431, f"more than {limits.fields} header fields")
    fields = RequestFields()
    lines = fields.lines = field_lines(block)
    for line in [line for line in lines if line.special]:
        take = _FRAMING.get(line.name)
        if take is not None:
            take(fields, line)
    if fields.chunked and fields.content_length >= 0:
        raise BadMessage(400, "both Content-Length and Transfer-Encoding")
    return fields


def _take_host(fields: RequestFields, line: Line) -> None:
    if fields.host is not None:
        raise BadMessage(400, "more than one Host field")
    if line.value and not is_host(line.value):
        raise BadMessage(400, "malformed Host field")
    fields.host = line.value


def _take_content_length(fields: RequestFields, line: Line) -> None:
    """Equal repetitions become one line (RFC 9112 section 6.3)."""
    length = content_length(line.value)
    if fields.content_length not in (-1, length):
        raise BadMessage(400, "Content-Length fields that differ")
    if fields.content_length >= 0 or line.value != b"%d" % length:
        fields.lines = [other for other in fields.lines if other.name != b"content-length"]
        fields.lines.append(our_line(b"Content-Length", b"%d" % length))
    fields.content_length = length


def _take_transfer_encoding(fields: RequestFields, line: Line) -> None:
    coding = line.value.lower()
    if fields.chunked:
        raise BadMessage(400, "more than one Transfer-Encoding")
    if coding != b"chunked":
        known = b"chunked" in members(coding) or not coding
        raise BadMessage(400 if known else 501, "Transfer-Encoding other than chunked")
    fields.chunked = True


def _take_connection(fields: RequestFields, line: Line) -> None:
    fields.connection |= frozenset(members(line.value))


def _take_expect(fields: RequestFields, line: Line) -> None:
    if line.value.lower() != b"100-continue":
        raise BadMessage(417, "Expect other than 100-continue")
    fields.expect_continue = True


_FRAMING: Final = {
    b"host": _take_host,
    b"content-length": _take_content_length,
    b"transfer-encoding": _take_transfer_encoding,
    b"connection": _take_connection,
    b"expect": _take_expect,
}


def check_partial_head(data: bytes, limits: Limits, checked: int = 0) -> None:
    """Refuse early what can no longer become a request head. ``data`` holds no empty line yet.

    ``checked``: of how many of its first bytes that is known, so that a head that drips in is not read over and over.

    Raises BadMessage: 400 for bytes that no head begins with or line ends that are not CRLF, 414 and 431 for length.
    """
    if broken_line_end(data[checked - (data[checked - 1 : checked] == b"\r") :] if checked else data):
        raise BadMessage(400, "line end that is not CRLF")
    end = data.find(b"\r\n")
    if end >= 0:
        if end + 2 > checked:
            parse_line(data[:end], limits)
    elif not _LINE_BEGINNING.match(data):
        raise BadMessage(400, "this does not look like HTTP/1.1")
    elif len(data) > limits.target + 64:
        raise BadMessage(414, f"request target longer than {limits.target} bytes")
    if len(data) > limits.head:
        raise BadMessage(431, f"request head longer than {limits.head} bytes")


_LINE_BEGINNING: Final = re.compile(TOKEN + rb"(?: |\Z)|\r?\Z")
