"""Trace headers: a request takes part in its client's trace, or begins one (gorouter reference 4.1).

B3 (``tracing.enable_zipkin``) as one header and as pairs, W3C trace context (``tracing.enable_w3c``) with our entry in
front of tracestate, and the request id that follows from the trace where it can. Knows field lines and nothing else; no
bytes that a client sends raise here.

Theory of operation. A trace that begins here has the request id as its id, and the low half of it as its first span. So
all lines that are made for a request (a *block*: request id, B3, W3C) differ from another's by the digits of one random
number, and whole batches of blocks are made at once. What trace headers of the client's change is worked out once per
field block (`Continued`); only a new parent id is made per request, from the block that was ready for it.
"""

from __future__ import annotations

import re
import sys
from binascii import hexlify
from os import urandom
from typing import TYPE_CHECKING, Final, NamedTuple

from router.http1.fields import Line, our_line
from router.http2.translation import Shape

if TYPE_CHECKING:
    from router.config.settings import Settings

BATCH: Final = 256
"""How many blocks are made at a time."""
MAX_TRACESTATE: Final = 2048
"""Bytes; a longer one is discarded."""
MAX_MEMBERS: Final = 32
"""Of a tracestate, ours included (W3C trace context section 3.3.1.1)."""

ID_LINE: Final = len(b"X-Vcap-Request-Id: ") + 36 + 2
"""Length of the line with the request id, with which every block begins."""

_B3_NAMES: Final = (b"x-b3-traceid", b"x-b3-spanid", b"x-b3-parentspanid", b"b3")
_W3C_NAMES: Final = (b"traceparent", b"tracestate")
_B3_MADE: Final = (b"X-B3-Traceid: ", b"\r\nX-B3-Spanid: ", b"\r\nB3: ", b"-", b"\r\n")
"""The B3 lines of a block, without what stands between: trace, span, trace, span."""
_W3C_MADE: Final = (b"Traceparent: 00-", b"-", b"-01\r\nTracestate: ", b"=", b"\r\n")
"""The W3C lines of a block: trace, span, our key, span."""

_TRACE: Final = slice(ID_LINE + 14, ID_LINE + 46)
_SPAN: Final = slice(ID_LINE + 61, ID_LINE + 77)
_BOTH: Final = slice(ID_LINE + 83, ID_LINE + 132)
"""Where the values of ``_B3_MADE`` stand in a block."""

_B3: Final = re.compile(rb"([0-9a-fA-F]{16}|[0-9a-fA-F]{32})-([0-9a-fA-F]{16})(?:-[01d](?:-[0-9a-fA-F]{16})?)?|[01d]")
_HEX: Final = re.compile(rb"[0-9a-fA-F]+")
_TRACEPARENT: Final = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})")
_MEMBER: Final = re.compile(
    rb"((?:[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13}|[a-z][a-z0-9_*/-]{0,255}))"
    rb"=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
)
"""W3C trace context section 3.3.1.3."""
_SAMPLED: Final = {b"": b"", b"0": b"-0", b"false": b"-0", b"1": b"-1", b"true": b"-1"}


class Ids(NamedTuple):
    """A trace, 16 or 32 lower-case hexadecimal digits, and a span in it, 16."""

    trace: bytes
    span: bytes


class Continued:
    """What the trace headers of one field block make of the blocks that are ready."""

    __slots__ = ("b3_values", "block_from", "block_to", "id_line", "ids", "parent", "parts", "w3c_trace", "w3c_values")

    def __init__(self) -> None:
        self.id_line = b""
        """With the request id, where a trace of the client's decides it."""
        self.block_from = self.block_to = ID_LINE
        """What of a block is used besides its request id."""
        self.parts: tuple[bytes, ...] = ()
        """W3C lines, with a new parent id between each two parts."""
        self.ids: Ids | None = None
        """What log lines name; None: what was made for the request."""
        self.w3c_trace = b""
        """Set where they name the trace of the client's traceparent, and the new parent id in it."""
        self.parent = b""
        """An X-B3-ParentSpanId that is passed on beside lines of ours."""
        self.b3_values: tuple[bytes, ...] | None = None
        self.w3c_values: tuple[bytes, ...] | None = None
        """What the access log shows where it is the same for every request, else None."""

    def lines(self, block: bytes) -> tuple[bytes, bytes]:
        """The line with the request id, and all that is for the backend, that line first."""
        id_line = self.id_line or block[:ID_LINE]
        return id_line, id_line + block[self.block_from : self.block_to] + made_ids(block).span.join(self.parts)


