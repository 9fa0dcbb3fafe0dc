"""The controller's log: lines of JSON in the router's shape, about requests, and without anybody's secrets."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from controller import logs
from tests.controller.running import Controller
from tests.controller.test_uaa import CF, log_in
from tests.controller.worlds import name, person, space
from tests.router.wire import wait_until

KEYS = ("log_level", "timestamp", "message", "source", "data")


def lines(controller: Controller) -> list[dict[str, Any]]:
    return [json.loads(line) for line in controller.log.splitlines()]


def requests(controller: Controller, request_id: str) -> list[dict[str, Any]]:
    """What is said of the requests whose id begins so, once there is something."""

    def found() -> list[dict[str, Any]]:
        return [line for line in lines(controller) if line["data"].get("vcap_request_id", "").startswith(request_id)]

    wait_until(lambda: bool(found()), "a line in the log")
    return found()


def test_every_line_has_the_shape_of_the_routers(controller: Controller) -> None:
    found = lines(controller)
    for line in found:
        assert tuple(line) == KEYS
    (started,) = (line for line in found if line["message"] == "started")
    assert started["source"] == "controller"
    assert started["data"] == {"address": "127.0.0.1", "port": controller.port}


def test_a_request_is_one_line_with_its_id_and_who_asked(controller: Controller) -> None:
    somebody = person(controller)
    answer = somebody.client.get("/v3/organizations?names=confidential", headers={"X-Vcap-Request-Id": name("id")})
    request_id = answer.headers["x-vcap-request-id"]
    (line,) = requests(controller, request_id)
    assert (line["message"], line["source"], line["log_level"]) == ("request", "controller.requests", 1)
    about = line["data"]
    assert about["seconds"] < 20
    del about["seconds"]
    assert about == {
        "vcap_request_id": request_id,
        "user": somebody.guid,
        "method": "GET",
        "path": "/v3/organizations",
        "status": 200,
    }


def test_health_checks_leave_no_lines(controller: Controller) -> None:
    controller.client("").get("/healthz")
    controller.client("").get("/v3/nothing", headers={"X-Vcap-Request-Id": (after := name("id"))})
    requests(controller, after)
    assert not any(line["data"].get("path") == "/healthz" for line in lines(controller))


def test_secrets_stand_in_no_line(controller: Controller) -> None:
    secret = name("secret")
    place = space(controller)
    body = {
        "type": "user-provided",
        "name": secret[:4] + name("service"),
        "credentials": {"password": secret},
        "relationships": {"space": {"data": {"guid": place["guid"]}}},
    }
    admin = controller.admin
    assert admin.post("/v3/service_instances", json=body).status_code == 201
    assert (
        admin.post("/v3/service_instances", json={**body, "tags": [secret] * 99, "unknown": secret}).status_code == 422
    )
    assert admin.get(f"/v3/apps?names={secret}&{secret}=x").status_code == 400
    assert log_in(controller, "admin", secret).status_code == 401
    wrong = controller.client("").post(f"/oauth/token?password={secret}", data={"client_secret": secret}, auth=CF)
    assert wrong.status_code in (400, 401)
    forged = controller.client("").get("/v3/apps", headers={"Authorization": f"bearer {secret}"})
    assert forged.status_code == 401
    token = admin.headers["authorization"].split()[1]
    admin.get("/v3/apps", headers={"X-Vcap-Request-Id": (after := name("id"))})
    requests(controller, after)
    assert secret not in controller.log
    assert token not in controller.log
    assert token.split(".")[2] not in controller.log


class Card(BaseModel):
    number: int


class TestTraces:
    """What went wrong is told with its place, and in words that cannot quote a value."""

    def formatted(self, error: BaseException) -> dict[str, Any]:
        record = logging.LogRecord("controller.api", logging.ERROR, "", 0, "failed", None, (type(error), error, None))
        shown: dict[str, Any] = json.loads(logs.JsonLines().format(record))
        return shown

    def test_say_where_and_what(self) -> None:
        try:
            raise KeyError("colour")
        except KeyError as error:
            shown = self.formatted(error)
        assert shown["log_level"] == 3
        assert shown["data"]["trace"][0] == "KeyError: 'colour'"
        assert "test_logs.py" in shown["data"]["trace"][1]

    def test_of_packages_that_quote_say_only_the_kind(self) -> None:
        with pytest.raises(ValidationError) as caught:
            Card(number="hush")  # type: ignore[arg-type]
        try:
            raise RuntimeError("no card") from caught.value
        except RuntimeError as error:
            text = json.dumps(self.formatted(error))
        assert "hush" not in text
        assert "pydantic_core._pydantic_core.ValidationError" in text
        assert "RuntimeError: no card" in text

    def test_name_the_request_that_they_are_of(self) -> None:
        with logs.request_scope("id"):
            logs.caller_known("somebody")
            assert self.formatted(ValueError())["data"]["vcap_request_id"] == "id"
        assert "vcap_request_id" not in self.formatted(ValueError())["data"]


def test_who_does_not_read_holds_nobody_up_and_the_rest_is_counted() -> None:
    """A pipe holds 64 KiB and the queue its lines; the writer goes on, and says afterwards what was lost."""
    program = (
        "import logging, sys; from controller import logs; logs.to_stdout(); log = logging.getLogger('controller')\n"
        f"for number in range({logs.MOST_WAITING} * 2): log.info('x' * 200)\n"
        "print('done', file=sys.stderr, flush=True); sys.stdin.read(1); log.info('last'); "
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    assert process.stdout is not None
    assert process.stderr.readline() == b"done\n", "nobody reads yet"
    first = process.stdout.readline()
    assert process.stdin is not None
    out = [first]

    process.stdin.write(b"x")
    process.stdin.close()
    out += process.stdout.readlines()
    assert process.wait(20) == 0
    messages = [json.loads(line) for line in out]
    assert sum(line["data"].get("dropped", 0) for line in messages) > 0
    kept = sum(line["message"].startswith("x") for line in messages)
    dropped = sum(line["data"].get("dropped", 0) for line in messages)
    assert kept + dropped >= logs.MOST_WAITING * 2
