"""Who has a role in an organization, or in a space."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from controller.database.tenancy import Role, User
from controller.v3 import organizations, spaces, users
from controller.v3.api import Api
from controller.v3.call import Call

api = Api("Members")


@api.get("/v3/organizations/{guid}/users", listing=users.LISTING)
def list_of_organization(call: Call, guid: str) -> dict[str, Any]:
    """List the users that have a role in an organization."""
    organization = organizations.visible(call, guid)
    here = User.id.in_(select(Role.user_id).where(Role.organization_id == organization.id))
    return users.LISTING.page(call, lambda row: users.present(row, call), here)


@api.get("/v3/spaces/{guid}/users", listing=users.LISTING)
def list_of_space(call: Call, guid: str) -> dict[str, Any]:
    """List the users that have a role in a space."""
    space = spaces.visible(call, guid)
    here = User.id.in_(select(Role.user_id).where(Role.space_id == space.id))
    return users.LISTING.page(call, lambda row: users.present(row, call), here)
