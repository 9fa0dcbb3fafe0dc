"""Buildpacks (reference 1.6, 3.6): what makes droplets of packages, tried in the order of their positions.

Positions of one lifecycle are 1, 2, 3 and so on without a gap: whoever changes one holds all of them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NoReturn

from pydantic import Field
from sqlalchemy import ColumnElement, func, select, text, update
from sqlalchemy.orm import Session

from controller.database.bookkeeping import Job
from controller.database.platform import Buildpack, Stack
from controller.v3 import bits, metadata
from controller.v3.api import Api
from controller.v3.bodies import Body, Text
from controller.v3.call import Call, Reply
from controller.v3.errors import ApiError, bad_query, unprocessable
from controller.v3.listing import Listing, among
from controller.v3.metadata import MetadataBody
from controller.v3.presenting import common

api = Api("Buildpacks")


def _on_stacks(names: list[str]) -> ColumnElement[bool]:
    """The empty name is that of no stack."""
    return func.coalesce(Buildpack.stack, "").in_(names)


def _of_lifecycle(names: list[str]) -> ColumnElement[bool]:
    if len(names) != 1 or names[0] not in ("buildpack", "cnb"):
        raise bad_query('Lifecycle must be either "buildpack" or "cnb"')
    return Buildpack.lifecycle == names[0]


LISTING = Listing(
    Buildpack,
    {"names": among(Buildpack.name), "stacks": _on_stacks, "lifecycle": _of_lifecycle},
    orders=("position", "name", "lifecycle"),
    default_order="position",
)

BuildpackName = Annotated[Text, Field(min_length=1, max_length=250, pattern=r"^[-\w]+$")]
Position = Annotated[int, Field(ge=1, le=2**31 - 1)]


class Create(Body):
    name: BuildpackName
    stack: Annotated[Text, Field(min_length=1, max_length=250)] | None = None
    lifecycle: Literal["buildpack", "cnb"] = "buildpack"
    position: Position = 1
    enabled: bool = True
    locked: bool = False
    metadata: MetadataBody | None = None


class Update(Body):
    name: BuildpackName | None = None
    stack: Annotated[Text, Field(min_length=1, max_length=250)] | None = None
    position: Position | None = None
    enabled: bool | None = None
    locked: bool | None = None
    metadata: MetadataBody | None = None


def present(buildpack: Buildpack, call: Call) -> dict[str, Any]:
    path = f"/v3/buildpacks/{buildpack.guid}"
    return {
        **common(buildpack),
        "name": buildpack.name,
        "stack": buildpack.stack,
        "state": buildpack.state,
        "filename": buildpack.filename,
        "lifecycle": buildpack.lifecycle,
        "position": buildpack.position,
        "enabled": buildpack.enabled,
        "locked": buildpack.locked,
        "metadata": metadata.shown(buildpack),
        "links": {"self": call.link(path), "upload": call.link(f"{path}/upload", "POST")},
    }


@api.get("/v3/buildpacks", listing=LISTING)
def list_buildpacks(call: Call) -> dict[str, Any]:
    """List buildpacks."""
    return LISTING.page(call, lambda row: present(row, call))


@api.get("/v3/buildpacks/{guid}")
def get_buildpack(call: Call, guid: str) -> dict[str, Any]:
    """Get a buildpack."""
    return present(_find(call, guid), call)


@api.post("/v3/buildpacks")
def create_buildpack(call: Call, body: Create) -> dict[str, Any]:
    """Create a buildpack; its bits come by an upload."""
    call.require_admin()
    _hold_positions(call.session)
    buildpack = Buildpack(name=body.name, stack=body.stack, lifecycle=body.lifecycle, labels={}, annotations={})
    buildpack.enabled, buildpack.locked = body.enabled, body.locked
    _check_stack(call, body.stack)
    metadata.merge(buildpack, body.metadata)
    _open_gap(call.session, buildpack, body.position)
    with call.refusing("uq_buildpacks_name_stack_lifecycle", _taken(buildpack, body.name)):
        call.session.add(buildpack)
    _recorded(call, "create", buildpack, body)
    return present(buildpack, call)


@api.patch("/v3/buildpacks/{guid}")
def update_buildpack(call: Call, guid: str, body: Update) -> dict[str, Any]:
    """Change a buildpack."""
    buildpack = _find(call, guid)
    call.require_admin()
    _hold_positions(call.session)
    call.session.refresh(buildpack)
    given = body.model_fields_set
    if "stack" in given and body.stack != buildpack.stack:
        if buildpack.stack is not None:
            raise unprocessable("Buildpack stack cannot be changed")
        _check_stack(call, body.stack)
        buildpack.stack = body.stack
    metadata.merge(buildpack, body.metadata)
    with call.refusing("uq_buildpacks_name_stack_lifecycle", _taken(buildpack, body.name or buildpack.name)):
        for name in ("name", "enabled", "locked"):
            if (value := getattr(body, name)) is not None:
                setattr(buildpack, name, value)
        call.session.flush()
    if body.position is not None:
        _close_gap(call.session, buildpack)
        _open_gap(call.session, buildpack, body.position)
        call.session.flush()
    _recorded(call, "update", buildpack, body)
    return present(buildpack, call)


@api.delete("/v3/buildpacks/{guid}", 202)
def delete_buildpack(call: Call, guid: str) -> Reply:
    """Delete a buildpack; a job."""
    buildpack = _find(call, guid)
    call.require_admin()
    call.record("audit.buildpack.delete", _target(buildpack))
    return call.begin("buildpack.delete", ("buildpack", buildpack.guid))


def delete_one(session: Session, job: Job) -> None:
    """The job behind it. What is gone already is no error."""
    _hold_positions(session)
    buildpack = session.scalars(select(Buildpack).where(Buildpack.guid == job.resource_guid)).one_or_none()
    if buildpack is not None:
        session.delete(buildpack)
        session.flush()
        _close_gap(session, buildpack)


JOBS = {"buildpack.delete": delete_one}


@api.post("/v3/buildpacks/{guid}/upload", 202)
def upload_buildpack(call: Call, guid: str) -> NoReturn:
    """Bring the bits of a buildpack; a job."""
    buildpack = _find(call, guid)
    call.require_admin()
    if buildpack.locked:
        raise unprocessable("Buildpack is locked")
    bits.upload_buildpack(buildpack)


def _find(call: Call, guid: str) -> Buildpack:
    return call.find(Buildpack, guid, called="Buildpack")


def _check_stack(call: Call, name: str | None) -> None:
    if name is not None and call.session.scalars(select(Stack.id).where(Stack.name == name)).first() is None:
        raise unprocessable(f"Stack '{name}' does not exist")


def _taken(buildpack: Buildpack, name: str) -> ApiError:
    if buildpack.stack is None:
        return unprocessable(f"Buildpack with name '{name}' and an unassigned stack already exists")
    return unprocessable(
        f"Buildpack with name '{name}', stack '{buildpack.stack}' and lifecycle '{buildpack.lifecycle}' already exists"
    )


def _hold_positions(session: Session) -> None:
    """One at a time changes positions: on SQLite, whoever writes is alone already."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("LOCK TABLE buildpacks IN SHARE ROW EXCLUSIVE MODE"))


