"""How much of what quotas limit is used: by a space, an organization, the whole platform (reference 2.9).

Each summary is one statement; what is not there yet counts as nothing.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import ColumnElement, func, select

from controller.database.applications import App, Process, Task
from controller.database.routing import Domain, Route
from controller.database.services import ServiceCredentialBinding, ServiceInstance
from controller.database.tenancy import Space
from controller.v3 import organizations, spaces
from controller.v3.api import Api
from controller.v3.call import Call
from controller.v3.errors import unknown_request

api = Api("Usage summaries")
_RUNNING_TASKS: Final = ("PENDING", "RUNNING", "CANCELING")


@api.get("/v3/organizations/{guid}/usage_summary")
def get_of_organization(call: Call, guid: str) -> dict[str, Any]:
    """What an organization uses."""
    organization = organizations.visible(call, guid)
    path = f"/v3/organizations/{guid}"
    return {
        "usage_summary": {
            **_used(call, Space.organization_id == organization.id),
            "domains": call.session.scalar(
                select(func.count(Domain.id)).where(Domain.organization_id == organization.id)
            ),
        },
        "links": {"self": call.link(f"{path}/usage_summary"), "organization": call.link(path)},
    }


@api.get("/v3/spaces/{guid}/usage_summary")
def get_of_space(call: Call, guid: str) -> dict[str, Any]:
    """What a space uses."""
    space = spaces.visible(call, guid)
    path = f"/v3/spaces/{guid}"
    return {
        "usage_summary": _used(call, Space.id == space.id),
        "links": {"self": call.link(f"{path}/usage_summary"), "space": call.link(path)},
    }


@api.get("/v3/info/usage_summary")
def get_of_platform(call: Call) -> dict[str, Any]:
    """What all organizations use together."""
    if not call.caller.reads_everything:
        raise unknown_request()
    return {
        "usage_summary": {
            **_used(call),
            "domains": call.session.scalar(select(func.count(Domain.id)).where(Domain.organization_id.is_not(None))),
        },
        "links": {"self": call.link("/v3/info/usage_summary")},
    }


def _used(call: Call, *where: ColumnElement[bool]) -> dict[str, int]:
    """By the apps, routes and services in spaces that meet the conditions."""
    started = (
        select(Process.id)
        .join(App, Process.app_id == App.id)
        .join(Space, App.space_id == Space.id)
        .where(App.desired_state == "STARTED", *where)
    )
    tasks = (
        select(Task.id)
        .join(App, Task.app_id == App.id)
        .join(Space, App.space_id == Space.id)
        .where(Task.state.in_(_RUNNING_TASKS), *where)
    )
    routes = select(Route.id).join(Space, Route.space_id == Space.id).where(*where)
    services = select(ServiceInstance.id).join(Space, ServiceInstance.space_id == Space.id).where(*where)
    keys = (
        select(ServiceCredentialBinding.id)
        .join(ServiceInstance, ServiceCredentialBinding.service_instance_id == ServiceInstance.id)
        .join(Space, ServiceInstance.space_id == Space.id)
        .where(ServiceCredentialBinding.type == "key", *where)
    )
    memory = func.coalesce(func.sum(Process.instances * Process.memory_in_mb), 0)
    statement = select(
        started.with_only_columns(func.coalesce(func.sum(Process.instances), 0)).scalar_subquery(),
        started.with_only_columns(memory).scalar_subquery(),
        tasks.with_only_columns(func.coalesce(func.sum(Task.memory_in_mb), 0)).scalar_subquery(),
        tasks.with_only_columns(func.count(Task.id)).scalar_subquery(),
        routes.with_only_columns(func.count(Route.id)).scalar_subquery(),
        routes.where(Route.port > 0).with_only_columns(func.count(Route.id)).scalar_subquery(),
        services.with_only_columns(func.count(ServiceInstance.id)).scalar_subquery(),
        keys.with_only_columns(func.count(ServiceCredentialBinding.id)).scalar_subquery(),
    )
    instances, of_processes, of_tasks, running, all_routes, ports, all_services, all_keys = call.session.execute(
        statement
    ).one()
    return {
        "started_instances": int(instances),
        "memory_in_mb": int(of_processes) + int(of_tasks),
        "routes": all_routes,
        "service_instances": all_services,
        "reserved_ports": ports,
        "per_app_tasks": running,
        "service_keys": all_keys,
    }
