"""Tasks (reference 3.2, 7.5): commands that run once, with the droplet of an app."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Annotated, Any, Final

from pydantic import Field
from sqlalchemy import select

from controller.access import Right
from controller.database.applications import App, Droplet, Process, Task
from controller.v3 import app_access, app_quotas, belonging, metadata, processes
from controller.v3.api import Api
from controller.v3.bodies import Body, Name, Named, Text
from controller.v3.call import Call
from controller.v3.errors import not_found, unprocessable
from controller.v3.listing import Listing, among, among_numbers
from controller.v3.metadata import MetadataBody
from controller.v3.presenting import common, to_one
from controller.v3.processes import HIDDEN, HIDDEN_IN_LISTS, MAX_DISK_IN_MB, LogRate, Megabytes

api = Api("Tasks")
OVER: Final = ("SUCCEEDED", "FAILED")
DEFAULT_MEMORY_IN_MB: Final = 1024
DEFAULT_DISK_IN_MB: Final = 1024
LISTING = Listing(Task, {"names": among(Task.name), "states": among(Task.state), **belonging.filters(Task.app_id)})
APP_LISTING = Listing(
    Task,
    {"names": among(Task.name), "states": among(Task.state), "sequence_ids": among_numbers(Task.sequence_id)},
)


class Template(Body):
    process: Named


class Create(Body):
    name: Name | None = None
    command: Annotated[Text, Field(min_length=1, max_length=4096)] | None = None
    user: Annotated[Text, Field(min_length=1, max_length=255)] | None = None
    memory_in_mb: Megabytes | None = None
    disk_in_mb: Megabytes | None = None
    log_rate_limit_in_bytes_per_second: LogRate | None = None
    droplet_guid: Text | None = None
    template: Template | None = None
    metadata: MetadataBody | None = None


class Update(Body):
    metadata: MetadataBody | None = None


def present(task: Task, call: Call, command: str) -> dict[str, Any]:
    path, app = f"/v3/tasks/{task.guid}", task.app.guid
    return {
        **common(task),
        "sequence_id": task.sequence_id,
        "name": task.name,
        "command": command,
        "user": task.user,
        "state": task.state,
        "memory_in_mb": task.memory_in_mb,
        "disk_in_mb": task.disk_in_mb,
        "log_rate_limit_in_bytes_per_second": task.log_rate_limit_in_bytes_per_second,
        "result": {"failure_reason": task.failure_reason},
        "droplet_guid": task.droplet_guid,
        "relationships": {"app": to_one(app)},
        "metadata": metadata.shown(task),
        "links": {
            "self": call.link(path),
            "app": call.link(f"/v3/apps/{app}"),
            "cancel": call.link(f"{path}/actions/cancel", "POST"),
            "droplet": call.link(f"/v3/droplets/{task.droplet_guid}"),
        },
    }


def _shower(call: Call, app: App) -> Callable[[Task], dict[str, Any]]:
    """Commands are for those who may read secrets."""
    secret = call.access.in_space(Right.READ_SECRETS, app.space)
    return lambda task: present(task, call, task.command if secret else HIDDEN)


@api.get("/v3/tasks", listing=LISTING)
def list_tasks(call: Call) -> dict[str, Any]:
    """List tasks."""
    seen = belonging.visible(call, Task.app_id)
    return LISTING.page(call, lambda row: present(row, call, HIDDEN_IN_LISTS), seen)


@api.get("/v3/apps/{guid}/tasks", listing=APP_LISTING)
def list_app_tasks(call: Call, guid: str) -> dict[str, Any]:
    """List the tasks of an app."""
    app = app_access.visible_app(call, guid)
    return APP_LISTING.page(call, _shower(call, app), Task.app_id == app.id)


@api.get("/v3/tasks/{guid}")
def get_task(call: Call, guid: str) -> dict[str, Any]:
    """Get a task."""
    task = _found(call, guid)
    return _shower(call, task.app)(task)


@api.post("/v3/apps/{guid}/tasks", 202)
def create_task(call: Call, guid: str, body: Create) -> dict[str, Any]:
    """Run a command once."""
    call.require_flag("task_creation")
    app = app_access.changeable_app(call, guid, Right.DEVELOP)
    template = _template(call, app, body)
    if body.command is None and template is None:
        raise unprocessable("Command can't be blank")
    if (body.disk_in_mb or 0) > MAX_DISK_IN_MB:
        raise unprocessable(f"Cannot request disk_in_mb greater than {MAX_DISK_IN_MB}")
    droplet = _droplet(call, app, body)
    app.max_task_sequence_id += 1
    task = Task(
        app=app,
        sequence_id=app.max_task_sequence_id,
        name=body.name or secrets.token_hex(4),
        command=body.command or (template and processes.command_of(call, template)) or "",
        user=body.user or (template.user if template is not None else None),
        state="PENDING",
        droplet_guid=droplet.guid,
        memory_in_mb=body.memory_in_mb or (template.memory_in_mb if template is not None else DEFAULT_MEMORY_IN_MB),
        disk_in_mb=body.disk_in_mb or (template.disk_in_mb if template is not None else DEFAULT_DISK_IN_MB),
        labels={},
        annotations={},
    )
    if body.log_rate_limit_in_bytes_per_second is not None:
        task.log_rate_limit_in_bytes_per_second = body.log_rate_limit_in_bytes_per_second
    elif template is not None:
        task.log_rate_limit_in_bytes_per_second = template.log_rate_limit_in_bytes_per_second
    metadata.merge(task, body.metadata)
    call.session.add(task)
    app_quotas.check_task(call, task)
    _recorded(call, "create", task)
    return _shower(call, app)(task)


@api.patch("/v3/tasks/{guid}")
def update_task(call: Call, guid: str, body: Update) -> dict[str, Any]:
    """Change a task's metadata."""
    task = _found(call, guid)
    app_access.check(call, task.app, Right.DEVELOP)
    metadata.merge(task, body.metadata)
    call.session.flush()
    return _shower(call, task.app)(task)


