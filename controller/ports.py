"""Ports that a router group gives away: ``1024-1123,2000`` (gorouter reference 1.7)."""

from __future__ import annotations

from typing import Final

LOWEST: Final = 1024
HIGHEST: Final = 65535


def reservable(text: str) -> frozenset[int]:
    """Raises ValueError: not ports from 1024 to 65535, or ranges that overlap."""
    ports: set[int] = set()
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        low, dash, high = part.partition("-")
        if not low.isdigit() or (dash and not high.isdigit()):
            raise ValueError(f"{part!r} is neither a port nor a range such as 1024-1123")
        first, last = int(low), int(high or low)
        if not LOWEST <= first <= last <= HIGHEST:
            raise ValueError(f"{part!r} is not within {LOWEST}-{HIGHEST}")
        more = set(range(first, last + 1))
        if more & ports:
            raise ValueError(f"{part!r} overlaps with another range")
        ports |= more
    return frozenset(ports)
