"""Which isolation segment the apps of a space run in: the space's own, or the default of its organization."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from controller.access import Right
from controller.database.tenancy import IsolationSegment, IsolationSegmentEntitlement, Organization, Space
from controller.v3 import organizations, spaces
from controller.v3.api import Api
from controller.v3.bodies import ToOneOrNone
from controller.v3.call import Call
from controller.v3.errors import unprocessable
from controller.v3.presenting import to_one

api = Api("Isolation segments")


@api.get("/v3/organizations/{guid}/relationships/default_isolation_segment")
def get_default(call: Call, guid: str) -> dict[str, Any]:
    """The default isolation segment of an organization."""
    organization = organizations.visible(call, guid)
    path = f"/v3/organizations/{guid}/relationships/default_isolation_segment"
    return _shown(call, path, organization.default_isolation_segment_id)


@api.patch("/v3/organizations/{guid}/relationships/default_isolation_segment")
def set_default(call: Call, guid: str, body: ToOneOrNone) -> dict[str, Any]:
    """Give an organization a default isolation segment, or none."""
    organization = organizations.manageable(call, guid)
    segment = _entitled(call, organization, body, "")
    organization.default_isolation_segment_id = segment
    call.session.flush()
    return _shown(call, f"/v3/organizations/{guid}/relationships/default_isolation_segment", segment)


@api.get("/v3/spaces/{guid}/relationships/isolation_segment")
def get_of_space(call: Call, guid: str) -> dict[str, Any]:
    """The isolation segment of a space."""
    space = spaces.visible(call, guid)
    return _shown(call, f"/v3/spaces/{guid}/relationships/isolation_segment", space.isolation_segment_id)


@api.patch("/v3/spaces/{guid}/relationships/isolation_segment")
def set_of_space(call: Call, guid: str, body: ToOneOrNone) -> dict[str, Any]:
    """Put a space into an isolation segment, or into that of its organization. Apps move when they restart."""
    space = spaces.visible(call, guid)
    call.require_in_organization(Right.MANAGE_ORGANIZATION, space.organization, space)
    segment = _entitled(call, space.organization, body, " that this space belongs to")
    space.isolation_segment_id = segment
    call.session.flush()
    _recorded(call, space, body)
    return _shown(call, f"/v3/spaces/{guid}/relationships/isolation_segment", segment)


def _entitled(call: Call, organization: Organization, body: ToOneOrNone, which: str) -> int | None:
    """The key of the segment that a body names. Raises ApiError: the organization may not use it.

    The organization's row is locked: nobody revokes the entitlement meanwhile.
    """
    if body.data is None:
        return None
    call.session.execute(select(Organization.id).where(Organization.id == organization.id).with_for_update())
    statement = (
        select(IsolationSegment.id)
        .join(IsolationSegmentEntitlement, IsolationSegmentEntitlement.isolation_segment_id == IsolationSegment.id)
        .where(IsolationSegment.guid == body.data.guid, IsolationSegmentEntitlement.organization_id == organization.id)
    )
    segment = call.session.scalars(statement).one_or_none()
    if segment is None:
        raise unprocessable(
            f"Unable to assign isolation segment with guid '{body.data.guid}'. "
            f"Ensure it has been entitled to the organization{which}."
        )
    return segment


def _shown(call: Call, path: str, key: int | None) -> dict[str, Any]:
    links = {"self": call.link(path)}
    guid = None
    if key is not None:
        guid = call.session.scalars(select(IsolationSegment.guid).where(IsolationSegment.id == key)).one()
        links["related"] = call.link(f"/v3/isolation_segments/{guid}")
    return {**to_one(guid), "links": links}


def _recorded(call: Call, space: Space, body: ToOneOrNone) -> None:
    data = {"request": body.model_dump(exclude_unset=True)}
    call.record("audit.space.update", (space.guid, "space", space.name), space=space, data=data)
