"""What is there from the first start: quota, domains, stacks, groups, a segment. Doing it twice changes nothing."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from controller.database.platform import EnvironmentGroup, Stack
from controller.database.routing import Domain, RegisteredRoutesVersion, RouterGroup
from controller.database.tenancy import IsolationSegment, OrganizationQuota
from controller.settings import Settings
from controller.v3.isolation_segments import SHARED_SEGMENT
from controller.v3.organizations import DEFAULT_QUOTA


def plant(session: Session, settings: Settings) -> None:
    """In one transaction that writes."""
    if session.scalars(select(OrganizationQuota).where(OrganizationQuota.name == DEFAULT_QUOTA)).first() is None:
        session.add(
            OrganizationQuota(
                name=DEFAULT_QUOTA,
                total_memory_in_mb=102_400,
                total_routes=1000,
                total_reserved_ports=100,
            )
        )
    for name in settings.app_domains:
        if session.scalars(select(Domain).where(Domain.name == name.lower())).first() is None:
            session.add(Domain(name=name.lower(), labels={}, annotations={}))
    for number, name in enumerate(settings.stacks):
        if session.scalars(select(Stack).where(Stack.name == name)).first() is None:
            session.add(Stack(name=name, description=name, default=number == 0, labels={}, annotations={}))
    for name in ("running", "staging"):
        if session.scalars(select(EnvironmentGroup).where(EnvironmentGroup.name == name)).first() is None:
            session.add(EnvironmentGroup(name=name, variables={}))
    if session.scalars(select(IsolationSegment).where(IsolationSegment.guid == SHARED_SEGMENT)).first() is None:
        session.add(IsolationSegment(guid=SHARED_SEGMENT, name="shared", labels={}, annotations={}))
    if session.scalars(select(RouterGroup).where(RouterGroup.name == "default-tcp")).first() is None:
        session.add(RouterGroup(name="default-tcp", type="tcp", reservable_ports="1024-1123"))
    if session.get(RegisteredRoutesVersion, 1) is None:
        session.add(RegisteredRoutesVersion(id=1))
