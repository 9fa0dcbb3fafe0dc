"""Apps (reference 3.2): made, shown, changed, started, stopped and deleted, as records of what is wanted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, delete, or_, select, update
from sqlalchemy.orm import Session

from controller import route_changes
from controller.access import Right
from controller.database.applications import App
from controller.database.bookkeeping import Job
from controller.database.routing import Destination, Route
from controller.database.tenancy import Space
from controller.v3 import (
    app_access,
    app_quotas,
    belonging,
    lifecycles,
    metadata,
    organizations,
    processes,
    revisions,
    spaces,
)
from controller.v3.api import Api
from controller.v3.bodies import Body, Name, ToOne
from controller.v3.call import Call, Reply
from controller.v3.errors import ApiError, unprocessable
from controller.v3.lifecycles import Lifecycle
from controller.v3.listing import Listing, among, ignoring_case
from controller.v3.metadata import MetadataBody
from controller.v3.presenting import common, to_one, with_included
from controller.v3.variables import merged

api = Api("Apps")
INCLUDES: Final = ("space", "org", "space.organization")
_STACK: Final = App.lifecycle_data["stack"].as_string()


def on_stacks(names: list[str]) -> ColumnElement[bool]:
    """That an app is on one of these. The empty name is that of no stack."""
    among_them = _STACK.in_(names)
    return or_(among_them, _STACK.is_(None)) if "" in names else among_them


LISTING = Listing(
    App,
    {
        "names": ignoring_case(App.name),
        "organization_guids": belonging.in_organizations(App.space_id),
        "space_guids": belonging.in_spaces(App.space_id),
        "stacks": on_stacks,
        "lifecycle_type": among(App.lifecycle_type),
    },
    orders=("name", "state"),
    includes=INCLUDES,
)


class Relationships(Body):
    space: ToOne


class Create(Body):
    name: Name
    relationships: Relationships
    environment_variables: dict[str, Any] | None = None
    lifecycle: Lifecycle | None = None
    metadata: MetadataBody | None = None


class Update(Body):
    name: Name | None = None
    lifecycle: Lifecycle | None = None
    metadata: MetadataBody | None = None


def present(app: App, call: Call) -> dict[str, Any]:
    path = f"/v3/apps/{app.guid}"
    space = app.space.guid
    return {
        **common(app),
        "name": app.name,
        "state": app.desired_state,
        "lifecycle": lifecycles.presented(app.lifecycle_type, app.lifecycle_data),
        "relationships": {"space": to_one(space), "current_droplet": to_one(app.droplet_guid)},
        "metadata": metadata.shown(app),
        "links": {
            "self": call.link(path),
            "environment_variables": call.link(f"{path}/environment_variables"),
            "space": call.link(f"/v3/spaces/{space}"),
            "processes": call.link(f"{path}/processes"),
            "packages": call.link(f"{path}/packages"),
            "current_droplet": call.link(f"{path}/droplets/current"),
            "droplets": call.link(f"{path}/droplets"),
            "tasks": call.link(f"{path}/tasks"),
            "start": call.link(f"{path}/actions/start", "POST"),
            "stop": call.link(f"{path}/actions/stop", "POST"),
            "clear_buildpack_cache": call.link(f"{path}/actions/clear_buildpack_cache", "POST"),
            "revisions": call.link(f"{path}/revisions"),
            "deployed_revisions": call.link(f"{path}/revisions/deployed"),
            "features": call.link(f"{path}/features"),
        },
    }


@api.get("/v3/apps", listing=LISTING)
def list_apps(call: Call) -> dict[str, Any]:
    """List apps."""
    return LISTING.page(
        call,
        lambda row: present(row, call),
        call.access.spaces(Right.READ_SPACE, App.space_id),
        included=lambda rows: included(rows, call),
    )


@api.get("/v3/apps/{guid}", includes=INCLUDES)
def get_app(call: Call, guid: str) -> dict[str, Any]:
    """Get an app."""
    app = app_access.visible_app(call, guid)
    return with_included(present(app, call), included([app], call))


@api.post("/v3/apps")
def create_app(call: Call, body: Create) -> dict[str, Any]:
    """Create an app."""
    space = spaces.related(call, body.relationships.space.data.guid)
    call.require_in_space(Right.DEVELOP, space)
    app = add(call, space, body.name, body.lifecycle, body.environment_variables)
    metadata.merge(app, body.metadata)
    call.session.flush()
    return present(app, call)


def add(
    call: Call,
    space: Space,
    name: str,
    lifecycle: Lifecycle | None = None,
    environment_variables: dict[str, Any] | None = None,
) -> App:
    """A new app with its web process. Raises ApiError."""
    kind = lifecycle.type if lifecycle is not None else "buildpack"
    lifecycles.require_flag(call, kind)
    app = App(
        name=name,
        space=space,
        lifecycle_type=kind,
        lifecycle_data=lifecycles.data_of(call, lifecycle),
        environment_variables=merged({}, environment_variables or {}, "Environment variables"),
        labels={},
        annotations={},
    )
    with call.refusing("uq_apps_space_id_name", name_taken(name)):
        call.session.add(app)
    processes.add(call, app, processes.WEB, guid=app.guid)
    app_access.record(call, "create", app, {"request": {"name": name, "lifecycle": {"type": kind}}})
    return app


def name_taken(name: str) -> ApiError:
    return unprocessable(f"App with the name '{name}' already exists.")


@api.patch("/v3/apps/{guid}")
def update_app(call: Call, guid: str, body: Update) -> dict[str, Any]:
    """Change an app."""
    app = app_access.changeable_app(call, guid, Right.DEVELOP)
    change(call, app, body)
    return present(app, call)


def change(call: Call, app: App, body: Update) -> None:
    """Raises ApiError. The caller of this holds the lock of the app."""
    if body.lifecycle is not None:
        if body.lifecycle.type != app.lifecycle_type:
            raise unprocessable("Lifecycle type cannot be changed")
        app.lifecycle_data = lifecycles.data_of(call, body.lifecycle, app)
    name = body.name if body.name is not None else app.name
    with call.refusing("uq_apps_space_id_name", name_taken(name)):
        app.name = name
    metadata.merge(app, body.metadata)
    call.session.flush()
    app_access.record(call, "update", app, {"request": body.model_dump(exclude_unset=True, exclude={"lifecycle"})})


@api.delete("/v3/apps/{guid}", 202)
def delete_app(call: Call, guid: str) -> Reply:
    """Delete an app with all that belongs to it; a job."""
    app = app_access.changeable_app(call, guid, Right.DEVELOP)
    app_access.record(call, "delete-request", app)
    return call.begin("app.delete", ("app", app.guid))


def delete_all(session: Session, job: Job) -> None:
    """The job behind it. What is gone already is no error."""
    doomed = select(App.id).where(App.guid == job.resource_guid)
    mapped = select(Route.guid).join(Destination, Destination.route_id == Route.id)
    route_changes.note(session, *session.scalars(mapped.where(Destination.app_id.in_(doomed))).unique())
    session.execute(delete(App).where(App.guid == job.resource_guid))


# What it is told to do ------------------------------------------------------------------------------------------------


@api.post("/v3/apps/{guid}/actions/start", 200)
def start_app(call: Call, guid: str) -> dict[str, Any]:
    """Start an app."""
    app = _startable(call, guid)
    if app.desired_state != "STARTED":
        start(call, app)
    app_access.record(call, "start", app)
    return present(app, call)


@api.post("/v3/apps/{guid}/actions/stop", 200)
def stop_app(call: Call, guid: str) -> dict[str, Any]:
    """Stop an app."""
    app = app_access.changeable_app(call, guid, Right.OPERATE)
    stop(call, app)
    app_access.record(call, "stop", app)
    return present(app, call)


@api.post("/v3/apps/{guid}/actions/restart", 200)
def restart_app(call: Call, guid: str) -> dict[str, Any]:
    """Stop an app and start it: a new version of all that runs."""
    app = _startable(call, guid)
    start(call, app)
    app_access.record(call, "restart", app)
    return present(app, call)


def start(call: Call, app: App) -> None:
    """Raises ApiError: beyond a quota. The caller of this holds the lock of the app."""
    app.desired_state = "STARTED"
    processes.begin(call, app, revisions.current(call, app))
    call.session.flush()
    app_quotas.check(call, app)
    app_access.routes_changed(call, app)


def stop(call: Call, app: App) -> None:
    """Raises ApiError: while it is deployed. The caller of this holds the lock of the app."""
    if processes.is_deploying(call, app):
        raise ApiError(
            "StopDisabledDuringDeployment",
            "Cannot stop the app while it is deploying, please cancel the deployment before stopping the app.",
        )
    app.desired_state = "STOPPED"
    call.session.flush()
    app_access.routes_changed(call, app)


def _startable(call: Call, guid: str) -> App:
    """Raises ApiError: not there, not the caller's to start, nothing to run."""
    app = app_access.changeable_app(call, guid, Right.OPERATE)
    if app.droplet_guid is None:
        raise unprocessable("Assign a droplet before starting this app.")
    lifecycles.require_flag(call, app.lifecycle_type)
    return app


