"""Deployments (reference 3.3): a new droplet for a running app, without a moment without the old one.

Here they begin, are cancelled and continued, as records; `controller.rolling` says what is next about each of them.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field
from sqlalchemy import select

from controller import rolling
from controller.access import Right
from controller.database.applications import App, Deployment, Droplet, Process, Revision
from controller.database.base import new_guid, now
from controller.rolling import ACTIVE, Rollout
from controller.v3 import (
    app_access,
    app_quotas,
    apps,
    belonging,
    current_droplet,
    lifecycles,
    metadata,
    processes,
    revisions,
)
from controller.v3.api import Api
from controller.v3.bodies import Body, Named, ToOne
from controller.v3.call import Call, Reply
from controller.v3.errors import ApiError, unprocessable
from controller.v3.listing import Listing, among
from controller.v3.metadata import MetadataBody
from controller.v3.presenting import common, moment, to_one
from controller.v3.processes import WEB, Instances, LogRate, Megabytes, Scale

api = Api("Deployments")
CANARY: Final = "canary"
LISTING = Listing(
    Deployment,
    {
        "app_guids": belonging.of_apps(Deployment.app_id),
        "states": among(Deployment.state),
        "status_reasons": among(Deployment.status_reason),
        "status_values": among(Deployment.status_value),
    },
)


class Step(Body):
    instance_weight: Annotated[int, Field(ge=1, le=100)]


def _ascending(steps: list[Step]) -> list[Step]:
    weights = [step.instance_weight for step in steps]
    if weights != sorted(weights):
        raise ValueError("must be sorted in ascending order")
    return steps


class CanaryOptions(Body):
    steps: Annotated[list[Step], Field(min_length=1), AfterValidator(_ascending)] | None = None


class Options(Body):
    max_in_flight: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    web_instances: Instances | None = None
    memory_in_mb: Megabytes | None = None
    disk_in_mb: Megabytes | None = None
    log_rate_limit_in_bytes_per_second: LogRate | None = None
    canary: CanaryOptions | None = None


class Relationships(Body):
    app: ToOne


class Create(Body):
    droplet: Named | None = None
    revision: Named | None = None
    strategy: Literal["rolling", "canary"] | None = None
    options: Options | None = None
    relationships: Relationships
    metadata: MetadataBody | None = None


class Update(Body):
    metadata: MetadataBody | None = None


def present(deployment: Deployment, call: Call) -> dict[str, Any]:
    path, app = f"/v3/deployments/{deployment.guid}", deployment.app
    links = {"self": call.link(path), "app": call.link(f"/v3/apps/{app.guid}")}
    if deployment.status_value == "ACTIVE":
        links["cancel"] = call.link(f"{path}/actions/cancel", "POST")
    if deployment.state == rolling.PAUSED:
        links["continue"] = call.link(f"{path}/actions/continue", "POST")
    revision = {"guid": deployment.revision_guid, "version": deployment.revision_version}
    return {
        **common(deployment),
        "status": _status(deployment),
        "strategy": deployment.strategy,
        "options": deployment.options,
        "droplet": {"guid": deployment.droplet_guid},
        "previous_droplet": {"guid": deployment.previous_droplet_guid},
        "new_processes": deployment.new_processes,
        "revision": revision if deployment.revision_guid is not None else None,
        "relationships": {"app": to_one(app.guid)},
        "metadata": metadata.shown(deployment),
        "links": links,
    }


def _status(deployment: Deployment) -> dict[str, Any]:
    details: dict[str, Any] = {
        "last_successful_healthcheck": moment(deployment.last_healthy_at),
        "last_status_change": moment(deployment.status_updated_at),
    }
    if deployment.error is not None:
        details["error"] = deployment.error
    status = {"value": deployment.status_value, "reason": deployment.status_reason, "details": details}
    if deployment.strategy == CANARY and deployment.status_value == "ACTIVE":
        total = len(deployment.options.get("canary", {}).get("steps", ())) or 1
        status["canary"] = {"steps": {"current": deployment.canary_step, "total": total}}
    return status


@api.get("/v3/deployments", listing=LISTING)
def list_deployments(call: Call) -> dict[str, Any]:
    """List deployments."""
    return LISTING.page(call, lambda row: present(row, call), belonging.visible(call, Deployment.app_id))


@api.get("/v3/deployments/{guid}")
def get_deployment(call: Call, guid: str) -> dict[str, Any]:
    """Get a deployment."""
    return present(_found(call, guid), call)


@api.patch("/v3/deployments/{guid}")
def update_deployment(call: Call, guid: str, body: Update) -> dict[str, Any]:
    """Change a deployment's metadata."""
    deployment = _changeable(call, guid, Right.DEVELOP)
    metadata.merge(deployment, body.metadata)
    call.session.flush()
    return present(deployment, call)


