"""Builds (reference 3.2): one package on its way to a droplet. Stagers report here with a scope of their own."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import Field
from sqlalchemy import select, true

from controller import staging
from controller.access import Right
from controller.caller import UPDATE_BUILD_STATE
from controller.database.applications import Build, Package
from controller.v3 import app_access, app_quotas, belonging, lifecycles, metadata
from controller.v3.api import Api
from controller.v3.bodies import Body, Named, Text
from controller.v3.call import Call
from controller.v3.errors import ApiError, bad_request, not_authorized, unprocessable
from controller.v3.lifecycles import DOCKER, Lifecycle
from controller.v3.listing import Listing, among
from controller.v3.metadata import MetadataBody
from controller.v3.presenting import common, to_one
from controller.v3.sidecars import Create as StagedSidecar

api = Api("Builds")
MIN_MEMORY_IN_MB: Final = 1024
MIN_DISK_IN_MB: Final = 4096
MAX_DISK_IN_MB: Final = 6144
LISTING = Listing(
    Build,
    {
        "states": among(Build.state),
        "app_guids": belonging.of_apps(Build.app_id),
        "package_guids": among(Build.package_guid),
    },
)
APP_LISTING = Listing(Build, {"states": among(Build.state)})

Positive = Annotated[int, Field(ge=1, le=2**31 - 1)]


class Create(Body):
    package: Named
    lifecycle: Lifecycle | None = None
    staging_memory_in_mb: Positive | None = None
    staging_disk_in_mb: Positive | None = None
    staging_log_rate_limit_bytes_per_second: Annotated[int, Field(ge=-1, le=2**31 - 1)] | None = None
    metadata: MetadataBody | None = None


class StagedData(Body):
    image: Text | None = None
    process_types: dict[str, Text] | None = None
    execution_metadata: Text = ""
    buildpacks: list[dict[str, Any]] = Field(default_factory=list)
    stack: Text | None = None
    sidecars: list[StagedSidecar] = Field(default_factory=list)


class Staged(Body):
    type: Literal["buildpack", "cnb", "docker"]
    data: StagedData


class Update(Body):
    state: Literal["STAGED", "FAILED"] | None = None
    error: Text | None = None
    lifecycle: Staged | None = None
    metadata: MetadataBody | None = None


def present(build: Build, call: Call) -> dict[str, Any]:
    path, app = f"/v3/builds/{build.guid}", build.app.guid
    links = {"self": call.link(path), "app": call.link(f"/v3/apps/{app}")}
    if build.droplet_guid is not None:
        links["droplet"] = call.link(f"/v3/droplets/{build.droplet_guid}")
    return {
        **common(build),
        "state": build.state,
        "staging_memory_in_mb": build.staging_memory_in_mb,
        "staging_disk_in_mb": build.staging_disk_in_mb,
        "staging_log_rate_limit_bytes_per_second": build.staging_log_rate_limit_bytes_per_second,
        "error": None if build.error_id is None else f"{build.error_id} - {build.error_description}",
        "lifecycle": lifecycles.presented(build.lifecycle_type, build.lifecycle_data),
        "package": {"guid": build.package_guid},
        "droplet": None if build.droplet_guid is None else {"guid": build.droplet_guid},
        "created_by": {
            "guid": build.created_by_guid,
            "name": build.created_by_name,
            "email": build.created_by_email,
        },
        "relationships": {"app": to_one(app)},
        "metadata": metadata.shown(build),
        "links": links,
    }


@api.get("/v3/builds", listing=LISTING)
def list_builds(call: Call) -> dict[str, Any]:
    """List builds."""
    return LISTING.page(call, lambda row: present(row, call), belonging.visible(call, Build.app_id))


@api.get("/v3/apps/{guid}/builds", listing=APP_LISTING)
def list_app_builds(call: Call, guid: str) -> dict[str, Any]:
    """List the builds of an app."""
    app = app_access.visible_app(call, guid)
    return APP_LISTING.page(call, lambda row: present(row, call), Build.app_id == app.id)


@api.get("/v3/builds/{guid}")
def get_build(call: Call, guid: str) -> dict[str, Any]:
    """Get a build."""
    return present(_found(call, guid), call)


@api.post("/v3/builds")
def create_build(call: Call, body: Create) -> dict[str, Any]:
    """Begin to stage a package."""
    package = _usable_package(call, body.package.guid)
    kind = DOCKER if package.type == DOCKER else _kind(package, body)
    lifecycles.require_flag(call, kind)
    if package.state != "READY":
        raise bad_request("Cannot stage package whose state is not ready.")
    if (body.staging_disk_in_mb or 0) > MAX_DISK_IN_MB:
        raise unprocessable("disk limit exceeded")
    build = Build(
        app=package.app,
        package_guid=package.guid,
        lifecycle_type=kind,
        lifecycle_data={} if kind == DOCKER else lifecycles.data_of(call, body.lifecycle, package.app),
        staging_memory_in_mb=max(body.staging_memory_in_mb or 0, MIN_MEMORY_IN_MB),
        staging_disk_in_mb=max(body.staging_disk_in_mb or 0, MIN_DISK_IN_MB),
        created_by_guid=call.caller.guid,
        created_by_name=call.caller.name,
        created_by_email=call.caller.email,
        labels={},
        annotations={},
    )
    if body.staging_log_rate_limit_bytes_per_second is not None:
        build.staging_log_rate_limit_bytes_per_second = body.staging_log_rate_limit_bytes_per_second
    metadata.merge(build, body.metadata)
    app_quotas.check_staging(call, package.app, build.staging_memory_in_mb)
    busy = ApiError("StagingInProgress", "Only one build can be STAGING at a time per application.")
    with call.refusing("uq_builds_staging_app_id", busy):
        call.session.add(build)
    _recorded(call, "create", build)
    return present(build, call)


@api.patch("/v3/builds/{guid}", scope=UPDATE_BUILD_STATE)
def update_build(call: Call, guid: str, body: Update) -> dict[str, Any]:
    """Change a build's metadata, or say how its staging ended."""
    build = _found(call, guid)
    ends = body.model_fields_set & {"state", "error", "lifecycle"}
    if ends and not _reports(call):
        raise not_authorized()
    if not ends:
        app_access.check(call, build.app, Right.DEVELOP)
    app_access.lock(call, build.app)
    call.session.refresh(build)
    metadata.merge(build, body.metadata)
    if body.state == "FAILED":
        staging.fail(call.session, build, "StagerError", body.error or "")
    elif body.state == "STAGED":
        if body.lifecycle is None:
            raise unprocessable("Lifecycle 'STAGED' builds require lifecycle data")
        staging.succeed(call.session, build, staging.Result(**body.lifecycle.data.model_dump()))
    if body.state is not None:
        _recorded(call, build.state.lower(), build)
    call.session.flush()
    return present(build, call)


