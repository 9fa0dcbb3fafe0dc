"""What an app can be allowed (reference 3.2): logging in by ssh, revisions, services as files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from controller.access import Right
from controller.database.applications import App
from controller.v3 import app_access
from controller.v3.api import Api
from controller.v3.bodies import Body
from controller.v3.call import Call
from controller.v3.errors import not_found, unprocessable

api = Api("Apps")


@dataclass(frozen=True, slots=True)
class Feature:
    column: str
    """Of the app's row."""
    description: str
    right: Right
    """That who switches it needs."""


FEATURES: Final = {
    "ssh": Feature("ssh_enabled", "Enable SSHing into the app.", Right.DEVELOP),
    "revisions": Feature("revisions_enabled", "Enable versioning of an application", Right.OPERATE),
    "service-binding-k8s": Feature(
        "service_binding_k8s_enabled",
        "Enable k8s service bindings for the app",
        Right.DEVELOP,
    ),
    "file-based-vcap-services": Feature(
        "file_based_vcap_services_enabled", "Enable file-based VCAP service bindings for the app", Right.DEVELOP
    ),
}
_EXCLUSIVE: Final = ("service-binding-k8s", "file-based-vcap-services")


class Update(Body):
    enabled: bool


def _shown(app: App, name: str) -> dict[str, Any]:
    feature = FEATURES[name]
    return {"name": name, "description": feature.description, "enabled": getattr(app, feature.column)}


@api.get("/v3/apps/{guid}/features", query=("page", "per_page"))
def list_app_features(call: Call, guid: str) -> dict[str, Any]:
    """All features of an app."""
    app = app_access.visible_app(call, guid)
    link = call.link(f"/v3/apps/{guid}/features")
    return {
        "resources": [_shown(app, name) for name in FEATURES],
        "pagination": {
            "total_results": len(FEATURES),
            "total_pages": 1,
            "first": link,
            "last": link,
            "next": None,
            "previous": None,
        },
    }


@api.get("/v3/apps/{guid}/features/{name}")
def get_app_feature(call: Call, guid: str, name: str) -> dict[str, Any]:
    """Get a feature of an app."""
    app = app_access.visible_app(call, guid)
    _known(name)
    return _shown(app, name)


@api.patch("/v3/apps/{guid}/features/{name}")
def update_app_feature(call: Call, guid: str, name: str, body: Update) -> dict[str, Any]:
    """Switch a feature of an app."""
    app_access.visible_app(call, guid)
    _known(name)
    app = app_access.changeable_app(call, guid, FEATURES[name].right)
    switch(call, app, name, body.enabled)
    return _shown(app, name)


def switch(call: Call, app: App, name: str, enabled: bool) -> None:
    """Raises ApiError. The caller of this holds the lock of the app."""
    _known(name)
    other = _EXCLUSIVE[not _EXCLUSIVE.index(name)] if name in _EXCLUSIVE else None
    if enabled and other is not None and getattr(app, FEATURES[other].column):
        raise unprocessable(f"'{_EXCLUSIVE[1]}' and '{_EXCLUSIVE[0]}' features cannot be enabled at the same time.")
    setattr(app, FEATURES[name].column, enabled)
    call.session.flush()
    app_access.record(call, "update", app, {"request": {"features": {name: enabled}}})


@api.get("/v3/apps/{guid}/ssh_enabled")
def get_ssh_enabled(call: Call, guid: str) -> dict[str, Any]:
    """Whether one can log in to an app by ssh, and if not, why."""
    app = app_access.visible_app(call, guid)
    if not app.space.allow_ssh:
        return {"enabled": False, "reason": "Disabled for space"}
    if not app.ssh_enabled:
        return {"enabled": False, "reason": "Disabled for app"}
    return {"enabled": True, "reason": ""}


def _known(name: str) -> None:
    if name not in FEATURES:
        raise not_found("Feature")
