"""Small worlds for tests: organizations and spaces with names of their own, and people with roles in them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from typing import Any
from uuid import uuid4

import httpx
from sqlalchemy import select
from sqlalchemy.orm import Session

from controller.database.applications import App, Droplet
from tests.controller.running import Controller

_numbers = count(1)


def name(kind: str) -> str:
    """One that no other test has."""
    return f"{kind}-{next(_numbers)}-{uuid4().hex[:6]}"


def organization(controller: Controller, **more: Any) -> dict[str, Any]:
    response = controller.admin.post("/v3/organizations", json={"name": name("org"), **more})
    assert response.status_code == 201, response.text
    made: dict[str, Any] = response.json()
    return made


def space(controller: Controller, organization_guid: str = "", **more: Any) -> dict[str, Any]:
    owner = organization_guid or organization(controller)["guid"]
    body = {"name": name("space"), "relationships": {"organization": {"data": {"guid": owner}}}, **more}
    response = controller.admin.post("/v3/spaces", json=body)
    assert response.status_code == 201, response.text
    made: dict[str, Any] = response.json()
    return made


def app(controller: Controller, space_guid: str = "", **more: Any) -> dict[str, Any]:
    """A stopped app, in a space of its own unless one is named."""
    place = space_guid or space(controller)["guid"]
    body = {"name": name("app"), "relationships": {"space": {"data": {"guid": place}}}, **more}
    response = controller.admin.post("/v3/apps", json=body)
    assert response.status_code == 201, response.text
    made: dict[str, Any] = response.json()
    return made


def droplet(controller: Controller, app_guid: str, **more: Any) -> str:
    """The guid of a staged droplet of the app, as a stager leaves it."""

    def work(session: Session) -> str:
        owner = session.scalars(select(App).where(App.guid == app_guid)).unique().one()
        values = {"state": "STAGED", "stack": "cflinuxfs4", "process_types": {"web": "run web"}, **more}
        made = Droplet(app=owner, labels={}, annotations={}, **values)
        session.add(made)
        session.flush()
        return made.guid

    return controller.database.write(work)


def set_droplet(controller: Controller, app_guid: str, **more: Any) -> str:
    """A new droplet, and it is the app's current one."""
    guid = droplet(controller, app_guid, **more)
    path = f"/v3/apps/{app_guid}/relationships/current_droplet"
    response = controller.admin.patch(path, json={"data": {"guid": guid}})
    assert response.status_code == 200, response.text
    return guid


def started_app(controller: Controller, space_guid: str = "", **more: Any) -> dict[str, Any]:
    """With a droplet of one web process."""
    made = app(controller, space_guid, **more)
    set_droplet(controller, made["guid"])
    response = controller.admin.post(f"/v3/apps/{made['guid']}/actions/start")
    assert response.status_code == 200, response.text
    started: dict[str, Any] = response.json()
    return started


@dataclass(frozen=True)
class Person:
    guid: str
    name: str
    client: httpx.Client


def person(controller: Controller, *scopes: str) -> Person:
    guid, called = str(uuid4()), name("person")
    return Person(guid, called, controller.client(called, *scopes, guid=guid))


def detail(response: httpx.Response) -> str:
    """Of the one error in a response."""
    (error,) = response.json()["errors"]
    return str(error["detail"])


def code(response: httpx.Response) -> int:
    return int(response.json()["errors"][0]["code"])


def give(controller: Controller, kind: str, user_guid: str, place: dict[str, Any]) -> dict[str, Any]:
    """A role in an organization or a space."""
    where = "organization" if kind.startswith("organization") else "space"
    relationships = {"user": {"data": {"guid": user_guid}}, where: {"data": {"guid": place["guid"]}}}
    response = controller.admin.post("/v3/roles", json={"type": kind, "relationships": relationships})
    assert response.status_code == 201, response.text
    made: dict[str, Any] = response.json()
    return made


def member(controller: Controller, kind: str, place: dict[str, Any], *scopes: str) -> Person:
    """Somebody with one role; with one in a space, also an organization_user of its organization."""
    somebody = person(controller, *scopes)
    if kind.startswith("space"):
        owner = {"guid": place["relationships"]["organization"]["data"]["guid"]}
        give(controller, "organization_user", somebody.guid, owner)
    give(controller, kind, somebody.guid, place)
    return somebody
