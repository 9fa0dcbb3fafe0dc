"""Stacks (reference 3.6): the file systems that apps run on."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field
from sqlalchemy import select

from controller.access import Right
from controller.database.applications import App
from controller.database.platform import Stack
from controller.v3 import apps, metadata
from controller.v3.api import Api
from controller.v3.bodies import Body, Text
from controller.v3.call import Call, Reply
from controller.v3.errors import unprocessable
from controller.v3.listing import Listing, among, truth
from controller.v3.metadata import MetadataBody
from controller.v3.presenting import common

api = Api("Stacks")
LISTING = Listing(Stack, {"names": among(Stack.name), "default": truth(Stack.default, "default")}, orders=("name",))

State = Literal["ACTIVE", "RESTRICTED", "DEPRECATED", "DISABLED"]
Short = Annotated[Text, Field(min_length=1, max_length=250)]


class Create(Body):
    name: Short
    description: Annotated[Text, Field(max_length=250)] | None = None
    state: State = "ACTIVE"
    state_reason: Annotated[Text, Field(max_length=5000)] | None = None
    metadata: MetadataBody | None = None


class Update(Body):
    state: State | None = None
    state_reason: Annotated[Text, Field(max_length=5000)] | None = None
    metadata: MetadataBody | None = None


def present(stack: Stack, call: Call) -> dict[str, Any]:
    return {
        **common(stack),
        "name": stack.name,
        "description": stack.description,
        "state": stack.state,
        "state_reason": stack.state_reason,
        "run_rootfs_image": stack.name,
        "build_rootfs_image": stack.name,
        "default": stack.default,
        "metadata": metadata.shown(stack),
        "links": {"self": call.link(f"/v3/stacks/{stack.guid}")},
    }


@api.get("/v3/stacks", listing=LISTING)
def list_stacks(call: Call) -> dict[str, Any]:
    """List stacks."""
    return LISTING.page(call, lambda row: present(row, call))


@api.get("/v3/stacks/{guid}")
def get_stack(call: Call, guid: str) -> dict[str, Any]:
    """Get a stack."""
    return present(_find(call, guid), call)


@api.get("/v3/stacks/{guid}/apps", listing=apps.LISTING)
def list_apps(call: Call, guid: str) -> dict[str, Any]:
    """List the apps on a stack."""
    stack = _find(call, guid)
    return apps.LISTING.page(
        call,
        lambda row: apps.present(row, call),
        apps.on_stacks([stack.name]),
        call.access.spaces(Right.READ_SPACE, App.space_id),
        included=lambda rows: apps.included(rows, call),
    )


@api.post("/v3/stacks")
def create_stack(call: Call, body: Create) -> dict[str, Any]:
    """Create a stack."""
    call.require_admin()
    stack = Stack(name=body.name, description=body.description, labels={}, annotations={})
    stack.state, stack.state_reason = body.state, body.state_reason
    metadata.merge(stack, body.metadata)
    with call.refusing("uq_stacks_name", unprocessable("Name must be unique")):
        call.session.add(stack)
    return present(stack, call)


@api.patch("/v3/stacks/{guid}")
def update_stack(call: Call, guid: str, body: Update) -> dict[str, Any]:
    """Change a stack's state and metadata."""
    stack = _find(call, guid)
    call.require_admin()
    stack.state = body.state or stack.state
    if "state_reason" in body.model_fields_set:
        stack.state_reason = body.state_reason
    metadata.merge(stack, body.metadata)
    call.session.flush()
    return present(stack, call)


@api.delete("/v3/stacks/{guid}")
def delete_stack(call: Call, guid: str) -> Reply:
    """Delete a stack on which no app is."""
    stack = _find(call, guid)
    call.require_admin()
    if call.session.scalars(select(App.id).where(apps.on_stacks([stack.name])).limit(1)).first() is not None:
        raise unprocessable(f"Cannot delete stack '{stack.name}' because apps are currently using the stack.")
    call.session.delete(stack)
    return Reply(204)


def _find(call: Call, guid: str) -> Stack:
    return call.find(Stack, guid, called="Stack")
