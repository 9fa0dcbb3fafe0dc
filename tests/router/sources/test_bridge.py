"""What NATS says, written into the registry by one of several routers; real Redis, real routers, and kills."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import uvloop

from router.registry.embedded import EmbeddedRedis
from router.registry.writer import RegistryWriter
from router.sources.announced import AnnouncedTable
from router.sources.bridge import LEASE, Bridge
from router.sources.bridge_lock import BridgeLock
from router.sources.journal import Journal
from tests.router import wire
from tests.router.sources.nats import NatsServer, Registrar, registration, running_nats
from tests.router.sources.test_announced import THRESHOLD, at
from tests.router.sources.test_process import sources_of, status
from tests.router.supervised import Router, kill, running_router
from tests.router.wire import PATIENCE, Backend, answering, wait_until

URI = "app.example.com"
_numbers = count()


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="mr-", dir="/tmp") as folder:
        server = EmbeddedRedis(Path(folder))
        server.start()
        yield server.url
        server.stop()


class Registry:
    """A namespace of its own in Redis."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.namespace = f"bridge{next(_numbers)}"
        self.writer = RegistryWriter(url, namespace=self.namespace)

    def held(self) -> set[tuple[str, str]]:
        """What a bridge has registered: route and address."""
        return {(each.route, each.record.address) for each in self.writer.list() if each.lease == LEASE}


@pytest.fixture
def registry(redis_url: str) -> Iterator[Registry]:
    registry = Registry(redis_url)
    yield registry
    registry.writer.close()


class TestThePlace:
    def lock(self, registry: Registry, name: str) -> BridgeLock:
        return BridgeLock(registry.writer, registry.namespace, name)

    def test_one_has_it_until_he_leaves(self, registry: Registry) -> None:
        a, b = self.lock(registry, "a"), self.lock(registry, "b")
        assert a.take(hears=True)
        assert not b.take(hears=True)
        assert a.take(hears=True)
        b.leave()
        assert not b.take(hears=True)
        a.leave()
        assert b.take(hears=True)

    def test_who_hears_nothing_gives_way_to_who_does(self, registry: Registry) -> None:
        a, b = self.lock(registry, "a"), self.lock(registry, "b")
        assert a.take(hears=False)
        assert not b.take(hears=False)
        assert b.take(hears=True)
        assert not a.take(hears=False)
        assert not a.take(hears=True)

    def test_it_expires(self, registry: Registry) -> None:
        a, b = self.lock(registry, "a"), self.lock(registry, "b")
        assert a.take(hears=True)
        registry.writer.call(lambda client: client.pexpire(a._key, 50))
        wait_until(lambda: b.take(hears=True), "an expiry")


class Rig:
    """One bridge with its table, on the running loop."""

    def __init__(self, registry: Registry, name: str, heard: float = 1000.0) -> None:
        loop = asyncio.get_running_loop()
        self.heard_for = heard
        self.populated = 0
        self.bridge = Bridge(
            RegistryWriter(registry.url, namespace=registry.namespace),
            namespace=registry.namespace,
            name=name,
            threshold=THRESHOLD,
            hears=lambda: True,
            heard=lambda: self.heard_for,
            on_populated=self._populated,
        )
        journal = Journal(logging.getLogger("test"), loop.time)
        self.table = AnnouncedTable(self.bridge, journal, threshold=THRESHOLD, clock=loop.time)
        self.task = asyncio.create_task(self.bridge.run(self.table))

    def _populated(self) -> None:
        self.populated += 1

    async def leave(self) -> None:
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.01)


def run(test: Coroutine[Any, Any, None]) -> None:
    uvloop.run(test)


