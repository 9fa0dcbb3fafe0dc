"""A histogram as Prometheus has them: counts of values by upper bounds that are fixed, and the values' sum.

Values come in batches, sorted or not, since one at a time would cost the request path more than the counting is worth.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, Final

FEW: Final = 16
"""Up to so many values are put into their buckets one by one; more are sorted first."""


class Histogram:
    """``counts`` has one number per bound, of what is not above it but above the bound before, and one for the rest."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        """``bounds`` rise, and are in the unit of the values."""
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, values: list[float]) -> None:
        """Takes ``values`` in, and may sort them."""
        counts, bounds = self.counts, self.bounds
        self.sum += sum(values)
        if len(values) <= FEW:
            for value in values:
                counts[bisect_left(bounds, value)] += 1
            return
        values.sort()
        below = 0
        for index, bound in enumerate(bounds):
            reached = bisect_right(values, bound, below)
            counts[index] += reached - below
            below = reached
        counts[-1] += len(values) - below

    def add_same(self, value: float, count: int) -> None:
        """As ``count`` times the same value."""
        self.counts[bisect_left(self.bounds, value)] += count
        self.sum += value * count

    @property
    def count(self) -> int:
        return sum(self.counts)

    @property
    def cumulative(self) -> list[int]:
        """As Prometheus shows it: how many values are not above each bound, and last how many there are."""
        return list(accumulate(self.counts))

    def copy(self) -> Histogram:
        copy = Histogram(self.bounds)
        copy.counts, copy.sum = list(self.counts), self.sum
        return copy

    def plain(self) -> dict[str, Any]:
        """For a message to another process."""
        return {"counts": self.counts, "sum": self.sum}

    def add_plain(self, plain: dict[str, Any], bounds: Sequence[float]) -> None:
        """Add what ``plain`` made of a histogram with ``bounds``.

        Where they are others than ours, each count goes to the first bound of ours that is not below its own: what was
        told of the values stays true, if less exact.
        """
        self.sum += plain["sum"]
        if tuple(bounds) == tuple(self.bounds):
            self.counts = [mine + more for mine, more in zip(self.counts, plain["counts"], strict=True)]
            return
        for bound, count in zip(bounds, plain["counts"], strict=False):
            self.counts[bisect_left(self.bounds, bound)] += count
        self.counts[-1] += sum(plain["counts"][len(bounds) :])
