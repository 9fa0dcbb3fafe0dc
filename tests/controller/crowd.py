"""A database full of everything, for tests that count: ``grow`` adds the same again, each with parents of its own."""

from __future__ import annotations

from itertools import count
from typing import Any
from uuid import uuid4

from sqlalchemy.orm import Session

from controller.database.applications import (
    App,
    Build,
    Deployment,
    Droplet,
    Package,
    Process,
    ProcessInstance,
    Revision,
    Sidecar,
    Task,
)
from controller.database.base import now
from controller.database.bookkeeping import AuditEvent, Job
from controller.database.platform import Buildpack, SecurityGroup, SecurityGroupSpace, Stack
from controller.database.routing import Destination, Domain, DomainShare, Route, RouteShare
from controller.database.services import (
    ServiceCredentialBinding,
    ServiceInstance,
    ServiceInstanceShare,
    ServiceRouteBinding,
)
from controller.database.tenancy import (
    IsolationSegment,
    IsolationSegmentEntitlement,
    Organization,
    OrganizationQuota,
    Role,
    Space,
    SpaceQuota,
    User,
)

_numbers = count(1)
_NONE: dict[str, Any] = {"labels": {}, "annotations": {}}


def name() -> str:
    return f"n{next(_numbers)}-{uuid4().hex[:6]}"


