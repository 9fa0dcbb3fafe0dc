"""Histograms: whatever way values come in, each is counted once, under the first bound that is not below it."""

from __future__ import annotations

from bisect import bisect_left

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.metrics.histogram import FEW, Histogram

BOUNDS = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20, unique=True).map(sorted)
VALUES = st.lists(st.floats(-2e6, 2e6), max_size=4 * FEW)


def one_by_one(bounds: list[float], values: list[float]) -> list[int]:
    counts = [0] * (len(bounds) + 1)
    for value in values:
        counts[bisect_left(bounds, value)] += 1
    return counts


@given(BOUNDS, st.lists(VALUES, max_size=4))
def test_batches_count_as_single_values_do(bounds: list[float], batches: list[list[float]]) -> None:
    histogram = Histogram(bounds)
    for batch in batches:
        histogram.add(list(batch))
    everything = [value for batch in batches for value in batch]
    assert histogram.counts == one_by_one(bounds, everything)
    assert histogram.count == len(everything)
    assert histogram.sum == pytest.approx(sum(everything), abs=1e-3)
    assert histogram.cumulative == [sum(value <= bound for value in everything) for bound in bounds] + [len(everything)]


@given(BOUNDS, st.floats(-2e6, 2e6), st.integers(0, 1000))
def test_the_same_value_many_times(bounds: list[float], value: float, count: int) -> None:
    histogram = Histogram(bounds)
    histogram.add_same(value, count)
    assert histogram.counts == one_by_one(bounds, [value] * count)


def test_a_value_on_a_bound_is_not_above_it() -> None:
    histogram = Histogram([1.0, 2.0])
    histogram.add([1.0, 2.0, 2.0])
    assert histogram.counts == [1, 2, 0]


@given(BOUNDS, VALUES, VALUES)
def test_sums_of_two_are_one_of_both(bounds: list[float], one: list[float], other: list[float]) -> None:
    first, second = Histogram(bounds), Histogram(bounds)
    first.add(list(one))
    second.add(list(other))
    first.add_plain(second.plain(), bounds)
    assert first.counts == one_by_one(bounds, one + other)


@given(BOUNDS, BOUNDS, VALUES)
def test_under_other_bounds_nothing_is_lost_and_nothing_is_claimed(
    bounds: list[float], others: list[float], values: list[float]
) -> None:
    """A value may be counted under too high a bound, never under one that it is above."""
    told, histogram = Histogram(others), Histogram(bounds)
    told.add(list(values))
    histogram.add_plain(told.plain(), others)
    assert histogram.count == len(values)
    for bound, reached in zip(bounds, histogram.cumulative, strict=False):
        assert reached <= sum(value <= bound for value in values)


def test_a_copy_is_its_own() -> None:
    histogram = Histogram([1.0])
    copy = histogram.copy()
    histogram.add([0.5])
    assert (copy.count, histogram.count) == (0, 1)
