"""Revisions (reference 3.2): what an app was, each time that it was started as something new."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, delete, select
from sqlalchemy.orm import InstrumentedAttribute, undefer

from controller import revising
from controller.access import Right
from controller.database.applications import App, Droplet, Process, Revision
from controller.revising import Content
from controller.v3 import app_access, belonging, metadata, sidecars
from controller.v3.api import Api
from controller.v3.bodies import Body
from controller.v3.call import Call
from controller.v3.errors import not_authorized, unprocessable
from controller.v3.listing import Listing, among_numbers, truth_of
from controller.v3.metadata import MetadataBody
from controller.v3.presenting import common, to_one

api = Api("Revisions")
KEPT: Final = 100
"""Of one app."""
_STAGED: Final = select(Droplet.guid).where(Droplet.state == "STAGED")


def _deployable(column: InstrumentedAttribute[str]) -> ColumnElement[bool]:
    return column.in_(_STAGED)


LISTING = Listing(
    Revision,
    {
        "versions": among_numbers(Revision.version),
        "deployable": truth_of(_deployable(Revision.droplet_guid), "deployable"),
    },
)
DEPLOYED_LISTING = Listing(Revision)


class Update(Body):
    metadata: MetadataBody | None = None


def present(revision: Revision, call: Call, *, deployable: bool) -> dict[str, Any]:
    path, app = f"/v3/revisions/{revision.guid}", revision.app.guid
    return {
        **common(revision),
        "version": revision.version,
        "droplet": {"guid": revision.droplet_guid},
        "processes": {kind: {"command": command} for kind, command in revision.commands.items()},
        "sidecars": revision.sidecars,
        "description": revision.description,
        "deployable": deployable,
        "relationships": {"app": to_one(app)},
        "metadata": metadata.shown(revision),
        "links": {
            "self": call.link(path),
            "app": call.link(f"/v3/apps/{app}"),
            "environment_variables": call.link(f"{path}/environment_variables"),
        },
    }


@api.get("/v3/apps/{guid}/revisions", listing=LISTING)
def list_revisions(call: Call, guid: str) -> dict[str, Any]:
    """List the revisions of an app."""
    app = app_access.visible_app(call, guid)
    return _page(call, LISTING, Revision.app_id == app.id)


@api.get("/v3/apps/{guid}/revisions/deployed", listing=DEPLOYED_LISTING)
def list_deployed_revisions(call: Call, guid: str) -> dict[str, Any]:
    """List the revisions of an app that run."""
    app = app_access.visible_app(call, guid)
    running = select(Process.revision_guid).where(Process.app_id == app.id, Process.instances > 0)
    deployed = Revision.guid.in_(running if app.desired_state == "STARTED" else [])
    return _page(call, DEPLOYED_LISTING, Revision.app_id == app.id, deployed)


def _page(call: Call, listing: Listing, *conditions: ColumnElement[bool]) -> dict[str, Any]:
    deployable: set[str] = set()

    def load(rows: Sequence[Revision]) -> None:
        named = {row.droplet_guid for row in rows}
        deployable.update(call.session.scalars(_STAGED.where(Droplet.guid.in_(named))))

    def show(row: Revision) -> dict[str, Any]:
        return present(row, call, deployable=row.droplet_guid in deployable)

    return listing.page(call, show, *conditions, prepare=load)


@api.get("/v3/revisions/{guid}")
def get_revision(call: Call, guid: str) -> dict[str, Any]:
    """Get a revision."""
    return _shown(call, _found(call, guid))


@api.patch("/v3/revisions/{guid}")
def update_revision(call: Call, guid: str, body: Update) -> dict[str, Any]:
    """Change a revision's metadata."""
    revision = _found(call, guid)
    app_access.check(call, revision.app, Right.DEVELOP)
    metadata.merge(revision, body.metadata)
    call.session.flush()
    return _shown(call, revision)


@api.get("/v3/revisions/{guid}/environment_variables", audited=True)
def get_revision_environment(call: Call, guid: str) -> dict[str, Any]:
    """The variables that a revision was started with."""
    revision = _found(call, guid)
    if not call.access.in_space(Right.READ_SECRETS, revision.app.space):
        raise not_authorized()
    about = {"revision_guid": revision.guid, "revision_version": revision.version}
    app_access.record(call, "revision.environment_variables.show", revision.app, about)
    path = f"/v3/revisions/{revision.guid}"
    links = {
        "self": call.link(f"{path}/environment_variables"),
        "revision": call.link(path),
        "app": call.link(f"/v3/apps/{revision.app.guid}"),
    }
    return {"var": revision.environment_variables, "links": links}


def _found(call: Call, guid: str) -> Revision:
    """Raises ApiError (ResourceNotFound)."""
    return call.find(Revision, guid, belonging.visible(call, Revision.app_id), called="Revision")


def _shown(call: Call, revision: Revision) -> dict[str, Any]:
    staged = call.session.scalars(_STAGED.where(Droplet.guid == revision.droplet_guid)).first()
    return present(revision, call, deployable=staged is not None)


# Making ---------------------------------------------------------------------------------------------------------------


def current(call: Call, app: App) -> Revision | None:
    """The app as it is now: the newest revision, or a new one if anything changed; None without revisions.

    The caller of this holds the lock of the app.
    """
    if not app.revisions_enabled or app.droplet_guid is None:
        return None
    wanted = Content(
        app.droplet_guid,
        app.environment_variables,
        commands_of(call, app),
        revising.described(sidecars.of_app(call.session, app)),
    )
    newest = _newest(call, app)
    if newest is None:
        return _add(call, app, wanted, [revising.INITIAL], 1)
    new = revising.reasons(revising.content_of(newest), wanted)
    return _add(call, app, wanted, new, newest.version + 1) if new else newest


def rolled_back(call: Call, app: App, to: Revision) -> Revision:
    """A new revision with what ``to`` has. Raises ApiError: it is what runs already."""
    newest = _newest(call, app)
    wanted = revising.content_of(to)
    new = [] if newest is None else revising.reasons(revising.content_of(newest), wanted)
    if newest is None or not new:
        raise unprocessable(
            "Unable to rollback. The code and configuration you are rolling back to is the same as the deployed "
            "revision."
        )
    return _add(call, app, wanted, [*new, f"Rolled back to revision {to.version}."], newest.version + 1)


def commands_of(call: Call, app: App) -> dict[str, str | None]:
    """The users' own, by process type; of several processes of a type, the newest's."""
    rows = select(Process.type, Process.command).where(Process.app_id == app.id).order_by(Process.id)
    return {row[0]: row[1] for row in call.session.execute(rows)}


def _newest(call: Call, app: App) -> Revision | None:
    newest = select(Revision).where(Revision.app_id == app.id).order_by(Revision.version.desc()).limit(1)
    unsealed = newest.options(undefer(Revision.environment_variables))
    return call.session.scalars(unsealed).unique().one_or_none()


def _add(call: Call, app: App, content: Content, why: list[str], version: int) -> Revision:
    revision = Revision(
        app=app,
        version=version,
        droplet_guid=content.droplet_guid,
        environment_variables=dict(content.environment_variables),
        commands=dict(content.commands),
        sidecars=list(content.sidecars),
        description=" ".join(why),
        labels={},
        annotations={},
    )
    call.session.add(revision)
    old = delete(Revision).where(Revision.app_id == app.id, Revision.version <= version - KEPT)
    call.session.execute(old.execution_options(synchronize_session=False))
    call.session.flush()
    about = {"revision_guid": revision.guid, "revision_version": version}
    app_access.record(call, "revision.create", app, about)
    return revision
