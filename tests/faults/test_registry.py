"""The registry dies, hangs, forgets and moves while requests come in: none of them fails."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from router.registry.records import EndpointRecord
from router.registry.writer import Lease, RegistryUnavailable, RegistryWriter
from tests.faults.processes import HOST, BackendProcess, RunningRegistrar
from tests.faults.steady import SteadyLoad
from tests.router.registry.conftest import RedisServer, eventually
from tests.router.supervised import Router, kill, running_router

TTL = 2.0


def gauges(router: Router, name: str) -> list[float]:
    """A figure of each worker."""
    return [value for key, value in router.metrics().items() if key.startswith(f"millrace_{name}{{worker=")]


def registered(redis_url: str) -> set[str]:
    try:
        with RegistryWriter(redis_url) as writer:
            return {entry.record.app for entry in writer.list(HOST)}
    except RegistryUnavailable:
        return set()


@contextmanager
def served(redis_url: str, backends: list[BackendProcess]) -> Iterator[tuple[Router, RunningRegistrar, SteadyLoad]]:
    """A registrar with a short lease keeps the backends registered; a router serves them under load."""
    with RunningRegistrar(redis_url, backends, ttl=TTL) as registrar, running_router(redis_url) as router:
        router.until_healthy()
        eventually(lambda: gauges(router, "endpoints") == [3, 3])
        with SteadyLoad(router.port) as load:
            load.more()
            yield router, registrar, load
            load.more()
        assert load.failures == []


def test_redis_killed_and_back_empty(redis: RedisServer, backends: list[BackendProcess]) -> None:
    with served(redis.url, backends) as (router, registrar, load):
        redis.kill()
        eventually(lambda: gauges(router, "registry_connected") == [0, 0])
        load.more()
        redis.start()
        assert registered(redis.url) == set() or registrar.told("replaced") > 1
        eventually(lambda: registered(redis.url) == {"a", "b", "c"})
        eventually(lambda: gauges(router, "registry_connected") == [1, 1])
        eventually(lambda: gauges(router, "registry_unconfirmed") == [0, 0])
        assert registrar.told("replaced") == 2, "once at its start, once by itself"


@pytest.mark.parametrize("seconds", [1.5 * TTL, 2.75 * TTL])
def test_redis_hangs_for_longer_than_leases_last(
    redis: RedisServer, backends: list[BackendProcess], seconds: float
) -> None:
    with served(redis.url, backends) as (router, _, load):
        redis.signal(signal.SIGSTOP)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            load.more()
        redis.signal(signal.SIGCONT)
        awake = time.monotonic()
        eventually(lambda: gauges(router, "registry_connected") == [1, 1])
        while time.monotonic() < awake + 1.5 * TTL:  # whoever would be pruned would be by now
            load.more()
        assert gauges(router, "endpoints") == [3, 3]
        assert gauges(router, "registry_pruned_total") == [0, 0]


def test_the_machine_sleeps_for_longer_than_leases_last(redis: RedisServer, backends: list[BackendProcess]) -> None:
    with served(redis.url, backends) as (router, _, load):
        asleep = [router.process.pid, *router.workers]
        redis.signal(signal.SIGSTOP)
        for pid in asleep:
            kill(pid, signal.SIGSTOP)
        time.sleep(2 * TTL)
        # The routers wake first, and the registrar, which slept as well as they did, only finds Redis again.
        for pid in asleep:
            kill(pid, signal.SIGCONT)
        redis.signal(signal.SIGCONT)
        load.more()
        eventually(lambda: gauges(router, "registry_connected") == [1, 1])
        until = time.monotonic() + TTL
        while time.monotonic() < until:
            load.more()
        assert gauges(router, "endpoints") == [3, 3]
        assert gauges(router, "registry_pruned_total") == [0, 0]


def test_a_router_starts_without_redis_and_serves_its_snapshot(
    redis: RedisServer, backends: list[BackendProcess], lease: Lease, folder: Path
) -> None:
    data = {"data": str(folder / "data")}
    with running_router(redis.url, millrace=data) as before:
        before.until_healthy()
    redis.kill()
    with running_router(redis.url, millrace=data) as router:
        router.until_healthy()
        assert gauges(router, "registry_connected") == [0, 0]
        with SteadyLoad(router.port) as load:
            load.more()
            redis.start()
            eventually(lambda: gauges(router, "registry_connected") == [1, 1])
            load.more()
            lease.replace([(HOST, backend.record) for backend in backends])
            eventually(lambda: gauges(router, "registry_unconfirmed") == [0, 0])
            load.more()
        assert load.failures == []
        assert set(load.by_backend) == {"a", "b", "c"}


def test_a_worker_that_starts_while_redis_is_gone_knows_what_came_last(
    redis: RedisServer, backends: list[BackendProcess], lease: Lease, router: Router
) -> None:
    snapshot = router.config.with_name("data") / "routes.snapshot"
    eventually(snapshot.exists)
    late = [backend.record for backend in backends]
    lease.register([("late.example.com", record) for record in late])
    eventually(lambda: gauges(router, "routes") == [2, 2])
    redis.kill()
    eventually(lambda: b"late.example.com" in snapshot.read_bytes())
    for pid in router.workers:
        kill(pid)
    router.until_said("worker-died", 2)
    wire = router.connect()
    wire.send(b"GET / HTTP/1.1\r\nHost: late.example.com\r\n\r\n")
    assert wire.message().status == 200
    wire.close()
    redis.start()  # empty, and asked before anybody has registered anything again
    eventually(lambda: gauges(router, "registry_connected") == [1, 1])
    assert gauges(router, "routes") == [2, 2]


def test_a_route_registered_a_thousand_times_the_same_and_changed(
    router: Router, backends: list[BackendProcess], lease: Lease
) -> None:
    def register(mark: str) -> str:
        return lease.register(
            (HOST, EndpointRecord(host="127.0.0.1", port=backend.port, app=backend.name, private_instance_id=mark))
            for backend in backends
        )

    with SteadyLoad(router.port) as load:
        load.more()
        same = {register("once") for _ in range(1000)}
        changed = {register(str(times)) for times in range(1000)}
        load.more()
    assert load.failures == []
    assert (len(same), len(changed)) == (1, 1000)
    assert gauges(router, "endpoints") == [3, 3]