class TestWriting:
    def test_what_is_announced_before_and_after(self, registry: Registry) -> None:
        async def test() -> None:
            rig = Rig(registry, "a")
            rig.table.register(("a.com", "b.com"), at(1))
            await until(lambda: registry.held() == {("a.com", "10.0.0.1:80"), ("b.com", "10.0.0.1:80")})
            rig.table.register(("c.com",), at(2))
            rig.table.unregister(("a.com",), "10.0.0.1:80")
            await until(lambda: registry.held() == {("b.com", "10.0.0.1:80"), ("c.com", "10.0.0.2:80")})
            rig.table.register(("b.com",), at(1, app="changed"))
            await until(lambda: {each.record.app for each in registry.writer.list("b.com")} == {"changed"})
            [lease] = registry.writer.leases()
            assert (lease.name, lease.ttl) == (LEASE, THRESHOLD)
            await rig.leave()

        run(test())

    def test_many_at_once(self, registry: Registry) -> None:
        async def test() -> None:
            rig = Rig(registry, "a")
            for number in range(3000):
                rig.table.register((f"{number}.com",), at(number % 200))
            await until(lambda: len(registry.held()) == 3000)
            for number in range(2999):
                rig.table.unregister((f"{number}.com",), f"10.0.0.{number % 200}:80")
            await until(lambda: registry.held() == {("2999.com", "10.0.0.199:80")})
            await rig.leave()

        run(test())

    def test_another_one_goes_on_and_nothing_leaves_in_between(self, registry: Registry) -> None:
        async def test() -> None:
            first = Rig(registry, "a")
            first.table.register(("a.com", "b.com"), at(1))
            await until(lambda: len(registry.held()) == 2)
            assert first.populated == 0
            second = Rig(registry, "b", heard=0.0)
            second.table.register(("a.com",), at(1))
            await until(lambda: second.populated)
            before = registry.writer.version()
            await first.leave()
            await until(lambda: second.bridge.leads)
            second.table.register(("c.com",), at(3))
            await until(lambda: len(registry.held()) == 3)
            changes = [
                (change.route, change.record is not None) for change in registry.writer.changes(before, wait=0.1)
            ]
            assert changes == [("c.com", True)]
            second.heard_for = THRESHOLD  # from now on it knows that nobody announces b.com
            await until(lambda: registry.held() == {("a.com", "10.0.0.1:80"), ("c.com", "10.0.0.3:80")})
            await second.leave()

        run(test())

    def test_what_was_restored_brings_nothing_back_until_it_is_announced(self, registry: Registry) -> None:
        async def test() -> None:
            rig = Rig(registry, "a")
            rig.table.restore("old.com", at(1))
            rig.table.register(("new.com",), at(2))
            await until(lambda: registry.held() == {("new.com", "10.0.0.2:80")})
            rig.table.register(("old.com",), at(1))
            await until(lambda: len(registry.held()) == 2)
            await rig.leave()

        run(test())

    def test_a_registry_that_was_wiped_is_written_again(self, registry: Registry) -> None:
        async def test() -> None:
            rig = Rig(registry, "a")
            rig.table.register(("a.com",), at(1))
            await until(lambda: len(registry.held()) == 1)
            registry.writer.call(lambda client: client.delete(*client.keys(f"{{{registry.namespace}}}:*")))
            rig.bridge._renewal_due = 0.0
            await until(lambda: len(registry.held()) == 1)
            await rig.leave()

        run(test())

    def test_while_redis_is_away_nothing_is_forgotten(self) -> None:
        async def test(folder: Path) -> None:
            server = EmbeddedRedis(folder)
            await asyncio.to_thread(server.start)
            registry = Registry(server.url)
            rig = Rig(registry, "a")
            rig.table.register(("a.com", "b.com"), at(1))
            await until(lambda: len(registry.held()) == 2)
            await asyncio.to_thread(server.stop)
            rig.table.unregister(("a.com",), "10.0.0.1:80")
            rig.table.register(("c.com",), at(2))
            await asyncio.sleep(0.3)
            server = EmbeddedRedis(folder)
            await asyncio.to_thread(server.start)
            await until(lambda: registry.held() == {("b.com", "10.0.0.1:80"), ("c.com", "10.0.0.2:80")})
            await rig.leave()
            await asyncio.to_thread(server.stop)

        with tempfile.TemporaryDirectory(prefix="mr-", dir="/tmp") as folder:
            run(test(Path(folder)))


