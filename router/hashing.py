"""Choosing endpoints by a hash, so that equal keys meet the same endpoint and few keys move when endpoints change.

A ring of points, many for each endpoint, named by the endpoints' addresses: every router and every worker makes the
same ring. With a balance factor no endpoint gets more than so many times the average of what is in flight (consistent
hashing with bounded loads); the next on the ring gets what is beyond. Knows addresses and numbers, no pool, no request.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Final, NamedTuple

from router.http1.grammar import TOKEN

ALGORITHM: Final = "hash"
MAX_HEADER: Final = 128
_DIGESTS: Final = 8
_POINT_BYTES: Final = 8
_LOW, _HIGH = 1.1, 10.0
_NAME: Final = re.compile(TOKEN).fullmatch


class HashOptions(NamedTuple):
    """What a route asks for (gorouter reference 1.2, 3.4)."""

    header: bytes
    """In lower case; requests without it are balanced as if the route did not ask."""
    balance: float
    """0: whatever is in flight; else how many times the average an endpoint may have in flight."""

    @classmethod
    def read(cls, header: str, balance: str) -> HashOptions:
        """From the options of a registration. Raises ValueError: which of them cannot be used."""
        name = header.encode()
        if len(name) > MAX_HEADER or not _NAME(name):
            raise ValueError(f"hash_header: the name of a header, at most {MAX_HEADER} characters, not {header[:60]!r}")
        try:
            factor = float(balance or "0")
        except ValueError:
            factor = -1.0
        if factor and not _LOW <= factor <= _HIGH:
            raise ValueError(f"hash_balance: 0 or a number from {_LOW} to {_HIGH:g}, not {balance!r}")
        return cls(name.lower(), factor)


class Ring:
    """Of the endpoints with these addresses; they are told by their index."""

    __slots__ = ("_owners", "_points", "_size")

    def __init__(self, addresses: Sequence[str]) -> None:
        pairs = sorted((point, index) for index, address in enumerate(addresses) for point in _points(address))
        self._points = [point for point, _ in pairs]
        self._owners = [owner for _, owner in pairs]
        self._size = len(addresses)

    def order(self, key: bytes) -> Iterator[int]:
        """All endpoints, each once, in the order in which this key prefers them."""
        owners = self._owners
        start = bisect_right(self._points, int.from_bytes(blake2b(key, digest_size=_POINT_BYTES).digest(), "big"))
        seen: set[int] = set()
        for position in range(start, start + len(owners)):
            owner = owners[position % len(owners)]
            if owner not in seen:
                seen.add(owner)
                yield owner
                if len(seen) == self._size:
                    return


@lru_cache(4096)
def _points(address: str) -> tuple[int, ...]:
    """64 points, which keeps the shares of endpoints within about an eighth of each other."""
    points: list[int] = []
    for number in range(_DIGESTS):
        digest = blake2b(address.encode(), salt=b"%d" % number).digest()
        points += [int.from_bytes(digest[at : at + _POINT_BYTES], "big") for at in range(0, len(digest), _POINT_BYTES)]
    return tuple(points)
