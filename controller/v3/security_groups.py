"""Security groups (reference 1.7, 3.6): where apps may connect to, everywhere or in some spaces.

A group holds for what runs and for what is staged, each everywhere or in spaces of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

from sqlalchemy import ColumnElement, delete, or_, select, true
from sqlalchemy.orm import InstrumentedAttribute, Session

from controller.access import Right
from controller.database.bookkeeping import Job
from controller.database.platform import SecurityGroup, SecurityGroupSpace
from controller.database.tenancy import Space
from controller.v3 import named, security_rules, spaces
from controller.v3.api import Api
from controller.v3.bodies import Body, Name, ToMany
from controller.v3.call import Call, Reply
from controller.v3.errors import not_authorized, unprocessable
from controller.v3.listing import Filter, Listing, among, truth
from controller.v3.presenting import common, to_many

api = Api("Security groups")
Phase = Literal["running", "staging"]
_PHASES: Final[tuple[Phase, ...]] = ("running", "staging")
_EVERYWHERE: Final[dict[Phase, InstrumentedAttribute[bool]]] = {
    "running": SecurityGroup.running_everywhere,
    "staging": SecurityGroup.staging_everywhere,
}


def _bound(phase: Phase) -> Filter:
    return lambda guids: SecurityGroup.id.in_(
        select(SecurityGroupSpace.security_group_id)
        .join(Space, SecurityGroupSpace.space_id == Space.id)
        .where(SecurityGroupSpace.phase == phase, Space.guid.in_(guids))
    )


LISTING = Listing(
    SecurityGroup,
    {
        "names": among(SecurityGroup.name),
        "running_space_guids": _bound("running"),
        "staging_space_guids": _bound("staging"),
        "globally_enabled_running": truth(SecurityGroup.running_everywhere, "globally_enabled_running"),
        "globally_enabled_staging": truth(SecurityGroup.staging_everywhere, "globally_enabled_staging"),
    },
    orders=("name",),
)
OF_SPACE = Listing(SecurityGroup, {"names": among(SecurityGroup.name)}, orders=("name",))


class Everywhere(Body):
    running: bool | None = None
    staging: bool | None = None


class Relationships(Body):
    running_spaces: ToMany | None = None
    staging_spaces: ToMany | None = None


class Create(Body):
    name: Name
    rules: list[Any] | None = None
    globally_enabled: Everywhere | None = None
    relationships: Relationships | None = None


class Update(Body):
    name: Name | None = None
    rules: list[Any] | None = None
    globally_enabled: Everywhere | None = None


Bound = dict[tuple[int, str], list[str]]
"""Guids of spaces by the id of a group and the phase in which it holds there."""


def present(group: SecurityGroup, bound: Bound, call: Call) -> dict[str, Any]:
    return {
        **common(group),
        "name": group.name,
        "rules": group.rules,
        "globally_enabled": {"running": group.running_everywhere, "staging": group.staging_everywhere},
        "relationships": {f"{phase}_spaces": to_many(bound.get((group.id, phase), [])) for phase in _PHASES},
        "links": {"self": call.link(f"/v3/security_groups/{group.guid}")},
    }


def visible(call: Call) -> ColumnElement[bool]:
    """Groups that hold everywhere are seen by everybody, others by who sees a space in which they hold."""
    if call.caller.reads_everything:
        return true()
    here = select(SecurityGroupSpace.security_group_id).where(
        call.access.spaces(Right.READ_SPACE, SecurityGroupSpace.space_id)
    )
    return or_(*_EVERYWHERE.values(), SecurityGroup.id.in_(here))


@api.get("/v3/security_groups", listing=LISTING)
def list_groups(call: Call) -> dict[str, Any]:
    """List security groups."""
    return _page(LISTING, call, visible(call))


@api.get("/v3/security_groups/{guid}")
def get_group(call: Call, guid: str) -> dict[str, Any]:
    """Get a security group."""
    return _shown(call, _find(call, guid))


@api.post("/v3/security_groups")
def create_group(call: Call, body: Create) -> dict[str, Any]:
    """Create a security group."""
    call.require_admin()
    group = SecurityGroup(name=body.name, rules=body.rules or [])
    _change(call, group, body)
    relationships = body.relationships
    if relationships is not None:
        for phase, related in zip(_PHASES, (relationships.running_spaces, relationships.staging_spaces), strict=True):
            if related is not None:
                _bind(call, group, phase, named.spaces(call, related.guids))
    return _shown(call, group)


@api.patch("/v3/security_groups/{guid}")
def update_group(call: Call, guid: str, body: Update) -> dict[str, Any]:
    """Change a security group."""
    group = _find(call, guid)
    call.require_admin()
    _change(call, group, body)
    return _shown(call, group)


@api.delete("/v3/security_groups/{guid}", 202)
def delete_group(call: Call, guid: str) -> Reply:
    """Delete a security group; a job."""
    group = _find(call, guid)
    call.require_admin()
    return call.begin("security_group.delete", ("security_group", group.guid))


def delete_one(session: Session, job: Job) -> None:
    """The job behind it. What is gone already is no error."""
    session.execute(delete(SecurityGroup).where(SecurityGroup.guid == job.resource_guid))


JOBS = {"security_group.delete": delete_one}


@api.post("/v3/security_groups/{guid}/relationships/running_spaces", 200)
def bind_running(call: Call, guid: str, body: ToMany) -> dict[str, Any]:
    """Let a security group hold for what runs in spaces."""
    return _bind_in(call, guid, "running", body)


@api.post("/v3/security_groups/{guid}/relationships/staging_spaces", 200)
def bind_staging(call: Call, guid: str, body: ToMany) -> dict[str, Any]:
    """Let a security group hold for what is staged in spaces."""
    return _bind_in(call, guid, "staging", body)


@api.delete("/v3/security_groups/{guid}/relationships/running_spaces/{space_guid}")
def unbind_running(call: Call, guid: str, space_guid: str) -> Reply:
    """End that for a space."""
    return _unbind(call, guid, "running", space_guid)


@api.delete("/v3/security_groups/{guid}/relationships/staging_spaces/{space_guid}")
def unbind_staging(call: Call, guid: str, space_guid: str) -> Reply:
    """End that for a space."""
    return _unbind(call, guid, "staging", space_guid)


@api.get("/v3/spaces/{guid}/running_security_groups", listing=OF_SPACE)
def list_running_in(call: Call, guid: str) -> dict[str, Any]:
    """List the security groups that hold for what runs in a space."""
    return _list_in(call, guid, "running")


@api.get("/v3/spaces/{guid}/staging_security_groups", listing=OF_SPACE)
def list_staging_in(call: Call, guid: str) -> dict[str, Any]:
    """List the security groups that hold for what is staged in a space."""
    return _list_in(call, guid, "staging")


def _find(call: Call, guid: str) -> SecurityGroup:
    return call.find(SecurityGroup, guid, visible(call), called="Security group")


def _shown(call: Call, group: SecurityGroup) -> dict[str, Any]:
    return present(group, _bound_to(call, [group]), call)


def _page(listing: Listing, call: Call, *conditions: ColumnElement[bool]) -> dict[str, Any]:
    bound: Bound = {}

    def gather(rows: Sequence[SecurityGroup]) -> None:
        bound.update(_bound_to(call, rows))

    return listing.page(call, lambda row: present(row, bound, call), *conditions, prepare=gather)


def _list_in(call: Call, guid: str, phase: Phase) -> dict[str, Any]:
    space = spaces.visible(call, guid)
    return _page(OF_SPACE, call, or_(_EVERYWHERE[phase], _bound(phase)([space.guid])))


def _bound_to(call: Call, groups: Sequence[SecurityGroup]) -> Bound:
    """Of these groups, the spaces that the caller sees."""
    statement = (
        select(SecurityGroupSpace.security_group_id, SecurityGroupSpace.phase, Space.guid)
        .join(Space, SecurityGroupSpace.space_id == Space.id)
        .where(
            SecurityGroupSpace.security_group_id.in_([group.id for group in groups]),
            call.access.spaces(Right.READ_SPACE),
        )
        .order_by(SecurityGroupSpace.id)
    )
    bound: Bound = {}
    for group, phase, guid in call.session.execute(statement):
        bound.setdefault((group, phase), []).append(guid)
    return bound


def _change(call: Call, group: SecurityGroup, body: Create | Update) -> None:
    wrong = security_rules.problems(body.rules or [])
    if wrong:
        raise unprocessable(", ".join(wrong))
    with call.refusing(
        "uq_security_groups_name", unprocessable(f"Security group with name '{body.name}' already exists.")
    ):
        group.name = body.name or group.name
        group.rules = body.rules if body.rules is not None else group.rules
        if body.globally_enabled is not None:
            for phase in _PHASES:
                everywhere = getattr(body.globally_enabled, phase)
                if everywhere is not None:
                    setattr(group, _EVERYWHERE[phase].key, everywhere)
        call.session.add(group)


def _bind_in(call: Call, guid: str, phase: Phase, body: ToMany) -> dict[str, Any]:
    group = _find(call, guid)
    found = named.spaces(call, body.guids)
    if not all(call.access.in_space(Right.MANAGE_SPACE, space) for space in found):
        raise not_authorized()
    for space in found:
        call.refuse_suspended(space.organization, space)
    _bind(call, group, phase, found)
    path = f"/v3/security_groups/{group.guid}/relationships/{phase}_spaces"
    return {**to_many(_bound_to(call, [group]).get((group.id, phase), [])), "links": {"self": call.link(path)}}


def _bind(call: Call, group: SecurityGroup, phase: Phase, where: Sequence[Space]) -> None:
    """What is bound already stays so. Whoever binds the same group waits."""
    call.session.execute(select(SecurityGroup.id).where(SecurityGroup.id == group.id).with_for_update())
    there = select(SecurityGroupSpace.space_id).where(
        SecurityGroupSpace.security_group_id == group.id, SecurityGroupSpace.phase == phase
    )
    missing = {space.id for space in where} - set(call.session.scalars(there))
    call.session.add_all(
        [SecurityGroupSpace(security_group_id=group.id, space_id=space, phase=phase) for space in sorted(missing)]
    )
    call.session.flush()


def _unbind(call: Call, guid: str, phase: Phase, space_guid: str) -> Reply:
    group = _find(call, guid)
    refusal = unprocessable(
        f"Unable to unbind security group from space with guid '{space_guid}'. "
        "Ensure the space is bound to this security group."
    )
    statement = select(Space).where(Space.guid == space_guid, call.access.spaces(Right.READ_SPACE))
    space = call.session.scalars(statement).one_or_none()
    if space is None:
        raise refusal
    call.require_in_space(Right.MANAGE_SPACE, space)
    binding = call.session.scalars(
        select(SecurityGroupSpace).where(
            SecurityGroupSpace.security_group_id == group.id,
            SecurityGroupSpace.space_id == space.id,
            SecurityGroupSpace.phase == phase,
        )
    ).one_or_none()
    if binding is None:
        raise refusal
    call.session.delete(binding)
    return Reply(204)
