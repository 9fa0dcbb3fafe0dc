"""One request to the V3 API, as its endpoint sees it: who calls, what for, the transaction, what follows from it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from controller import route_changes
from controller.access import Access, Right
from controller.caller import Caller
from controller.database.base import Resource, now
from controller.database.bookkeeping import AuditEvent, Job
from controller.database.tenancy import Organization, Space
from controller.settings import Settings
from controller.v3 import flags
from controller.v3.conflicts import broke
from controller.v3.errors import ApiError, not_authorized, not_found

Kind = TypeVar("Kind", bound=Resource)


@dataclass(slots=True, frozen=True)
class Reply:
    """A response that is not just a body with the endpoint's own status."""

    status: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Call:
    method: str
    path: str
    query: Mapping[str, str]
    settings: Settings
    session: Session
    caller: Caller
    headers: Mapping[str, str]
    warnings: list[str] = field(default_factory=list)
    """Told to the client in X-Cf-Warnings."""
    routes_changed: bool = False
    """Whether ``route_changed`` was called."""
    jobs: list[str] = field(default_factory=list)
    """Guids of jobs that this transaction made; they begin once it is committed."""

    @cached_property
    def access(self) -> Access:
        return Access(self.session, self.caller)

    def url(self, path: str) -> str:
        """As clients reach it."""
        return self.settings.external_url.rstrip("/") + path

    def link(self, path: str, method: str | None = None) -> dict[str, str]:
        return {"href": self.url(path), "method": method} if method else {"href": self.url(path)}

    @cached_property
    def includes(self) -> frozenset[str]:
        """What the parameter ``include`` names; checked already."""
        return frozenset(self.query["include"].split(",")) if "include" in self.query else frozenset()

    # Who may ------------------------------------------------------------------------------------------------------

    def require_admin(self) -> None:
        """Raises ApiError (NotAuthorized)."""
        if not self.caller.is_admin:
            raise not_authorized()

    def require_flag(self, name: str) -> None:
        """Admins pass. Raises ApiError (FeatureDisabled)."""
        if not self.caller.is_admin:
            flags.require(self.session, name)

    def require_admin_or_flag(self, name: str) -> None:
        """For what is the admins' unless a flag opens it to all. Raises ApiError (NotAuthorized)."""
        try:
            self.require_flag(name)
        except ApiError:
            raise not_authorized() from None

    def refuse_suspended(self, organization: Organization, space: Space | None = None, *things: str) -> None:
        """Nobody changes what is in a suspended place, save admins, nor what is being deleted, save by deleting it.

        ``things``: guids of what is to be changed there. Raises ApiError (OrgSuspended, SpaceSuspended,
        ResourceBeingDeleted).
        """
        if organization.suspended and not self.caller.is_admin:
            raise ApiError("OrgSuspended", "The organization is suspended")
        if space is not None and space.suspended and not self.caller.is_admin:
            raise ApiError("SpaceSuspended", "The space is suspended")
        if self.method != "DELETE":
            self._refuse_doomed(organization.guid, *things, *([space.guid] if space is not None else []))

    def _refuse_doomed(self, *guids: str) -> None:
        deleting = Job.operation.in_(("organization.delete", "space.delete", "app.delete", "route.delete"))
        statement = select(Job.id).where(Job.resource_guid.in_(guids), Job.state == "PROCESSING", deleting)
        if self.session.scalars(statement.limit(1)).first() is not None:
            raise ApiError("ResourceBeingDeleted", "The resource is being deleted")

    def require_in_space(self, right: Right, space: Space, *things: str) -> None:
        """For changes in a space, there of ``things`` (guids). Raises ApiError (NotAuthorized, OrgSuspended,
        SpaceSuspended, ResourceBeingDeleted)."""
        if not self.access.in_space(right, space):
            raise not_authorized()
        self.refuse_suspended(space.organization, space, *things)

    def require_in_organization(self, right: Right, organization: Organization, space: Space | None = None) -> None:
        """For changes in an organization, or of a space by who has the right in its organization. Raises ApiError
        (NotAuthorized, OrgSuspended, SpaceSuspended, ResourceBeingDeleted)."""
        if not self.access.in_organization(right, organization.id):
            raise not_authorized()
        self.refuse_suspended(organization, space)

    # What is asked for --------------------------------------------------------------------------------------------

    def find(self, kind: type[Kind], guid: str, *visible: ColumnElement[bool], called: str) -> Kind:
        """The resource that a path names, of those that are ``visible``. Raises ApiError (ResourceNotFound)."""
        found = self._among(kind, guid, visible)
        if found is None:
            raise not_found(called)
        return found

    def related(self, kind: type[Kind], guid: str, *visible: ColumnElement[bool], refusal: ApiError) -> Kind:
        """The resource that a body names, of those that are ``visible``. Raises ``refusal``."""
        found = self._among(kind, guid, visible)
        if found is None:
            raise refusal
        return found

    def _among(self, kind: type[Kind], guid: str, visible: Iterable[ColumnElement[bool]]) -> Kind | None:
        return self.session.scalars(select(kind).where(kind.guid == guid, *visible)).unique().one_or_none()

    @contextmanager
    def refusing(self, constraint: str, refusal: ApiError) -> Iterator[None]:
        """What breaks ``constraint`` within is answered with ``refusal``. Writes are flushed at the end."""
        try:
            yield
            self.session.flush()
        except IntegrityError as error:
            if broke(error, constraint):
                raise refusal from None
            raise

    def record(
        self,
        type: str,
        target: tuple[str, str, str],
        *,
        space: Space | None = None,
        organization: Organization | None = None,
        data: Mapping[str, Any] | None = None,
    ) -> None:
        """Add an audit event. ``target``: guid, type and name; a space brings its organization along."""
        owner = space.organization if space is not None else organization
        caller = self.caller
        self.session.add(
            AuditEvent(
                type=type,
                actor_guid=caller.guid,
                actor_type="client" if caller.is_client else "user",
                actor_name=caller.name,
                target_guid=target[0],
                target_type=target[1],
                target_name=target[2],
                data=dict(data or {}),
                space_guid=space.guid if space is not None else None,
                organization_guid=owner.guid if owner is not None else None,
            )
        )

    def route_changed(self, guid: str) -> None:
        """Routers may have to serve something else for this route once the transaction is committed."""
        route_changes.note(self.session, guid)
        self.routes_changed = True

    def begin(self, operation: str, resource: tuple[str, str], **arguments: Any) -> Reply:
        """Start a job (`controller.jobs`) when this transaction is committed. ``resource``: its type and guid.

        Who deletes what is being deleted is told of the job that does it.
        """
        if self.method == "DELETE":
            underway = select(Job.guid).where(
                Job.resource_guid == resource[1], Job.operation == operation, Job.state == "PROCESSING"
            )
            if (guid := self.session.scalars(underway.limit(1)).first()) is not None:
                return self._accepted(guid)
        job = Job(
            operation=operation,
            resource_type=resource[0],
            resource_guid=resource[1],
            user_guid=self.caller.guid,
            arguments={**arguments, "actor": {"guid": self.caller.guid, "name": self.caller.name}},
            run_at=now(),
        )
        self.session.add(job)
        self.session.flush()
        self.jobs.append(job.guid)
        return self._accepted(job.guid)

    def _accepted(self, job_guid: str) -> Reply:
        return Reply(202, None, {"Location": self.url(f"/v3/jobs/{job_guid}")})
