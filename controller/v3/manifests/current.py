"""An app as it is, in the words of a manifest: what ``GET manifest`` writes down and what differences are found with.

Applying it to the app that it describes changes nothing.
"""

from __future__ import annotations

from typing import Any

import yaml
from sqlalchemy import select

from controller.database.applications import App, Droplet, Package, Process
from controller.database.routing import Destination
from controller.database.services import ServiceCredentialBinding
from controller.v3 import app_features, lifecycles, metadata, processes, route_rules, sidecars
from controller.v3.call import Call
from controller.v3.manifests import sizes


class _Dumper(yaml.SafeDumper):
    """Without aliases, which no manifest may have."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def written(application: dict[str, Any]) -> bytes:
    """The YAML of a manifest with one application."""
    document = {"applications": [application]}
    text: str = yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, explicit_start=True)
    return text.encode()


def of_app(call: Call, app: App) -> dict[str, Any]:
    """With hyphens where the documentation has them; what is not set is not there."""
    described: dict[str, Any] = {"name": app.name}
    if app.environment_variables:
        described["env"] = dict(app.environment_variables)
    described |= _lifecycle(call, app)
    described["features"] = {name: getattr(app, one.column) for name, one in app_features.FEATURES.items()}
    labels = {key: value for key, value in metadata.shown(app).items() if value}
    if labels:
        described["metadata"] = labels
    for key, value in (
        ("routes", _routes(call, app)),
        ("services", _services(call, app)),
        ("sidecars", _sidecars(call, app)),
        ("processes", [_process(process) for process in _newest_processes(call, app)]),
    ):
        if value:
            described[key] = value
    return described


def _lifecycle(call: Call, app: App) -> dict[str, Any]:
    if app.lifecycle_type == lifecycles.DOCKER:
        image = _image(call, app)
        return {"lifecycle": lifecycles.DOCKER, **({"docker": {"image": image}} if image else {})}
    described: dict[str, Any] = {"lifecycle": app.lifecycle_type}
    if app.lifecycle_data.get("buildpacks"):
        described["buildpacks"] = [lifecycles.without_password(name) for name in app.lifecycle_data["buildpacks"]]
    if app.lifecycle_data.get("stack"):
        described["stack"] = app.lifecycle_data["stack"]
    return described


def _image(call: Call, app: App) -> str | None:
    """That runs, else that is to run next."""
    if app.droplet_guid is not None:
        current = select(Droplet.image).where(Droplet.guid == app.droplet_guid)
        if image := call.session.scalars(current).first():
            return image
    newest = select(Package.docker_image).where(Package.app_id == app.id, Package.type == lifecycles.DOCKER)
    return call.session.scalars(newest.order_by(Package.id.desc()).limit(1)).first()


def _routes(call: Call, app: App) -> list[dict[str, Any]]:
    statement = select(Destination).where(Destination.app_id == app.id).order_by(Destination.id)
    found: dict[str, dict[str, Any]] = {}
    for one in call.session.scalars(statement).unique():
        described: dict[str, Any] = {"route": route_rules.url(one.route), "protocol": one.protocol}
        if one.route.options:
            described["options"] = dict(one.route.options)
        found.setdefault(described["route"], described)
    return sorted(found.values(), key=lambda route: str(route["route"]))


def _services(call: Call, app: App) -> list[Any]:
    statement = select(ServiceCredentialBinding).where(ServiceCredentialBinding.app_id == app.id)
    bindings = call.session.scalars(statement.order_by(ServiceCredentialBinding.id)).unique()
    return [
        {"name": one.service_instance.name, "binding_name": one.name} if one.name else one.service_instance.name
        for one in bindings
    ]


def _sidecars(call: Call, app: App) -> list[dict[str, Any]]:
    found = []
    for sidecar in sidecars.of_app(call.session, app):
        described = {"name": sidecar.name, "process_types": sidecar.process_types, "command": sidecar.command}
        if sidecar.memory_in_mb is not None:
            described["memory"] = sizes.shown_megabytes(sidecar.memory_in_mb)
        found.append(described)
    return found


def _newest_processes(call: Call, app: App) -> list[Process]:
    """One of each type: the newest, where a deployment has begun another one."""
    statement = select(Process).where(Process.app_id == app.id).order_by(Process.id)
    newest = {process.type: process for process in call.session.scalars(statement).unique()}
    return [newest[kind] for kind in sorted(newest, key=lambda kind: (kind != processes.WEB, kind))]


def _process(process: Process) -> dict[str, Any]:
    described = {
        "type": process.type,
        "instances": process.instances,
        "memory": sizes.shown_megabytes(process.memory_in_mb),
        "disk_quota": sizes.shown_megabytes(process.disk_in_mb),
        "log-rate-limit-per-second": sizes.shown_rate(process.log_rate_limit_in_bytes_per_second),
        "command": process.command,
        "user": process.user,
        **_check("", process.health_check),
        "timeout": process.health_check["data"].get("timeout"),
        **_check("readiness-", process.readiness_health_check),
    }
    return {key: value for key, value in described.items() if value is not None}


def _check(prefix: str, check: dict[str, Any]) -> dict[str, Any]:
    data = check["data"]
    return {
        f"{prefix}health-check-type": check["type"],
        f"{prefix}health-check-http-endpoint": data.get("endpoint"),
        f"{prefix}health-check-invocation-timeout": data.get("invocation_timeout"),
        f"{prefix}health-check-interval": data.get("interval"),
    }
