"""Who may do what: the role matrix of cloud_controller reference 4, in one place.

A right is a set of roles. Organization roles count in the organization and all its spaces, space roles in their space.
`Access` answers for one caller: about one organization or space from the caller's roles, which are read once, and for
lists as a condition that the database decides.
"""

from __future__ import annotations

from enum import Enum
from functools import cached_property
from typing import Final

from sqlalchemy import ColumnElement, or_, select, true
from sqlalchemy.orm import InstrumentedAttribute, Session

from controller.caller import Caller
from controller.database.tenancy import ORGANIZATION_ROLES, Organization, Role, Space, User

_ORG_USER, _ORG_AUDITOR, _ORG_MANAGER, _ORG_BILLING = ORGANIZATION_ROLES
_DEVELOPER: Final = "space_developer"
_MANAGER: Final = "space_manager"
_AUDITOR: Final = "space_auditor"
_SUPPORTER: Final = "space_supporter"


class Right(Enum):
    """Each with the roles that give it, and whether read-only admins (``read``) and auditors (``see``) have it too."""

    SEE_ORGANIZATION = (frozenset(ORGANIZATION_ROLES), "see")
    READ_SPACE = (frozenset((_ORG_MANAGER, _DEVELOPER, _MANAGER, _AUDITOR, _SUPPORTER)), "see")
    """The space, its apps, packages, builds, droplets, processes, stats, tasks, deployments."""
    READ_ROUTES = (frozenset((_ORG_MANAGER, _ORG_AUDITOR, _DEVELOPER, _MANAGER, _AUDITOR, _SUPPORTER)), "see")
    """And private domains."""
    READ_ENVIRONMENT = (frozenset((_DEVELOPER, _SUPPORTER)), "read")
    READ_SECRETS = (frozenset((_DEVELOPER,)), "read")
    """Credentials, package bits, commands, the environment of revisions."""
    DOWNLOAD_DROPLETS = (frozenset((_ORG_MANAGER, _DEVELOPER, _MANAGER, _AUDITOR)), "see")
    READ_EVENTS = (frozenset((_ORG_AUDITOR, _DEVELOPER, _AUDITOR, _SUPPORTER)), "see")
    DEVELOP = (frozenset((_DEVELOPER,)), "write")
    """Make, change and delete apps, packages, droplets, tasks, service instances; apply manifests."""
    OPERATE = (frozenset((_DEVELOPER, _SUPPORTER)), "write")
    """Start, stop, scale, build, deploy; routes and destinations; app bindings; environment variables."""
    MANAGE_SPACE = (frozenset((_ORG_MANAGER, _MANAGER)), "write")
    MANAGE_ORGANIZATION = (frozenset((_ORG_MANAGER,)), "write")

    @property
    def roles(self) -> frozenset[str]:
        return self.value[0]

    @property
    def organization_roles(self) -> frozenset[str]:
        return frozenset(role for role in self.roles if role in ORGANIZATION_ROLES)

    @property
    def space_roles(self) -> frozenset[str]:
        return self.roles - self.organization_roles

    def has_globally(self, caller: Caller) -> bool:
        """Whether the token alone gives it, everywhere."""
        match self.value[1]:
            case "see":
                return caller.reads_everything
            case "read":
                return caller.reads_secrets
        return caller.is_admin


class Access:
    """What one caller may do, within one transaction."""

    def __init__(self, session: Session, caller: Caller) -> None:
        self._session = session
        self.caller = caller

    @cached_property
    def _roles(self) -> frozenset[tuple[str, int | None, int | None]]:
        statement = (
            select(Role.type, Role.organization_id, Role.space_id).join(User).where(User.guid == self.caller.guid)
        )
        return frozenset((row[0], row[1], row[2]) for row in self._session.execute(statement))

    def in_organization(self, right: Right, organization_id: int) -> bool:
        return right.has_globally(self.caller) or any(
            (role, organization_id, None) in self._roles for role in right.organization_roles
        )

    def in_space(self, right: Right, space: Space) -> bool:
        return self.in_organization(right, space.organization_id) or any(
            (role, None, space.id) in self._roles for role in right.space_roles
        )

    def sees_organization(self, organization: Organization) -> bool:
        return self.in_organization(Right.SEE_ORGANIZATION, organization.id)

    # For lists ----------------------------------------------------------------------------------------------------

    def organizations(
        self, right: Right, column: InstrumentedAttribute[int] | InstrumentedAttribute[int | None] = Organization.id
    ) -> ColumnElement[bool]:
        """That ``column`` holds an organization in which the caller has the right."""
        if right.has_globally(self.caller):
            return true()
        return column.in_(self._held(Role.organization_id, right.organization_roles))

    def spaces(
        self, right: Right, column: InstrumentedAttribute[int] | InstrumentedAttribute[int | None] = Space.id
    ) -> ColumnElement[bool]:
        """That ``column`` holds a space in which the caller has the right."""
        if right.has_globally(self.caller):
            return true()
        direct = column.in_(self._held(Role.space_id, right.space_roles))
        if not right.organization_roles:
            return direct
        held = self._held(Role.organization_id, right.organization_roles)
        return or_(direct, column.in_(select(Space.id).where(Space.organization_id.in_(held))))

    def _held(self, place: InstrumentedAttribute[int | None], roles: frozenset[str]):  # type: ignore[no-untyped-def]
        return select(place).join(User).where(User.guid == self.caller.guid, Role.type.in_(roles), place.is_not(None))