def _reports(call: Call) -> bool:
    return call.caller.is_admin or UPDATE_BUILD_STATE in call.caller.scopes


def _found(call: Call, guid: str) -> Build:
    """Raises ApiError (ResourceNotFound)."""
    seen = true() if _reports(call) else belonging.visible(call, Build.app_id)
    return call.find(Build, guid, seen, called="Build")


def _usable_package(call: Call, guid: str) -> Package:
    """With the lock of its app. Raises ApiError: none that the caller may stage."""
    statement = select(Package).where(Package.guid == guid, belonging.visible(call, Package.app_id))
    package = call.session.scalars(statement).unique().one_or_none()
    if package is None or not call.access.in_space(Right.OPERATE, package.app.space):
        raise unprocessable("Unable to use package. Ensure that the package exists and you have access to it.")
    app_access.check(call, package.app, Right.OPERATE)
    app_access.lock(call, package.app)
    call.session.refresh(package)
    return package


def _kind(package: Package, body: Create) -> str:
    """Raises ApiError: another one than the app has."""
    kind = body.lifecycle.type if body.lifecycle is not None else package.app.lifecycle_type
    if kind == DOCKER:
        raise unprocessable("Lifecycle type must be buildpack or cnb for packages of bits")
    return kind


def _recorded(call: Call, what: str, build: Build) -> None:
    about = {"build_guid": build.guid, "package_guid": build.package_guid}
    app_access.record(call, f"build.{what}", build.app, about)
