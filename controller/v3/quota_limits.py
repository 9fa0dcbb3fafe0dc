"""The limits that quotas of organizations and of spaces have in common: in bodies, in rows, as shown (reference 3.6).

NULL and null are no limit. Limits stand in groups in the API and side by side in a row.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import Field

from controller.database.tenancy import OrganizationQuota, SpaceQuota
from controller.v3.bodies import Body

Limit = Annotated[int, Field(ge=0, le=2**31 - 1)]
LongLimit = Annotated[int, Field(ge=0, le=2**63 - 1)]

PAID_SERVICES: Final = "paid_services_allowed"


class AppLimits(Body):
    total_memory_in_mb: Limit | None = None
    per_process_memory_in_mb: Limit | None = None
    total_instances: Limit | None = None
    per_app_tasks: Limit | None = None
    log_rate_limit_in_bytes_per_second: LongLimit | None = None


class ServiceLimits(Body):
    paid_services_allowed: bool | None = None
    total_service_instances: Limit | None = None
    total_service_keys: Limit | None = None


class RouteLimits(Body):
    total_routes: Limit | None = None
    total_reserved_ports: Limit | None = None


class DomainLimits(Body):
    total_domains: Limit | None = None


class Limits(Body):
    """What bodies of both kinds of quota may say."""

    apps: AppLimits | None = None
    services: ServiceLimits | None = None
    routes: RouteLimits | None = None


def change(quota: OrganizationQuota | SpaceQuota, *groups: Body | None) -> None:
    """Each limit that a body names becomes what it says; the others stay."""
    for group in groups:
        for name, value in (group.model_dump(exclude_unset=True) if group is not None else {}).items():
            if name != PAID_SERVICES:
                setattr(quota, name, value)
            elif value is not None:
                quota.paid_services_allowed = value


def shown(quota: OrganizationQuota | SpaceQuota) -> dict[str, Any]:
    groups: tuple[tuple[str, type[Body]], ...] = (
        ("apps", AppLimits),
        ("services", ServiceLimits),
        ("routes", RouteLimits),
    )
    return {name: {limit: getattr(quota, limit) for limit in model.model_fields} for name, model in groups}
