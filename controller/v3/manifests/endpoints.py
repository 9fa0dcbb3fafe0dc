"""Manifests over HTTP (reference 3.4): applied to a space, compared with it, and written down of an app."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from controller.access import Right
from controller.caller import Caller
from controller.database.applications import App
from controller.database.bookkeeping import Job
from controller.database.tenancy import Space
from controller.settings import Settings
from controller.v3 import app_access, spaces
from controller.v3.api import Api
from controller.v3.call import Call, Reply
from controller.v3.errors import not_authorized, not_found
from controller.v3.manifests import applying, current, differences, document, wishes

api = Api("Manifests")
YAML: Final = "application/x-yaml"
_HIDDEN: Final = "[PRIVATE DATA HIDDEN]"


@api.post("/v3/spaces/{guid}/actions/apply_manifest", 202, content=YAML, content_bytes=document.MAX_BYTES)
def apply_manifest(call: Call, guid: str, content: bytes) -> Reply:
    """Make the apps of a space what a manifest says; a job."""
    space = _space(call, guid)
    applications = document.applications(content, call.headers.get("content-type", ""))
    work = []
    for wish, application in zip(wishes.read_all(applications), applications, strict=True):
        app = applying.skeleton(call, space, wish)
        told = {**application, **({"env": _HIDDEN} if "env" in application else {})}
        app_access.record(call, "apply_manifest", app, {"request": {"manifest": {"applications": [told]}}})
        work.append({"app": app.guid, "application": application})
    caller = {**asdict(call.caller), "scopes": sorted(call.caller.scopes)}
    return call.begin("space.apply_manifest", ("space", space.guid), work=work, caller=caller)


def apply_all(settings: Settings, session: Session, job: Job) -> None:
    """The job behind it."""
    given: dict[str, Any] = job.arguments["caller"]
    caller = Caller(**{**given, "scopes": frozenset(given["scopes"])})
    call = Call("POST", "", {}, settings, session, caller, {})
    for part in job.arguments["work"]:
        wish = wishes.read(part["application"])
        with applying.about(wish.name):
            app = session.scalars(select(App).where(App.guid == part["app"])).unique().one_or_none()
            if app is None:
                raise not_found("App")
            applying.apply(call, app, wish)


def jobs(settings: Settings) -> dict[str, Callable[[Session, Job], None]]:
    return {"space.apply_manifest": partial(apply_all, settings)}


@api.post("/v3/spaces/{guid}/manifest_diff", content=YAML, content_bytes=document.MAX_BYTES)
def diff_manifest(call: Call, guid: str, content: bytes) -> dict[str, Any]:
    """What applying a manifest would change."""
    space = _space(call, guid)
    applications = document.applications(content, call.headers.get("content-type", ""))
    wishes.read_all(applications)
    found: list[differences.Difference] = []
    for index, application in enumerate(applications):
        app = applying.named(call, space, str(application["name"]))
        found += differences.of_application(index, application, None if app is None else current.of_app(call, app))
    return {"diff": found}


@api.get("/v3/apps/{guid}/manifest", produces=YAML)
def get_manifest(call: Call, guid: str) -> Reply:
    """An app as a manifest."""
    app = app_access.visible_app(call, guid)
    if not call.access.in_space(Right.READ_SECRETS, app.space):
        raise not_authorized()
    return Reply(200, current.written(current.of_app(call, app)), {"content-type": YAML})


def _space(call: Call, guid: str) -> Space:
    """Raises ApiError: not there, not the caller's to work in, suspended."""
    space = spaces.visible(call, guid)
    call.require_in_space(Right.DEVELOP, space)
    return space
