"""Server-sent events (the event stream format of the HTML standard, section 9.2.6), from bytes to events.

Pure and bounded: no I/O, and no more memory than one event may have. Strict where the standard repairs: a stream that
is not UTF-8, or an event that does not end, breaks it, and whoever reads it begins anew. ``id`` and ``retry`` say how a
stream is resumed, which nobody here does: their lines are passed over, as are comments and unknown fields.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

MAX_EVENT_BYTES: Final = 64 * 1024
"""Of one line, and of the data of one event."""
UNNAMED: Final = "message"
"""The name of events that have none."""

_LINE_END: Final = re.compile(rb"\r\n|\r|\n")
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


class BrokenEvents(ValueError):
    """This is no event stream, or has an event that is too long."""


class Event(NamedTuple):
    name: str
    data: bytes
    """In UTF-8; its lines with LF between them."""


class EventParser:
    """One stream. An event that its end cuts off never happened."""

    def __init__(self, limit: int = MAX_EVENT_BYTES) -> None:
        self._limit = limit
        self._rest = b""
        self._after_cr = False
        self._first = True
        self._name = ""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[Event]:
        """The events that end in these bytes. Raises BrokenEvents, after which the stream is of no use."""
        if self._after_cr and data:
            self._after_cr = False
            data = data.removeprefix(b"\n")
        lines = _LINE_END.split(self._rest + data)
        # A CR ends its line at once: who waits for the LF that may follow would hold an event back.
        self._after_cr = self._after_cr or data.endswith(b"\r")
        self._rest = lines.pop()
        if len(self._rest) > self._limit:
            raise self._too_long()
        return [event for line in lines if (event := self._take(line)) is not None]

    def _take(self, line: bytes) -> Event | None:
        if self._first:
            self._first = False
            line = line.removeprefix(_BYTE_ORDER_MARK)
        if not line:
            return self._dispatch()
        try:
            text = line.decode()
        except UnicodeDecodeError:
            raise BrokenEvents("the event stream is not UTF-8") from None
        field, _, value = text.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            self._name = value
            self._measure(len(line))
        elif field == "data":
            self._data.append(value.encode())
            self._measure(len(line))
        elif len(line) > self._limit:
            raise self._too_long()
        return None

    def _measure(self, more: int) -> None:
        self._size += more
        if self._size > self._limit:
            raise self._too_long()

    def _dispatch(self) -> Event | None:
        name, data = self._name or UNNAMED, self._data
        self._name, self._data, self._size = "", [], 0
        return Event(name, b"\n".join(data)) if data else None

    def _too_long(self) -> BrokenEvents:
        return BrokenEvents(f"an event is longer than {self._limit} bytes")