# Beginning ------------------------------------------------------------------------------------------------------------


@api.post("/v3/deployments")
def create_deployment(call: Call, body: Create) -> dict[str, Any]:
    """Deploy a droplet, a revision, or the current droplet with what else has changed."""
    if call.settings.temporary_disable_deployments:
        raise ApiError("DeploymentsDisabled", "Deployments cannot be created due to manifest property")
    no_app = "Unable to use app. Ensure that the app exists and you have access to it."
    app = app_access.related_app(call, body.relationships.app.data.guid, Right.OPERATE, no_app)
    lifecycles.require_flag(call, app.lifecycle_type)
    options = body.options or Options()
    if body.droplet is not None and body.revision is not None:
        raise unprocessable("Droplet Cannot set both fields 'droplet' and 'revision'")
    if options.canary is not None and body.strategy != CANARY:
        raise unprocessable("Options.canary are only valid for Canary deployments")
    if body.revision is not None and not app.revisions_enabled:
        raise unprocessable("Cannot create deployment from a revision for an app without revisions enabled")
    to = _revision(call, app, body.revision)
    droplet = _droplet(call, app, body, to)
    deployment = _begin(call, app, droplet, to, body.strategy or "rolling", options)
    metadata.merge(deployment, body.metadata)
    call.session.flush()
    about = {"deployment_guid": deployment.guid, "droplet_guid": droplet.guid, "type": "deployment"}
    app_access.record(call, "deployment.create", app, {**about, "strategy": deployment.strategy})
    return present(deployment, call)


def _begin(call: Call, app: App, droplet: Droplet, to: Revision | None, strategy: str, options: Options) -> Deployment:
    before, previous = app.droplet_guid, active(call, app)
    was_running = app.desired_state == "STARTED"
    current_droplet.assign(call, app, droplet)
    if to is not None:
        app.environment_variables = to.environment_variables
    revision = revisions.current(call, app) if to is None else revisions.rolled_back(call, app, to)
    webs = _webs(call, app)
    there = previous.original_web_instances if previous is not None else webs[0].instances
    moment_of_it = now()
    deployment = Deployment(
        guid=new_guid(),
        app=app,
        status_updated_at=moment_of_it,
        last_healthy_at=moment_of_it,
        strategy=strategy,
        droplet_guid=droplet.guid,
        previous_droplet_guid=before,
        revision_guid=revision.guid if revision is not None else None,
        revision_version=revision.version if revision is not None else None,
        original_web_instances=there,
        options=_stored(options),
        canary_step=1 if strategy == CANARY else 0,
        labels={},
        annotations={},
    )
    if previous is not None:
        set_state(previous, rolling.CANCELED if previous.state == rolling.CANCELING else rolling.DEPLOYED, "SUPERSEDED")
        call.session.flush()
    set_state(deployment, rolling.PREPAUSED if strategy == CANARY else rolling.DEPLOYING)
    if was_running:
        web = _cloned(call, webs[-1], rollout_of(deployment), options)
        web.revision_guid = deployment.revision_guid
        if to is not None:
            web.command = to.commands.get(WEB)
        deployment.deploying_process_guid = web.guid
    else:
        web = webs[-1]
        if to is not None:
            _take_commands(call, app, to)
        _resize(call, web, options, options.web_instances)
        set_state(deployment, rolling.DEPLOYED)
    deployment.new_processes = [{"guid": web.guid, "type": web.type}]
    call.session.add(deployment)
    call.session.flush()
    if was_running:
        app_quotas.check(call, app)
        app_access.routes_changed(call, app)
    else:
        apps.start(call, app)
    return deployment


def _cloned(call: Call, web: Process, rollout: Rollout, options: Options) -> Process:
    """A web process like the newest one, for the new droplet."""
    clone = Process(
        guid=new_guid(),
        app=web.app,
        type=WEB,
        command=web.command,
        user=web.user,
        memory_in_mb=web.memory_in_mb,
        disk_in_mb=web.disk_in_mb,
        log_rate_limit_in_bytes_per_second=web.log_rate_limit_in_bytes_per_second,
        health_check=web.health_check,
        readiness_health_check=web.readiness_health_check,
        labels=web.labels,
        annotations=web.annotations,
    )
    call.session.add(clone)
    _resize(call, clone, options, rolling.first_instances(rollout))
    return clone


def _take_commands(call: Call, app: App, to: Revision) -> None:
    """All processes do what they did in that revision."""
    for process in call.session.scalars(select(Process).where(Process.app_id == app.id)).unique():
        process.command = to.commands.get(process.type)


def _resize(call: Call, process: Process, options: Options, instances: int | None) -> None:
    sizes = options.model_dump(include={"memory_in_mb", "disk_in_mb", "log_rate_limit_in_bytes_per_second"})
    processes.set_sizes(process, Scale(instances=instances, **sizes))
    call.session.flush()


