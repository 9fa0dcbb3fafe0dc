"""Makes an app what its part of a manifest asks for (reference 3.4): the work behind ``apply_manifest``.

Apps are there before the request is answered, so that clients find them; everything else is one job, in one
transaction: a manifest is applied whole or, apart from new and empty apps, not at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import func, or_, select

from controller.database.applications import App
from controller.database.services import ServiceCredentialBinding, ServiceInstance, ServiceInstanceShare
from controller.database.tenancy import Space
from controller.v3 import (
    app_access,
    app_environment,
    app_features,
    apps,
    deployments,
    lifecycles,
    processes,
    service_credential_bindings,
    sidecars,
)
from controller.v3.call import Call
from controller.v3.errors import ApiError, unprocessable
from controller.v3.lifecycles import Lifecycle
from controller.v3.manifests import route_mapping
from controller.v3.manifests.process_wishes import ProcessWish, SidecarWish
from controller.v3.manifests.wishes import ServiceWish, Wish


@contextmanager
def about(name: str) -> Iterator[None]:
    """Errors within are about this application."""
    try:
        yield
    except ApiError as error:
        raise ApiError(error.name, *(f"For application '{name}': {detail}" for detail in error.details)) from None


def named(call: Call, space: Space, name: str) -> App | None:
    """The space's app of this name, whatever its case."""
    statement = select(App).where(App.space_id == space.id, func.lower(App.name) == name.lower())
    return call.session.scalars(statement).unique().one_or_none()


def skeleton(call: Call, space: Space, wish: Wish) -> App:
    """The app, made if it is not there, with nothing but its name and lifecycle. Raises ApiError."""
    with about(wish.name):
        lifecycles.require_flag(call, wish.lifecycle or "buildpack")
        app = named(call, space, wish.name)
        if app is None:
            return apps.add(call, space, wish.name, wish.new_lifecycle)
        _refuse_other_lifecycle(app, wish)
        return app


def _refuse_other_lifecycle(app: App, wish: Wish) -> None:
    data = wish.lifecycle_data
    if app.lifecycle_type == "docker" and data is not None and data.buildpacks is not None:
        raise unprocessable("Buildpacks cannot be configured for a docker lifecycle app.")
    if app.lifecycle_type != "docker" and wish.lifecycle == "docker":
        raise unprocessable("Docker cannot be configured for a buildpack lifecycle app.")
    if wish.lifecycle not in (None, app.lifecycle_type):
        raise unprocessable("Lifecycle type cannot be changed")


def apply(call: Call, app: App, wish: Wish) -> None:
    """Raises ApiError. Takes the lock of the app."""
    app = app_access.lock(call, app)
    for name, enabled in sorted(wish.features.items(), key=lambda item: item[1]):
        if getattr(app, app_features.FEATURES[name].column) != enabled:
            app_features.switch(call, app, name, enabled)
    for process in wish.processes:
        _apply_process(call, app, process)
    _apply_sidecars(call, app, wish.sidecars)
    _apply_app(call, app, wish)
    route_mapping.apply(call, app, wish)
    if any(app.environment_variables.get(key) != value for key, value in wish.environment.items()):
        app_environment.merge(call, app, wish.environment, "Env")
    for service in wish.services:
        _bind(call, app, service)


def _apply_app(call: Call, app: App, wish: Wish) -> None:
    _refuse_other_lifecycle(app, wish)
    data = wish.lifecycle_data
    changed = data is not None and lifecycles.data_of(call, _lifecycle(app, wish), app) != app.lifecycle_data
    if changed or wish.metadata is not None:
        body = apps.Update.model_construct(metadata=wish.metadata)
        if changed:
            body.lifecycle = _lifecycle(app, wish)
        apps.change(call, app, body)


def _lifecycle(app: App, wish: Wish) -> Lifecycle:
    return Lifecycle.model_construct(type=app.lifecycle_type, data=wish.lifecycle_data)


# Processes ------------------------------------------------------------------------------------------------------------


def _apply_process(call: Call, app: App, wish: ProcessWish) -> None:
    """What changes nothing is not done: it may come while the app is deployed."""
    process = processes.newest(call, app, wish.type) or processes.add(call, app, wish.type)
    if wish.update.model_fields_set:
        processes.change(call, process, wish.update, while_deploying=True)
    scale = {
        column: value
        for column, value in wish.scale.model_dump(exclude_unset=True).items()
        if getattr(process, column) != value
    }
    if wish.type == processes.WEB and "instances" in wish.scale.model_fields_set:
        deployment = deployments.active(call, app)
        if deployment is not None:  # it scales the web process then, up to the number that it knows
            deployment.original_web_instances = scale.pop("instances", process.instances)
    if scale:
        processes.rescale(call, process, processes.Scale.model_construct(**scale))


def _apply_sidecars(call: Call, app: App, wishes: list[SidecarWish]) -> None:
    there = {sidecar.name: sidecar for sidecar in sidecars.of_app(call.session, app)}
    for wish in wishes:
        known = there.get(wish.name)
        if known is None:
            body = sidecars.Create.model_construct(
                name=wish.name,
                command=wish.command,
                process_types=wish.process_types,
                memory_in_mb=wish.memory_in_mb,
            )
            sidecars.add(call, app, body)
        else:
            given: dict[str, Any] = {"command": wish.command, "process_types": wish.process_types}
            if wish.memory_in_mb is not None:
                given["memory_in_mb"] = wish.memory_in_mb
            sidecars.change(call, known, sidecars.Update.model_construct(**given))


# Services -------------------------------------------------------------------------------------------------------------


def _bind(call: Call, app: App, wish: ServiceWish) -> None:
    instance = _instance(call, app, wish.name)
    bound = select(ServiceCredentialBinding.id).where(
        ServiceCredentialBinding.app_id == app.id, ServiceCredentialBinding.service_instance_id == instance.id
    )
    if call.session.scalars(bound).first() is not None:
        return
    if wish.parameters:
        raise unprocessable(
            f"For service '{wish.name}': Binding parameters are not supported for user-provided service instances"
        )
    service_credential_bindings.add(call, instance, app, wish.binding_name)


def _instance(call: Call, app: App, name: str) -> ServiceInstance:
    """In the app's space, or shared into it. Raises ApiError (ResourceNotFound)."""
    shared = select(ServiceInstanceShare.service_instance_id).where(ServiceInstanceShare.space_id == app.space_id)
    statement = select(ServiceInstance).where(
        func.lower(ServiceInstance.name) == name.lower(),
        or_(ServiceInstance.space_id == app.space_id, ServiceInstance.id.in_(shared)),
    )
    instance = call.session.scalars(statement.order_by(ServiceInstance.id)).unique().first()
    if instance is None:
        raise ApiError("ResourceNotFound", f"Service instance '{name}' not found")
    return instance