@contextmanager
def bridging(registry: Registry, nats: NatsServer, **settings: Any) -> Iterator[Router]:
    how: dict[str, Any] = {"start_response_delay_interval": "0s", "logging": {"level": "debug"}, **settings}
    native = {"workers": 1, "namespace": registry.namespace}
    with running_router(registry.url, nats={"hosts": [nats.host]}, millrace=native, **how) as router:
        yield router


@pytest.fixture(scope="module")
def nats() -> Iterator[NatsServer]:
    with tempfile.TemporaryDirectory(prefix="mr-", dir="/tmp") as folder, running_nats(Path(folder)) as server:
        yield server


@pytest.fixture
def backend() -> Iterator[Backend]:
    with wire.backend(answering(wire.OK)) as server:
        yield server


class TestRouters:
    def test_a_route_reaches_every_router_and_outlives_the_one_that_wrote_it(
        self, registry: Registry, nats: NatsServer, backend: Backend
    ) -> None:
        with bridging(registry, nats) as one, bridging(registry, nats) as two, Registrar(nats) as registrar:
            routers = [one.until_healthy(), two.until_healthy()]
            wait_until(lambda: one.said("bridge-leads") or two.said("bridge-leads"), "a leader")
            registrar.register(backend.port, URI)
            for router in routers:
                wait_until(lambda r=router: status(r) == 200, "a route")  # type: ignore[misc]
            leader, other = (one, two) if one.said("bridge-leads") else (two, one)
            statuses: list[int] = []
            over = threading.Event()

            def client() -> None:
                while not over.is_set():
                    statuses.append(status(other))

            thread = threading.Thread(target=client)
            thread.start()
            try:
                kill(leader.process.pid)
                began = time.monotonic()
                other.until_said("bridge-leads")
                took = time.monotonic() - began
                registrar.register(backend.port, "new.example.com")
                wait_until(lambda: len(registry.held()) == 2, "a route by the new leader")
            finally:
                over.set()
                thread.join()
            assert took < 6.0
            assert set(statuses) == {200}
            registrar.unregister(backend.port, URI)
            wait_until(lambda: status(other) != 200, "its end")

    def test_a_registry_that_nobody_has_filled_yet_is_waited_for(
        self, registry: Registry, nats: NatsServer, backend: Backend
    ) -> None:
        slow = {"start_response_delay_interval": "3s"}
        with bridging(registry, nats, **slow) as router, Registrar(nats) as registrar:
            router.until_said("bridge-leads")
            assert router.health()[0] == 503
            registrar.register(backend.port, URI)
            wait_until(registry.held, "a route in the registry")
            assert status(router) == 200
            router.until_healthy()
        with bridging(registry, nats, start_response_delay_interval="1h") as router:
            router.until_healthy()  # what the first one wrote is there
            assert status(router) == 200

    def test_while_nats_is_away_the_lease_lives(self, registry: Registry, backend: Backend) -> None:
        how: dict[str, Any] = {
            "suspend_pruning_if_nats_unavailable": True,
            "droplet_stale_threshold": "2s",
            "prune_stale_droplets_interval": "200ms",
        }
        with (
            tempfile.TemporaryDirectory(prefix="mr-", dir="/tmp") as folder,
            running_nats(Path(folder)) as nats,
            bridging(registry, nats, **how) as router,
        ):
            router.until_healthy()
            with Registrar(nats) as registrar:
                registrar.register(backend.port, URI)
                wait_until(lambda: status(router) == 200, "a route")
            nats.kill()
            began = time.monotonic()
            while time.monotonic() - began < 5.0:
                assert status(router) == 200
                time.sleep(0.1)

    def test_the_sources_process_may_die(self, registry: Registry, nats: NatsServer, backend: Backend) -> None:
        with bridging(registry, nats) as router, Registrar(nats) as registrar:
            router.until_healthy()
            registrar.publish("router.register", registration(backend.port, [URI]))
            wait_until(lambda: status(router) == 200, "a route")
            kill(sources_of(router), signal.SIGKILL)
            router.until_said("bridge-leads", 2)
            assert status(router) == 200
            registrar.unregister(backend.port, URI)
            wait_until(lambda: status(router) != 200, "its end")
