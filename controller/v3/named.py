"""Organizations and spaces that bodies name by their guids, several at a time: all of them, or a refusal that names
those that are not there or not for the caller to see."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import orjson
from sqlalchemy import select

from controller.access import Right
from controller.database.tenancy import Organization, Space
from controller.v3.call import Call
from controller.v3.errors import ApiError, unprocessable


def organizations(call: Call, guids: Sequence[str]) -> Sequence[Organization]:
    """Raises ApiError (UnprocessableEntity)."""
    seen = call.access.organizations(Right.SEE_ORGANIZATION)
    found = call.session.scalars(select(Organization).where(Organization.guid.in_(guids), seen)).unique().all()
    if len(found) < len(set(guids)):
        raise missing("Organizations", set(guids) - {one.guid for one in found})
    return found


def spaces(call: Call, guids: Sequence[str]) -> Sequence[Space]:
    """Raises ApiError (UnprocessableEntity)."""
    seen = call.access.spaces(Right.READ_SPACE)
    found = call.session.scalars(select(Space).where(Space.guid.in_(guids), seen)).unique().all()
    if len(found) < len(set(guids)):
        raise missing("Spaces", set(guids) - {one.guid for one in found})
    return found


def missing(things: str, guids: Iterable[str]) -> ApiError:
    return unprocessable(f"{things} with guids {listed(guids)} do not exist, or you do not have access to them.")


def listed(names: Iterable[str]) -> str:
    """As errors list names: ``["a", "b"]``."""
    return "[" + ", ".join(orjson.dumps(name).decode() for name in sorted(names)) + "]"
