"""Processes (reference 3.2): what of an app runs, how often, with how much of everything, and how it is watched."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final

from pydantic import Field
from sqlalchemy import select

from controller.access import Right
from controller.database.applications import App, Deployment, Droplet, Process, ProcessInstance, Revision, Sidecar
from controller.database.base import new_guid
from controller.v3 import app_access, app_quotas, belonging, health_checks, metadata, process_stats
from controller.v3.api import Api
from controller.v3.bodies import Body, Text
from controller.v3.call import Call, Reply
from controller.v3.errors import ApiError, bad_query, not_found, unprocessable
from controller.v3.health_checks import HealthCheck, ReadinessHealthCheck
from controller.v3.listing import Listing, among
from controller.v3.metadata import MetadataBody
from controller.v3.presenting import common, to_one

api = Api("Processes")
WEB: Final = "web"
MAX_DISK_IN_MB: Final = 2048
MAX_COMMAND: Final = 4096
HIDDEN: Final = "[PRIVATE DATA HIDDEN]"
HIDDEN_IN_LISTS: Final = "[PRIVATE DATA HIDDEN IN LISTS]"
EMBEDDED: Final = "process_instances"
_NAME: Final = "Process"
_LARGEST: Final = 2**31 - 1

LISTING = Listing(Process, {"types": among(Process.type), **belonging.filters(Process.app_id)}, others=("embed",))

Instances = Annotated[int, Field(ge=0, le=_LARGEST)]
Megabytes = Annotated[int, Field(ge=1, le=_LARGEST)]
LogRate = Annotated[int, Field(ge=-1, le=_LARGEST)]


class Update(Body):
    command: Annotated[Text, Field(min_length=1, max_length=MAX_COMMAND)] | None = None
    user: Annotated[Text, Field(min_length=1, max_length=255)] | None = None
    health_check: HealthCheck | None = None
    readiness_health_check: ReadinessHealthCheck | None = None
    metadata: MetadataBody | None = None


class Scale(Body):
    instances: Instances | None = None
    memory_in_mb: Megabytes | None = None
    disk_in_mb: Megabytes | None = None
    log_rate_limit_in_bytes_per_second: LogRate | None = None


def present(process: Process, call: Call, command: str | None) -> dict[str, Any]:
    path = f"/v3/processes/{process.guid}"
    app = process.app
    return {
        **common(process),
        "version": process.version,
        "type": process.type,
        "command": command,
        "user": process.user,
        "instances": process.instances,
        "memory_in_mb": process.memory_in_mb,
        "disk_in_mb": process.disk_in_mb,
        "log_rate_limit_in_bytes_per_second": process.log_rate_limit_in_bytes_per_second,
        "health_check": health_checks.shown(process.health_check),
        "readiness_health_check": health_checks.shown_readiness(process.readiness_health_check),
        "relationships": {"app": to_one(app.guid), "revision": to_one(process.revision_guid)},
        "metadata": metadata.shown(process),
        "links": {
            "self": call.link(path),
            "scale": call.link(f"{path}/actions/scale", "POST"),
            "app": call.link(f"/v3/apps/{app.guid}"),
            "space": call.link(f"/v3/spaces/{app.space.guid}"),
            "stats": call.link(f"{path}/stats"),
            "process_instances": call.link(f"{path}/process_instances"),
        },
    }


def shown(call: Call, process: Process) -> dict[str, Any]:
    """With its command, for callers who may see it."""
    secret = call.access.in_space(Right.READ_SECRETS, process.app.space)
    return present(process, call, command_of(call, process) if secret else HIDDEN)


def command_of(call: Call, process: Process) -> str | None:
    """The user's own, else that of the current droplet."""
    if process.command is not None or process.app.droplet_guid is None:
        return process.command
    types = call.session.scalars(select(Droplet.process_types).where(Droplet.guid == process.app.droplet_guid)).first()
    return None if types is None else types.get(process.type)


# Finding --------------------------------------------------------------------------------------------------------------


def found(call: Call, guid: str) -> Process:
    """Raises ApiError (ResourceNotFound)."""
    return call.find(Process, guid, belonging.visible(call, Process.app_id), called=_NAME)


def of_type(call: Call, app: App, kind: str) -> Process:
    """The newest. Raises ApiError (ResourceNotFound)."""
    process = newest(call, app, kind)
    if process is None:
        raise not_found(_NAME)
    return process


def newest(call: Call, app: App, kind: str) -> Process | None:
    """During a deployment there are several of type web."""
    statement = select(Process).where(Process.app_id == app.id, Process.type == kind).order_by(Process.id.desc())
    return call.session.scalars(statement.limit(1)).unique().one_or_none()


def changeable(call: Call, process: Process) -> Process:
    """With the lock of its app. Raises ApiError."""
    app_access.check(call, process.app, Right.OPERATE)
    app_access.lock(call, process.app)
    call.session.refresh(process)
    return process