def _open_gap(session: Session, buildpack: Buildpack, wanted: int) -> None:
    """Put it at the position, or at the end where that is before; those behind it move on."""
    others = (Buildpack.lifecycle == buildpack.lifecycle, Buildpack.id != (buildpack.id or 0))
    last = session.scalar(select(func.count(Buildpack.id)).where(*others)) or 0
    position = min(wanted, last + 1)
    _shift(session, 1, *others, Buildpack.position >= position)
    buildpack.position = position


def _close_gap(session: Session, buildpack: Buildpack) -> None:
    """Those behind it move up."""
    others = (Buildpack.lifecycle == buildpack.lifecycle, Buildpack.id != buildpack.id)
    _shift(session, -1, *others, Buildpack.position > buildpack.position)


def _shift(session: Session, by: int, *where: ColumnElement[bool]) -> None:
    """Nothing that was changed about them: they keep their time of change."""
    moved = {"position": Buildpack.position + by, "updated_at": Buildpack.updated_at}
    session.execute(update(Buildpack).where(*where).values(moved).execution_options(synchronize_session=False))


def _target(buildpack: Buildpack) -> tuple[str, str, str]:
    return buildpack.guid, "buildpack", buildpack.name


def _recorded(call: Call, what: str, buildpack: Buildpack, body: Body) -> None:
    call.record(f"audit.buildpack.{what}", _target(buildpack), data={"request": body.model_dump(exclude_unset=True)})
