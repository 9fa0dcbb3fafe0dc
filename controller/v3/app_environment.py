"""The environment of an app (reference 3.2): what users set, and what else it will find when it runs."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from controller import environment
from controller.access import Right
from controller.database.applications import App
from controller.database.platform import EnvironmentGroup
from controller.database.routing import Destination, Route
from controller.database.services import ServiceCredentialBinding
from controller.v3 import app_access, route_rules
from controller.v3.api import Api
from controller.v3.bodies import Body
from controller.v3.call import Call
from controller.v3.errors import not_authorized
from controller.v3.variables import merged

api = Api("Apps")
REDACTED: Final = {"redacted_message": "[PRIVATE DATA HIDDEN]"}


class Variables(Body):
    var: dict[str, Any]


@api.get("/v3/apps/{guid}/env", audited=True)
def get_app_environment(call: Call, guid: str) -> dict[str, Any]:
    """All of it."""
    app = _readable(call, guid)
    secret = call.access.in_space(Right.READ_SECRETS, app.space)
    bindings = bindings_of(call.session, app) if secret else []
    app_access.record(call, "environment.show", app)
    application = environment.vcap_application(app, uris_of(call.session, app), call.settings.external_url)
    return {
        "staging_env_json": group(call.session, "staging"),
        "running_env_json": group(call.session, "running"),
        "environment_variables": app.environment_variables,
        "system_env_json": environment.of_services(app, bindings) if secret else REDACTED,
        "application_env_json": {"VCAP_APPLICATION": application},
    }


@api.get("/v3/apps/{guid}/environment_variables", audited=True)
def get_environment_variables(call: Call, guid: str) -> dict[str, Any]:
    """The variables that users set."""
    app = _readable(call, guid)
    app_access.record(call, "environment_variables.show", app)
    return _shown(call, app)


@api.patch("/v3/apps/{guid}/environment_variables")
def update_environment_variables(call: Call, guid: str, body: Variables) -> dict[str, Any]:
    """Set variables; null takes one away. They take effect at the next start."""
    app = app_access.changeable_app(call, guid, Right.OPERATE)
    merge(call, app, body.var)
    return _shown(call, app)


def merge(call: Call, app: App, change: dict[str, Any], called: str = "Var") -> None:
    """Raises ApiError. The caller of this holds the lock of the app."""
    app.environment_variables = merged(app.environment_variables, change, called)
    call.session.flush()
    app_access.record(call, "update", app, {"request": {"environment_variables": "[PRIVATE DATA HIDDEN]"}})


def bindings_of(session: Session, app: App) -> list[ServiceCredentialBinding]:
    """Those that work, in the order in which they were made."""
    statement = select(ServiceCredentialBinding).where(ServiceCredentialBinding.app_id == app.id)
    return list(session.scalars(statement.order_by(ServiceCredentialBinding.id)).unique())


def uris_of(session: Session, app: App) -> list[str]:
    """Where the app's routes are, in the order in which they were mapped."""
    statement = (
        select(Route)
        .join(Destination, Destination.route_id == Route.id)
        .where(Destination.app_id == app.id)
        .order_by(Destination.id)
    )
    return [route_rules.url(route) for route in session.scalars(statement).unique()]


def group(session: Session, name: str) -> dict[str, str]:
    """The variables of every app that runs, or is staged."""
    found = session.scalars(select(EnvironmentGroup.variables).where(EnvironmentGroup.name == name)).first()
    return dict(found or {})


def _readable(call: Call, guid: str) -> App:
    """Raises ApiError: no app, not for the caller to read, or switched off."""
    app = app_access.visible_app(call, guid)
    call.require_flag("env_var_visibility")
    if not call.access.in_space(Right.READ_ENVIRONMENT, app.space):
        raise not_authorized()
    call.require_flag("space_developer_env_var_visibility")
    return app


def _shown(call: Call, app: App) -> dict[str, Any]:
    path = f"/v3/apps/{app.guid}"
    links = {"self": call.link(f"{path}/environment_variables"), "app": call.link(path)}
    return {"var": app.environment_variables, "links": links}
