"""Request headers that the access log shows besides its own fields: ``extra_headers_to_log`` (gorouter reference 8.5).

They are those of the client's request, the first line of each name. But for the request id and the trace headers, which
are what was made for the request: where they are asked for, the text of a field block has a mark in their place, a
control byte, which quoted text never holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from router.heads.tracing import Tracing
from router.logs.access_line import dash_or_quoted

if TYPE_CHECKING:
    from router.config.settings import Settings
    from router.exchange import Exchange
    from router.http1.fields import Line


class LoggedHeaders:
    """What the settings ask for. One per worker."""

    __slots__ = ("_marks", "_names", "_trace_text")

    def __init__(self, names: Sequence[str], trace_names: Sequence[str] = ()) -> None:
        """``trace_names`` are spelt as in the log: those of ``Exchange.trace_values``."""
        self._names = [(_spelt(name), name.lower().encode("latin-1", "replace")) for name in names]
        self._trace_text = "".join(f' {name}:"%b"' for name in trace_names).encode()
        made = ("x_vcap_request_id", *trace_names)
        asked = {name for name, _ in self._names}
        self._marks = {name: number for number, name in enumerate(made) if name in asked}
        """Of headers that are asked for and made for each request: their place among the values made."""

    @classmethod
    def from_settings(cls, settings: Settings) -> LoggedHeaders | None:
        """None where nothing is asked for."""
        tracing = Tracing.from_settings(settings)
        if tracing is None and not settings.extra_headers_to_log:
            return None
        return cls(settings.extra_headers_to_log, tracing.names if tracing is not None else ())

    def text(self, lines: Iterable[Line]) -> bytes:
        """For a field block: `` name:"value"`` for each header, to be completed by ``complete``."""
        first = self._first(lines)
        parts = []
        for spelt, name in self._names:
            if spelt in self._marks:
                parts.append(f" {spelt}:".encode() + bytes((self._marks[spelt],)))
            else:
                parts.append(f" {spelt}:{dash_or_quoted(first.get(name))}".encode())
        return b"".join(parts)

    def _first(self, lines: Iterable[Line]) -> dict[bytes, bytes]:
        wanted = {name for _, name in self._names} - {b"host"}  # which is no header in Go's eyes
        first: dict[bytes, bytes] = {}
        for line in lines:
            if line.name in wanted:
                first.setdefault(line.name, line.value)
        return first

    def complete(self, text: bytes, exchange: Exchange) -> bytes:
        """The text of an exchange's field block, with what was made for it, and the trace headers behind it."""
        values = exchange.trace_values
        if self._marks:
            made = (exchange.request_id, *values)
            for number in self._marks.values():
                text = text.replace(bytes((number,)), dash_or_quoted(made[number]).encode())
        if not values:
            return text
        if exchange.plan.trace is None:  # all made here, so that none needs quoting
            return text + self._trace_text % tuple([value or b"-" for value in values])
        return text + self._trace_text % tuple([dash_or_quoted(value)[1:-1].encode() for value in values])


def _spelt(name: str) -> str:
    return name.lower().replace("-", "_")
