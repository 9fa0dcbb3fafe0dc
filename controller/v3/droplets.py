"""Droplets (reference 3.2): what staging makes of a package, and what runs."""

from __future__ import annotations

from typing import Any

from sqlalchemy import delete, true, update
from sqlalchemy.orm import Session

from controller.access import Right
from controller.caller import UPDATE_BUILD_STATE
from controller.database.applications import App, Droplet
from controller.database.bookkeeping import Job
from controller.v3 import app_access, belonging, bits, metadata, packages
from controller.v3.api import Api
from controller.v3.bodies import Body, Text, ToOne
from controller.v3.call import Call, Reply
from controller.v3.current_droplet import current_droplet
from controller.v3.errors import bad_query, not_authorized, unprocessable
from controller.v3.listing import Listing, among
from controller.v3.metadata import MetadataBody
from controller.v3.presenting import common, to_one
from controller.v3.processes import HIDDEN, HIDDEN_IN_LISTS

api = Api("Droplets")
LISTING = Listing(Droplet, {"states": among(Droplet.state), **belonging.filters(Droplet.app_id)})
APP_LISTING = Listing(Droplet, {"states": among(Droplet.state)}, others=("current",))
PACKAGE_LISTING = Listing(Droplet, {"states": among(Droplet.state)})


class Relationships(Body):
    app: ToOne


class Create(Body):
    relationships: Relationships
    process_types: dict[str, Text] | None = None


class Update(Body):
    image: Text | None = None
    metadata: MetadataBody | None = None


def present(droplet: Droplet, call: Call, hidden: str | None) -> dict[str, Any]:
    """``hidden``: what stands in the place of what only those see who may read secrets."""
    path, app = f"/v3/droplets/{droplet.guid}", droplet.app.guid
    links = {
        "self": call.link(path),
        "app": call.link(f"/v3/apps/{app}"),
        "assign_current_droplet": call.link(f"/v3/apps/{app}/relationships/current_droplet", "PATCH"),
    }
    if droplet.package_guid is not None:
        links["package"] = call.link(f"/v3/packages/{droplet.package_guid}")
    if droplet.state == "AWAITING_UPLOAD":
        links["upload"] = call.link(f"{path}/upload", "POST")
    if droplet.state == "STAGED" and droplet.lifecycle_type != "docker":
        links["download"] = call.link(f"{path}/download")
    checksum = None if droplet.sha256 is None else {"type": "sha256", "value": droplet.sha256}
    return {
        **common(droplet),
        "state": droplet.state,
        "error": droplet.error,
        "lifecycle": {"type": droplet.lifecycle_type, "data": {}},
        "checksum": checksum,
        "buildpacks": None if droplet.lifecycle_type == "docker" else droplet.buildpacks,
        "stack": droplet.stack,
        "image": droplet.image,
        "execution_metadata": hidden or droplet.execution_metadata,
        "process_types": {"redacted_message": hidden} if hidden else droplet.process_types,
        "relationships": {"app": to_one(app)},
        "metadata": metadata.shown(droplet),
        "links": links,
    }


def _shown(call: Call, droplet: Droplet) -> dict[str, Any]:
    secret = call.access.in_space(Right.READ_SECRETS, droplet.app.space)
    return present(droplet, call, None if secret else HIDDEN)


def _found(call: Call, guid: str) -> Droplet:
    """Raises ApiError (ResourceNotFound)."""
    seen = true() if UPDATE_BUILD_STATE in call.caller.scopes else belonging.visible(call, Droplet.app_id)
    return call.find(Droplet, guid, seen, called="Droplet")


def _changeable(call: Call, guid: str, right: Right = Right.DEVELOP) -> Droplet:
    """With the lock of its app. Raises ApiError."""
    droplet = _found(call, guid)
    app_access.check(call, droplet.app, right)
    app_access.lock(call, droplet.app)
    call.session.refresh(droplet)
    return droplet


@api.get("/v3/droplets", listing=LISTING)
def list_droplets(call: Call) -> dict[str, Any]:
    """List droplets."""
    seen = belonging.visible(call, Droplet.app_id)
    return LISTING.page(call, lambda row: present(row, call, HIDDEN_IN_LISTS), seen)


@api.get("/v3/apps/{guid}/droplets", listing=APP_LISTING)
def list_app_droplets(call: Call, guid: str) -> dict[str, Any]:
    """List the droplets of an app."""
    app = app_access.visible_app(call, guid)
    conditions = [Droplet.app_id == app.id]
    if "current" in call.query:
        if call.query["current"] not in ("true", "false"):
            raise bad_query("Current only accepts values 'true' or 'false'")
        if call.query["current"] == "true":
            conditions.append(Droplet.guid == app.droplet_guid)
    return APP_LISTING.page(call, lambda row: present(row, call, HIDDEN_IN_LISTS), *conditions)


