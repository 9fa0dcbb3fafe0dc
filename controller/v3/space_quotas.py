"""Space quotas (reference 3.6): limits within one organization, for those of its spaces that have them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, or_, select, true
from sqlalchemy.orm import Session

from controller.access import Right
from controller.database.applications import App, Process
from controller.database.bookkeeping import Job
from controller.database.tenancy import Organization, Space, SpaceQuota
from controller.v3 import named, quota_limits
from controller.v3.api import Api
from controller.v3.bodies import Body, Name, ToMany, ToOne
from controller.v3.call import Call, Reply
from controller.v3.errors import unprocessable
from controller.v3.listing import Listing, among
from controller.v3.presenting import common, to_many, to_one
from controller.v3.quota_limits import Limits

api = Api("Space quotas")


def _in_organizations(guids: list[str]) -> ColumnElement[bool]:
    return SpaceQuota.organization_id.in_(select(Organization.id).where(Organization.guid.in_(guids)))


def _applied_to(guids: list[str]) -> ColumnElement[bool]:
    return SpaceQuota.id.in_(select(Space.quota_id).where(Space.guid.in_(guids)))


LISTING = Listing(
    SpaceQuota,
    {"names": among(SpaceQuota.name), "organization_guids": _in_organizations, "space_guids": _applied_to},
    orders=("name",),
)


class Relationships(Body):
    organization: ToOne
    spaces: ToMany | None = None


class Create(Limits):
    name: Name
    relationships: Relationships


class Update(Limits):
    name: Name | None = None


def present(quota: SpaceQuota, spaces: list[str], call: Call) -> dict[str, Any]:
    """``spaces``: guids of those that the caller sees, among those that have it."""
    organization = quota.organization.guid
    return {
        **common(quota),
        "name": quota.name,
        **quota_limits.shown(quota),
        "relationships": {"organization": to_one(organization), "spaces": to_many(spaces)},
        "links": {
            "self": call.link(f"/v3/space_quotas/{quota.guid}"),
            "organization": call.link(f"/v3/organizations/{organization}"),
        },
    }


def visible(call: Call) -> ColumnElement[bool]:
    """Managers of the organization see all of its quotas, others those of the spaces that they see."""
    if call.caller.reads_everything:
        return true()
    applied = select(Space.quota_id).where(call.access.spaces(Right.READ_SPACE), Space.quota_id.is_not(None))
    managed = call.access.organizations(Right.MANAGE_ORGANIZATION, SpaceQuota.organization_id)
    return or_(managed, SpaceQuota.id.in_(applied))


@api.get("/v3/space_quotas", listing=LISTING)
def list_quotas(call: Call) -> dict[str, Any]:
    """List space quotas."""
    spaces: dict[int, list[str]] = {}
    return LISTING.page(
        call,
        lambda row: present(row, spaces.get(row.id, []), call),
        visible(call),
        prepare=lambda rows: spaces.update(_spaces(call, rows)),
    )


@api.get("/v3/space_quotas/{guid}")
def get_quota(call: Call, guid: str) -> dict[str, Any]:
    """Get a space quota."""
    return _shown(call, _find(call, guid))


@api.post("/v3/space_quotas")
def create_quota(call: Call, body: Create) -> dict[str, Any]:
    """Create a space quota, and apply it."""
    guid = body.relationships.organization.data.guid
    seen = call.access.organizations(Right.SEE_ORGANIZATION)
    refusal = unprocessable(f"Organization with guid '{guid}' does not exist, or you do not have access to it.")
    found = call.related(Organization, guid, seen, refusal=refusal)
    quota = SpaceQuota(name=body.name, organization=found)
    _may_change(call, quota)
    _change(call, quota, body)
    if body.relationships.spaces is not None:
        _apply(call, quota, body.relationships.spaces.guids)
    return _shown(call, quota)


@api.patch("/v3/space_quotas/{guid}")
def update_quota(call: Call, guid: str, body: Update) -> dict[str, Any]:
    """Change a space quota."""
    quota = _changeable(call, guid)
    _change(call, quota, body)
    _refuse_unlimited_logs(call, quota, Space.quota_id == quota.id)
    return _shown(call, quota)


@api.delete("/v3/space_quotas/{guid}", 202)
def delete_quota(call: Call, guid: str) -> Reply:
    """Delete a space quota that no space has; a job."""
    quota = _changeable(call, guid)
    _refuse_use(call.session, quota)
    return call.begin("space_quota.delete", ("space_quota", quota.guid))


def delete_one(session: Session, job: Job) -> None:
    """The job behind it. What is gone already is no error; what was applied since the request stays."""
    statement = select(SpaceQuota).where(SpaceQuota.guid == job.resource_guid).with_for_update(of=SpaceQuota)
    quota = session.scalars(statement).one_or_none()
    if quota is not None:
        _refuse_use(session, quota)
        session.delete(quota)


JOBS = {"space_quota.delete": delete_one}


@api.post("/v3/space_quotas/{guid}/relationships/spaces", 200)
def apply_quota(call: Call, guid: str, body: ToMany) -> dict[str, Any]:
    """Apply a space quota to spaces of its organization, in place of what they had."""
    quota = _changeable(call, guid)
    _apply(call, quota, body.guids)
    path = f"/v3/space_quotas/{quota.guid}/relationships/spaces"
    return {**to_many(_spaces(call, [quota]).get(quota.id, [])), "links": {"self": call.link(path)}}


@api.delete("/v3/space_quotas/{guid}/relationships/spaces/{space_guid}")
def remove_quota(call: Call, guid: str, space_guid: str) -> Reply:
    """Take a space quota from a space."""
    quota = _changeable(call, guid)
    space = call.session.scalars(
        select(Space).where(Space.guid == space_guid, Space.quota_id == quota.id)
    ).one_or_none()
    if space is None:
        raise unprocessable(
            f"Unable to remove quota from space with guid '{space_guid}'. "
            "Ensure the space quota is applied to this space."
        )
    space.quota_id = None
    return Reply(204)


def _find(call: Call, guid: str) -> SpaceQuota:
    return call.find(SpaceQuota, guid, visible(call), called="Space quota")


def _changeable(call: Call, guid: str) -> SpaceQuota:
    quota = _find(call, guid)
    _may_change(call, quota)
    return quota


def _may_change(call: Call, quota: SpaceQuota) -> None:
    call.require_in_organization(Right.MANAGE_ORGANIZATION, quota.organization)


def _shown(call: Call, quota: SpaceQuota) -> dict[str, Any]:
    return present(quota, _spaces(call, [quota]).get(quota.id, []), call)


def _spaces(call: Call, quotas: Sequence[SpaceQuota]) -> dict[int, list[str]]:
    """Guids of the spaces that have each of these quotas, as far as the caller sees them."""
    statement = (
        select(Space.quota_id, Space.guid)
        .where(Space.quota_id.in_([quota.id for quota in quotas]), call.access.spaces(Right.READ_SPACE))
        .order_by(Space.id)
    )
    found: dict[int, list[str]] = {}
    for quota, guid in call.session.execute(statement):
        if quota is not None:
            found.setdefault(quota, []).append(guid)
    return found


def _change(call: Call, quota: SpaceQuota, body: Create | Update) -> None:
    taken = unprocessable(f"Space Quota '{body.name}' already exists.")
    with call.refusing("uq_space_quotas_organization_id_name", taken):
        quota.name = body.name if body.name is not None else quota.name
        quota_limits.change(quota, body.apps, body.services, body.routes)
        call.session.add(quota)


def _apply(call: Call, quota: SpaceQuota, guids: Sequence[str]) -> None:
    spaces = named.spaces(call, guids)
    if any(space.organization_id != quota.organization.id for space in spaces):
        raise unprocessable("Space quotas cannot be applied outside of their owning organization.")
    for space in spaces:
        space.quota_id = quota.id
    call.session.flush()
    _refuse_unlimited_logs(call, quota, Space.guid.in_(guids))


def _refuse_unlimited_logs(call: Call, quota: SpaceQuota, where: ColumnElement[bool]) -> None:
    """Raises ApiError: a limit of log lines for processes that have none of their own."""
    if quota.log_rate_limit_in_bytes_per_second is None:
        return
    statement = (
        select(Space.name)
        .join(App, App.space_id == Space.id)
        .join(Process, Process.app_id == App.id)
        .where(where, Process.log_rate_limit_in_bytes_per_second == -1)
        .distinct()
        .order_by(Space.name)
    )
    names = call.session.scalars(statement.limit(2)).all()
    if names:
        more = " and others" if len(names) > 1 else ""
        raise unprocessable(
            "Current usage exceeds new quota values. This space currently contains apps running with an unlimited log "
            f"rate limit: {names[0]}{more}."
        )


def _refuse_use(session: Session, quota: SpaceQuota) -> None:
    if session.scalars(select(Space.id).where(Space.quota_id == quota.id).limit(1)).first() is not None:
        raise unprocessable(
            "This quota is applied to one or more spaces. Remove this quota from all spaces before deleting."
        )