class Tracing:
    """What the settings ask for. One per worker."""

    __slots__ = ("_b3_end", "_key", "_names", "names", "shape", "w3c", "zipkin")

    def __init__(self, settings: Settings) -> None:
        tracing = settings.tracing
        self.zipkin = tracing.enable_zipkin
        self.w3c = tracing.enable_w3c
        tenant = tracing.w3c_tenant_id.encode()
        self._key = tenant + b"@gorouter" if tenant else b"gorouter"
        names = (_B3_NAMES if self.zipkin else ()) + (_W3C_NAMES if self.w3c else ())
        self.names: Final = tuple(name.decode().replace("-", "_") for name in names)
        """Of what ``values`` gives, as the access log spells them."""
        self._names = frozenset(names) | {b"x-b3-sampled", b"x-b3-flags"} if self.zipkin else frozenset(names)
        b3 = sum(map(len, _B3_MADE)) + 2 * (32 + 16)
        self._b3_end = ID_LINE + b3 if self.zipkin else ID_LINE
        self.shape = Shape(self.more()[0])
        """Of every block."""

    @classmethod
    def from_settings(cls, settings: Settings) -> Tracing | None:
        """None where there is nothing to do."""
        tracing = settings.tracing
        return cls(settings) if tracing.enable_zipkin or tracing.enable_w3c else None

    def more(self) -> list[bytes]:
        """The next batch of blocks, each for one request without trace headers.

        The request id is a random UUID of version 4. All but its last 12 digits is drawn once per batch, those once per
        request: two workers agree on nothing, and nobody can tell the ids of others from their own.
        """
        random = bytearray(urandom(10 + 6 * BATCH))
        random[6] = random[6] & 0x0F | 0x40
        random[8] = random[8] & 0x3F | 0x80
        digits = hexlify(random)
        high, low = digits[:16], digits[16:20]
        trace, span = high + low, low
        parts = [b"X-Vcap-Request-Id: %b-%b-%b-%b-" % (high[:8], high[8:12], high[12:], low)]
        after = b"\r\n"
        if self.zipkin:
            name, then_span, then_both, dash, end = _B3_MADE
            parts += (after + name + trace, then_span + span, then_both + trace, dash + span)
            after = end
        if self.w3c:
            name, dash, flags, equals, end = _W3C_MADE
            parts += (after + name + trace, dash + span, flags + self._key + equals + span)
            after = end
        parts.append(after)
        return [digits[n : n + 12].join(parts) for n in range(20, len(digits), 12)]

    # What clients send --------------------------------------------------------------------------------------------

    def take(self, lines: list[Line]) -> tuple[list[Line], Continued | None]:
        """A field block's lines as they go on, and what else it asks for; None where it has no trace headers."""
        names = self._names
        if names.isdisjoint([line.name for line in lines]):
            return lines, None
        first: dict[bytes, bytes] = {}
        state: list[bytes] = []
        for line in lines:
            if line.name in names:
                first.setdefault(line.name, line.value)
                if line.name == b"tracestate":
                    state.append(line.value)
        continued = Continued()
        if self.zipkin:
            lines = self._take_b3(lines, first, continued)
        if self.w3c:
            lines = self._take_w3c([line for line in lines if line.name not in _W3C_NAMES], first, state, continued)
        trace = continued.ids.trace if continued.ids is not None else continued.w3c_trace
        if _looks_like_a_uuid(trace):
            dashed = b"-".join((trace[:8], trace[8:12], trace[12:16], trace[16:20], trace[20:]))
            continued.id_line = b"X-Vcap-Request-Id: %b\r\n" % dashed
        return lines, continued

    def _take_b3(self, lines: list[Line], first: dict[bytes, bytes], continued: Continued) -> list[Line]:
        trace, span, parent, b3 = (first.get(name, b"") for name in _B3_NAMES)
        single = _B3.fullmatch(b3)
        if single is not None:
            continued.ids = _ids(single[1] or b"", single[2] or b"")
        elif trace and span:
            continued.ids = _ids(trace, span)
            built = _single(continued.ids, first, parent) if continued.ids is not None else b""
            if not built:  # what cannot be understood is passed on as it is
                continued.ids = None
            else:
                b3 = built
                lines = [*(line for line in lines if line.name != b"b3"), our_line(b"B3", b3)]
        else:
            continued.block_to = self._b3_end
            continued.parent = parent
            made = (b"x-b3-traceid", b"x-b3-spanid", b"b3")
            return [line for line in lines if line.name not in made]
        continued.b3_values = (trace, span, parent, b3)
        return lines

    def _take_w3c(
        self, lines: list[Line], first: dict[bytes, bytes], state: list[bytes], continued: Continued
    ) -> list[Line]:
        key = self._key
        makes_b3 = continued.block_to > ID_LINE
        parent = _TRACEPARENT.fullmatch(first.get(b"traceparent", b""))
        if parent is not None:
            trace, flags = parent.groups()
            continued.parts = (
                b"Traceparent: 00-%b-" % trace,
                b"-%b\r\nTracestate: %b=" % (flags, key),
                b"".join([b"," + member for member in _others(b",".join(state), key)]) + b"\r\n",
            )
            if continued.ids is None and not makes_b3:
                continued.w3c_trace = trace
        elif continued.ids is not None:
            trace, span = continued.ids
            continued.w3c_values = (b"00-%b-%b-01" % (trace.zfill(32), span), b"%b=%b" % (key, span))
            return [*lines, *map(our_line, (b"Traceparent", b"Tracestate"), continued.w3c_values)]
        else:
            continued.block_from = ID_LINE if makes_b3 else self._b3_end
            continued.block_to = sys.maxsize
        return lines

    # What logs show -----------------------------------------------------------------------------------------------

    def values(self, continued: Continued | None, sent: bytes) -> tuple[bytes, ...]:
        """Of the headers in ``names``; empty for those that were not sent. ``sent`` are a request's own lines."""
        b3 = continued.b3_values if continued is not None else None
        w3c = continued.w3c_values if continued is not None else None
        if self.zipkin and b3 is None:
            parent = continued.parent if continued is not None else b""
            b3 = (sent[_TRACE], sent[_SPAN], parent, sent[_BOTH])
        if self.w3c and w3c is None:
            at = sent.index(b"Traceparent: ") + len(b"Traceparent: ")
            w3c = (sent[at : at + 55], sent[at + 55 + len(b"\r\nTracestate: ") : -2])
        return (b3 or ()) + (w3c or ())


