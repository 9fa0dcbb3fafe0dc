"""Features of spaces (reference 3.1): whether people may log in to instances of its apps."""

from __future__ import annotations

from typing import Any, Final

from controller.access import Right
from controller.database.tenancy import Space
from controller.v3 import spaces
from controller.v3.api import Api
from controller.v3.bodies import Body
from controller.v3.call import Call
from controller.v3.errors import not_found

api = Api("Space features")
_SSH: Final = "ssh"


class Update(Body):
    enabled: bool


def present(space: Space) -> dict[str, Any]:
    return {"name": _SSH, "description": "Enable SSHing into apps in the space.", "enabled": space.allow_ssh}


@api.get("/v3/spaces/{guid}/features")
def list_features(call: Call, guid: str) -> dict[str, Any]:
    """List the features of a space."""
    return {"resources": [present(spaces.visible(call, guid))]}


@api.get("/v3/spaces/{guid}/features/{name}")
def get_feature(call: Call, guid: str, name: str) -> dict[str, Any]:
    """Get a feature of a space."""
    return present(_with_feature(call, guid, name))


@api.patch("/v3/spaces/{guid}/features/{name}")
def update_feature(call: Call, guid: str, name: str, body: Update) -> dict[str, Any]:
    """Switch a feature of a space."""
    space = _with_feature(call, guid, name)
    call.require_in_space(Right.MANAGE_SPACE, space)
    space.allow_ssh = body.enabled
    return present(space)


def _with_feature(call: Call, guid: str, name: str) -> Space:
    space = spaces.visible(call, guid)
    if name != _SSH:
        raise not_found("Feature")
    return space
