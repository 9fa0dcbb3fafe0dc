"""Packages (reference 3.2): what users bring to be staged, bits or the name of an image."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field
from sqlalchemy import delete
from sqlalchemy.orm import Session

from controller.access import Right
from controller.database.applications import Package
from controller.database.bookkeeping import Job
from controller.v3 import app_access, belonging, bits, metadata
from controller.v3.api import Api
from controller.v3.bodies import Body, Text, ToOne
from controller.v3.call import Call, Reply
from controller.v3.errors import ApiError, not_authorized, unprocessable
from controller.v3.listing import Listing, among
from controller.v3.metadata import MetadataBody
from controller.v3.presenting import common, to_one

api = Api("Packages")
NO_APP = "App is invalid. Ensure it exists and you have access to it."
LISTING = Listing(
    Package,
    {"states": among(Package.state), "types": among(Package.type), **belonging.filters(Package.app_id)},
)


class Data(Body):
    image: Annotated[Text, Field(min_length=1)] | None = None
    username: Text | None = None
    password: Text | None = None


class Relationships(Body):
    app: ToOne


class Create(Body):
    type: Literal["bits", "docker"] | None = None
    """Not for a copy."""
    data: Data | None = None
    relationships: Relationships
    metadata: MetadataBody | None = None


class Update(Body):
    metadata: MetadataBody | None = None


def present(package: Package, call: Call) -> dict[str, Any]:
    path, app = f"/v3/packages/{package.guid}", package.app.guid
    links = {"self": call.link(path), "app": call.link(f"/v3/apps/{app}")}
    if package.type == "bits":
        links["upload"] = call.link(f"{path}/upload", "POST")
        links["download"] = call.link(f"{path}/download", "GET")
    return {
        **common(package),
        "type": package.type,
        "data": _data(package),
        "state": package.state,
        "relationships": {"app": to_one(app)},
        "metadata": metadata.shown(package),
        "links": links,
    }


def _data(package: Package) -> dict[str, Any]:
    if package.type == "bits":
        return {"error": package.error, "checksum": {"type": "sha256", "value": package.sha256}}
    credentials = package.docker_credentials or {}
    password = "***" if credentials.get("password") is not None else None
    return {"image": package.docker_image, "username": credentials.get("username"), "password": password}


def found(call: Call, guid: str) -> Package:
    """Raises ApiError (ResourceNotFound)."""
    return call.find(Package, guid, belonging.visible(call, Package.app_id), called="Package")


def _changeable(call: Call, guid: str) -> Package:
    """With the lock of its app. Raises ApiError."""
    package = found(call, guid)
    app_access.check(call, package.app, Right.DEVELOP)
    app_access.lock(call, package.app)
    call.session.refresh(package)
    return package


@api.get("/v3/packages", listing=LISTING)
def list_packages(call: Call) -> dict[str, Any]:
    """List packages."""
    return LISTING.page(call, lambda row: present(row, call), belonging.visible(call, Package.app_id))


@api.get("/v3/apps/{guid}/packages", listing=LISTING)
def list_app_packages(call: Call, guid: str) -> dict[str, Any]:
    """List the packages of an app."""
    app = app_access.visible_app(call, guid)
    return LISTING.page(call, lambda row: present(row, call), Package.app_id == app.id)


@api.get("/v3/packages/{guid}")
def get_package(call: Call, guid: str) -> dict[str, Any]:
    """Get a package."""
    return present(found(call, guid), call)


@api.post("/v3/packages", query=("source_guid",))
def create_package(call: Call, body: Create) -> dict[str, Any]:
    """Create a package, or with ``source_guid`` a copy of another app's."""
    app = app_access.related_app(call, body.relationships.app.data.guid, Right.DEVELOP, NO_APP)
    package = Package(app=app, state="AWAITING_UPLOAD", labels={}, annotations={})
    if "source_guid" in call.query:
        source = found(call, call.query["source_guid"])
        app_access.check(call, source.app, Right.DEVELOP)
        if source.app_id == app.id:
            raise unprocessable("Source and destination app cannot be the same")
        package.type = source.type
        package.docker_image, package.docker_credentials = source.docker_image, source.docker_credentials
        package.sha1, package.sha256 = source.sha1, source.sha256
        bits.copy_package(source, package)
        about = {"request": {"source_package_guid": source.guid}}
    else:
        _describe(package, body)
        about = {"request": body.model_dump(exclude_unset=True, exclude={"data"})}
    metadata.merge(package, body.metadata)
    call.session.add(package)
    call.session.flush()
    app_access.record(call, "package.create", app, {"package_guid": package.guid, **about})
    return present(package, call)


def _describe(package: Package, body: Create) -> None:
    """Raises ApiError: what does not fit the type."""
    data = body.data or Data()
    if body.type is None:
        raise unprocessable("Type must be one of 'bits, docker'")
    package.type = body.type
    if body.type == "bits":
        if data.model_fields_set:
            raise unprocessable("Data must be empty if provided for bits packages")
        return
    if data.image is None:
        raise unprocessable("Data image required")
    package.state, package.docker_image = "READY", data.image
    package.docker_credentials = data.model_dump(include={"username", "password"})


@api.patch("/v3/packages/{guid}")
def update_package(call: Call, guid: str, body: Update) -> dict[str, Any]:
    """Change a package's metadata."""
    package = _changeable(call, guid)
    metadata.merge(package, body.metadata)
    call.session.flush()
    return present(package, call)


@api.delete("/v3/packages/{guid}", 202)
def delete_package(call: Call, guid: str) -> Reply:
    """Delete a package; a job."""
    package = _changeable(call, guid)
    app_access.record(call, "package.delete", package.app, {"package_guid": package.guid})
    return call.begin("package.delete", ("package", package.guid))


def delete_one(session: Session, job: Job) -> None:
    """The job behind it."""
    session.execute(delete(Package).where(Package.guid == job.resource_guid))


JOBS = {"package.delete": delete_one}


@api.post("/v3/packages/{guid}/upload", 200)
def upload_package(call: Call, guid: str) -> dict[str, Any]:
    """Bring the bits of a package, once."""
    call.require_flag("app_bits_upload")
    package = _changeable(call, guid)
    _require_bits(package)
    if package.state != "AWAITING_UPLOAD":
        raise ApiError(
            "PackageBitsAlreadyUploaded",
            "Bits may be uploaded only once. Create a new package to upload different bits.",
        )
    bits.upload_package(package)


@api.get("/v3/packages/{guid}/download")
def download_package(call: Call, guid: str) -> Reply:
    """Get the bits of a package."""
    package = found(call, guid)
    if not call.access.in_space(Right.READ_SECRETS, package.app.space):
        raise not_authorized()
    _require_bits(package)
    if package.state != "READY":
        raise unprocessable("Package has no bits to download.")
    bits.download_package(package)


def _require_bits(package: Package) -> None:
    if package.type != "bits":
        raise unprocessable("Package type must be bits.")