@api.get("/v3/processes", listing=LISTING)
def list_processes(call: Call) -> dict[str, Any]:
    """List processes."""
    return _page(call, belonging.visible(call, Process.app_id))


@api.get("/v3/apps/{guid}/processes", listing=LISTING)
def list_app_processes(call: Call, guid: str) -> dict[str, Any]:
    """List the processes of an app."""
    app = app_access.visible_app(call, guid)
    return _page(call, Process.app_id == app.id)


def _page(call: Call, condition: Any) -> dict[str, Any]:
    embed = call.query.get("embed")
    if embed not in (None, EMBEDDED):
        raise bad_query(f"Embed can only be: '{EMBEDDED}'")
    instances: dict[int, Sequence[ProcessInstance]] = {}

    def load(rows: Sequence[Process]) -> None:
        if embed is not None:
            instances.update(process_stats.instances_of(call.session, rows))

    def show(process: Process) -> dict[str, Any]:
        body = present(process, call, HIDDEN_IN_LISTS)
        if embed is not None:
            body[EMBEDDED] = process_stats.short(process, instances.get(process.id, ()))
        return body

    return LISTING.page(call, show, condition, prepare=load)


@api.get("/v3/processes/{guid}")
def get_process(call: Call, guid: str) -> dict[str, Any]:
    """Get a process."""
    return shown(call, found(call, guid))


@api.get("/v3/apps/{guid}/processes/{type}")
def get_app_process(call: Call, guid: str, type: str) -> dict[str, Any]:
    """Get the process of an app that has this type."""
    return shown(call, of_type(call, app_access.visible_app(call, guid), type))


# Changing -------------------------------------------------------------------------------------------------------------


@api.patch("/v3/processes/{guid}")
def update_process(call: Call, guid: str, body: Update) -> dict[str, Any]:
    """Change a process; it takes effect at the next start."""
    process = changeable(call, found(call, guid))
    change(call, process, body)
    return shown(call, process)


@api.patch("/v3/apps/{guid}/processes/{type}")
def update_app_process(call: Call, guid: str, type: str, body: Update) -> dict[str, Any]:
    """Change the process of an app that has this type."""
    process = changeable(call, of_type(call, app_access.visible_app(call, guid), type))
    change(call, process, body)
    return shown(call, process)


def change(call: Call, process: Process, body: Update, *, while_deploying: bool = False) -> None:
    """Raises ApiError. The caller of this holds the lock of the app."""
    given = body.model_fields_set - {"metadata"}
    if given and process.type == WEB and not while_deploying and is_deploying(call, process.app):
        raise ApiError(
            "ProcessUpdateDisabledDuringDeployment", "Cannot update this process while a deployment is in flight."
        )
    checks_before = (_kind_and_endpoint(process.health_check), _kind_and_endpoint(process.readiness_health_check))
    if "command" in given:
        process.command = body.command
    if "user" in given:
        process.user = body.user
    if body.health_check is not None:
        process.health_check = health_checks.merged(process.health_check, body.health_check, "Health check")
    if body.readiness_health_check is not None:
        process.readiness_health_check = health_checks.merged(
            process.readiness_health_check, body.readiness_health_check, "Readiness health check"
        )
    metadata.merge(process, body.metadata)
    checks = (_kind_and_endpoint(process.health_check), _kind_and_endpoint(process.readiness_health_check))
    if checks != checks_before:
        _begin_version(process)
    call.session.flush()
    request = body.model_dump(exclude_unset=True)
    if request.get("command") is not None:
        request["command"] = HIDDEN
    _recorded(call, "update", process, {"request": request})


@api.post("/v3/processes/{guid}/actions/scale", 202)
def scale_process(call: Call, guid: str, body: Scale) -> dict[str, Any]:
    """Change how many instances there are and what each may use."""
    call.require_flag("app_scaling")
    process = changeable(call, found(call, guid))
    rescale(call, process, body)
    return shown(call, process)


@api.post("/v3/apps/{guid}/processes/{type}/actions/scale", 202)
def scale_app_process(call: Call, guid: str, type: str, body: Scale) -> dict[str, Any]:
    """The same for the process of an app that has this type."""
    call.require_flag("app_scaling")
    process = changeable(call, of_type(call, app_access.visible_app(call, guid), type))
    rescale(call, process, body)
    return shown(call, process)


def rescale(call: Call, process: Process, body: Scale) -> None:
    """Raises ApiError. The caller of this holds the lock of the app."""
    if process.type == WEB and is_deploying(call, process.app):
        raise ApiError("ScaleDisabledDuringDeployment", "Cannot scale this process while a deployment is in flight.")
    before = (process.instances, process.memory_in_mb, process.log_rate_limit_in_bytes_per_second)
    set_sizes(process, body)
    call.session.flush()
    after = (process.instances, process.memory_in_mb, process.log_rate_limit_in_bytes_per_second)
    if after[1] != before[1]:
        _check_sidecars(call, process)
        _begin_version(process)
    if any(now > then or now == -1 != then for now, then in zip(after, before, strict=True)):
        app_quotas.check(call, process.app)
    _recorded(call, "scale", process, {"request": body.model_dump(exclude_unset=True)})


