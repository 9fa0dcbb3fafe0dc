"""Label selectors: ``env in (prod, staging), !team, tier!=web`` (cloud_controller reference 2.3)."""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, and_, not_, or_
from sqlalchemy.orm import InstrumentedAttribute

from controller.v3.errors import bad_query

MAX_REQUIREMENTS: Final = 50
_KEY: Final = r"(?:[a-zA-Z0-9.-]{1,253}/)?[A-Za-z0-9](?:[-_.A-Za-z0-9]{0,61}[A-Za-z0-9])?"
_VALUE: Final = r"(?:[A-Za-z0-9](?:[-_.A-Za-z0-9]{0,61}[A-Za-z0-9])?)?"
_SET: Final = re.compile(rf"({_KEY})\s+(in|notin)\s*\(\s*({_VALUE}(?:\s*,\s*{_VALUE})*)\s*\)")
_EQUAL: Final = re.compile(rf"({_KEY})\s*(==|=|!=)\s*({_VALUE})")
_EXISTS: Final = re.compile(rf"(!?)\s*({_KEY})")
_SPLIT: Final = re.compile(r",(?![^(]*\))")


class Requirement(NamedTuple):
    key: str
    wanted: bool
    """Whether the label must be there and, with ``values``, be one of them; else it must not."""
    values: tuple[str, ...]
    """Empty: any value."""


def parse(text: str) -> list[Requirement]:
    """Raises ApiError (BadQueryParameter)."""
    parts = [part.strip() for part in _SPLIT.split(text)]
    if len(parts) > MAX_REQUIREMENTS:
        raise bad_query(f"Too many label selector requirements (maximum is {MAX_REQUIREMENTS})")
    if not all(parts):
        raise bad_query("Missing label_selector value")
    return [_requirement(part) for part in parts]


def _requirement(part: str) -> Requirement:
    if match := _SET.fullmatch(part):
        values = tuple(value.strip() for value in match[3].split(","))
        return Requirement(match[1], match[2] == "in", values)
    if match := _EQUAL.fullmatch(part):
        return Requirement(match[1], match[2] != "!=", (match[3],))
    if match := _EXISTS.fullmatch(part):
        return Requirement(match[2], not match[1], ())
    raise bad_query("Invalid label_selector value")


def condition(requirements: list[Requirement], labels: InstrumentedAttribute[dict[str, Any]]) -> ColumnElement[bool]:
    """What rows with these ``labels`` have to meet; those without a label meet ``!=`` and ``notin``."""
    return and_(*(_condition(requirement, labels) for requirement in requirements))


def _condition(requirement: Requirement, labels: InstrumentedAttribute[dict[str, Any]]) -> ColumnElement[bool]:
    value: ColumnElement[str] = labels[requirement.key].as_string()
    if not requirement.values:
        return value.is_not(None) if requirement.wanted else value.is_(None)
    among = value.in_(requirement.values)
    return among if requirement.wanted else or_(value.is_(None), not_(among))
