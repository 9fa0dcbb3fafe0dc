"""What envelopes about requests say of their endpoint: made once per endpoint, for as long as it is in use."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple
from uuid import UUID

from router.loggregator.envelopes import tags, uuid_message
from router.loggregator.wire import delimited, number, text

if TYPE_CHECKING:
    from router.pool import Endpoint

REMEMBERED: Final = 4096
"""Endpoints; then the memory starts anew."""

# HttpStartStop
_APPLICATION_ID, _INSTANCE_INDEX, _INSTANCE_ID = 12, 13, 14
# LogMessage
_APP_ID, _SOURCE_TYPE, _SOURCE_INSTANCE = 4, 5, 6


class Parts(NamedTuple):
    http: bytes
    """The last fields of HttpStartStop: application, index and instance."""
    log: bytes
    """The last fields of LogMessage: application and source."""
    tags: bytes
    """The last fields of the envelope."""


class PartsOf:
    """Finds them."""

    __slots__ = ("_known", "_log_source")

    def __init__(self, source_instance: str) -> None:
        """``source_instance``: which router log lines come from."""
        self._known: dict[Endpoint, Parts] = {}
        self._log_source = text(_SOURCE_TYPE, "RTR") + text(_SOURCE_INSTANCE, source_instance)

    def __call__(self, endpoint: Endpoint) -> Parts:
        return self._known.get(endpoint) or self._made(endpoint)

    def _made(self, endpoint: Endpoint) -> Parts:
        if len(self._known) >= REMEMBERED:
            self._known.clear()
        record = endpoint.record
        parts = self._known[endpoint] = Parts(
            _http(endpoint), text(_APP_ID, record.app) + self._log_source, tags(record.tags)
        )
        return parts


def _http(endpoint: Endpoint) -> bytes:
    """A guid or an index that is none is left out. A route service is no instance of an application."""
    record = endpoint.record
    if not endpoint.is_backend:
        return b""
    fields = []
    with suppress(ValueError):
        fields.append(delimited(_APPLICATION_ID, uuid_message(UUID(record.app))))
    index = record.private_instance_index
    if index.isascii() and index.isdigit() and len(index) < 10:
        fields.append(number(_INSTANCE_INDEX, int(index)))
    fields.append(text(_INSTANCE_ID, record.private_instance_id or endpoint.address))
    return b"".join(fields)