def set_sizes(process: Process, body: Scale) -> None:
    """Raises ApiError: more disk than there may be."""
    if (body.disk_in_mb or 0) > MAX_DISK_IN_MB:
        raise unprocessable(
            f"disk_quota too much disk requested (requested {body.disk_in_mb} MB - must be less than "
            f"{MAX_DISK_IN_MB} MB)"
        )
    for name, value in body.model_dump(exclude_none=True).items():
        setattr(process, name, value)


def _check_sidecars(call: Call, process: Process) -> None:
    """Raises ApiError: less memory than the sidecars take."""
    beside = call.session.scalars(select(Sidecar).where(Sidecar.app_id == process.app_id)).unique()
    taken = sum(sidecar.memory_in_mb or 0 for sidecar in beside if process.type in sidecar.process_types)
    if taken >= process.memory_in_mb:
        raise unprocessable("The requested memory allocation is not large enough to run all of your sidecar processes")


def add(call: Call, app: App, kind: str, *, guid: str | None = None) -> Process:
    """A new process with the defaults of its type. The web process of a new app has the app's own guid."""
    process = Process(
        guid=guid or new_guid(),
        app=app,
        type=kind,
        instances=1 if kind == WEB else 0,
        health_check=health_checks.default(kind),
        readiness_health_check=health_checks.default_readiness(),
        labels={},
        annotations={},
    )
    call.session.add(process)
    call.session.flush()
    _recorded(call, "create", process, {})
    return process


def is_deploying(call: Call, app: App) -> bool:
    statement = select(Deployment.id).where(Deployment.app_id == app.id, Deployment.status_value == "ACTIVE")
    return call.session.scalars(statement).first() is not None


def begin(call: Call, app: App, revision: Revision | None) -> None:
    """What starts is another version than what was stopped."""
    for process in call.session.scalars(select(Process).where(Process.app_id == app.id)).unique():
        process.version = new_guid()
        process.revision_guid = revision.guid if revision is not None else None


# Instances ------------------------------------------------------------------------------------------------------------


@api.get("/v3/processes/{guid}/stats")
def get_process_stats(call: Call, guid: str) -> dict[str, Any]:
    """How the instances of a process are."""
    return process_stats.full(call, found(call, guid))


@api.get("/v3/apps/{guid}/processes/{type}/stats")
def get_app_process_stats(call: Call, guid: str, type: str) -> dict[str, Any]:
    """The same for the process of an app that has this type."""
    return process_stats.full(call, of_type(call, app_access.visible_app(call, guid), type))


@api.get("/v3/processes/{guid}/process_instances")
def list_process_instances(call: Call, guid: str) -> dict[str, Any]:
    """The states of the instances of a process."""
    process = found(call, guid)
    instances = process_stats.instances_of(call.session, [process]).get(process.id, ())
    links = {
        "self": call.link(f"/v3/processes/{process.guid}/process_instances"),
        "process": call.link(f"/v3/processes/{process.guid}"),
    }
    return {"resources": process_stats.short(process, instances), "links": links}


@api.delete("/v3/processes/{guid}/instances/{index}")
def terminate_process_instance(call: Call, guid: str, index: str) -> Reply:
    """End one instance; another one takes its place."""
    return _terminate(call, found(call, guid), index)


@api.delete("/v3/apps/{guid}/processes/{type}/instances/{index}")
def terminate_app_process_instance(call: Call, guid: str, type: str, index: str) -> Reply:
    """The same for the process of an app that has this type."""
    return _terminate(call, of_type(call, app_access.visible_app(call, guid), type), index)


def _terminate(call: Call, process: Process, index: str) -> Reply:
    process = changeable(call, process)
    number = int(index) if index.isascii() and index.isdigit() and len(index) < 10 else -1
    if not 0 <= number < process.instances or process.app.desired_state != "STARTED":
        raise not_found("Instance")
    statement = select(ProcessInstance).where(ProcessInstance.process_id == process.id, ProcessInstance.index == number)
    instance = call.session.scalars(statement).one_or_none()
    if instance is not None:
        call.session.delete(instance)
        app_access.routes_changed(call, process.app)
    _recorded(call, "terminate_instance", process, {"process_index": number})
    return Reply(204)


def _kind_and_endpoint(check: dict[str, Any]) -> tuple[Any, Any]:
    return check["type"], check["data"].get("endpoint")


def _begin_version(process: Process) -> None:
    """What runs is replaced by what is described now (reference 7.1)."""
    if process.app.desired_state == "STARTED":
        process.version = new_guid()


def _recorded(call: Call, what: str, process: Process, data: dict[str, Any]) -> None:
    about = {"process_guid": process.guid, "process_type": process.type}
    app_access.record(call, f"process.{what}", process.app, {**about, **data})
