"""Audit events (reference 3.6): who did what to what. They outlive their targets, and are never changed."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import ColumnElement, or_, select, true

from controller.access import Right
from controller.database.bookkeeping import AuditEvent
from controller.database.tenancy import Organization, Space
from controller.v3.api import Api
from controller.v3.call import Call
from controller.v3.listing import Listing, among
from controller.v3.presenting import common

api = Api("Audit events")
LISTING: Final = Listing(
    AuditEvent,
    {
        "types": among(AuditEvent.type),
        "target_guids": among(AuditEvent.target_guid),
        "target_guids[not]": AuditEvent.target_guid.not_in,
        "space_guids": among(AuditEvent.space_guid),
        "organization_guids": among(AuditEvent.organization_guid),
    },
)


def present(event: AuditEvent, call: Call) -> dict[str, Any]:
    return {
        **common(event),
        "type": event.type,
        "actor": {"guid": event.actor_guid, "type": event.actor_type, "name": event.actor_name},
        "target": {"guid": event.target_guid, "type": event.target_type, "name": event.target_name},
        "data": event.data,
        "space": _place(event.space_guid),
        "organization": _place(event.organization_guid),
        "links": {"self": call.link(f"/v3/audit_events/{event.guid}")},
    }


def visible(call: Call) -> ColumnElement[bool]:
    """Events of no organization, and of those that are gone, are for who reads everything."""
    if Right.READ_EVENTS.has_globally(call.caller):
        return true()
    spaces = select(Space.guid).where(call.access.spaces(Right.READ_EVENTS))
    organizations = select(Organization.guid).where(call.access.organizations(Right.READ_EVENTS))
    return or_(AuditEvent.space_guid.in_(spaces), AuditEvent.organization_guid.in_(organizations))


@api.get("/v3/audit_events", listing=LISTING)
def list_events(call: Call) -> dict[str, Any]:
    """List audit events."""
    return LISTING.page(call, lambda row: present(row, call), visible(call))


@api.get("/v3/audit_events/{guid}")
def get_event(call: Call, guid: str) -> dict[str, Any]:
    """Get an audit event."""
    return present(call.find(AuditEvent, guid, visible(call), called="Event"), call)


def _place(guid: str | None) -> dict[str, str] | None:
    return None if guid is None else {"guid": guid}
