"""Organization quotas (reference 3.6): limits that several organizations have, each organization one quota."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, select, true
from sqlalchemy.orm import Session

from controller.access import Right
from controller.database.applications import App, Process
from controller.database.bookkeeping import Job
from controller.database.tenancy import Organization, OrganizationQuota, Space
from controller.v3 import named, quota_limits
from controller.v3.api import Api
from controller.v3.bodies import Body, Name, ToMany
from controller.v3.call import Call, Reply
from controller.v3.errors import ApiError, unprocessable
from controller.v3.listing import Listing, among
from controller.v3.organizations import DEFAULT_QUOTA
from controller.v3.presenting import common, to_many
from controller.v3.quota_limits import DomainLimits, Limits

api = Api("Organization quotas")


def _applied_to(guids: list[str]) -> ColumnElement[bool]:
    return OrganizationQuota.id.in_(select(Organization.quota_id).where(Organization.guid.in_(guids)))


LISTING = Listing(
    OrganizationQuota,
    {"names": among(OrganizationQuota.name), "organization_guids": _applied_to},
    orders=("name",),
)


class Relationships(Body):
    organizations: ToMany | None = None


class Create(Limits):
    name: Name
    domains: DomainLimits | None = None
    relationships: Relationships | None = None


class Update(Limits):
    name: Name | None = None
    domains: DomainLimits | None = None


def present(quota: OrganizationQuota, organizations: list[str], call: Call) -> dict[str, Any]:
    """``organizations``: guids of those that the caller sees, among those that have it."""
    return {
        **common(quota),
        "name": quota.name,
        **quota_limits.shown(quota),
        "domains": {"total_domains": quota.total_domains},
        "relationships": {"organizations": to_many(organizations)},
        "links": {"self": call.link(f"/v3/organization_quotas/{quota.guid}")},
    }


def visible(call: Call) -> ColumnElement[bool]:
    """Who sees an organization sees its quota."""
    if call.caller.reads_everything:
        return true()
    seen = select(Organization.quota_id).where(call.access.organizations(Right.SEE_ORGANIZATION))
    return OrganizationQuota.id.in_(seen)


@api.get("/v3/organization_quotas", listing=LISTING)
def list_quotas(call: Call) -> dict[str, Any]:
    """List organization quotas."""
    organizations: dict[int, list[str]] = {}
    return LISTING.page(
        call,
        lambda row: present(row, organizations.get(row.id, []), call),
        visible(call),
        prepare=lambda rows: organizations.update(_organizations(call, rows)),
    )


@api.get("/v3/organization_quotas/{guid}")
def get_quota(call: Call, guid: str) -> dict[str, Any]:
    """Get an organization quota."""
    return _shown(call, _find(call, guid))


@api.post("/v3/organization_quotas")
def create_quota(call: Call, body: Create) -> dict[str, Any]:
    """Create an organization quota, and apply it."""
    call.require_admin()
    quota = OrganizationQuota(name=body.name)
    _change(call, quota, body)
    if body.relationships is not None and body.relationships.organizations is not None:
        _apply(call, quota, body.relationships.organizations.guids)
    return _shown(call, quota)


@api.patch("/v3/organization_quotas/{guid}")
def update_quota(call: Call, guid: str, body: Update) -> dict[str, Any]:
    """Change an organization quota."""
    quota = _find(call, guid)
    call.require_admin()
    if body.name is not None and quota.name == DEFAULT_QUOTA != body.name:
        raise _needed("renamed")
    _change(call, quota, body)
    _refuse_unlimited_logs(call, quota, Organization.quota_id == quota.id)
    return _shown(call, quota)


@api.delete("/v3/organization_quotas/{guid}", 202)
def delete_quota(call: Call, guid: str) -> Reply:
    """Delete an organization quota that no organization has; a job."""
    quota = _find(call, guid)
    call.require_admin()
    _refuse_use(call.session, quota)
    if quota.name == DEFAULT_QUOTA:
        raise _needed("deleted")
    return call.begin("organization_quota.delete", ("organization_quota", quota.guid))


def delete_one(session: Session, job: Job) -> None:
    """The job behind it. What is gone already is no error; what was applied since the request stays."""
    statement = select(OrganizationQuota).where(OrganizationQuota.guid == job.resource_guid).with_for_update()
    quota = session.scalars(statement).one_or_none()
    if quota is not None:
        _refuse_use(session, quota)
        session.delete(quota)


JOBS = {"organization_quota.delete": delete_one}


@api.post("/v3/organization_quotas/{guid}/relationships/organizations", 200)
def apply_quota(call: Call, guid: str, body: ToMany) -> dict[str, Any]:
    """Apply an organization quota to organizations, in place of what they had."""
    quota = _find(call, guid)
    call.require_admin()
    _apply(call, quota, body.guids)
    path = f"/v3/organization_quotas/{quota.guid}/relationships/organizations"
    return {**to_many(_organizations(call, [quota]).get(quota.id, [])), "links": {"self": call.link(path)}}


def _find(call: Call, guid: str) -> OrganizationQuota:
    return call.find(OrganizationQuota, guid, visible(call), called="Organization quota")


def _shown(call: Call, quota: OrganizationQuota) -> dict[str, Any]:
    return present(quota, _organizations(call, [quota]).get(quota.id, []), call)


def _organizations(call: Call, quotas: Sequence[OrganizationQuota]) -> dict[int, list[str]]:
    """Guids of the organizations that have each of these quotas, as far as the caller sees them."""
    statement = (
        select(Organization.quota_id, Organization.guid)
        .where(
            Organization.quota_id.in_([quota.id for quota in quotas]),
            call.access.organizations(Right.SEE_ORGANIZATION),
        )
        .order_by(Organization.id)
    )
    found: dict[int, list[str]] = {}
    for quota, guid in call.session.execute(statement):
        found.setdefault(quota, []).append(guid)
    return found


def _change(call: Call, quota: OrganizationQuota, body: Create | Update) -> None:
    taken = unprocessable(f"Organization Quota '{body.name}' already exists.")
    with call.refusing("uq_organization_quotas_name", taken):
        quota.name = body.name if body.name is not None else quota.name
        quota_limits.change(quota, body.apps, body.services, body.routes, body.domains)
        call.session.add(quota)


def _apply(call: Call, quota: OrganizationQuota, guids: Sequence[str]) -> None:
    for organization in named.organizations(call, guids):
        organization.quota = quota
    call.session.flush()
    _refuse_unlimited_logs(call, quota, Organization.guid.in_(guids))


def _refuse_unlimited_logs(call: Call, quota: OrganizationQuota, where: ColumnElement[bool]) -> None:
    """Raises ApiError: a limit of log lines for processes that have none of their own."""
    if quota.log_rate_limit_in_bytes_per_second is None:
        return
    statement = (
        select(Process.id)
        .join(App, Process.app_id == App.id)
        .join(Space, App.space_id == Space.id)
        .join(Organization, Space.organization_id == Organization.id)
        .where(where, Process.log_rate_limit_in_bytes_per_second == -1)
    )
    if call.session.scalars(statement.limit(1)).first() is not None:
        raise unprocessable(
            "Current usage exceeds new quota values. The org(s) being assigned this quota contain apps running with "
            "an unlimited log rate limit."
        )


def _refuse_use(session: Session, quota: OrganizationQuota) -> None:
    if session.scalars(select(Organization.id).where(Organization.quota_id == quota.id).limit(1)).first() is not None:
        raise unprocessable(
            "This quota is applied to one or more organizations. Apply different quotas to those organizations before "
            "deleting."
        )


def _needed(what: str) -> ApiError:
    return unprocessable(f"The quota '{DEFAULT_QUOTA}' cannot be {what}: new organizations are given it.")
