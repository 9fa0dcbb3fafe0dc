"""Filters and rights of what belongs to apps: all lists take ``app_guids``, ``space_guids``, ``organization_guids``.

Conditions are subqueries, so that a list needs no join for a filter that nobody uses.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, select, true
from sqlalchemy.orm import InstrumentedAttribute

from controller.access import Right
from controller.database.applications import App
from controller.database.tenancy import Organization, Space
from controller.v3.call import Call
from controller.v3.listing import Filter


def of_apps(app_id: InstrumentedAttribute[Any]) -> Filter:
    """``app_id`` is one of the apps with these guids."""
    return lambda guids: app_id.in_(select(App.id).where(App.guid.in_(guids)))


def in_spaces(space_id: InstrumentedAttribute[Any]) -> Filter:
    return lambda guids: space_id.in_(select(Space.id).where(Space.guid.in_(guids)))


def in_organizations(space_id: InstrumentedAttribute[Any]) -> Filter:
    return lambda guids: space_id.in_(_spaces_of(guids))


def of_apps_in_spaces(app_id: InstrumentedAttribute[Any]) -> Filter:
    in_these = in_spaces(App.space_id)
    return lambda guids: app_id.in_(select(App.id).where(in_these(guids)))


def of_apps_in_organizations(app_id: InstrumentedAttribute[Any]) -> Filter:
    in_these = in_organizations(App.space_id)
    return lambda guids: app_id.in_(select(App.id).where(in_these(guids)))


def filters(app_id: InstrumentedAttribute[Any]) -> dict[str, Filter]:
    """The three that every list of what belongs to apps has."""
    return {
        "app_guids": of_apps(app_id),
        "space_guids": of_apps_in_spaces(app_id),
        "organization_guids": of_apps_in_organizations(app_id),
    }


def visible(call: Call, app_id: InstrumentedAttribute[Any], right: Right = Right.READ_SPACE) -> ColumnElement[bool]:
    """That ``app_id`` is an app in whose space the caller has the right."""
    if right.has_globally(call.caller):
        return true()
    return app_id.in_(select(App.id).where(call.access.spaces(right, App.space_id)))


def _spaces_of(organization_guids: list[str]) -> Any:
    return select(Space.id).join(Organization).where(Organization.guid.in_(organization_guids))
