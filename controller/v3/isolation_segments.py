"""Isolation segments (reference 1.7, 3.6): machines apart from the others, for organizations entitled to them."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import ColumnElement, delete, or_, select, true

from controller.access import Right
from controller.database.tenancy import IsolationSegment, IsolationSegmentEntitlement, Organization, Space
from controller.v3 import metadata, named, organizations
from controller.v3.api import Api
from controller.v3.bodies import Body, Name, ToMany
from controller.v3.call import Call, Reply
from controller.v3.errors import ApiError, not_found, unprocessable
from controller.v3.listing import Listing, ignoring_case
from controller.v3.metadata import MetadataBody
from controller.v3.presenting import common, to_many

api = Api("Isolation segments")
SHARED_SEGMENT: Final = "933b4c58-120b-499a-b85d-4b6fc9e2903b"
"""Guid of the one that is always there: the machines of everybody."""


def _entitling(guids: list[str]) -> ColumnElement[bool]:
    return IsolationSegment.id.in_(
        select(IsolationSegmentEntitlement.isolation_segment_id)
        .join(Organization, IsolationSegmentEntitlement.organization_id == Organization.id)
        .where(Organization.guid.in_(guids))
    )


LISTING = Listing(
    IsolationSegment,
    {"names": ignoring_case(IsolationSegment.name), "organization_guids": _entitling},
    orders=("name",),
)


class Create(Body):
    name: Name
    metadata: MetadataBody | None = None


class Update(Body):
    name: Name | None = None
    metadata: MetadataBody | None = None


def present(segment: IsolationSegment, call: Call) -> dict[str, Any]:
    path = f"/v3/isolation_segments/{segment.guid}"
    return {
        **common(segment),
        "name": segment.name,
        "metadata": metadata.shown(segment),
        "links": {"self": call.link(path), "organizations": call.link(f"{path}/organizations")},
    }


def visible(call: Call) -> ColumnElement[bool]:
    """Who sees an organization that is entitled to it, or a space that is in it."""
    if call.caller.reads_everything:
        return true()
    entitled = select(IsolationSegmentEntitlement.isolation_segment_id).where(
        call.access.organizations(Right.SEE_ORGANIZATION, IsolationSegmentEntitlement.organization_id)
    )
    here = select(Space.isolation_segment_id).where(
        call.access.spaces(Right.READ_SPACE), Space.isolation_segment_id.is_not(None)
    )
    return or_(IsolationSegment.id.in_(entitled), IsolationSegment.id.in_(here))


@api.get("/v3/isolation_segments", listing=LISTING)
def list_segments(call: Call) -> dict[str, Any]:
    """List isolation segments."""
    return LISTING.page(call, lambda row: present(row, call), visible(call))


@api.get("/v3/isolation_segments/{guid}")
def get_segment(call: Call, guid: str) -> dict[str, Any]:
    """Get an isolation segment."""
    return present(_find(call, guid), call)


@api.post("/v3/isolation_segments")
def create_segment(call: Call, body: Create) -> dict[str, Any]:
    """Create an isolation segment."""
    call.require_admin()
    segment = IsolationSegment(name=body.name, labels={}, annotations={})
    metadata.merge(segment, body.metadata)
    with call.refusing("uq_isolation_segments_name", _taken()):
        call.session.add(segment)
    return present(segment, call)


@api.patch("/v3/isolation_segments/{guid}")
def update_segment(call: Call, guid: str, body: Update) -> dict[str, Any]:
    """Change an isolation segment."""
    segment = _find(call, guid)
    call.require_admin()
    if body.name is not None and segment.guid == SHARED_SEGMENT:
        raise unprocessable(f"Cannot update the {segment.name} Isolation Segment")
    metadata.merge(segment, body.metadata)
    with call.refusing("uq_isolation_segments_name", _taken()):
        segment.name = body.name or segment.name
    return present(segment, call)


@api.delete("/v3/isolation_segments/{guid}")
def delete_segment(call: Call, guid: str) -> Reply:
    """Delete an isolation segment to which no organization is entitled."""
    call.require_admin()
    segment = locked(call, guid)
    if segment.guid == SHARED_SEGMENT:
        raise unprocessable(f"Cannot delete the {segment.name} Isolation Segment")
    if call.session.scalars(_entitlements(segment).limit(1)).first() is not None:
        raise unprocessable("Revoke the Organization entitlements for your Isolation Segment.")
    call.session.delete(segment)
    return Reply(204)


@api.get("/v3/isolation_segments/{guid}/organizations", listing=organizations.LISTING)
def list_organizations(call: Call, guid: str) -> dict[str, Any]:
    """List the organizations that are entitled to an isolation segment."""
    segment = _find(call, guid)
    return organizations.LISTING.page(
        call,
        lambda row: organizations.present(row, call),
        call.access.organizations(Right.SEE_ORGANIZATION),
        Organization.id.in_(_entitlements(segment)),
    )


@api.get("/v3/isolation_segments/{guid}/relationships/organizations")
def get_organizations(call: Call, guid: str) -> dict[str, Any]:
    """Which organizations are entitled to an isolation segment."""
    return _entitled(call, _find(call, guid))


@api.get("/v3/isolation_segments/{guid}/relationships/spaces")
def get_spaces(call: Call, guid: str) -> dict[str, Any]:
    """Which spaces are in an isolation segment."""
    segment = _find(call, guid)
    statement = (
        select(Space.guid)
        .where(Space.isolation_segment_id == segment.id, call.access.spaces(Right.READ_SPACE))
        .order_by(Space.id)
    )
    path = f"/v3/isolation_segments/{segment.guid}/relationships/spaces"
    return {**to_many(list(call.session.scalars(statement))), "links": {"self": call.link(path)}}


@api.post("/v3/isolation_segments/{guid}/relationships/organizations", 200)
def entitle(call: Call, guid: str, body: ToMany) -> dict[str, Any]:
    """Entitle organizations to an isolation segment."""
    call.require_admin()
    segment = locked(call, guid)
    statement = select(Organization.id, Organization.guid).where(Organization.guid.in_(body.guids))
    found = {guid: key for key, guid in call.session.execute(statement)}
    missing = set(body.guids) - found.keys()
    if missing:
        raise unprocessable(
            f"Unable to entitle organizations {named.listed(missing)} for isolation segment. "
            "Ensure the organizations exist and that you have access to them."
        )
    new = set(found.values()) - set(call.session.scalars(_entitlements(segment)))
    call.session.add_all(
        [
            IsolationSegmentEntitlement(isolation_segment_id=segment.id, organization_id=organization)
            for organization in sorted(new)
        ]
    )
    call.session.flush()
    return _entitled(call, segment)


@api.delete("/v3/isolation_segments/{guid}/relationships/organizations/{organization_guid}")
def revoke(call: Call, guid: str, organization_guid: str) -> Reply:
    """End that, where neither the organization nor a space of it uses the segment."""
    call.require_admin()
    segment = locked(call, guid)
    organization = call.session.scalars(
        select(Organization).where(Organization.guid == organization_guid).with_for_update(of=Organization)
    ).one_or_none()
    if organization is None:
        raise not_found("Organization")
    if organization.default_isolation_segment_id == segment.id:
        raise unprocessable(
            "Cannot remove the entitlement while this Isolation Segment is assigned as the Default Isolation Segment "
            "for the Organization."
        )
    inside = select(Space.name).where(
        Space.organization_id == organization.id, Space.isolation_segment_id == segment.id
    )
    names = call.session.scalars(inside.order_by(Space.id)).all()
    if names:
        raise unprocessable(
            "Cannot remove the entitlement while this Isolation Segment is assigned to any Spaces. "
            f"Currently assigned to: [{', '.join(repr(name) for name in names)}]"
        )
    call.session.execute(
        delete(IsolationSegmentEntitlement).where(
            IsolationSegmentEntitlement.isolation_segment_id == segment.id,
            IsolationSegmentEntitlement.organization_id == organization.id,
        )
    )
    return Reply(204)


def locked(call: Call, guid: str) -> IsolationSegment:
    """Nobody else changes who is entitled until this transaction ends. Raises ApiError (ResourceNotFound)."""
    statement = select(IsolationSegment).where(IsolationSegment.guid == guid).with_for_update()
    segment = call.session.scalars(statement).one_or_none()
    if segment is None:
        raise not_found("Isolation segment")
    return segment


def _find(call: Call, guid: str) -> IsolationSegment:
    return call.find(IsolationSegment, guid, visible(call), called="Isolation segment")


def _entitlements(segment: IsolationSegment) -> Any:
    """Ids of the organizations that are entitled."""
    return select(IsolationSegmentEntitlement.organization_id).where(
        IsolationSegmentEntitlement.isolation_segment_id == segment.id
    )


def _entitled(call: Call, segment: IsolationSegment) -> dict[str, Any]:
    statement = (
        select(Organization.guid)
        .where(Organization.id.in_(_entitlements(segment)), call.access.organizations(Right.SEE_ORGANIZATION))
        .order_by(Organization.id)
    )
    path = f"/v3/isolation_segments/{segment.guid}"
    links = {
        "self": call.link(f"{path}/relationships/organizations"),
        "related": call.link(f"{path}/organizations"),
    }
    return {**to_many(list(call.session.scalars(statement))), "links": links}


def _taken() -> ApiError:
    return unprocessable("Isolation Segment names are case insensitive and must be unique")
