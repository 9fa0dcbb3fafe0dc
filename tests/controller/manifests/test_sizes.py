"""Sizes of manifests (cloud_controller reference 3.4)."""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.v3.manifests import sizes
from controller.v3.manifests.sizes import NotASize

POWERS = {"B": 0, "K": 10, "KB": 10, "M": 20, "MB": 20, "G": 30, "GB": 30, "T": 40, "TB": 40}


@pytest.mark.parametrize(
    ("text", "number"),
    [("1M", 1), ("512MB", 512), ("1g", 1024), ("1.5G", 1536), ("2048K", 2), ("1T", 2**20), ("20.1GB", 20582)],
)
def test_what_is_how_many_megabytes(text: str, number: int) -> None:
    assert sizes.megabytes(text) == number


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("lots", "is not a number"),
        (True, "is not a number"),
        ([], "is not a number"),
        ("10", "must use a supported unit"),
        (10, "must use a supported unit"),
        ("10X", "must use a supported unit"),
        ("-10M", "must use a supported unit"),
        ("1 000M", "must use a supported unit"),
        ("1K", "must be greater than 0MB"),
        ("0M", "must be greater than 0MB"),
        ("999999T", "must be less than or equal to 2147483647"),
    ],
)
def test_what_is_no_memory(value: object, why: str) -> None:
    with pytest.raises(NotASize, match=why):
        sizes.megabytes(value)


@pytest.mark.parametrize(
    ("value", "number"), [(-1, -1), ("-1", -1), (0, 0), ("0", 0), ("1B", 1), ("16K", 16384), ("1.5K", 1536)]
)
def test_rates_may_be_unlimited(value: object, number: int) -> None:
    assert sizes.bytes_per_second(value) == number


@given(st.integers(0, 10**6), st.integers(0, 999), st.sampled_from(sorted(POWERS)), st.booleans())
def test_sizes_are_read_to_the_byte_and_rounded_down(whole: int, thousandths: int, unit: str, small: bool) -> None:
    text = f"{whole}.{thousandths:03}{unit.lower() if small else unit}"
    exact = int((Decimal(whole) + Decimal(thousandths) / 1000) * 2 ** POWERS[unit])
    try:
        assert sizes.bytes_per_second(text) == exact
    except NotASize:
        assert exact > sizes.LARGEST
    try:
        assert sizes.megabytes(text) == exact // 2**20
    except NotASize:
        assert not 1 <= exact // 2**20 <= sizes.LARGEST


@given(st.integers(-1, sizes.LARGEST))
def test_a_rate_that_is_shown_is_read_as_the_same(number: int) -> None:
    assert sizes.bytes_per_second(sizes.shown_rate(number)) == number


@given(st.integers(1, sizes.LARGEST))
def test_megabytes_that_are_shown_are_read_as_the_same(number: int) -> None:
    assert sizes.megabytes(sizes.shown_megabytes(number)) == number


@given(st.one_of(st.text(max_size=20), st.integers(), st.floats(), st.none(), st.lists(st.integers())))
def test_anything_else_is_no_size_and_no_fault(value: object) -> None:
    for read in (sizes.megabytes, sizes.bytes_per_second):
        with suppress(NotASize):
            assert read(value) <= sizes.LARGEST
