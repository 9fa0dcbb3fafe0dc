"""How an app becomes something that runs: buildpacks, cloud native buildpacks or an image (reference 3.2)."""

from __future__ import annotations

import re
from typing import Any, Final, Literal
from urllib.parse import urlsplit, urlunsplit

from sqlalchemy import select

from controller.database.applications import App
from controller.database.platform import Buildpack, Stack
from controller.v3.bodies import Body, Text
from controller.v3.call import Call
from controller.v3.errors import unprocessable

DOCKER: Final = "docker"
_FLAGS: Final = {"docker": "diego_docker", "cnb": "diego_cnb"}
_URL: Final = re.compile(r"(?:https?|git|ssh|docker)://[^\s/]+\S*|[\w.-]+@[\w.-]+:\S+")


class Data(Body):
    buildpacks: list[Text] | None = None
    stack: Text | None = None
    credentials: dict[str, Any] | None = None


class Lifecycle(Body):
    type: Literal["buildpack", "cnb", "docker"]
    data: Data


def require_flag(call: Call, kind: str) -> None:
    """Docker and cloud native buildpacks are for where an operator allows them. Raises ApiError (FeatureDisabled)."""
    if kind in _FLAGS:
        call.require_flag(_FLAGS[kind])


def data_of(call: Call, lifecycle: Lifecycle | None, app: App | None = None) -> dict[str, Any]:
    """What is stored of a lifecycle; what it leaves out is as the app has it, or the default.

    Raises ApiError: a buildpack or stack that is not there.
    """
    given = lifecycle.data.model_dump(exclude_unset=True) if lifecycle is not None else {}
    kind = lifecycle.type if lifecycle is not None else app.lifecycle_type if app is not None else "buildpack"
    if kind == DOCKER:
        if given:
            raise unprocessable(f"Lifecycle Unknown field(s): {', '.join(repr(name) for name in given)}")
        return {}
    known = app.lifecycle_data if app is not None else {}
    stack = given.get("stack") or known.get("stack") or _default_stack(call)
    buildpacks = given["buildpacks"] or [] if "buildpacks" in given else known.get("buildpacks", [])
    if given.get("stack") and call.session.scalars(select(Stack.id).where(Stack.name == stack)).first() is None:
        raise unprocessable("Stack must be an existing stack")
    _check_buildpacks(call, given.get("buildpacks") or [], kind, stack)
    return {"buildpacks": buildpacks, "stack": stack}


def presented(kind: str, data: dict[str, Any]) -> dict[str, Any]:
    if kind == DOCKER:
        return {"type": kind, "data": {}}
    buildpacks = [without_password(name) for name in data.get("buildpacks", [])]
    return {"type": kind, "data": {"buildpacks": buildpacks, "stack": data.get("stack")}}


def without_password(buildpack: str) -> str:
    """A name stays as it is; of a URL nobody is shown who logs in there."""
    parts = urlsplit(buildpack)
    if not parts.scheme or "@" not in parts.netloc:
        return buildpack
    return urlunsplit(parts._replace(netloc="***:***@" + parts.netloc.rpartition("@")[2]))


def _default_stack(call: Call) -> str | None:
    return call.session.scalars(select(Stack.name).order_by(Stack.default.desc(), Stack.id)).first()


def _check_buildpacks(call: Call, names: list[str], kind: str, stack: str | None) -> None:
    wanted = [name for name in names if not _URL.fullmatch(name)]
    if not wanted:
        return
    statement = select(Buildpack.name).where(
        Buildpack.name.in_(wanted),
        Buildpack.lifecycle == kind,
        (Buildpack.stack == stack) | Buildpack.stack.is_(None),
    )
    known = set(call.session.scalars(statement))
    for name in wanted:
        if name not in known:
            raise unprocessable(f'Buildpack "{name}" must be an existing admin buildpack or a valid git URI')
