"""Dropsonde envelopes, version 1, of the kinds that a router sends: field numbers and values of the protocol's messages
Envelope, ValueMetric, CounterEvent, LogMessage, HttpStartStop and UUID.

Whatever is the same for many envelopes is made once. Knows no socket, and no request.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final
from uuid import UUID

from router.loggregator.wire import TIMESTAMP_LENGTH, VARINT, delimited, fixed_uint64_of_hex, number, tag, text, varint

ORIGIN: Final = "gorouter"

# Envelope
_ORIGIN, _EVENT_TYPE, _TIMESTAMP, _HTTP_START_STOP, _LOG_MESSAGE, _VALUE_METRIC, _COUNTER_EVENT, _TAGS = (
    1, 2, 6, 7, 8, 9, 10, 17,
)  # fmt: skip
_TYPE_OF: Final = {_HTTP_START_STOP: 4, _LOG_MESSAGE: 5, _VALUE_METRIC: 6, _COUNTER_EVENT: 7}
"""EventType by the field that holds the event."""
# ValueMetric
_NAME, _VALUE, _UNIT = 1, 2, 3
# CounterEvent
_DELTA = 2

_METHODS: Final = """
    GET POST PUT DELETE HEAD ACL BASELINE-CONTROL BIND CHECKIN CHECKOUT CONNECT COPY DEBUG LABEL LINK LOCK MERGE
    MKACTIVITY MKCALENDAR MKCOL MKREDIRECTREF MKWORKSPACE MOVE OPTIONS ORDERPATCH PATCH PRI PROPFIND PROPPATCH REBIND
    REPORT SEARCH SHOWMETHOD SPACEJUMP TEXTSEARCH TRACE TRACK UNBIND UNCHECKOUT UNLINK UNLOCK UPDATE UPDATEREDIRECTREF
    VERSION-CONTROL
"""
METHODS: Final = {name.encode(): number for number, name in enumerate(_METHODS.split(), start=1)}
"""The protocol's enum of methods; other methods are 0."""


def _head(event: int) -> bytes:
    """All that stands before the timestamp of an envelope with an event in this field."""
    return text(_ORIGIN, ORIGIN) + number(_EVENT_TYPE, _TYPE_OF[event]) + tag(_TIMESTAMP, VARINT)


HTTP_HEAD: Final = _head(_HTTP_START_STOP)
HTTP_TAG: Final = tag(_HTTP_START_STOP, 2)
LOG_HEAD: Final = _head(_LOG_MESSAGE)
LOG_TAG: Final = tag(_LOG_MESSAGE, 2)
_VALUE_HEAD: Final = _head(_VALUE_METRIC)
_COUNTER_HEAD: Final = _head(_COUNTER_EVENT)


def tags(pairs: Mapping[str, str]) -> bytes:
    """The fields of an envelope's tags."""
    return b"".join([delimited(_TAGS, text(1, key) + text(2, value)) for key, value in pairs.items()])


def counter(name: str, delta: int, timestamp: bytes) -> bytes:
    """``timestamp`` here and below: a whole varint, of `Timestamps`."""
    return _COUNTER_HEAD + timestamp + delimited(_COUNTER_EVENT, text(_NAME, name) + number(_DELTA, delta))


class Series:
    """Value metrics of one name and unit: their envelopes differ in timestamp and value alone, and so not in length."""

    __slots__ = ("_after", "_before", "size")

    def __init__(self, name: str, unit: str) -> None:
        self._before = text(_NAME, name) + tag(_VALUE, 1)
        self._after = text(_UNIT, unit)
        metric = len(self._before) + 8 + len(self._after)
        self._before = tag(_VALUE_METRIC, 2) + varint(metric) + self._before
        self.size = len(_VALUE_HEAD) + TIMESTAMP_LENGTH + len(self._before) + 8 + len(self._after)
        """Of each envelope, in bytes."""

    def envelopes(self, values: Sequence[float], timestamp: bytes) -> bytes:
        """One after the other."""
        before = _VALUE_HEAD + timestamp + self._before
        parts: list[bytes | float] = [before, 0.0, self._after] * len(values)
        parts[1::3] = values
        return _layout(len(before), len(self._after), len(values)).pack(*parts)


@lru_cache(1024)
def _layout(before: int, after: int, count: int) -> struct.Struct:
    return struct.Struct("<" + f"{before}sd{after}s" * count)


def uuid_message(value: UUID) -> bytes:
    """The message UUID; the halves of the number are taken as little-endian."""
    digits = value.hex.encode()
    return b"\x08" + fixed_uint64_of_hex(digits[:16]) + b"\x10" + fixed_uint64_of_hex(digits[16:])
