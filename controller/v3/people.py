"""Users as rows: whoever is seen with a token, or named in a role, has one."""

from __future__ import annotations

from sqlalchemy import select

from controller.database.identity import Account
from controller.database.tenancy import Organization, Role, User
from controller.v3.call import Call
from controller.v3.errors import unprocessable


def known(call: Call, guid: str, username: str | None, origin: str | None, *, is_client: bool = False) -> User:
    """The user's row, made on first sight."""
    user = call.session.scalars(select(User).where(User.guid == guid)).one_or_none()
    if user is None:
        user = User(guid=guid, username=username, origin=origin, is_client=is_client, labels={}, annotations={})
        call.session.add(user)
        call.session.flush()
    return user


def account(call: Call, username: str, origin: str | None) -> Account:
    """Whom a name means. Raises ApiError: nobody, or several without an origin to tell them apart."""
    statement = select(Account).where(Account.username == username.lower())
    if origin is not None:
        statement = statement.where(Account.origin == origin)
    found = call.session.scalars(statement).all()
    if not found:
        where = f" with origin '{origin}'" if origin is not None else ""
        raise unprocessable(f"No user exists with the username '{username}'{where}.")
    if len(found) > 1:
        origins = ", ".join(f"'{one.origin}'" for one in found)
        raise unprocessable(
            f"Ambiguous user. User with username '{username}' exists in the following origins: {origins}. "
            "Specify an origin to disambiguate."
        )
    return found[0]


def join_as_creator(call: Call, organization: Organization) -> None:
    """Who makes an organization is its user and its manager."""
    caller = call.caller
    user = known(call, caller.guid, caller.name, caller.origin, is_client=caller.is_client)
    for kind in ("organization_user", "organization_manager"):
        call.session.add(Role(type=kind, user=user, organization=organization))
    call.session.flush()