@api.post("/v3/tasks/{guid}/actions/cancel", 202)
def cancel_task(call: Call, guid: str) -> dict[str, Any]:
    """End a task."""
    return _cancel(call, guid)


@api.put("/v3/tasks/{guid}/cancel", 202)
def cancel_task_by_put(call: Call, guid: str) -> dict[str, Any]:
    """The same as older clients ask for it."""
    return _cancel(call, guid)


def _cancel(call: Call, guid: str) -> dict[str, Any]:
    task = _found(call, guid)
    app_access.check(call, task.app, Right.OPERATE)
    app_access.lock(call, task.app)
    call.session.refresh(task)
    if task.state in OVER:
        raise unprocessable(f"Task state is {task.state} and therefore cannot be canceled")
    task.state = "CANCELING"
    call.session.flush()
    _recorded(call, "cancel", task)
    return _shower(call, task.app)(task)


def _found(call: Call, guid: str) -> Task:
    """Raises ApiError (ResourceNotFound)."""
    return call.find(Task, guid, belonging.visible(call, Task.app_id), called="Task")


def _template(call: Call, app: App, body: Create) -> Process | None:
    """The process of the app whose command and sizes it takes. Raises ApiError."""
    if body.template is None:
        return None
    return call.find(Process, body.template.process.guid, Process.app_id == app.id, called="Process")


def _droplet(call: Call, app: App, body: Create) -> Droplet:
    """What it runs with: the droplet that it names, or the app's. Raises ApiError."""
    wanted = body.droplet_guid or app.droplet_guid
    droplet = call.session.scalars(
        select(Droplet).where(Droplet.guid == wanted, Droplet.app_id == app.id, Droplet.state == "STAGED")
    ).first()
    if droplet is not None:
        return droplet
    if body.droplet_guid is not None:
        raise not_found("Droplet")
    raise unprocessable("Task must have a droplet. Specify droplet or assign current droplet to app.")


def _recorded(call: Call, what: str, task: Task) -> None:
    about = {"task_guid": task.guid, "request": {"name": task.name, "command": HIDDEN}}
    app_access.record(call, f"task.{what}", task.app, about)
