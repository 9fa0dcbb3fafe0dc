"""Roles (reference 3.1, 4): rights of users in organizations and spaces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

from sqlalchemy import ColumnElement, delete, or_, select
from sqlalchemy.orm import Session, aliased, selectinload

from controller.access import Right
from controller.database.bookkeeping import Job
from controller.database.tenancy import ORGANIZATION_ROLES, Organization, Role, Space, User
from controller.v3 import organizations, spaces, users
from controller.v3.api import Api
from controller.v3.bodies import Body, Text, ToOne
from controller.v3.call import Call, Reply
from controller.v3.errors import unprocessable
from controller.v3.listing import Listing, among
from controller.v3.people import account, known
from controller.v3.presenting import common, to_one, with_included

api = Api("Roles")
INCLUDES: Final = ("user", "space", "organization")

_of_space = aliased(Space)
_of_organization = aliased(Organization)
LISTING = Listing(
    Role,
    {
        "types": among(Role.type),
        "user_guids": among(User.guid),
        "organization_guids": among(_of_organization.guid),
        "space_guids": among(_of_space.guid),
    },
    includes=INCLUDES,
)

Kind = Literal[
    "organization_user",
    "organization_auditor",
    "organization_manager",
    "organization_billing_manager",
    "space_developer",
    "space_auditor",
    "space_manager",
    "space_supporter",
]


class UserNamed(Body):
    guid: Text | None = None
    username: Text | None = None
    origin: Text | None = None


class UserRelation(Body):
    data: UserNamed


class Relationships(Body):
    user: UserRelation
    organization: ToOne | None = None
    space: ToOne | None = None


class Create(Body):
    type: Kind
    relationships: Relationships


def present(role: Role, call: Call) -> dict[str, Any]:
    organization = role.organization.guid if role.organization is not None else None
    space = role.space.guid if role.space is not None else None
    links = {
        "self": call.link(f"/v3/roles/{role.guid}"),
        "user": call.link(f"/v3/users/{role.user.guid}"),
    }
    if organization is not None:
        links["organization"] = call.link(f"/v3/organizations/{organization}")
    if space is not None:
        links["space"] = call.link(f"/v3/spaces/{space}")
    return {
        **common(role),
        "type": role.type,
        "relationships": {
            "user": to_one(role.user.guid),
            "organization": to_one(organization),
            "space": to_one(space),
        },
        "links": links,
    }


def _visible(call: Call) -> ColumnElement[bool]:
    access = call.access
    return or_(
        access.organizations(Right.SEE_ORGANIZATION, Role.organization_id),
        access.spaces(Right.READ_SPACE, Role.space_id),
    )


@api.get("/v3/roles", listing=LISTING)
def list_roles(call: Call) -> dict[str, Any]:
    """List roles."""
    statement = (
        select(Role)
        .join(Role.user)
        .outerjoin(_of_space, Role.space_id == _of_space.id)
        .outerjoin(_of_organization, Role.organization_id == _of_organization.id)
        .options(selectinload(Role.organization), selectinload(Role.space))
    )
    return LISTING.page(
        call,
        lambda row: present(row, call),
        _visible(call),
        statement=statement,
        included=lambda rows: _included(rows, call),
    )


@api.get("/v3/roles/{guid}", includes=INCLUDES)
def get_role(call: Call, guid: str) -> dict[str, Any]:
    """Get a role."""
    role = call.find(Role, guid, _visible(call), called="Role")
    return with_included(present(role, call), _included([role], call))


@api.post("/v3/roles")
def create_role(call: Call, body: Create) -> dict[str, Any]:
    """Give a role."""
    in_organization = body.type in ORGANIZATION_ROLES
    place = _organization(call, body) if in_organization else _space(call, body)
    user = _user(call, body.relationships.user.data)
    owner = place if isinstance(place, Organization) else place.organization
    if isinstance(place, Space) and not _belongs(call, user, owner):
        raise unprocessable(
            "Users cannot be assigned roles in a space if they do not have a role in that space's organization."
        )
    role = Role(type=body.type, user=user)
    if isinstance(place, Organization):
        role.organization = place
    else:
        role.space = place
    where = f"organization '{place.name}'" if in_organization else f"space '{place.name}'"
    taken = unprocessable(f"User '{user.username or user.guid}' already has '{body.type}' role in {where}.")
    column = "organization_id" if in_organization else "space_id"
    with call.refusing(f"uq_roles_user_id_type_{column}", taken):
        call.session.add(role)
    _recorded(call, "add", role)
    return present(role, call)


@api.delete("/v3/roles/{guid}", 202)
def delete_role(call: Call, guid: str) -> Reply:
    """Take a role away; a job."""
    role = call.find(Role, guid, _visible(call), called="Role")
    if role.organization is not None:
        call.require_in_organization(Right.MANAGE_ORGANIZATION, role.organization)
        if role.type == "organization_user" and _has_space_roles(call, role.user, role.organization):
            raise unprocessable(
                "Cannot delete organization_user role while user has roles in spaces in that organization."
            )
    elif role.space is not None:
        call.require_in_space(Right.MANAGE_SPACE, role.space)
    _recorded(call, "remove", role)
    return call.begin("role.delete", ("role", role.guid))


def delete_one(session: Session, job: Job) -> None:
    """The job behind it."""
    session.execute(delete(Role).where(Role.guid == job.resource_guid))


JOBS = {"role.delete": delete_one}


def _organization(call: Call, body: Create) -> Organization:
    relation = body.relationships.organization
    if relation is None or body.relationships.space is not None:
        raise unprocessable(f"Role '{body.type}' must be associated with an organization, and not with a space")
    seen = call.access.organizations(Right.SEE_ORGANIZATION)
    refusal = unprocessable("Invalid organization. Ensure that the organization exists and you have access to it.")
    organization = call.related(Organization, relation.data.guid, seen, refusal=refusal)
    call.require_in_organization(Right.MANAGE_ORGANIZATION, organization)
    return organization


def _space(call: Call, body: Create) -> Space:
    relation = body.relationships.space
    if relation is None or body.relationships.organization is not None:
        raise unprocessable(f"Role '{body.type}' must be associated with a space, and not with an organization")
    space = spaces.related(call, relation.data.guid)
    call.require_in_space(Right.MANAGE_SPACE, space)
    return space


def _user(call: Call, named: UserNamed) -> User:
    """Raises ApiError: nobody of that name, or not for the caller to name."""
    if named.guid is None:
        if named.username is None:
            raise unprocessable("Relationships user data must have a guid or a username")
        call.require_flag("set_roles_by_username")
        found = account(call, named.username, named.origin)
        return known(call, found.guid, found.username, found.origin)
    user = call.session.scalars(select(User).where(User.guid == named.guid)).one_or_none()
    if user is not None:
        return user
    if not call.caller.is_admin:
        raise unprocessable("Invalid user. Ensure that the user exists and you have access to it.")
    return known(call, named.guid, None, None)


def _belongs(call: Call, user: User, organization: Organization) -> bool:
    statement = select(Role.id).where(Role.user_id == user.id, Role.organization_id == organization.id)
    return call.session.scalars(statement).first() is not None


def _has_space_roles(call: Call, user: User, organization: Organization) -> bool:
    statement = (
        select(Role.id).join(Role.space).where(Role.user_id == user.id, Space.organization_id == organization.id)
    )
    return call.session.scalars(statement).first() is not None


def _included(roles: Sequence[Role], call: Call) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if "user" in call.includes:
        found["users"] = [users.present(user, call) for user in {role.user.id: role.user for role in roles}.values()]
    if "space" in call.includes:
        found["spaces"] = spaces.presented((role.space for role in roles if role.space is not None), call)
    if "organization" in call.includes:
        owners = {role.organization.id: role.organization for role in roles if role.organization is not None}
        found["organizations"] = [organizations.present(owner, call) for owner in owners.values()]
    return found


def _recorded(call: Call, what: str, role: Role) -> None:
    target = (role.user.guid, "user", role.user.username or role.user.guid)
    kind = f"audit.user.{role.type}_{what}"
    call.record(kind, target, space=role.space, organization=role.organization)
