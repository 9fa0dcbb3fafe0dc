"""Organizations (reference 3.1): who shares a quota, domains, and people."""

from __future__ import annotations

from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from controller import route_changes
from controller.access import Right
from controller.database.bookkeeping import Job
from controller.database.tenancy import Organization, OrganizationQuota
from controller.v3 import metadata
from controller.v3.api import Api
from controller.v3.bodies import Body, Name
from controller.v3.call import Call, Reply
from controller.v3.errors import unprocessable
from controller.v3.listing import Listing, ignoring_case
from controller.v3.metadata import MetadataBody
from controller.v3.people import join_as_creator
from controller.v3.presenting import common, to_one

DEFAULT_QUOTA = "default"

api = Api("Organizations")
LISTING = Listing(Organization, {"names": ignoring_case(Organization.name)}, orders=("name",))


class Create(Body):
    name: Name
    suspended: bool = False
    metadata: MetadataBody | None = None


class Update(Body):
    name: Name | None = None
    suspended: bool | None = None
    metadata: MetadataBody | None = None


def present(organization: Organization, call: Call) -> dict[str, Any]:
    path = f"/v3/organizations/{organization.guid}"
    return {
        **common(organization),
        "name": organization.name,
        "suspended": organization.suspended,
        "relationships": {"quota": to_one(organization.quota.guid)},
        "metadata": metadata.shown(organization),
        "links": {
            "self": call.link(path),
            "domains": call.link(f"{path}/domains"),
            "default_domain": call.link(f"{path}/domains/default"),
            "quota": call.link(f"/v3/organization_quotas/{organization.quota.guid}"),
        },
    }


def visible(call: Call, guid: str) -> Organization:
    """Raises ApiError (ResourceNotFound)."""
    return call.find(Organization, guid, call.access.organizations(Right.SEE_ORGANIZATION), called="Organization")


def manageable(call: Call, guid: str) -> Organization:
    """Raises ApiError: not there, or not the caller's to change."""
    organization = visible(call, guid)
    call.require_in_organization(Right.MANAGE_ORGANIZATION, organization)
    return organization


@api.get("/v3/organizations", listing=LISTING)
def list_organizations(call: Call) -> dict[str, Any]:
    """List organizations."""
    return LISTING.page(call, lambda row: present(row, call), call.access.organizations(Right.SEE_ORGANIZATION))


@api.get("/v3/organizations/{guid}")
def get_organization(call: Call, guid: str) -> dict[str, Any]:
    """Get an organization."""
    return present(visible(call, guid), call)


@api.post("/v3/organizations")
def create_organization(call: Call, body: Create) -> dict[str, Any]:
    """Create an organization."""
    call.require_admin_or_flag("user_org_creation")
    quota = call.session.scalars(select(OrganizationQuota).where(OrganizationQuota.name == DEFAULT_QUOTA)).one()
    organization = Organization(name=body.name, suspended=body.suspended, quota=quota, labels={}, annotations={})
    metadata.merge(organization, body.metadata)
    with call.refusing("uq_organizations_name", unprocessable(f"Organization '{body.name}' already exists.")):
        call.session.add(organization)
    if not call.caller.is_admin:
        join_as_creator(call, organization)
    _recorded(call, "create", organization, body)
    return present(organization, call)


@api.patch("/v3/organizations/{guid}")
def update_organization(call: Call, guid: str, body: Update) -> dict[str, Any]:
    """Change an organization."""
    organization = manageable(call, guid)
    if body.suspended is not None and body.suspended != organization.suspended:
        call.require_admin()
        organization.suspended = body.suspended
    with call.refusing("uq_organizations_name", unprocessable(f"Organization name '{body.name}' is taken.")):
        organization.name = body.name if body.name is not None else organization.name
    metadata.merge(organization, body.metadata)
    call.session.flush()
    _recorded(call, "update", organization, body)
    return present(organization, call)


@api.delete("/v3/organizations/{guid}", 202)
def delete_organization(call: Call, guid: str) -> Reply:
    """Delete an organization with all that is in it; a job."""
    organization = visible(call, guid)
    call.require_admin()
    call.record("audit.organization.delete-request", _target(organization), organization=organization)
    return call.begin("organization.delete", ("organization", organization.guid))


def delete_all(session: Session, job: Job) -> None:
    """The job behind it. What is gone already is no error."""
    session.execute(delete(Organization).where(Organization.guid == job.resource_guid))
    route_changes.note(session, route_changes.ANY)


JOBS = {"organization.delete": delete_all}


def _target(organization: Organization) -> tuple[str, str, str]:
    return organization.guid, "organization", organization.name


def _recorded(call: Call, what: str, organization: Organization, body: Body) -> None:
    data = {"request": body.model_dump(exclude_unset=True)}
    call.record(f"audit.organization.{what}", _target(organization), organization=organization, data=data)
