"""Users (reference 3.1): whom the identity provider knows and somebody here has met."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field
from sqlalchemy import ColumnElement, delete, or_, select, true
from sqlalchemy.orm import Session, aliased

from controller.database.bookkeeping import Job
from controller.database.identity import Account
from controller.database.tenancy import Organization, Role, Space, User
from controller.v3 import metadata
from controller.v3.api import Api
from controller.v3.bodies import Body, Text
from controller.v3.call import Call, Reply
from controller.v3.errors import unprocessable
from controller.v3.listing import Listing, among
from controller.v3.metadata import MetadataBody
from controller.v3.people import account, known
from controller.v3.presenting import common

api = Api("Users")


def _partly(values: list[str]) -> ColumnElement[bool]:
    return or_(*(User.username.icontains(value, autoescape=True) for value in values))


LISTING = Listing(
    User,
    {
        "usernames": among(User.username),
        "partial_usernames": _partly,
        "origins": among(User.origin),
    },
)


class Create(Body):
    guid: Annotated[Text | None, Field(min_length=1, max_length=200)] = None
    username: Text | None = None
    origin: Text | None = None
    metadata: MetadataBody | None = None


class Update(Body):
    metadata: MetadataBody | None = None


def present(user: User, call: Call) -> dict[str, Any]:
    return {
        **common(user),
        "username": user.username,
        "presentation_name": user.username or user.guid,
        "origin": user.origin,
        "metadata": metadata.shown(user),
        "links": {"self": call.link(f"/v3/users/{user.guid}")},
    }


def visible(call: Call) -> ColumnElement[bool]:
    """Admins see all; others themselves, and whoever shares an organization with them."""
    if call.caller.reads_everything:
        return true()
    mine, of_space = aliased(Role), aliased(Space)
    shared = (
        select(Organization.id)
        .join(mine, mine.organization_id == Organization.id)
        .join(User, mine.user_id == User.id)
        .where(User.guid == call.caller.guid)
    )
    there = (
        select(Role.user_id)
        .outerjoin(of_space, Role.space_id == of_space.id)
        .where(or_(Role.organization_id.in_(shared), of_space.organization_id.in_(shared)))
    )
    return or_(User.guid == call.caller.guid, User.id.in_(there))


@api.get("/v3/users", listing=LISTING)
def list_users(call: Call) -> dict[str, Any]:
    """List users."""
    return LISTING.page(call, lambda row: present(row, call), visible(call))


@api.get("/v3/users/{guid}")
def get_user(call: Call, guid: str) -> dict[str, Any]:
    """Get a user."""
    return present(call.find(User, guid, visible(call), called="User"), call)


@api.post("/v3/users")
def create_user(call: Call, body: Create) -> dict[str, Any]:
    """Make a user known, by guid or by name and origin."""
    call.require_admin()
    if (body.guid is None) == (body.username is None):
        raise unprocessable("Either 'guid' or 'username' and 'origin' must be given")
    if body.guid is None:
        if body.origin is None:
            raise unprocessable("Origin can only be blank when 'guid' is given")
        found = account(call, body.username or "", body.origin)
        guid = found.guid
        username: str | None = found.username
        origin: str | None = found.origin
    else:
        guid = body.guid
        row = call.session.scalars(select(Account).where(Account.guid == guid)).one_or_none()
        username = row.username if row is not None else None
        origin = row.origin if row is not None else None
    if call.session.scalars(select(User.id).where(User.guid == guid)).first() is not None:
        raise unprocessable(f"User with guid '{guid}' already exists.")
    user = known(call, guid, username, origin)
    metadata.merge(user, body.metadata)
    call.session.flush()
    return present(user, call)


@api.patch("/v3/users/{guid}")
def update_user(call: Call, guid: str, body: Update) -> dict[str, Any]:
    """Change a user's metadata."""
    user = call.find(User, guid, visible(call), called="User")
    call.require_admin()
    metadata.merge(user, body.metadata)
    call.session.flush()
    return present(user, call)


@api.delete("/v3/users/{guid}", 202)
def delete_user(call: Call, guid: str) -> Reply:
    """Forget a user and all roles of theirs; a job. The identity provider's account stays."""
    user = call.find(User, guid, visible(call), called="User")
    call.require_admin()
    return call.begin("user.delete", ("user", user.guid))


def delete_one(session: Session, job: Job) -> None:
    """The job behind it."""
    session.execute(delete(User).where(User.guid == job.resource_guid))


JOBS = {"user.delete": delete_one}
