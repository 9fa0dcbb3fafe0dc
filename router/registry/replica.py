"""The table as one router holds it: raw entries as Redis has them, and the sink kept equal to them.

Theory of operation. An entry is a field (``route address``) and its record. Entries come one by one from the log, or
all at once from a table that was loaded beside this one; either way only differences touch the sink, in short slices.

An entry that a *lost* table lacks (Redis was wiped, or came back older) is not removed but kept as *unconfirmed*: its
registrar probably still serves it, and will say so at its next renewal. It leaves when it is unregistered, or when its
time is over. Knows nothing of connections; never raises for what an entry holds.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from itertools import takewhile
from typing import Final

from router.registry.records import EndpointRecord, InvalidRecord, is_route_key, route_key
from router.registry.sink import RouteSink
from router.registry.slices import sliced

FREEZE_EVERY: Final = 10_000
FREEZE_EVERY_WHEN_FILLING: Final = 1000
"""Entries taken in between two calls of gc.freeze(). A big table lives long and holds no cycles: walking it again and
again would hold the loop for milliseconds and find nothing. While a whole table comes in there is next to nothing else
to freeze with it, so that even the collector's young generations are kept from growing."""
_COMPLAIN_EVERY: Final = 10.0
_STEP: Final = 16
_CHEAP_STEP: Final = 1000

log = logging.getLogger(__name__)


def decoded(field: bytes, record: bytes) -> tuple[str, EndpointRecord]:
    """The route and endpoint of one entry. Raises InvalidRecord: not what a registrar may write."""
    try:
        route, _, address = field.decode("ascii").partition(" ")
    except UnicodeDecodeError:
        raise InvalidRecord("the field is not ASCII") from None
    if not is_route_key(route):
        raise InvalidRecord(f"route {route!r}: must be written {route_key(route)!r}")
    if b"\n" in record:
        raise InvalidRecord("record: holds a line break")
    endpoint = EndpointRecord.from_json(record)
    if endpoint.address != address:
        raise InvalidRecord(f"address {address!r} is not the record's {endpoint.address!r}")
    return route, endpoint


def _drained(table: dict[bytes, bytes]) -> Iterator[tuple[bytes, bytes]]:
    while table:
        yield table.popitem()


class Replica:
    """Use from one task only: methods that wait must not overlap."""

    def __init__(
        self, sink: RouteSink, clock: Callable[[], float], entries: MutableMapping[bytes, bytes] | None = None
    ) -> None:
        """`clock` gives seconds, monotonic: the loop's time. `entries`: where they are kept, if not in a dictionary."""
        self._sink = sink
        self._clock = clock
        self._until_freeze = 0
        self._complained = float("-inf")
        self.entries: MutableMapping[bytes, bytes] = {} if entries is None else entries
        self.unconfirmed: dict[bytes, float] = {}
        """Fields that a lost table lacked, with the time when they leave, which never falls from one to the next."""
        self.applied = 0
        """Entries that changed the sink."""
        self.skipped = 0
        """Entries that no registrar may write, passed over."""

    async def apply(self, operations: list[bytes]) -> None:
        """Changes in turn: ``+field, record``; ``-field, nothing``; ``*field, record``, told to the sink even if the
        entry has it already. Others are skipped."""
        pairs = zip(operations[::2], operations[1::2], strict=False)
        async for part in sliced(pairs, _STEP):
            for operation, record in part:
                kind, field = operation[:1], operation[1:]
                if kind == b"+":
                    self._put(field, record)
                elif kind == b"-":
                    self._remove(field)
                elif kind == b"*":
                    self._put_again(field, record)
                else:
                    self._skip(field, f"unknown operation {kind!r}")

    async def fill(self, entries: Iterable[tuple[bytes, bytes]]) -> None:
        """Takes these in besides what is there."""
        async for part in sliced(entries, _STEP):
            for field, record in part:
                self._put(field, record)
            self._until_freeze = min(self._until_freeze, FREEZE_EVERY_WHEN_FILLING)

    async def become(self, table: dict[bytes, bytes], *, keep_until: float | None) -> None:
        """Holds what `table` holds; `table` is used up. New entries come before old ones leave.

        `keep_until`: entries that `table` lacks stay, unconfirmed, until then; None: they leave now, except those that
        were unconfirmed before.
        """
        gone: list[bytes] = []
        async for fields in sliced(self.entries, _CHEAP_STEP):
            gone.extend(field for field in fields if field not in table)
        # Used up as it goes: freeing a big table in one piece would hold the loop.
        await self.fill(_drained(table))
        async for fields in sliced(gone, _STEP):
            for field in fields:
                if keep_until is not None:
                    self.unconfirmed.setdefault(field, keep_until)
                elif field not in self.unconfirmed:
                    self._remove(field)

    def postpone(self, until: float) -> None:
        """Nothing unconfirmed leaves before then: nobody could confirm anything while Redis was away."""
        self.unconfirmed = dict.fromkeys(self.unconfirmed, until)

    async def expire(self) -> int:
        """Unconfirmed entries whose time is over leave. Returns how many did."""
        now = self._clock()
        # They stand in the order in which they were lost, and so of their times.
        waiting = takewhile(lambda lost: lost[1] <= now, self.unconfirmed.items())
        over = [field async for part in sliced(waiting, _CHEAP_STEP) for field, _ in part]
        async for fields in sliced(over, _STEP):
            for field in fields:
                self._remove(field)
        return len(over)

    def _put(self, field: bytes, record: bytes) -> None:
        self.unconfirmed.pop(field, None)
        if self.entries.get(field) == record:
            return
        try:
            route, endpoint = decoded(field, record)
        except InvalidRecord as problem:
            self._skip(field, str(problem))
            return
        self.entries[field] = record
        self._sink.upsert(route, endpoint)
        self.applied += 1
        if self._until_freeze <= 0:
            self._until_freeze = FREEZE_EVERY
            gc.freeze()
        self._until_freeze -= 1

    def _put_again(self, field: bytes, record: bytes) -> None:
        if self.entries.get(field) == record:
            self._sink.upsert(*decoded(field, record))
            self.applied += 1
        else:
            self._put(field, record)

    def _remove(self, field: bytes) -> None:
        self.unconfirmed.pop(field, None)
        if self.entries.pop(field, None) is None:
            return
        route, _, address = field.decode("ascii").partition(" ")
        self._sink.remove(route, address)
        self.applied += 1

    def _skip(self, field: bytes, problem: str) -> None:
        self.skipped += 1
        now = self._clock()
        if now - self._complained >= _COMPLAIN_EVERY:
            self._complained = now
            log.warning(
                "registry: entry %r is skipped: %s (%d so far); who writes it must follow docs/route-registry.md",
                field[:200],
                problem,
                self.skipped,
            )
