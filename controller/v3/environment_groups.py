"""Environment variable groups (reference 3.2): variables of every app that runs, and of every app that is staged."""

from __future__ import annotations

from typing import Any

import orjson
from pydantic import Field
from sqlalchemy import select

from controller.database.platform import EnvironmentGroup
from controller.v3.api import Api
from controller.v3.bodies import Body
from controller.v3.call import Call
from controller.v3.errors import not_found, unprocessable
from controller.v3.presenting import moment
from controller.v3.variables import MAX_BYTES, merged

api = Api("Environment variable groups")


class Update(Body):
    var: dict[str, Any] = Field(default_factory=dict)


def present(group: EnvironmentGroup, call: Call) -> dict[str, Any]:
    return {
        "updated_at": moment(group.updated_at),
        "name": group.name,
        "var": group.variables,
        "links": {"self": call.link(f"/v3/environment_variable_groups/{group.name}")},
    }


@api.get("/v3/environment_variable_groups/{name}")
def get_group(call: Call, name: str) -> dict[str, Any]:
    """Get an environment variable group."""
    return present(_find(call, name), call)


@api.patch("/v3/environment_variable_groups/{name}")
def update_group(call: Call, name: str, body: Update) -> dict[str, Any]:
    """Set variables of a group, and take away those that are null. Apps see it at their next start."""
    group = _find(call, name, to_change=True)
    call.require_admin()
    if len(orjson.dumps({**group.variables, **body.var})) > MAX_BYTES:
        raise unprocessable(
            "Environment variable group is too large. Specify fewer variables or reduce key/value lengths."
        )
    group.variables = merged(group.variables, body.var, "Var")
    call.session.flush()
    return present(group, call)


def _find(call: Call, name: str, *, to_change: bool = False) -> EnvironmentGroup:
    statement = select(EnvironmentGroup).where(EnvironmentGroup.name == name)
    group = call.session.scalars(statement.with_for_update() if to_change else statement).one_or_none()
    if group is None:
        raise not_found("Environment variable group")
    return group
