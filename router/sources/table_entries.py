"""The entries of a replica whose sink is a route table: read from the table itself rather than kept a second time.

With 100,000 routes that saves every worker a tenth of its memory. Writing here does nothing, since the replica tells
the table of every change anyway; what it then finds here is what the table took in.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping, Sequence
from typing import Protocol

from router.sources.frames import field


class PackedTable(Protocol):
    """What a route table says of itself."""

    def routes(self) -> list[str]:
        """The keys of all routes."""

    def packed(self, route: str) -> Sequence[tuple[str, bytes]]:
        """Address and packed record of each of its endpoints; none for a route that is not there."""


class TableEntries(MutableMapping[bytes, bytes]):
    """By field, ``route address``."""

    def __init__(self, table: PackedTable) -> None:
        self._table = table

    def __getitem__(self, name: bytes) -> bytes:
        route, _, wanted = name.decode().partition(" ")
        for address, packed in self._table.packed(route):
            if address == wanted:
                return packed
        raise KeyError(name)

    def __setitem__(self, name: bytes, packed: bytes) -> None:
        """The table was, or will be, told."""

    def __delitem__(self, name: bytes) -> None:
        """The table was, or will be, told."""

    def __iter__(self) -> Iterator[bytes]:
        for route in self._table.routes():
            for address, _ in self._table.packed(route):
                yield field(route, address)

    def __len__(self) -> int:
        return sum(len(self._table.packed(route)) for route in self._table.routes())
