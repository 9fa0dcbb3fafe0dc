"""A histogram of latencies that costs one list increment to record and is exact to within 1/128 of any value.

Whole numbers below 256 have a bucket each; above, every power of two is cut into 128 buckets. It must never allocate
while recording, so that the measuring does not become the measured.
"""

from __future__ import annotations

from itertools import accumulate
from math import ceil
from typing import Final

_HALF_BITS: Final = 7
_HALF: Final = 1 << _HALF_BITS
_LARGEST: Final = (1 << 40) - 1


def bucket_of(value: int) -> int:
    """The index of the bucket that holds ``value``, a whole number from 0; what is past 2**40 counts as 2**40 - 1."""
    value = min(value, _LARGEST)
    shift = max(0, value.bit_length() - _HALF_BITS - 1)
    return shift * _HALF + (value >> shift)


def bucket_top(index: int) -> int:
    """The largest value that the bucket ``index`` holds."""
    shift = max(0, index // _HALF - 1)
    return ((index - shift * _HALF + 1) << shift) - 1


class Histogram:
    """Counts of whole numbers from 0, here microseconds."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts = [0] * (bucket_of(_LARGEST) + 1)

    def record(self, value: int) -> None:
        self._counts[bucket_of(value)] += 1

    @property
    def count(self) -> int:
        return sum(self._counts)

    def percentile(self, percent: float) -> int:
        """The smallest bucket top with at least ``percent`` of all values at or below it; 0 when nothing was recorded.

        Raises ValueError: ``percent`` is not in (0, 100].
        """
        if not 0 < percent <= 100:
            raise ValueError(f"a percentile lies above 0 and up to 100, not at {percent}")
        wanted = ceil(self.count * percent / 100)
        if not wanted:
            return 0
        return bucket_top(next(i for i, below in enumerate(accumulate(self._counts)) if below >= wanted))
