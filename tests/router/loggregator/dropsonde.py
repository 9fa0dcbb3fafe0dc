"""A reader of dropsonde envelopes that owes nothing to the router's encoder: Google's own library, given the protocol's
messages field by field, and a UDP socket that stands where Loggregator's agent would."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from tests.router.wire import wait_until

Envelope = Any
"""What the library makes of the protocol's Envelope."""

_REQUIRED, _OPTIONAL, _REPEATED = 2, 1, 3
_DOUBLE, _INT64, _UINT64, _INT32, _STRING, _MESSAGE, _BYTES, _ENUM = 1, 3, 4, 5, 9, 11, 12, 14

_MESSAGES: dict[str, list[tuple[str, int, int, int, str]]] = {
    "UUID": [("low", 1, _REQUIRED, _UINT64, ""), ("high", 2, _REQUIRED, _UINT64, "")],
    "ValueMetric": [
        ("name", 1, _REQUIRED, _STRING, ""),
        ("value", 2, _REQUIRED, _DOUBLE, ""),
        ("unit", 3, _REQUIRED, _STRING, ""),
    ],
    "CounterEvent": [
        ("name", 1, _REQUIRED, _STRING, ""),
        ("delta", 2, _REQUIRED, _UINT64, ""),
        ("total", 3, _OPTIONAL, _UINT64, ""),
    ],
    "LogMessage": [
        ("message", 1, _REQUIRED, _BYTES, ""),
        ("message_type", 2, _REQUIRED, _INT32, ""),
        ("timestamp", 3, _REQUIRED, _INT64, ""),
        ("app_id", 4, _OPTIONAL, _STRING, ""),
        ("source_type", 5, _OPTIONAL, _STRING, ""),
        ("source_instance", 6, _OPTIONAL, _STRING, ""),
    ],
    "HttpStartStop": [
        ("startTimestamp", 1, _REQUIRED, _INT64, ""),
        ("stopTimestamp", 2, _REQUIRED, _INT64, ""),
        ("requestId", 3, _REQUIRED, _MESSAGE, "UUID"),
        ("peerType", 4, _REQUIRED, _ENUM, "PeerType"),
        ("method", 5, _REQUIRED, _INT32, ""),  # an enum, but 0 is sent for methods that it has not
        ("uri", 6, _REQUIRED, _STRING, ""),
        ("remoteAddress", 7, _REQUIRED, _STRING, ""),
        ("userAgent", 8, _REQUIRED, _STRING, ""),
        ("statusCode", 9, _REQUIRED, _INT32, ""),
        ("contentLength", 10, _REQUIRED, _INT64, ""),
        ("applicationId", 12, _OPTIONAL, _MESSAGE, "UUID"),
        ("instanceIndex", 13, _OPTIONAL, _INT32, ""),
        ("instanceId", 14, _OPTIONAL, _STRING, ""),
        ("forwarded", 15, _REPEATED, _STRING, ""),
    ],
    "Envelope": [
        ("origin", 1, _REQUIRED, _STRING, ""),
        ("eventType", 2, _REQUIRED, _ENUM, "EventType"),
        ("timestamp", 6, _OPTIONAL, _INT64, ""),
        ("httpStartStop", 7, _OPTIONAL, _MESSAGE, "HttpStartStop"),
        ("logMessage", 8, _OPTIONAL, _MESSAGE, "LogMessage"),
        ("valueMetric", 9, _OPTIONAL, _MESSAGE, "ValueMetric"),
        ("counterEvent", 10, _OPTIONAL, _MESSAGE, "CounterEvent"),
        ("deployment", 13, _OPTIONAL, _STRING, ""),
        ("job", 14, _OPTIONAL, _STRING, ""),
        ("index", 15, _OPTIONAL, _STRING, ""),
        ("ip", 16, _OPTIONAL, _STRING, ""),
        ("tags", 17, _REPEATED, _MESSAGE, "Envelope.TagsEntry"),
    ],
}
_ENUMS = {
    "PeerType": {"Client": 1, "Server": 2},
    "EventType": {"HttpStartStop": 4, "LogMessage": 5, "ValueMetric": 6, "CounterEvent": 7},
}


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="dropsonde.proto", package="events", syntax="proto2")
    for name, values in _ENUMS.items():
        enum = file.enum_type.add(name=name)
        for value, number in values.items():
            enum.value.add(name=f"{name}_{value}", number=number)
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, label, kind, other in fields:
            added = message.field.add(name=field, number=number, label=label, type=kind)
            if other:
                added.type_name = f".events.{other}"
    entry = next(m for m in file.message_type if m.name == "Envelope").nested_type.add(name="TagsEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, label=_OPTIONAL, type=_STRING)
    entry.field.add(name="value", number=2, label=_OPTIONAL, type=_STRING)
    return file


_pool = descriptor_pool.DescriptorPool()
_pool.Add(_file())
_Envelope = message_factory.GetMessageClass(_pool.FindMessageTypeByName("events.Envelope"))
SERVER, CLIENT = 2, 1


def read(datagram: bytes) -> Envelope:
    """Raises what the library does of bytes that are no envelope with everything that one needs."""
    envelope = _Envelope()
    envelope.ParseFromString(datagram)
    assert envelope.IsInitialized(), envelope
    return envelope


class Agent:
    """Takes datagrams in from its start on."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * 1024 * 1024)
        self._socket.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self.datagrams: list[bytes] = []
        self._thread = threading.Thread(target=self._receive, daemon=True)
        self._thread.start()

    def _receive(self) -> None:
        with suppress(OSError):
            while datagram := self._socket.recv(65_536):
                self.datagrams.append(datagram)

    @property
    def envelopes(self) -> list[Envelope]:
        return [read(datagram) for datagram in self.datagrams]

    def events(self, peer: int) -> list[Envelope]:
        """Envelopes of HttpStartStop."""
        return [e for e in self.envelopes if e.HasField("httpStartStop") and e.httpStartStop.peerType == peer]

    def values(self, name: str) -> list[float]:
        return [e.valueMetric.value for e in self.envelopes if e.valueMetric.name == name]

    def unit(self, name: str) -> str:
        units = {e.valueMetric.unit for e in self.envelopes if e.valueMetric.name == name}
        [unit] = units
        return str(unit)

    def counted(self, name: str) -> int | None:
        """The sum of a counter's deltas; None where it was never sent."""
        deltas = [e.counterEvent.delta for e in self.envelopes if e.counterEvent.name == name]
        return sum(deltas) if deltas else None

    def until(self, condition: Callable[[], object], what: str) -> None:
        wait_until(condition, what)

    def close(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(5)


@contextmanager
def agent() -> Iterator[Agent]:
    running = Agent()
    try:
        yield running
    finally:
        running.close()
