"""The ASGI application: all endpoints, and what is the same for requests that meet none."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import trio
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from controller.context import Context
from controller.dispatch import Dispatcher
from controller.jobs import JobRunner, Operation
from controller.request_log import RequestLog
from controller.routing_api import endpoints as routing_endpoints
from controller.routing_api.service import RoutingApi
from controller.settings import Settings
from controller.uaa import endpoints
from controller.uaa.service import Uaa
from controller.v3 import api as v3
from controller.v3 import (
    app_environment,
    app_features,
    apps,
    audit_events,
    buildpacks,
    builds,
    current_droplet,
    deployments,
    destinations,
    domains,
    droplets,
    environment_groups,
    feature_flags,
    isolation_segments,
    jobs,
    members,
    organization_quotas,
    organizations,
    packages,
    processes,
    resource_matches,
    revisions,
    roles,
    roots,
    routes,
    security_groups,
    segment_assignments,
    service_catalogue,
    service_credential_bindings,
    service_instances,
    service_route_bindings,
    sidecars,
    space_features,
    space_quotas,
    spaces,
    stacks,
    tasks,
    usage_events,
    usage_summaries,
    users,
)
from controller.v3.errors import ApiError, unknown_request
from controller.v3.manifests import endpoints as manifests
from controller.v3.openapi import operations as openapi

MODULES: Final = (
    roots,
    jobs,
    organizations,
    spaces,
    roles,
    users,
    domains,
    routes,
    destinations,
    apps,
    app_environment,
    app_features,
    current_droplet,
    processes,
    sidecars,
    packages,
    builds,
    droplets,
    revisions,
    deployments,
    tasks,
    manifests,
    service_instances,
    service_credential_bindings,
    service_route_bindings,
    feature_flags,
    environment_groups,
    stacks,
    buildpacks,
    resource_matches,
    service_catalogue,
    audit_events,
    usage_events,
    isolation_segments,
    segment_assignments,
    security_groups,
    space_features,
    members,
    organization_quotas,
    space_quotas,
    usage_summaries,
)
"""Of the V3 API, in the order in which the document lists them."""


def operations(settings: Settings) -> dict[str, Operation]:
    """What jobs can do, by name."""
    found: dict[str, Operation] = {}
    for module in MODULES:
        found |= getattr(module, "JOBS", {})
    return found | manifests.jobs(settings)


def application(context: Context, runner: JobRunner, uaa: Uaa, routing: RoutingApi) -> ASGIApp:
    """``runner`` lives as long as the application."""

    @asynccontextmanager
    async def life(_app: FastAPI) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(runner.run)
            yield
            nursery.cancel_scope.cancel()

    app = FastAPI(
        title="Millrace Cloud Controller",
        version=roots.VERSION,
        lifespan=life,
        openapi_url="/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.context = context
    app.state.uaa = uaa
    app.state.routing = routing
    if not context.settings.external_uaa:
        app.include_router(endpoints.router)
    for module in MODULES:
        app.include_router(module.api.router)
    app.include_router(routing_endpoints.router)
    app.add_exception_handler(HTTPException, _unknown)
    _describe(app)
    return RequestLog(Dispatcher(app, _routes(context), _failed))


def _routes(context: Context) -> list[BaseRoute]:
    own = [] if context.settings.external_uaa else list(endpoints.router.routes)
    return own + [route for module in MODULES for route in module.api.router.routes]


async def _unknown(request: Request, _error: Exception) -> Response:
    """Neither a path nor a method of ours."""
    return v3.refusal(unknown_request(), v3.request_id_of(request.headers))


def _failed(request: Request) -> Response:
    """An endpoint raised what it should not have."""
    return v3.refusal(ApiError("UnknownError", "An unknown error occurred."), v3.request_id_of(request.headers))


def _describe(app: FastAPI) -> None:
    """Adds to the document how a token is shown."""
    make: Callable[[], dict[str, Any]] = app.openapi

    def described() -> dict[str, Any]:
        document = make()
        schemes = document.setdefault("components", {}).setdefault("securitySchemes", {})
        schemes["bearer"] = {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
        document["components"]["schemas"] = {**document["components"].get("schemas", {}), **openapi.components()}
        return document

    app.openapi = described  # type: ignore[method-assign]
