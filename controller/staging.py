"""How a build ends: with a droplet, or with an error (reference 7.4). For whoever stages, here or elsewhere.

A build ends once. Nothing here decides rights or speaks HTTP; refusals are ApiErrors because the API hands them on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from controller.database.applications import Build, Droplet, Process
from controller.v3.errors import unprocessable

NO_COMMAND: Final = "Start command not specified"


@dataclass(frozen=True, slots=True)
class Result:
    """What staging found out."""

    image: str | None = None
    """Of a docker app: there is nothing else to keep."""
    process_types: dict[str, str] | None = None
    execution_metadata: str = ""
    buildpacks: list[dict[str, Any]] = field(default_factory=list)
    stack: str | None = None
    sidecars: list[dict[str, Any]] = field(default_factory=list)


def succeed(session: Session, build: Build, result: Result) -> Droplet | None:
    """The build's droplet, staged; None: nothing in it can be started, and the build failed.

    A droplet with bits is there already when this is called, with the build's guid; one that is only the name of an
    image is made here. Raises ApiError: the build is over, or there is no droplet.
    """
    _refuse_what_is_over(build)
    droplet = session.scalars(select(Droplet).where(Droplet.build_guid == build.guid)).unique().one_or_none()
    if droplet is None and result.image is None:
        raise unprocessable("'STAGED' builds require a droplet")
    if not result.process_types and result.image is None and not _has_command(session, build):
        fail(session, build, "StagingError", NO_COMMAND)
        return None
    if droplet is None:
        droplet = Droplet(app=build.app, build_guid=build.guid, labels={}, annotations={})
        session.add(droplet)
    droplet.package_guid = build.package_guid
    droplet.lifecycle_type = build.lifecycle_type
    droplet.image = result.image
    droplet.process_types = result.process_types if result.process_types else {"web": ""}
    droplet.execution_metadata = result.execution_metadata
    droplet.buildpacks = result.buildpacks
    droplet.stack = result.stack or build.lifecycle_data.get("stack")
    droplet.sidecars = result.sidecars
    droplet.state = "STAGED"
    session.flush()
    build.state, build.droplet_guid = "STAGED", droplet.guid
    session.flush()
    return droplet


def fail(session: Session, build: Build, error_id: str, description: str) -> None:
    """Raises ApiError: the build is over."""
    _refuse_what_is_over(build)
    build.state, build.error_id, build.error_description = "FAILED", error_id, description
    session.flush()


def _refuse_what_is_over(build: Build) -> None:
    if build.state != "STAGING":
        raise unprocessable(f"Build is already {build.state}")


def _has_command(session: Session, build: Build) -> bool:
    commands = select(Process.id).where(Process.app_id == build.app_id, Process.command.is_not(None))
    return session.scalars(commands).first() is not None
