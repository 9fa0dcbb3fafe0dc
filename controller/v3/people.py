"""Users as rows: whoever is seen with a token, or named in a role, has one."""

from __future__ import annotations

from sqlalchemy import select

from controller.database.tenancy import Organization, Role, User
from controller.v3.call import Call


def known(call: Call, guid: str, username: str | None, origin: str | None, *, is_client: bool = False) -> User:
    """The user's row, made on first sight."""
    user = call.session.scalars(select(User).where(User.guid == guid)).one_or_none()
    if user is None:
        user = User(guid=guid, username=username, origin=origin, is_client=is_client, labels={}, annotations={})
        call.session.add(user)
        call.session.flush()
    return user


def join_as_creator(call: Call, organization: Organization) -> None:
    """Who makes an organization is its user and its manager."""
    caller = call.caller
    user = known(call, caller.guid, caller.name, caller.origin, is_client=caller.is_client)
    for kind in ("organization_user", "organization_manager"):
        call.session.add(Role(type=kind, user=user, organization=organization))
    call.session.flush()