@api.get("/v3/apps/{guid}/droplets/current")
def get_current_droplet(call: Call, guid: str) -> dict[str, Any]:
    """Get the droplet that an app runs."""
    return _shown(call, current_droplet(call, app_access.visible_app(call, guid)))


@api.get("/v3/packages/{guid}/droplets", listing=PACKAGE_LISTING)
def list_package_droplets(call: Call, guid: str) -> dict[str, Any]:
    """List the droplets that a package was staged to."""
    package = packages.found(call, guid)
    condition = Droplet.package_guid == package.guid
    return PACKAGE_LISTING.page(call, lambda row: present(row, call, HIDDEN_IN_LISTS), condition)


@api.get("/v3/droplets/{guid}")
def get_droplet(call: Call, guid: str) -> dict[str, Any]:
    """Get a droplet."""
    return _shown(call, _found(call, guid))


@api.post("/v3/droplets", query=("source_guid",))
def create_droplet(call: Call, body: Create) -> dict[str, Any]:
    """Create a droplet to upload, or with ``source_guid`` a copy of another one."""
    owner = body.relationships.app.data.guid
    no_app = f'App with guid "{owner}" does not exist, or you do not have access to it.'
    app = app_access.related_app(call, owner, Right.DEVELOP, no_app)
    droplet = Droplet(app=app, state="AWAITING_UPLOAD", labels={}, annotations={})
    about: dict[str, Any] = {}
    if "source_guid" in call.query:
        source = _found(call, call.query["source_guid"])
        if not call.access.in_space(Right.READ_SECRETS, source.app.space):
            raise not_authorized()
        _copy(source, droplet)
        about = {"request": {"source_droplet_guid": source.guid}}
    else:
        droplet.lifecycle_type = app.lifecycle_type
        droplet.process_types = body.process_types if body.process_types is not None else {"web": ""}
    call.session.add(droplet)
    call.session.flush()
    app_access.record(call, "droplet.create", app, {"droplet_guid": droplet.guid, **about})
    return _shown(call, droplet)


def _copy(source: Droplet, copy: Droplet) -> None:
    """Raises ApiError: nothing to copy."""
    if source.state != "STAGED":
        raise unprocessable("source droplet is not staged")
    for name in (
        "lifecycle_type",
        "sha1",
        "sha256",
        "stack",
        "image",
        "buildpacks",
        "process_types",
        "execution_metadata",
        "sidecars",
    ):
        setattr(copy, name, getattr(source, name))
    bits.copy_droplet(source, copy)


@api.patch("/v3/droplets/{guid}", scope=UPDATE_BUILD_STATE)
def update_droplet(call: Call, guid: str, body: Update) -> dict[str, Any]:
    """Change a droplet's metadata; stagers also its image."""
    if body.image is None:
        droplet = _changeable(call, guid)
    else:
        droplet = _found(call, guid)
        if not call.caller.is_admin and UPDATE_BUILD_STATE not in call.caller.scopes:
            raise not_authorized()
        app_access.lock(call, droplet.app)
        call.session.refresh(droplet)
        if droplet.state != "STAGED" or droplet.lifecycle_type != "docker":
            raise unprocessable("Image can only be changed of staged droplets of docker apps")
        droplet.image = body.image
    metadata.merge(droplet, body.metadata)
    call.session.flush()
    return _shown(call, droplet)


@api.delete("/v3/droplets/{guid}", 202)
def delete_droplet(call: Call, guid: str) -> Reply:
    """Delete a droplet; a job."""
    droplet = _changeable(call, guid)
    app_access.record(call, "droplet.delete", droplet.app, {"droplet_guid": droplet.guid})
    return call.begin("droplet.delete", ("droplet", droplet.guid))


def delete_one(session: Session, job: Job) -> None:
    """The job behind it. What ran it runs nothing from its next start."""
    session.execute(update(App).where(App.droplet_guid == job.resource_guid).values(droplet_guid=None))
    session.execute(delete(Droplet).where(Droplet.guid == job.resource_guid))


JOBS = {"droplet.delete": delete_one}


@api.post("/v3/droplets/{guid}/upload", 202)
def upload_droplet(call: Call, guid: str) -> Reply:
    """Bring the bits of a droplet, once; a job."""
    droplet = _changeable(call, guid)
    if droplet.state != "AWAITING_UPLOAD":
        raise unprocessable("Droplet may be uploaded only once. Create a new droplet to upload bits.")
    bits.upload_droplet(droplet)


@api.get("/v3/droplets/{guid}/download")
def download_droplet(call: Call, guid: str) -> Reply:
    """Get the bits of a droplet."""
    droplet = _found(call, guid)
    if not call.access.in_space(Right.DOWNLOAD_DROPLETS, droplet.app.space):
        raise not_authorized()
    if droplet.lifecycle_type == "docker":
        raise unprocessable("Cannot download droplets with 'docker' lifecycle.")
    if droplet.state != "STAGED":
        raise unprocessable("Only staged droplets can be downloaded.")
    bits.download_droplet(droplet)
