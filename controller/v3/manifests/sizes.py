"""Sizes as manifests write them: ``512M``, ``1.5gb``, and ``-1`` where there is to be no limit (reference 3.4)."""

from __future__ import annotations

import re
from typing import Any, Final

UNITS: Final = "supported unit: B, K, KB, M, MB, G, GB, T, or TB"
LARGEST: Final = 2**31 - 1
"""What a column can hold."""
UNLIMITED: Final = -1
_NUMBER: Final = re.compile(r"-?\d{1,15}(?:\.\d{1,15})?", re.ASCII)
_SIZE: Final = re.compile(r"(\d{1,15})(?:\.(\d{1,15}))?\s*(?:([KMGT])B?|B)", re.IGNORECASE | re.ASCII)
_FACTORS: Final = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


class NotASize(ValueError):
    """The message says why, beginning with a verb."""


def megabytes(value: Any) -> int:
    """Whole megabytes, rounded down. Raises NotASize."""
    number = _bytes(value) // 2**20
    if number < 1:
        raise NotASize("must be greater than 0MB")
    return _fitting(number)


def bytes_per_second(value: Any) -> int:
    """A rate, or UNLIMITED. Raises NotASize."""
    if str(value).strip() in ("0", "-1") and not isinstance(value, bool):
        return int(str(value))
    return _fitting(_bytes(value))


def shown_megabytes(number: int) -> str:
    return f"{number}M"


def shown_rate(number: int) -> str | int:
    """In the largest unit that loses nothing."""
    if number <= 0:
        return number
    unit = next(unit for unit in ("T", "G", "M", "K", "") if number % _FACTORS[unit] == 0)
    return f"{number // _FACTORS[unit]}{unit or 'B'}"


def _bytes(value: Any) -> int:
    text = str(value).strip()
    if isinstance(value, bool) or not _NUMBER.match(text):
        raise NotASize("is not a number")
    match = _SIZE.fullmatch(text)
    if match is None:
        raise NotASize(f"must use a {UNITS}")
    whole, fraction, unit = match[1], match[2] or "", (match[3] or "").upper()
    tenths: int = 10 ** len(fraction)
    return int(whole + fraction) * _FACTORS[unit] // tenths


def _fitting(number: int) -> int:
    if number > LARGEST:
        raise NotASize(f"must be less than or equal to {LARGEST}")
    return number
