"""The registry follows the database: at the start, on every change, and when it was wiped."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from redis import Redis
from sqlalchemy import select
from sqlalchemy.orm import Session

from controller.database.applications import App, Process, ProcessInstance
from controller.database.base import now
from controller.database.tenancy import Space
from router.registry.embedded import EmbeddedRedis
from router.registry.writer import RegistryWriter
from tests.controller.running import Controller, job_of, running_controller
from tests.controller.test_routes import body_of
from tests.controller.worlds import name, space
from tests.router.wire import wait_until


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def registered(redis: EmbeddedRedis) -> Iterator[Controller]:
    """A controller with a registry of its own."""
    with running_controller(registry=redis.url) as controller:
        yield controller


def running_app(controller: Controller, place: dict[str, Any], *ports: int) -> str:
    """An app with one instance on each of these ports; its guid."""
    guid = str(uuid4())

    def work(session: Session) -> None:
        owner = session.scalars(select(Space).where(Space.guid == place["guid"])).one()
        app = App(guid=guid, name=name("app"), space=owner, desired_state="STARTED", labels={}, annotations={})
        app.environment_variables, app.lifecycle_data = {}, {}
        process = Process(app=app, type="web", instances=len(ports), labels={}, annotations={})
        session.add(process)
        for index, port in enumerate(ports):
            session.add(
                ProcessInstance(
                    process=process,
                    index=index,
                    instance_guid=str(uuid4()),
                    state="RUNNING",
                    host="127.0.0.1",
                    ports=[{"internal": 8080, "external": port}],
                    since=now(),
                )
            )

    controller.database.write(work)
    return guid


def mapped_route(controller: Controller, place: dict[str, Any], app: str) -> dict[str, Any]:
    (domain,) = controller.admin.get("/v3/domains?names=apps.example.com").json()["resources"]
    body = body_of(place["guid"], domain["guid"], host=name("host"))
    route: dict[str, Any] = controller.admin.post("/v3/routes", json=body).raise_for_status().json()
    path = f"/v3/routes/{route['guid']}/destinations"
    controller.admin.post(path, json={"destinations": [{"app": {"guid": app}}]}).raise_for_status()
    return route


def endpoints(redis: EmbeddedRedis, route: str) -> set[str]:
    with RegistryWriter(redis.url) as writer:
        return {registration.record.address for registration in writer.list(route)}


def test_a_destination_leads_to_the_instances_that_run(registered: Controller, redis: EmbeddedRedis) -> None:
    place = space(registered)
    route = mapped_route(registered, place, running_app(registered, place, 61001, 61002))
    expected = {"127.0.0.1:61001", "127.0.0.1:61002"}
    wait_until(lambda: endpoints(redis, route["url"]) == expected, "both instances")
    job_of(registered.admin, registered.admin.delete(f"/v3/routes/{route['guid']}"))
    wait_until(lambda: not endpoints(redis, route["url"]), "the end of the route")


def test_a_space_that_goes_takes_its_routes_along(registered: Controller, redis: EmbeddedRedis) -> None:
    place = space(registered)
    route = mapped_route(registered, place, running_app(registered, place, 61003))
    wait_until(lambda: bool(endpoints(redis, route["url"])), "the instance")
    job_of(registered.admin, registered.admin.delete(f"/v3/spaces/{place['guid']}"))
    wait_until(lambda: not endpoints(redis, route["url"]), "the end of the route")


def test_a_registry_that_was_wiped_is_whole_again_within_two_seconds(
    registered: Controller, redis: EmbeddedRedis
) -> None:
    place = space(registered)
    route = mapped_route(registered, place, running_app(registered, place, 61004))
    wait_until(lambda: bool(endpoints(redis, route["url"])), "the instance")
    with Redis.from_url(redis.url) as client:
        client.flushall()
    began = time.monotonic()
    wait_until(lambda: bool(endpoints(redis, route["url"])), "the instance once more")
    assert time.monotonic() - began < 2.0


def test_the_controller_is_registered_itself(registered: Controller, redis: EmbeddedRedis) -> None:
    here = f"127.0.0.1:{registered.port}"
    for host in ("api.example.com", "uaa.example.com", "login.example.com"):
        wait_until(lambda host=host: endpoints(redis, host) == {here}, f"the route {host}")


def test_what_was_true_before_a_restart_is_true_after_it(registered: Controller, redis: EmbeddedRedis) -> None:
    place = space(registered)
    route = mapped_route(registered, place, running_app(registered, place, 61005))
    wait_until(lambda: bool(endpoints(redis, route["url"])), "the instance")
    registered.process.kill()
    registered.process.wait()
    registered.start()
    assert endpoints(redis, route["url"]), "the lease outlives its holder"
    registered.admin = registered.client("admin", "cloud_controller.admin")
    second = mapped_route(registered, place, running_app(registered, place, 61006))
    wait_until(lambda: bool(endpoints(redis, second["url"])), "the next keeper")
    assert endpoints(redis, route["url"])