class Crowd:
    """``root_*`` have a share of everything that is added, so that lists of what belongs to them grow, too."""

    def __init__(self, session: Session, developer: str) -> None:
        """``developer``: guid of a user who may read all of it by roles."""
        self._session = session
        self._developer = User(guid=developer, username="developer", origin="uaa", **_NONE)
        self.root_organization = self._organization()
        self.root_space = self._space(self.root_organization)
        self.root_app = self._app(self.root_space)
        self.root_stack = Stack(name="root", **_NONE)
        self.root_domain = Domain(name="root.example.com", **_NONE)
        self.root_package = Package(app=self.root_app, type="bits", state="READY", **_NONE)
        self.root_process = Process(
            app=self.root_app, type="web", health_check=_check(), readiness_health_check=_check(), **_NONE
        )
        self.root_instance = self._service_instance(self.root_space)
        self.root_route = Route(host=name(), domain=self.root_domain, space=self.root_space, **_NONE)
        self.root_segment = IsolationSegment(name=name(), **_NONE)
        self.root_group = SecurityGroup(name=name())
        session.add_all(
            [
                self.root_segment,
                self.root_group,
                self.root_stack,
                self.root_domain,
                self.root_package,
                self.root_process,
                self.root_route,
            ]
        )
        session.flush()

    def grow(self) -> None:
        """One more of everything, once with parents of its own, once in the root's."""
        session = self._session
        organization = self._organization()
        space = self._space(organization)
        self._in_app(self._app(space), space)
        self._in_app(self.root_app, self.root_space)
        self._space(self.root_organization)
        self._app(self.root_space)
        for place in (space, self.root_space):
            owner = place.organization
            session.add(Domain(name=f"{name()}.example.com", organization=owner, **_NONE))
            user = User(guid=name(), username=name(), origin="uaa", **_NONE)
            session.add(Role(type="organization_user", user=user, organization=owner))
            session.add(Role(type="space_developer", user=user, space=place))
            session.add(SpaceQuota(name=name(), organization=owner))
        segment, group = IsolationSegment(name=name(), **_NONE), SecurityGroup(name=name())
        session.add_all(
            [
                segment,
                Stack(name=name(), **_NONE),
                Buildpack(name=name(), position=next(_numbers), **_NONE),
                group,
                _event(space),
                _event(self.root_space),
                Job(operation="x", run_at=now()),
            ]
        )
        shared = Domain(name=f"{name()}.example.com", organization=organization, **_NONE)
        session.add(shared)
        session.flush()
        session.add(DomainShare(domain_id=shared.id, organization_id=self.root_organization.id))
        session.add(RouteShare(route_id=self.root_route.id, space_id=space.id))
        session.add(ServiceInstanceShare(service_instance_id=self.root_instance.id, space_id=space.id))
        for one, owner in ((segment, self.root_organization), (self.root_segment, organization)):
            session.add(IsolationSegmentEntitlement(isolation_segment_id=one.id, organization_id=owner.id))
        for phase in ("running", "staging"):
            session.add(SecurityGroupSpace(security_group_id=self.root_group.id, space_id=space.id, phase=phase))
            session.add(SecurityGroupSpace(security_group_id=group.id, space_id=self.root_space.id, phase=phase))
        session.flush()

    def _organization(self) -> Organization:
        made = Organization(name=name(), quota=OrganizationQuota(name=name()), **_NONE)
        self._session.add(made)
        for kind in ("organization_manager", "organization_user"):
            self._session.add(Role(type=kind, user=self._developer, organization=made))
        return made

    def _space(self, organization: Organization) -> Space:
        quota = SpaceQuota(name=name(), organization=organization)
        made = Space(name=name(), organization=organization, quota=quota, **_NONE)
        self._session.add_all([made, Role(type="space_developer", user=self._developer, space=made)])
        return made

    def _app(self, space: Space) -> App:
        made = App(
            name=name(),
            space=space,
            desired_state="STARTED",
            lifecycle_data={"stack": "root"},
            droplet_guid=None,
            **_NONE,
        )
        self._session.add(made)
        self._session.flush()
        return made

    def _service_instance(self, space: Space) -> ServiceInstance:
        made = ServiceInstance(name=name(), space=space, credentials={"a": "b"}, **_NONE)
        self._session.add(made)
        return made

    def _in_app(self, app: App, space: Space) -> None:
        session, number = self._session, next(_numbers)
        process = Process(
            app=app,
            type="web",
            instances=1,
            revision_guid=name(),
            health_check=_check(),
            readiness_health_check=_check(),
            **_NONE,
        )
        droplet = Droplet(app=app, state="STAGED", package_guid=self.root_package.guid, **_NONE)
        domain = Domain(name=f"{name()}.example.com", **_NONE)
        route = Route(host=name(), domain=domain, space=space, **_NONE)
        session.add_all([process, droplet, route])
        session.flush()
        instance, bound = self._service_instance(space), self._service_instance(space)
        session.add_all(
            [
                ProcessInstance(
                    process_id=process.id, index=0, instance_guid=name(), state="RUNNING", host="h", since=now()
                ),
                Package(app=app, type="bits", state="READY", **_NONE),
                Build(app=app, package_guid=self.root_package.guid, state="STAGED", created_by_guid="u", **_NONE),
                Sidecar(app=app, name=name(), command="x", process_types=["web"]),
                Revision(
                    guid=process.revision_guid,
                    app=app,
                    version=number,
                    droplet_guid=droplet.guid,
                    description="",
                    **_NONE,
                ),
                Deployment(
                    app=app,
                    state="DEPLOYED",
                    status_value="FINALIZED",
                    status_reason="DEPLOYED",
                    status_updated_at=now(),
                    last_healthy_at=now(),
                    **_NONE,
                ),
                Task(app=app, sequence_id=number, name=name(), command="x", state="RUNNING", droplet_guid="d", **_NONE),
                Destination(route=route, app=app),
                ServiceCredentialBinding(type="app", app=app, service_instance=bound, **_NONE),
                ServiceCredentialBinding(type="key", name=name(), service_instance=instance, **_NONE),
                ServiceRouteBinding(service_instance=bound, route=route, route_service_url="https://x", **_NONE),
            ]
        )
        session.flush()


def _check() -> dict[str, Any]:
    return {"type": "process", "data": {}}


def _event(space: Space) -> AuditEvent:
    return AuditEvent(
        type="audit.x",
        actor_guid="a",
        actor_type="user",
        target_guid=space.guid or "s",
        target_type="space",
        space_guid=space.guid,
        organization_guid=space.organization.guid,
    )
