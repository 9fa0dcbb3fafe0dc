"""Spaces (reference 3.1): where apps, routes and services live."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session, selectinload
from sqlalchemy.orm.attributes import set_committed_value

from controller import route_changes
from controller.access import Right
from controller.database.bookkeeping import Job
from controller.database.tenancy import Organization, Space, SpaceQuota
from controller.v3 import metadata, organizations
from controller.v3.api import Api
from controller.v3.bodies import Body, Name, ToOne
from controller.v3.call import Call, Reply
from controller.v3.errors import invalid_relation, not_authorized, unprocessable
from controller.v3.listing import Listing, among, ignoring_case
from controller.v3.metadata import MetadataBody
from controller.v3.presenting import common, to_one, with_included

api = Api("Spaces")
LISTING = Listing(
    Space,
    {"names": ignoring_case(Space.name), "organization_guids": among(Organization.guid)},
    orders=("name",),
    includes=("organization", "org"),
)


class Relationships(Body):
    organization: ToOne


class Create(Body):
    name: Name
    relationships: Relationships
    metadata: MetadataBody | None = None


class Update(Body):
    name: Name | None = None
    suspended: bool | None = None
    metadata: MetadataBody | None = None


def present(space: Space, call: Call) -> dict[str, Any]:
    path = f"/v3/spaces/{space.guid}"
    quota = space.quota.guid if space.quota is not None else None
    links = {
        "self": call.link(path),
        "organization": call.link(f"/v3/organizations/{space.organization.guid}"),
        "features": call.link(f"{path}/features"),
        "apply_manifest": call.link(f"{path}/actions/apply_manifest", "POST"),
    }
    if quota is not None:
        links["quota"] = call.link(f"/v3/space_quotas/{quota}")
    return {
        **common(space),
        "name": space.name,
        "suspended": space.suspended,
        "relationships": {"organization": to_one(space.organization.guid), "quota": to_one(quota)},
        "metadata": metadata.shown(space),
        "links": links,
    }


def presented(places: Iterable[Space], call: Call) -> list[dict[str, Any]]:
    """Each of them once; their quotas are read together."""
    rows = {space.id: space for space in places}
    wanted = {space.quota_id for space in rows.values()} - {None}
    quotas = call.session.scalars(select(SpaceQuota).where(SpaceQuota.id.in_(wanted))).unique() if wanted else ()
    known = {quota.id: quota for quota in quotas}
    for space in rows.values():
        set_committed_value(space, "quota", known.get(space.quota_id or 0))
    return [present(space, call) for space in rows.values()]


def visible(call: Call, guid: str) -> Space:
    """Raises ApiError (ResourceNotFound)."""
    return call.find(Space, guid, call.access.spaces(Right.READ_SPACE), called="Space")


def related(call: Call, guid: str) -> Space:
    """A space that a body names. Raises ApiError (UnprocessableEntity): none, or none that the caller may see."""
    return call.related(Space, guid, call.access.spaces(Right.READ_SPACE), refusal=invalid_relation("space"))


@api.get("/v3/spaces", listing=LISTING)
def list_spaces(call: Call) -> dict[str, Any]:
    """List spaces."""
    return LISTING.page(
        call,
        lambda row: present(row, call),
        call.access.spaces(Right.READ_SPACE),
        statement=select(Space).join(Space.organization).options(selectinload(Space.quota)),
        included=lambda rows: _included(rows, call),
    )


@api.get("/v3/spaces/{guid}", includes=("organization", "org"))
def get_space(call: Call, guid: str) -> dict[str, Any]:
    """Get a space."""
    space = visible(call, guid)
    return with_included(present(space, call), _included([space], call))


@api.post("/v3/spaces")
def create_space(call: Call, body: Create) -> dict[str, Any]:
    """Create a space."""
    guid = body.relationships.organization.data.guid
    seen = call.access.organizations(Right.SEE_ORGANIZATION)
    refusal = unprocessable("Invalid organization. Ensure the organization exists and you have access to it.")
    organization = call.related(Organization, guid, seen, refusal=refusal)
    call.require_in_organization(Right.MANAGE_ORGANIZATION, organization)
    space = Space(name=body.name, organization=organization, labels={}, annotations={})
    metadata.merge(space, body.metadata)
    with call.refusing("uq_spaces_organization_id_name", unprocessable("Name must be unique per organization")):
        call.session.add(space)
    _recorded(call, "create", space, body)
    return present(space, call)


@api.patch("/v3/spaces/{guid}")
def update_space(call: Call, guid: str, body: Update) -> dict[str, Any]:
    """Change a space. Suspending one, and ending that, is for who manages its organization."""
    space = visible(call, guid)
    if not call.access.in_space(Right.MANAGE_SPACE, space):
        raise not_authorized()
    manages = call.access.in_organization(Right.MANAGE_ORGANIZATION, space.organization_id)
    if body.suspended is not None and body.suspended != space.suspended:
        if not manages:
            raise not_authorized()
        space.suspended = body.suspended
    call.refuse_suspended(space.organization, None if manages else space, space.guid)
    with call.refusing("uq_spaces_organization_id_name", unprocessable("Name must be unique per organization")):
        space.name = body.name if body.name is not None else space.name
    metadata.merge(space, body.metadata)
    call.session.flush()
    _recorded(call, "update", space, body)
    return present(space, call)


@api.delete("/v3/spaces/{guid}", 202)
def delete_space(call: Call, guid: str) -> Reply:
    """Delete a space with all that is in it; a job."""
    space = visible(call, guid)
    call.require_in_organization(Right.MANAGE_ORGANIZATION, space.organization, space)
    call.record("audit.space.delete-request", _target(space), space=space)
    return call.begin("space.delete", ("space", space.guid))


def delete_all(session: Session, job: Job) -> None:
    """The job behind it. What is gone already is no error."""
    session.execute(delete(Space).where(Space.guid == job.resource_guid))
    route_changes.note(session, route_changes.ANY)


JOBS = {"space.delete": delete_all}


def _included(spaces: Sequence[Space], call: Call) -> dict[str, Any]:
    if not {"organization", "org"} & call.includes:
        return {}
    owners = {space.organization.guid: space.organization for space in spaces}
    return {"organizations": [organizations.present(owner, call) for owner in owners.values()]}


def _target(space: Space) -> tuple[str, str, str]:
    return space.guid, "space", space.name


def _recorded(call: Call, what: str, space: Space, body: Body) -> None:
    data = {"request": body.model_dump(exclude_unset=True)}
    call.record(f"audit.space.{what}", _target(space), space=space, data=data)
