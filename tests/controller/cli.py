"""A client that speaks to the API as ``cf`` version 8 does (cloud_controller reference 1.0).

Its headers, its state, its way to read errors, jobs and tokens. What it could not read, fails.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping
from types import UnionType
from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit
from uuid import uuid4

import httpx

from tests.controller.cli_shapes import APP, DOMAIN, ERROR, INSTANCE, JOB, LINK, ORGANIZATION, PAGINATION, SPACE
from tests.controller.running import PATIENCE, Controller
from tests.router.wire import wait_until

USER_AGENT: Final = "cf/8.18.4+0.0.0 (go1.24; amd64 linux)"
ALGORITHMS: Final = tuple(kind + size for kind in ("HS", "RS", "ES", "PS") for size in ("256", "384", "512"))
FORM: Final = "application/x-www-form-urlencoded"

Shape = Mapping[str, Any]
"""Keys with a type, a union with None, a list with the shape of its elements, or another shape."""


class CliError(Exception):
    """A response of an error status; the name of its title without ``CF-``, and its details."""

    def __init__(self, status: int, title: str, details: list[str]) -> None:
        super().__init__(status, title, details)
        self.status, self.title, self.details = status, title, details

    @property
    def detail(self) -> str:
        (only,) = self.details
        return only


class Cli:
    """One user's ``~/.cf``: what it was told by the server, and tokens."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self.links: dict[str, Any] = {}
        self.access_token = ""
        self.refresh_token = ""
        self.warnings: list[str] = []
        self.organization = ""
        self.space = ""
        self._client = httpx.Client(timeout=PATIENCE)
        self._client.event_hooks["response"] = [controller.document.check]

    # The wire -----------------------------------------------------------------------------------------------------

    def send(self, method: str, url: str, **more: Any) -> httpx.Response:
        """``url`` is absolute, as links and locations are given; its host is looked up where the controller is."""
        parts = urlsplit(url)
        query = f"?{parts.query}" if parts.query else ""
        headers = {
            "Host": parts.netloc,
            "User-Agent": USER_AGENT,
            "Accept": "application/json",
            "Content-Type": "application/json",
            "X-B3-TraceId": uuid4().hex,
            "X-B3-SpanId": uuid4().hex[:16],
            "Connection": "close",
            **more.pop("headers", {}),
        }
        here = f"http://127.0.0.1:{self._controller.port}{parts.path}{query}"
        response = self._client.request(method, here, headers=headers, **more)
        for header in response.headers.get_list("x-cf-warnings"):
            self.warnings += [unquote(item) for item in header.split(",")]
        if parts.netloc.startswith("api."):
            assert response.headers["x-vcap-request-id"]
        return response

    def call(self, method: str, path: str, *, expect: int, **more: Any) -> Any:
        """A request of the V3 API. The body, or the empty object; raises CliError."""
        response = self.raw(method, path, **more)
        assert response.status_code == expect, (method, path, response.status_code, response.text)
        return response.json() if response.content else {}

    def raw(self, method: str, path: str, **more: Any) -> httpx.Response:
        """Refreshes tokens as the CLI does: ahead of time, and once when they are refused. Raises CliError."""
        if self.access_token and claims_of(self.access_token)["exp"] < time.time() + 60:
            self.refresh()
        url = path if path.startswith("http") else self.links["cloud_controller_v3"]["href"] + path
        for attempt in (1, 2):
            headers = {"Authorization": f"bearer {self.access_token}" if self.access_token else ""}
            response = self.send(method, url, **{**more, "headers": {**headers, **more.get("headers", {})}})
            if response.status_code < 400:
                return response
            error = error_of(response)
            if attempt == 2 or response.status_code != 401 or error.title != "InvalidAuthToken":
                raise error
            self.refresh()
        raise AssertionError("the second attempt returns or raises")

    def refresh(self) -> None:
        form = {"grant_type": "refresh_token", "refresh_token": self.refresh_token}
        self._keep(self.send("POST", f"{self.links['uaa']['href']}/oauth/token", **_form(form)))

    def job(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        """Of a request that is answered with one: its end. Raises CliError: it failed."""
        response = self.raw(method, path, **more)
        assert response.status_code == 202, response.text
        location = response.headers["location"]
        assert location.startswith("http"), "requested as given"
        job: dict[str, Any] = {}

        def over() -> bool:
            job.update(reads(self.call("GET", location, expect=200), JOB))
            self.warnings.extend(warning["detail"] for warning in job["warnings"])
            return job["state"] in ("COMPLETE", "FAILED")

        wait_until(over, f"the job of {method} {path}")
        if job["state"] == "FAILED":
            first = job["errors"][0]
            raise CliError(422, first["title"].removeprefix("CF-"), [error["detail"] for error in job["errors"]])
        return job

    def listed(self, path: str, shape: Shape) -> list[dict[str, Any]]:
        """All pages of a list."""
        found: list[dict[str, Any]] = []
        url: str | None = path
        while url is not None:
            page = reads(self.call("GET", url, expect=200), {"pagination": PAGINATION, "resources": [shape]})
            found += page["resources"]
            url = page["pagination"]["next"]["href"] if page["pagination"]["next"] else None
        return found

    def one(self, path: str, shape: Shape) -> dict[str, Any] | None:
        """The first of a list that is asked for one."""
        found = self.call("GET", f"{path}&per_page=1&page=1", expect=200)
        resources = reads(found, {"pagination": PAGINATION, "resources": [shape]})["resources"]
        return resources[0] if resources else None

    # Sessions -----------------------------------------------------------------------------------------------------

    def api(self, url: str = "http://api.example.com") -> None:
        """``cf api``, with a token perhaps, or with an Authorization that is there and empty."""
        token = f"bearer {self.access_token}" if self.access_token else ""
        response = self.send("GET", f"{url}/", headers={"Authorization": token})
        assert response.status_code == 200
        self.links = response.json()["links"]
        reads(self.links, {"cloud_controller_v3": {"href": str, "meta": {"version": str}}, "login": LINK, "uaa": LINK})
        for name, link in self.links.items():
            assert link is None or isinstance(link["href"], str), name

    def log_in(self, username: str, password: str, organization: str = "", space: str = "") -> None:
        """``cf login -u -p [-o] [-s]``."""
        login = self.links["login"]["href"]
        shown = self.send("GET", f"{login}/login", headers={"Authorization": ""})
        prompts = reads(shown.json(), {"app": {"version": str}, "prompts": dict})["prompts"]
        assert prompts["username"][0] == "text"
        assert prompts["password"][0] == "password"
        form = {"grant_type": "password", "username": username, "password": password}
        self._keep(self.send("POST", f"{login}/oauth/token", **_form(form)))
        if organization:
            found = self.organization_named(organization)
            self.organization = found["guid"]
        if space:
            self.space = self.space_named(space)["guid"]

    def log_in_as_client(self, name: str, secret: str) -> None:
        """``cf auth NAME SECRET --client-credentials``: no Basic, and nothing to refresh with."""
        form = {"grant_type": "client_credentials", "client_id": name, "client_secret": secret}
        answer = self.send(
            "POST", f"{self.links['login']['href']}/oauth/token", data=form, headers={"Content-Type": FORM}
        )
        tokens = reads(answer.json(), {"access_token": str, "token_type": str})
        self.access_token, self.refresh_token = tokens["access_token"], ""
        claims_of(self.access_token)

    def _keep(self, answer: httpx.Response) -> None:
        if answer.status_code != 200:
            told = answer.json()
            raise CliError(answer.status_code, told["error"], [told["error_description"]])
        tokens = reads(answer.json(), {"access_token": str, "refresh_token": str, "token_type": str})
        assert tokens["token_type"] == "bearer", "type and token are stored together, and seven characters cut off"
        self.access_token, self.refresh_token = tokens["access_token"], tokens["refresh_token"]
        claims_of(self.access_token)

    # What many commands look up -----------------------------------------------------------------------------------

    def organization_named(self, name: str) -> dict[str, Any]:
        return _there(self.one(f"/organizations?names={name_filter(name)}", ORGANIZATION), "Organization", name)

    def space_named(self, name: str) -> dict[str, Any]:
        path = f"/spaces?names={name_filter(name)}&organization_guids={self.organization}"
        return _there(self.one(path, SPACE), "Space", name)

    def domain_named(self, name: str) -> dict[str, Any]:
        return _there(self.one(f"/domains?names={name_filter(name)}", DOMAIN), "Domain", name)

    def app_named(self, name: str) -> dict[str, Any]:
        found = self.listed(f"/apps?names={name_filter(name)}&space_guids={self.space}", APP)
        return _there(found[0] if found else None, "App", name)

    def instance_named(self, name: str) -> dict[str, Any]:
        path = f"/service_instances?names={name_filter(name)}&space_guids={self.space}"
        return _there(self.one(path, INSTANCE), "Service instance", name)


def name_filter(name: str) -> str:
    """A value of a filter: a comma in it is encoded twice."""
    return quote(name.replace(",", "%2C"), safe="")


def _there(found: dict[str, Any] | None, kind: str, name: str) -> dict[str, Any]:
    if found is None:
        raise LookupError(f"{kind} '{name}' not found.")
    return found


def _form(form: dict[str, str]) -> dict[str, Any]:
    basic = base64.b64encode(b"cf:").decode()
    return {"data": form, "headers": {"Content-Type": FORM, "Authorization": f"Basic {basic}"}}


def error_of(response: httpx.Response) -> CliError:
    """As the CLI decodes it: at least one error of a code, a title and a detail."""
    body = response.json()
    if "error" in body:  # of the UAA
        return CliError(response.status_code, body["error"], [body["error_description"]])
    errors = body["errors"]
    assert errors, "an error without errors is an unexpected response"
    for error in errors:
        reads(error, ERROR)
        assert error["title"].startswith("CF-")
    return CliError(response.status_code, errors[0]["title"].removeprefix("CF-"), [error["detail"] for error in errors])


def claims_of(token: str) -> dict[str, Any]:
    """What the CLI reads of an access token, without a look at its signature."""
    header, payload, signature = token.split(".")
    assert json.loads(_decoded(header))["alg"] in ALGORITHMS
    _decoded(signature)
    claims: dict[str, Any] = json.loads(_decoded(payload))
    assert isinstance(claims["exp"], int)
    if "user_name" in claims:
        reads(claims, {"user_name": str, "user_id": str, "origin": str})
    else:
        assert isinstance(claims["client_id"], str)
    return claims


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def reads(value: Any, shape: Any, where: str = "") -> Any:
    """``value``, if it has everything of ``shape``: the CLI's structures have types, and another one ends it."""
    if isinstance(shape, Mapping):
        assert isinstance(value, dict), (where, value)
        for key, inner in shape.items():
            optional = key.endswith("?")
            name = key.removesuffix("?")
            if name in value or not optional:
                assert name in value, f"{where}: {name} is missing in {value}"
                reads(value[name], inner, f"{where}.{name}")
    elif isinstance(shape, list):
        assert isinstance(value, list), (where, value)
        for index, item in enumerate(value):
            reads(item, shape[0], f"{where}[{index}]")
    elif shape is int:
        assert isinstance(value, int), (where, value)
        assert not isinstance(value, bool), (where, value)
    else:
        assert isinstance(shape, type | UnionType)
        assert isinstance(value, shape), (where, value)
    return value