def _stored(options: Options) -> dict[str, Any]:
    given = options.model_dump(exclude_none=True)
    return {"max_in_flight": 1, **given}


def _droplet(call: Call, app: App, body: Create, to: Revision | None) -> Droplet:
    """Raises ApiError: none that the app could run."""
    if to is not None:
        refusal = unprocessable("Unable to deploy this revision, the droplet for this revision no longer exists.")
        return call.related(Droplet, to.droplet_guid, Droplet.state == "STAGED", refusal=refusal)
    guid = body.droplet.guid if body.droplet is not None else app.droplet_guid
    if guid is None:
        raise unprocessable(
            "Invalid droplet. Please specify a droplet in the request or set a current droplet for the app."
        )
    return current_droplet.assignable(call, app, guid)


def _revision(call: Call, app: App, named: Named | None) -> Revision | None:
    """Raises ApiError: there is none of the app."""
    if named is None:
        return None
    refusal = unprocessable("The revision does not exist")
    return call.related(Revision, named.guid, Revision.app_id == app.id, refusal=refusal)


# Cancelling and continuing --------------------------------------------------------------------------------------------


@api.post("/v3/deployments/{guid}/actions/cancel", 200)
def cancel_deployment(call: Call, guid: str) -> Reply:
    """Go back to what ran before."""
    deployment = _changeable(call, guid, Right.OPERATE)
    _require(deployment, "cancel", deployment.status_value == "ACTIVE")
    app = deployment.app
    if deployment.previous_droplet_guid is not None and deployment.state != rolling.CANCELING:
        current_droplet.assign(call, app, current_droplet.assignable(call, app, deployment.previous_droplet_guid))
    set_state(deployment, rolling.CANCELING)
    call.session.flush()
    about = {"deployment_guid": deployment.guid, "droplet_guid": deployment.droplet_guid}
    app_access.record(call, "deployment.cancel", app, about)
    return Reply(200)


@api.post("/v3/deployments/{guid}/actions/continue", 200)
def continue_deployment(call: Call, guid: str) -> Reply:
    """End the pause of a canary."""
    deployment = _changeable(call, guid, Right.OPERATE)
    _require(deployment, "continue", deployment.state == rolling.PAUSED)
    state, deployment.canary_step = rolling.continued(rollout_of(deployment))
    set_state(deployment, state)
    call.session.flush()
    about = {"deployment_guid": deployment.guid, "droplet_guid": deployment.droplet_guid}
    app_access.record(call, "deployment.continue", deployment.app, about)
    return Reply(200)


def _require(deployment: Deployment, what: str, possible: bool) -> None:
    if not possible:
        raise unprocessable(
            f"Cannot {what} a deployment with status: {deployment.status_value} and reason: {deployment.status_reason}"
        )


def set_state(deployment: Deployment, state: str, reason: str | None = None) -> None:
    """With the status that follows from it."""
    deployment.state = state
    value = "ACTIVE" if state in ACTIVE else "FINALIZED"
    shown = reason or rolling.REASONS.get(state, state)
    if (value, shown) != (deployment.status_value, deployment.status_reason):
        deployment.status_value, deployment.status_reason = value, shown
        deployment.status_updated_at = now()


def rollout_of(deployment: Deployment) -> Rollout:
    options = deployment.options
    return Rollout(
        state=deployment.state,
        target=options.get("web_instances", deployment.original_web_instances),
        original=deployment.original_web_instances,
        max_in_flight=options.get("max_in_flight", 1),
        steps=tuple(step["instance_weight"] for step in options.get("canary", {}).get("steps") or ()),
        step=deployment.canary_step,
    )


def active(call: Call, app: App) -> Deployment | None:
    """The one that goes on."""
    statement = select(Deployment).where(Deployment.app_id == app.id, Deployment.status_value == "ACTIVE")
    return call.session.scalars(statement).unique().one_or_none()


def _webs(call: Call, app: App) -> list[Process]:
    """The web processes, oldest first; at least one. Raises ApiError."""
    statement = select(Process).where(Process.app_id == app.id, Process.type == WEB).order_by(Process.id)
    found = list(call.session.scalars(statement).unique())
    if not found:
        raise unprocessable("The app has no web process to deploy")
    return found


def _found(call: Call, guid: str) -> Deployment:
    """Raises ApiError (ResourceNotFound)."""
    return call.find(Deployment, guid, belonging.visible(call, Deployment.app_id), called="Deployment")


def _changeable(call: Call, guid: str, right: Right) -> Deployment:
    """With the lock of its app. Raises ApiError."""
    deployment = _found(call, guid)
    app_access.check(call, deployment.app, right)
    app_access.lock(call, deployment.app)
    call.session.refresh(deployment)
    return deployment