def sent_ids(continued: Continued | None, sent: bytes) -> Ids:
    """What log lines name. ``sent`` are a request's own lines, or its request id's alone."""
    if continued is not None:
        if continued.ids is not None:
            return continued.ids
        if continued.w3c_trace:
            at = sent.index(b"Traceparent: ") + len(b"Traceparent: 00-") + 33
            return Ids(continued.w3c_trace, sent[at : at + 16])
    return made_ids(sent)


def made_ids(block: bytes) -> Ids:
    """Those of a trace that has the request id as its id: of any line that begins with one of our making."""
    low = block[38:42] + block[43:55]
    return Ids(block[19:27] + block[28:32] + block[33:37] + low, low)


def _looks_like_a_uuid(trace: bytes) -> bool:
    return len(trace) == 32 and trace[12:13] in (b"1", b"2", b"3", b"4", b"5")


def _ids(trace: bytes, span: bytes) -> Ids | None:
    """From hexadecimal digits of any length; None where they are none, too many, or stand for no trace or span."""
    if not _HEX.fullmatch(trace) or not _HEX.fullmatch(span):
        return None
    trace, span = trace.lstrip(b"0").lower(), span.lstrip(b"0").lower()
    if not 0 < len(trace) <= 32 or not 0 < len(span) <= 16:
        return None
    return Ids(trace.zfill(16 if len(trace) <= 16 else 32), span.zfill(16))


def _single(ids: Ids, first: dict[bytes, bytes], parent: bytes) -> bytes:
    """The one b3 header that says what a pair and its companions say; empty where one of them is not understood.

    A parent needs a sampling state before it: without one it is left out, or nobody could read the rest.
    """
    sampled = _SAMPLED.get(first.get(b"x-b3-sampled", b"").lower())
    if sampled is None:
        return b""
    if first.get(b"x-b3-flags") == b"1":
        sampled = b"-d"
    if parent:
        digits = parent.lstrip(b"0").lower()
        if not _HEX.fullmatch(parent) or len(digits) > 16:
            return b""
        parent = b"-" + digits.zfill(16) if sampled else b""
    return b"%b-%b%b%b" % (*ids, sampled, parent)


def _others(state: bytes, key: bytes) -> list[bytes]:
    """The members of a tracestate that go on behind ours."""
    if len(state) > MAX_TRACESTATE:
        return []
    members = [member.strip(b" \t") for member in state.split(b",")]
    matches = [_MEMBER.fullmatch(member) for member in members if member]
    return [match[0] for match in matches if match is not None and match[1] != key][: MAX_MEMBERS - 1]