@api.post("/v3/apps/{guid}/actions/clear_buildpack_cache", 202)
def clear_buildpack_cache(call: Call, guid: str) -> Reply:
    """Forget what buildpacks kept from earlier stagings; a job."""
    app = app_access.changeable_app(call, guid, Right.OPERATE)
    return call.begin("app.clear_buildpack_cache", ("app", app.guid))


@api.post("/v3/admin/actions/clear_buildpack_cache", 202)
def clear_all_buildpack_caches(call: Call) -> Reply:
    """The same for all apps; a job."""
    call.require_admin()
    return call.begin("admin.clear_buildpack_cache", ("admin", "buildpack_cache"))


def clear_all_caches(session: Session, _job: Job) -> None:
    """The job behind it."""
    session.execute(update(App).where(App.buildpack_cache_sha256.is_not(None)).values(buildpack_cache_sha256=None))


def clear_cache(session: Session, job: Job) -> None:
    """The job behind it."""
    app = session.scalars(select(App).where(App.guid == job.resource_guid)).unique().one_or_none()
    if app is not None:
        app.buildpack_cache_sha256 = None


JOBS = {
    "app.delete": delete_all,
    "app.clear_buildpack_cache": clear_cache,
    "admin.clear_buildpack_cache": clear_all_caches,
}


@api.get("/v3/apps/{guid}/permissions")
def get_app_permissions(call: Call, guid: str) -> dict[str, Any]:
    """What of an app the caller may read."""
    app = app_access.visible_app(call, guid)
    secret = call.access.in_space(Right.READ_SECRETS, app.space)
    return {"read_basic_data": True, "read_sensitive_data": secret}


def included(apps: Sequence[App], call: Call) -> dict[str, Any]:
    found: dict[str, Any] = {}
    places = {app.space.guid: app.space for app in apps}
    if "space" in call.includes:
        found["spaces"] = spaces.presented(places.values(), call)
    if {"org", "space.organization"} & call.includes:
        owners = {space.organization.guid: space.organization for space in places.values()}
        found["organizations"] = [organizations.present(owner, call) for owner in owners.values()]
    return found
