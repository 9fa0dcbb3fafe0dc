"""What presenters of all resources share: times, links, relationships (reference 2.3)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from controller.database.base import Resource


def moment(time: datetime | None) -> str | None:
    return None if time is None else time.strftime("%Y-%m-%dT%H:%M:%SZ")


def common(resource: Resource) -> dict[str, Any]:
    """What every resource begins with."""
    return {
        "guid": resource.guid,
        "created_at": moment(resource.created_at),
        "updated_at": moment(resource.updated_at),
    }


def with_included(body: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """``more``: what ``include`` or ``fields`` asked for, by its plural; nothing is not shown."""
    return {**body, "included": more} if more else body


def to_one(guid: str | None) -> dict[str, Any]:
    return {"data": None if guid is None else {"guid": guid}}


def to_many(guids: list[str]) -> dict[str, Any]:
    return {"data": [{"guid": guid} for guid in guids]}
