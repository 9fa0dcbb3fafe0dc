"""What an organization and a space let its apps use: memory, instances, log lines, tasks (reference 3.6).

Counted are the processes of started apps and the tasks that are not over. Whoever lets an app use more calls ``check``
after the change is flushed: the counts are those of the transaction, so what is refused is rolled back. Limits of
organizations are checked under a lock of the organization's row, so that two requests cannot both take the last place.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, ColumnElement, cast, func, select

from controller.database.applications import App, Process, Task
from controller.database.tenancy import Organization, OrganizationQuota, Space, SpaceQuota
from controller.v3.call import Call
from controller.v3.errors import unprocessable

UNFINISHED: Final = ("PENDING", "RUNNING", "CANCELING")
"""Tasks that use memory, or may."""


def check(call: Call, app: App, *, over_commit_mb: int = 0) -> None:
    """That all of the app's processes fit. Raises ApiError (UnprocessableEntity).

    ``over_commit_mb``: memory that is counted although it is about to be freed.
    """
    if app.desired_state != "STARTED":
        return
    space, organization = _locked(call, app)
    processes = call.session.scalars(select(Process).where(Process.app_id == app.id)).unique().all()
    largest = max((process.memory_in_mb for process in processes if process.instances), default=0)
    unlimited_logs = any(process.log_rate_limit_in_bytes_per_second == -1 for process in processes if process.instances)
    for quota, place, where, prefix in _quotas(space, organization):
        kind = "space" if prefix else "organization"
        if quota.total_memory_in_mb is not None and _memory(call, where) - over_commit_mb > quota.total_memory_in_mb:
            raise unprocessable(f"memory {prefix}quota_exceeded")
        if quota.per_process_memory_in_mb is not None and largest > quota.per_process_memory_in_mb:
            raise unprocessable(f"memory {prefix}instance_memory_limit_exceeded")
        if quota.total_instances is not None and _instances(call, where) > quota.total_instances:
            raise unprocessable(f"app_instance_limit {prefix}app_instance_limit_exceeded")
        if quota.log_rate_limit_in_bytes_per_second is not None:
            if unlimited_logs:
                raise unprocessable(f"log_rate_limit cannot be unlimited in {kind} '{place.name}'.")
            if _log_rate(call, where) > quota.log_rate_limit_in_bytes_per_second:
                raise unprocessable(f"log_rate_limit exceeds {kind} log rate quota")


def check_task(call: Call, task: Task) -> None:
    """That one more task fits; it is flushed already. Raises ApiError (UnprocessableEntity)."""
    app = task.app
    space, organization = _locked(call, app)
    unfinished = select(func.count()).where(Task.app_id == app.id, Task.state.in_(UNFINISHED))
    count = call.session.scalar(unfinished) or 0
    refused = "The task request was invalid: "
    for quota, place, where, prefix in _quotas(space, organization):
        kind = "space" if prefix else "organization"
        if quota.per_app_tasks is not None and count > quota.per_app_tasks:
            raise unprocessable(f"{refused}app_task_limit quota exceeded")
        if quota.total_memory_in_mb is not None and _memory(call, where) > quota.total_memory_in_mb:
            raise unprocessable(f"{refused}memory_in_mb exceeds {kind} memory quota")
        if quota.per_process_memory_in_mb is not None and task.memory_in_mb > quota.per_process_memory_in_mb:
            raise unprocessable(f"{refused}memory_in_mb exceeds {kind} instance memory quota")
        if quota.log_rate_limit_in_bytes_per_second is not None:
            if task.log_rate_limit_in_bytes_per_second == -1:
                raise unprocessable(f"{refused}log_rate_limit cannot be unlimited in {kind} '{place.name}'.")
            if _log_rate(call, where) > quota.log_rate_limit_in_bytes_per_second:
                raise unprocessable(f"{refused}log_rate_limit exceeds {kind} log rate quota")


def check_staging(call: Call, app: App, memory_in_mb: int) -> None:
    """That there is memory for a staging. Raises ApiError (UnprocessableEntity)."""
    space, organization = _locked(call, app)
    for quota, _, where, prefix in _quotas(space, organization):
        kind = "space" if prefix else "organization"
        if quota.total_memory_in_mb is not None and _memory(call, where) + memory_in_mb > quota.total_memory_in_mb:
            raise unprocessable(f"{kind}'s memory limit exceeded: staging requires {memory_in_mb}M memory")


Limits = tuple[OrganizationQuota | SpaceQuota, Organization | Space, ColumnElement[bool], str]


def _quotas(space: Space, organization: Organization) -> list[Limits]:
    """Quota, whose it is, which apps it is about, and what its errors begin with. The space's first."""
    owned = App.space_id.in_(select(Space.id).where(Space.organization_id == organization.id))
    limits: list[Limits] = [(organization.quota, organization, owned, "")]
    if space.quota is not None:
        limits.insert(0, (space.quota, space, App.space_id == space.id, "space_"))
    return limits


def _locked(call: Call, app: App) -> tuple[Space, Organization]:
    call.session.flush()
    space = app.space
    call.session.execute(select(Organization.id).where(Organization.id == space.organization_id).with_for_update())
    return space, space.organization


def _memory(call: Call, where: ColumnElement[bool]) -> int:
    running = (
        select(func.coalesce(func.sum(cast(Process.instances, BigInteger) * Process.memory_in_mb), 0))
        .join(App, Process.app_id == App.id)
        .where(where, App.desired_state == "STARTED")
    )
    tasks = (
        select(func.coalesce(func.sum(Task.memory_in_mb), 0))
        .join(App, Task.app_id == App.id)
        .where(where, Task.state.in_(UNFINISHED))
    )
    return int(call.session.scalar(running) or 0) + int(call.session.scalar(tasks) or 0)


def _instances(call: Call, where: ColumnElement[bool]) -> int:
    statement = (
        select(func.coalesce(func.sum(Process.instances), 0))
        .join(App, Process.app_id == App.id)
        .where(where, App.desired_state == "STARTED")
    )
    return int(call.session.scalar(statement) or 0)


def _log_rate(call: Call, where: ColumnElement[bool]) -> int:
    processes = (
        select(
            func.coalesce(func.sum(cast(Process.instances, BigInteger) * Process.log_rate_limit_in_bytes_per_second), 0)
        )
        .join(App, Process.app_id == App.id)
        .where(where, App.desired_state == "STARTED", Process.log_rate_limit_in_bytes_per_second > 0)
    )
    tasks = (
        select(func.coalesce(func.sum(Task.log_rate_limit_in_bytes_per_second), 0))
        .join(App, Task.app_id == App.id)
        .where(where, Task.state.in_(UNFINISHED), Task.log_rate_limit_in_bytes_per_second > 0)
    )
    return int(call.session.scalar(processes) or 0) + int(call.session.scalar(tasks) or 0)
