"""Sidecars (reference 3.2): what runs beside the processes of some types, in the same container."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Final

from pydantic import Field
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from controller.access import Right
from controller.database.applications import App, Droplet, Process, Sidecar
from controller.v3 import app_access, belonging, processes
from controller.v3.api import Api
from controller.v3.bodies import Body, Name, Text
from controller.v3.call import Call, Reply
from controller.v3.errors import ApiError, unprocessable
from controller.v3.listing import Listing
from controller.v3.presenting import common, to_one

api = Api("Sidecars")
BUILDPACK: Final = "buildpack"
LISTING = Listing(Sidecar)

Command = Annotated[Text, Field(min_length=1, max_length=4096)]
Types = Annotated[list[Annotated[Text, Field(min_length=1, max_length=255)]], Field(min_length=1)]
Megabytes = Annotated[int, Field(ge=1, le=2**31 - 1)]


class Create(Body):
    name: Name
    command: Command
    process_types: Types
    memory_in_mb: Megabytes | None = None


class Update(Body):
    name: Name | None = None
    command: Command | None = None
    process_types: Types | None = None
    memory_in_mb: Megabytes | None = None


def present(sidecar: Sidecar) -> dict[str, Any]:
    return {
        **common(sidecar),
        "name": sidecar.name,
        "command": sidecar.command,
        "process_types": sidecar.process_types,
        "memory_in_mb": sidecar.memory_in_mb,
        "origin": sidecar.origin,
        "relationships": {"app": to_one(sidecar.app.guid)},
    }


@api.get("/v3/apps/{guid}/sidecars", listing=LISTING)
def list_app_sidecars(call: Call, guid: str) -> dict[str, Any]:
    """List the sidecars of an app."""
    app = app_access.visible_app(call, guid)
    return LISTING.page(call, present, Sidecar.app_id == app.id)


@api.get("/v3/processes/{guid}/sidecars", listing=LISTING)
def list_process_sidecars(call: Call, guid: str) -> dict[str, Any]:
    """List the sidecars that run beside a process."""
    process = processes.found(call, guid)
    beside = [sidecar.id for sidecar in of_app(call.session, process.app) if process.type in sidecar.process_types]
    return LISTING.page(call, present, Sidecar.id.in_(beside))


@api.get("/v3/sidecars/{guid}")
def get_sidecar(call: Call, guid: str) -> dict[str, Any]:
    """Get a sidecar."""
    return present(_found(call, guid))


@api.post("/v3/apps/{guid}/sidecars")
def create_sidecar(call: Call, guid: str, body: Create) -> dict[str, Any]:
    """Create a sidecar; it runs from the next start."""
    app = app_access.changeable_app(call, guid, Right.DEVELOP)
    return present(add(call, app, body))


def add(call: Call, app: App, body: Create) -> Sidecar:
    """Raises ApiError. The caller of this holds the lock of the app."""
    sidecar = Sidecar(app=app, origin="user", **body.model_dump())
    with call.refusing("uq_sidecars_app_id_name", _name_taken(body.name)):
        call.session.add(sidecar)
    _check_memory(call, app, body.process_types)
    return sidecar


@api.patch("/v3/sidecars/{guid}")
def update_sidecar(call: Call, guid: str, body: Update) -> dict[str, Any]:
    """Change a sidecar."""
    sidecar = _changeable(call, guid)
    change(call, sidecar, body)
    return present(sidecar)


def change(call: Call, sidecar: Sidecar, body: Update) -> None:
    """Raises ApiError. The caller of this holds the lock of the app."""
    with call.refusing("uq_sidecars_app_id_name", _name_taken(body.name or sidecar.name)):
        for name in body.model_fields_set:
            value = getattr(body, name)
            if value is not None or name == "memory_in_mb":
                setattr(sidecar, name, value)
        sidecar.origin = "user"
    _check_memory(call, sidecar.app, sidecar.process_types)


@api.delete("/v3/sidecars/{guid}")
def delete_sidecar(call: Call, guid: str) -> Reply:
    """Delete a sidecar."""
    call.session.delete(_changeable(call, guid))
    return Reply(204)


def take_from(call: Call, app: App, droplet: Droplet) -> None:
    """The sidecars that the droplet's buildpacks want, instead of those that an earlier droplet's did.

    A user's own of the same name stays. The caller of this holds the lock of the app.
    """
    earlier = delete(Sidecar).where(Sidecar.app_id == app.id, Sidecar.origin == BUILDPACK)
    call.session.execute(earlier.execution_options(synchronize_session="fetch"))
    own = {sidecar.name for sidecar in of_app(call.session, app)}
    for wanted in droplet.sidecars:
        if wanted["name"] not in own:
            call.session.add(
                Sidecar(
                    app=app,
                    name=wanted["name"],
                    command=wanted["command"],
                    process_types=wanted["process_types"],
                    memory_in_mb=wanted.get("memory_in_mb"),
                    origin=BUILDPACK,
                )
            )
    call.session.flush()


def of_app(session: Session, app: App) -> list[Sidecar]:
    return list(session.scalars(select(Sidecar).where(Sidecar.app_id == app.id).order_by(Sidecar.id)).unique())


def memory_of(sidecars: Iterable[Sidecar], process_type: str) -> int:
    """What sidecars take of a process's memory, in MiB."""
    return sum(sidecar.memory_in_mb or 0 for sidecar in sidecars if process_type in sidecar.process_types)


def _check_memory(call: Call, app: App, types: Iterable[str]) -> None:
    """Raises ApiError: they would leave a process nothing."""
    there = of_app(call.session, app)
    wanted = select(Process).where(Process.app_id == app.id, Process.type.in_(list(types)))
    for process in call.session.scalars(wanted).unique():
        if memory_of(there, process.type) >= process.memory_in_mb:
            raise unprocessable(
                f'The memory allocation defined is too large to run with the dependent "{process.type}" process'
            )


def _name_taken(name: str) -> ApiError:
    return unprocessable(f"Sidecar with name '{name}' already exists for given app")


def _found(call: Call, guid: str) -> Sidecar:
    """Raises ApiError (ResourceNotFound)."""
    return call.find(Sidecar, guid, belonging.visible(call, Sidecar.app_id), called="Sidecar")


def _changeable(call: Call, guid: str) -> Sidecar:
    """With the lock of its app. Raises ApiError."""
    sidecar = _found(call, guid)
    app_access.check(call, sidecar.app, Right.DEVELOP)
    app_access.lock(call, sidecar.app)
    call.session.refresh(sidecar)
    return sidecar
