"""One organization with one of everything in it, twelve people, and what each of them is answered.

A row of the matrix names an action with places for guids; the world fills them in, sends the action as each of the
people, and gives back one letter for each: Y done or shown, x seen but not allowed (403), - not there for them (404, or
422 where a body names it). Anything else stands there as it was answered, so that it cannot be mistaken for a letter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any, Final

import httpx
import orjson

from tests.controller import worlds
from tests.controller.running import PATIENCE, USER_SCOPES, Controller
from tests.controller.worlds import give, name

COLUMNS: Final = (
    "organization_manager",
    "organization_auditor",
    "organization_billing_manager",
    "organization_user",
    "space_developer",
    "space_manager",
    "space_auditor",
    "space_supporter",
    "cloud_controller.admin",
    "cloud_controller.admin_read_only",
    "cloud_controller.global_auditor",
    "stranger",
)
RIGHTS: Final = {
    # om oa ob ou sd sm sa ss ad ro ga st
    "everybody": "Y Y Y Y Y Y Y Y Y Y Y Y",
    "see the organization": "Y Y Y Y Y Y Y Y Y Y Y -",
    "see the space": "Y - - - Y Y Y Y Y Y Y -",
    "see routes": "Y Y - - Y Y Y Y Y Y Y -",
    "read the environment": "- - - - Y - - Y Y Y - -",
    "read secrets": "- - - - Y - - - Y Y - -",
    "download droplets": "Y - - - Y Y Y - Y Y Y -",
    "read events": "- Y - - Y - Y Y Y Y Y -",
    "read events of the organization": "- Y - - - - - - Y Y Y -",
    "develop": "- - - - Y - - - Y - - -",
    "operate": "- - - - Y - - Y Y - - -",
    "manage the space": "Y - - - - Y - - Y - - -",
    "manage the organization": "Y - - - - - - - Y - - -",
    "see everything": "- - - - - - - - Y Y Y -",
    "be an admin": "- - - - - - - - Y - - -",
    "nobody": "- - - - - - - - - - - -",
}
"""Section 4 of the cloud_controller reference, and for tokens its first lines."""

Body = Any
Shows = Callable[[Any], bool]


@dataclass(frozen=True)
class Row:
    action: str
    """``METHOD /path/{thing}``; LIST is a GET whose answer is a list."""
    may: str
    """Who gets a Y, among RIGHTS."""
    seen: str
    """Who else gets an x, among RIGHTS."""
    body: Body = None
    hidden: int = 404
    """The answer for those who may not know of it."""
    answers: int = 0
    """The answer for those who may, where it is not one of 200 to 399."""
    refused: str = ""
    """The same as a part of what it says, where others get the same status."""
    shows: Shows | None = None
    """Whether the answer is a Y and not an x, where both are 200."""

    @property
    def expected(self) -> str:
        may, seen = RIGHTS[self.may].split(), RIGHTS[self.seen].split()
        return " ".join("Y" if a == "Y" else "x" if b == "Y" else "-" for a, b in zip(may, seen, strict=True))

    @property
    def endpoint(self) -> str:
        """As the OpenAPI document names it, whatever the names of its parameters."""
        method, _, path = self.action.partition(" ")
        return f"{'GET' if method == 'LIST' else method} {unnamed(path.partition('?')[0])}"


def unnamed(path: str) -> str:
    return "/".join("{}" if part.startswith("{") else part for part in path.split("/"))


def row(action: str, may: str, seen: str = "nobody", body: Body = None, **more: Any) -> Row:
    return Row(action, may, seen, body, **more)


def to(thing: str) -> dict[str, Any]:
    return {"data": {"guid": "{" + thing + "}"}}


class Voice:
    """One of the people: the token of a client, on a connection that costs a tenth of what the client does."""

    def __init__(self, client: httpx.Client) -> None:
        self._connection = HTTPConnection(client.base_url.host, client.base_url.port, timeout=PATIENCE)
        self._token = client.headers["Authorization"]

    def asks(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        """Status and body of the answer. Text is YAML, all else is JSON."""
        kind = "application/x-yaml" if isinstance(body, str) else "application/json"
        content = body if body is None or isinstance(body, str) else orjson.dumps(body)
        headers = {"Authorization": self._token, "Content-Type": kind}
        try:
            self._connection.request(method, path, content, headers)
            response = self._connection.getresponse()
        except ConnectionError:  # the server has closed it: nobody had spoken on it for a while
            self._connection.close()
            self._connection.request(method, path, content, headers)
            response = self._connection.getresponse()
        raw = response.read()
        is_json = response.headers.get_content_subtype() == "json"
        return response.status, orjson.loads(raw) if is_json else raw


class World:
    """``things`` are guids, by the names that rows use; those called ``new ...`` are made when they are needed."""

    def __init__(
        self, controller: Controller, makers: Mapping[str, Callable[[World], str]], words: Mapping[str, str]
    ) -> None:
        self.controller = controller
        self._makers = makers
        self.organization = worlds.organization(controller)
        self.space, second = (worlds.space(controller, self.organization["guid"]) for _ in range(2))
        self._spaces = (self.space, second)
        guids = {"organization": self.organization, "space": self.space, "second space": second}
        self._things = {**words, **{called: str(thing["guid"]) for called, thing in guids.items()}}
        self.people = [Voice(self._person(column)) for column in COLUMNS]

    def _person(self, column: str) -> httpx.Client:
        if column.startswith("organization"):
            return worlds.member(self.controller, column, self.organization).client
        if column.startswith("space"):
            somebody = worlds.member(self.controller, column, self.space)
            give(self.controller, column, somebody.guid, self._spaces[1])
            return somebody.client
        scopes = (*USER_SCOPES, column) if "." in column else USER_SCOPES
        return worlds.person(self.controller, *scopes).client

    def made(self, path: str, body: Any) -> str:
        """The guid of what an admin makes."""
        response = self.controller.admin.post(self.filled(path), json=self.filled(body))
        assert response.status_code < 300, response.text
        return str(response.json()["guid"])

    def role(self, kind: str) -> str:
        """Of somebody new."""
        somebody = worlds.person(self.controller)
        where = self.organization if kind.startswith("organization") else self.space
        if kind.startswith("space"):
            give(self.controller, "organization_user", somebody.guid, self.organization)
        return str(give(self.controller, kind, somebody.guid, where)["guid"])

    def thing(self, called: str) -> str:
        if called == "name":
            return name("thing")
        if called not in self._things:
            self._things[called] = self._makers[called.removeprefix("new ")](self)
        return self._things[called]

    def filled(self, template: Any) -> Any:
        if isinstance(template, str):
            return template.format_map(_Filling(self))
        if isinstance(template, list):
            return [self.filled(item) for item in template]
        if isinstance(template, dict):
            return {key: self.filled(value) for key, value in template.items()}
        return template

    def forget_new(self) -> None:
        """What was to be used up is."""
        self._things = {called: guid for called, guid in self._things.items() if not called.startswith("new ")}

    def answers(self, row: Row) -> str:
        """A letter for each of the people."""
        return " ".join(self._answer(row, person) for person in self.people)

    def _answer(self, row: Row, person: Voice) -> str:
        method, _, path = row.action.partition(" ")
        body = None if row.body is None else self.filled(row.body)
        status, answer = person.asks("GET" if method == "LIST" else method, self.filled(path), body)
        if method not in ("LIST", "GET") and status < 400:
            self.forget_new()
        return _letter(row, status, answer)


class _Filling(dict[str, str]):
    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def __missing__(self, called: str) -> str:
        return self._world.thing(called)


def _letter(row: Row, status: int, answer: Any) -> str:
    if status < 400:
        if row.action.startswith("LIST"):
            return "Y" if answer["resources"] else "-"
        return "Y" if row.shows is None or row.shows(answer) else "x"
    code, detail = answer["errors"][0]["code"], answer["errors"][0]["detail"]
    if row.refused and row.refused in detail:
        return "Y"
    if (status, code) == (403, 10003):
        return "x"
    if status == row.hidden and code in (10000, 10008, 10010):
        return "-"
    if status == row.answers:
        return "Y"
    return f"?({status} {answer})"
