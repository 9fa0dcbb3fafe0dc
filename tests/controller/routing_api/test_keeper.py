"""Registered routes in the route registry: there at once, gone with their time, back when the registry was wiped."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from redis import Redis

from router.registry.embedded import EmbeddedRedis
from router.registry.writer import RegistryWriter
from tests.controller.routing_api.test_api import ROUTES, TCP_ROUTES, leave, registrar, route, tcp_route, watching
from tests.controller.running import Controller, running_controller
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


def held(redis: EmbeddedRedis) -> int:
    """How many endpoints the Routing API holds."""
    with RegistryWriter(redis.url) as writer:
        return next((lease.endpoints for lease in writer.leases() if lease.name == "routing-api"), 0)


def test_what_is_registered_is_served_and_what_leaves_is_not(registered: Controller, redis: EmbeddedRedis) -> None:
    client = registrar(registered)
    said = route(route="Routing.example.com/Path", route_service_url="https://rs.example.com")
    mapping = tcp_route(client, port=1030, backend_sni_hostname="db.example.com")
    client.post(ROUTES, json=[said]).raise_for_status()
    client.post(f"{TCP_ROUTES}/create", json=[mapping]).raise_for_status()
    wait_until(lambda: held(redis) == 2, "both routes")
    with RegistryWriter(redis.url) as writer:
        (http,) = writer.list("routing.example.com/path")
        (tcp,) = writer.list("tcp:1030/db.example.com")
    assert (http.lease, http.record.address, http.record.app) == ("routing-api", "10.0.0.1:80", "app")
    assert http.record.route_service_url == "https://rs.example.com"
    assert tcp.record.address == "10.0.0.1:61000"
    leave(client, said)
    client.post(f"{TCP_ROUTES}/delete", json=[mapping]).raise_for_status()
    wait_until(lambda: held(redis) == 0, "the end of both")


def test_a_thousand_routes_in_one_call(registered: Controller, redis: EmbeddedRedis) -> None:
    client = registrar(registered)
    many = [route(port=10_000 + number, ip=f"10.1.{number % 250}.1") for number in range(1000)]
    began = time.monotonic()
    client.post(ROUTES, json=many).raise_for_status()
    answered = time.monotonic() - began
    wait_until(lambda: held(redis) == 1000, "a thousand routes")
    assert (answered < 2.0, time.monotonic() - began < 4.0) == (True, True)
    version = _version(redis)
    client.post(ROUTES, json=many).raise_for_status()
    changed = {**many[0], "log_guid": "other"}
    client.post(ROUTES, json=[changed]).raise_for_status()
    wait_until(lambda: _version(redis) != version, "the one that changed")
    with RegistryWriter(redis.url) as writer:
        changes = writer.changes(version, wait=0.1)
    assert [change.route for change in changes] == [changed["route"]], "what is said again unchanged is no news"
    leave(client, *many)
    wait_until(lambda: held(redis) == 0, "their end")


def _version(redis: EmbeddedRedis) -> str:
    with RegistryWriter(redis.url) as writer:
        return writer.version()


def test_a_time_that_is_over_takes_the_endpoint_out(registered: Controller, redis: EmbeddedRedis) -> None:
    registrar(registered).post(ROUTES, json=[route(ttl=1)]).raise_for_status()
    wait_until(lambda: held(redis) == 1, "the route")
    wait_until(lambda: held(redis) == 0, "its end")


def test_a_registry_that_was_wiped_is_whole_again(registered: Controller, redis: EmbeddedRedis) -> None:
    client, said = registrar(registered), route()
    client.post(ROUTES, json=[said]).raise_for_status()
    wait_until(lambda: held(redis) == 1, "the route")
    with Redis.from_url(redis.url) as wiping:
        wiping.flushall()
    began = time.monotonic()
    wait_until(lambda: held(redis) == 1, "the route once more")
    assert time.monotonic() - began < 2.0
    leave(client, said)


def test_after_a_restart_the_registry_is_made_equal(registered: Controller, redis: EmbeddedRedis) -> None:
    client, stays, leaves = registrar(registered), route(), route(ttl=2)
    client.post(ROUTES, json=[stays, leaves]).raise_for_status()
    wait_until(lambda: held(redis) == 2, "both routes")
    began = time.monotonic()
    with watching(client):
        registered.stop()
    assert time.monotonic() - began < 4.5, "streams are not waited for"
    began = time.monotonic()
    registered.start()
    started = time.monotonic()
    wait_until(lambda: held(redis) == 1, "the one whose time is not over")
    assert time.monotonic() - max(started, began + 2) < 3, "who stops lets go of what it kept"
    leave(registrar(registered), stays)
    wait_until(lambda: held(redis) == 0, "its end")
