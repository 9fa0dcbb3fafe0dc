"""The histogram: exact below 256, within 1/128 above, and percentiles that agree with sorting."""

from __future__ import annotations

from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.histogram import Histogram, bucket_of, bucket_top

values = st.one_of(st.integers(0, 1000), st.integers(0, 2**40 - 1))


@given(values)
def test_a_bucket_holds_its_values_and_is_narrow(value: int) -> None:
    top = bucket_top(bucket_of(value))
    assert value <= top <= value + value // 128


@given(values)
def test_small_values_have_a_bucket_each(value: int) -> None:
    assert (bucket_top(bucket_of(value)) == value) or value >= 256


@given(st.integers(0, 20_000))
def test_buckets_follow_each_other_without_gap_or_overlap(value: int) -> None:
    step = bucket_of(value + 1) - bucket_of(value)
    assert step == (1 if value == bucket_top(bucket_of(value)) else 0)


def test_what_is_past_the_largest_value_is_counted_with_it() -> None:
    assert bucket_of(2**60) == bucket_of(2**40 - 1)


@given(st.lists(values, min_size=1), st.floats(0.1, 100))
def test_percentiles_agree_with_sorting(recorded: list[int], percent: float) -> None:
    histogram = Histogram()
    for value in recorded:
        histogram.record(value)
    rank = max(1, ceil(len(recorded) * percent / 100))
    assert histogram.percentile(percent) == bucket_top(bucket_of(sorted(recorded)[rank - 1]))


@given(st.lists(values))
def test_every_value_is_counted_once(recorded: list[int]) -> None:
    histogram = Histogram()
    for value in recorded:
        histogram.record(value)
    assert histogram.count == len(recorded)


def test_nothing_recorded_has_the_percentile_0() -> None:
    assert Histogram().percentile(99) == 0


@pytest.mark.parametrize("percent", [0, -1, 100.1])
def test_a_percentile_outside_its_range_is_refused(percent: float) -> None:
    with pytest.raises(ValueError, match="percentile"):
        Histogram().percentile(percent)
