"""The droplet that an app runs (reference 3.2): setting it makes the processes that it has types for."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from controller.access import Right
from controller.database.applications import App, Droplet, Process
from controller.v3 import app_access, processes, sidecars
from controller.v3.api import Api
from controller.v3.bodies import ToOneOrNone
from controller.v3.call import Call
from controller.v3.errors import not_found, unprocessable

api = Api("Apps")


def current_droplet(call: Call, app: App) -> Droplet:
    """Raises ApiError (ResourceNotFound)."""
    if app.droplet_guid is None:
        raise not_found("Droplet")
    return call.find(Droplet, app.droplet_guid, called="Droplet")


def _shown(call: Call, app: App, droplet: Droplet) -> dict[str, Any]:
    return {
        "data": {"guid": droplet.guid},
        "links": {
            "self": call.link(f"/v3/apps/{app.guid}/relationships/current_droplet"),
            "related": call.link(f"/v3/apps/{app.guid}/droplets/current"),
        },
    }


@api.get("/v3/apps/{guid}/relationships/current_droplet")
def get_current_droplet_relationship(call: Call, guid: str) -> dict[str, Any]:
    """Which droplet an app runs."""
    app = app_access.visible_app(call, guid)
    return _shown(call, app, current_droplet(call, app))


@api.patch("/v3/apps/{guid}/relationships/current_droplet")
def set_current_droplet(call: Call, guid: str, body: ToOneOrNone) -> dict[str, Any]:
    """Set the droplet that an app runs from its next start."""
    if body.data is None:
        raise unprocessable("Current droplet cannot be removed. Replace it with a preferred droplet.")
    app = app_access.changeable_app(call, guid, Right.OPERATE)
    if processes.is_deploying(call, app):
        raise unprocessable(
            "Unable to assign current droplet while the app has a deployment in progress. "
            "Wait for the deployment to complete or cancel it."
        )
    droplet = assignable(call, app, body.data.guid)
    assign(call, app, droplet)
    return _shown(call, app, droplet)


def assignable(call: Call, app: App, guid: str) -> Droplet:
    """Raises ApiError (UnprocessableEntity): not this app's, or not staged."""
    statement = select(Droplet).where(Droplet.guid == guid, Droplet.app_id == app.id)
    droplet = call.session.scalars(statement).unique().one_or_none()
    if droplet is None or droplet.state != "STAGED":
        raise unprocessable(
            "Unable to assign current droplet. Ensure the droplet exists and belongs to this app."
            if droplet is None
            else "Unable to assign current droplet. Ensure the droplet is staged."
        )
    return droplet


def assign(call: Call, app: App, droplet: Droplet) -> None:
    """The caller of this holds the lock of the app."""
    app.droplet_guid = droplet.guid
    add_missing_processes(call, app, droplet)
    sidecars.take_from(call, app, droplet)
    call.session.flush()
    about = {"request": {"droplet_guid": droplet.guid}}
    app_access.record(call, "droplet.mapped", app, about)


def add_missing_processes(call: Call, app: App, droplet: Droplet) -> None:
    """One of each type that the droplet has."""
    there = set(call.session.scalars(select(Process.type).where(Process.app_id == app.id)))
    for kind in droplet.process_types:
        if kind not in there:
            processes.add(call, app, kind)
