"""An app as all endpoints about it need it: found if the caller may see it, checked for a right, locked for a change.

Whoever changes an app or what belongs to it holds the lock of the app's row until the transaction ends: so pushes of
one app that meet each other happen one after the other, and what was checked still holds when it is written.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from controller.access import Right
from controller.database.applications import App
from controller.database.routing import Destination, Route
from controller.v3.call import Call
from controller.v3.errors import unprocessable


def visible_app(call: Call, guid: str) -> App:
    """Raises ApiError (ResourceNotFound)."""
    return call.find(App, guid, call.access.spaces(Right.READ_SPACE, App.space_id), called="App")


def changeable_app(call: Call, guid: str, right: Right) -> App:
    """Locked. Raises ApiError: not there, not for the caller to change, or suspended."""
    app = visible_app(call, guid)
    check(call, app, right)
    return lock(call, app)


def related_app(call: Call, guid: str, right: Right, text: str) -> App:
    """An app that a body names, locked. Raises ApiError: ``text`` where the caller sees none, or not the caller's."""
    seen = call.access.spaces(Right.READ_SPACE, App.space_id)
    app = call.related(App, guid, seen, refusal=unprocessable(text))
    check(call, app, right)
    return lock(call, app)


def check(call: Call, app: App, right: Right) -> None:
    """Raises ApiError (NotAuthorized, OrgSuspended, SpaceSuspended, ResourceBeingDeleted)."""
    call.require_in_space(right, app.space, app.guid)


def lock(call: Call, app: App) -> App:
    """The app as it is once nobody else changes it."""
    statement = select(App).where(App.id == app.id).with_for_update(of=App).execution_options(populate_existing=True)
    return call.session.scalars(statement).unique().one()


def routes_changed(call: Call, app: App) -> None:
    """What the routes of the app lead to is another now."""
    for guid in call.session.scalars(
        select(Route.guid).join(Destination, Destination.route_id == Route.id).where(Destination.app_id == app.id)
    ).unique():
        call.route_changed(guid)


def record(call: Call, what: str, app: App, data: dict[str, Any] | None = None) -> None:
    """An audit event of the app: ``audit.app.<what>``."""
    call.record(f"audit.app.{what}", (app.guid, "app", app.name), space=app.space, data=data)
