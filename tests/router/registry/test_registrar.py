"""A registrar against a real Redis: what is healthy is registered, whatever happens to the registry meanwhile."""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from router.registry.embedded import EmbeddedRedis
from router.registry.health import CheckFailed, Schedule, TcpCheck
from router.registry.records import EndpointRecord, InvalidRecord
from router.registry.registrar import Event, Registrar, Target
from router.registry.writer import RegistryWriter

FAST = Schedule(interval=0.01, timeout=1, unhealthy_threshold=1)
Table = set[tuple[str, str, str]]


@dataclass(eq=False)
class Switch:
    """A check that a test turns on and off."""

    on: bool = True
    asked: int = 0

    async def __call__(self) -> None:
        await trio.lowlevel.checkpoint()
        self.asked += 1
        if not self.on:
            raise CheckFailed("switched off")


@pytest.fixture
def redis() -> Iterator[EmbeddedRedis]:
    folder = Path(tempfile.mkdtemp(prefix="mr-", dir="/tmp"))
    with EmbeddedRedis(folder) as server:
        yield server
    shutil.rmtree(folder)


@pytest.fixture
def writer(redis: EmbeddedRedis) -> Iterator[RegistryWriter]:
    with RegistryWriter(redis.url) as made:
        yield made


def target(check: Callable[[], Awaitable[None]], port: int = 1, *routes: str, schedule: Schedule = FAST) -> Target:
    return Target(routes or ("app.example.com",), EndpointRecord(host="10.0.0.1", port=port), check, schedule)


def table(writer: RegistryWriter) -> Table:
    return {(entry.route, entry.record.address, entry.lease) for entry in writer.list()}


def expected(*ports: int, route: str = "app.example.com", lease: str = "mine") -> Table:
    return {(route, f"10.0.0.1:{port}", lease) for port in ports}


async def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    with trio.fail_after(seconds):
        while True:
            if await trio.to_thread.run_sync(condition):
                return
            await trio.sleep(0.01)


async def until_table(writer: RegistryWriter, wanted: Table) -> None:
    await until(lambda: table(writer) == wanted)


@asynccontextmanager
async def running(registrar: Registrar) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(registrar.run)
        yield
        nursery.cancel_scope.cancel()


def test_what_passes_is_registered_and_what_fails_is_not(writer: RegistryWriter) -> None:
    async def main() -> None:
        good, bad = Switch(True), Switch(False)
        registrar = Registrar(writer, "mine")
        registrar.add(target(good, 1))
        registrar.add(target(bad, 2))
        async with running(registrar):
            await until_table(writer, expected(1))
            good.on, bad.on = False, True
            await until_table(writer, expected(2))
            good.on = True
            await until_table(writer, expected(1, 2))

    trio.run(main)


@pytest.mark.parametrize("route", ["app.example.com", "tcp:5432", "tcp:5432/db.example.com"])
def test_a_real_backend_that_stops_listening_is_unregistered(writer: RegistryWriter, route: str) -> None:
    async def main() -> None:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listener.socket.getsockname()[1]
        registrar = Registrar(writer, "mine")
        registrar.add(target(TcpCheck("127.0.0.1", port), 1, route))
        async with running(registrar):
            await until_table(writer, expected(1, route=route))
            await listener.aclose()
            await until_table(writer, set())

    trio.run(main)


def test_an_endpoint_may_serve_many_routes(writer: RegistryWriter) -> None:
    async def main() -> None:
        registrar = Registrar(writer, "mine")
        registrar.add(target(Switch(), 1, "A.example.com/", "b.example.com/path"))
        async with running(registrar):
            await until_table(writer, expected(1, route="a.example.com") | expected(1, route="b.example.com/path"))

    trio.run(main)


def test_leaving_takes_everything_along_and_nothing_of_others(writer: RegistryWriter) -> None:
    async def main() -> None:
        writer.lease("theirs", ttl=30).register([("app.example.com", EndpointRecord(host="10.0.0.1", port=9))])
        registrar = Registrar(writer, "mine")
        registrar.add(target(Switch()))
        async with running(registrar):
            await until_table(writer, expected(1) | expected(9, lease="theirs"))

    trio.run(main)
    assert table(writer) == expected(9, lease="theirs")
    assert [lease.name for lease in writer.leases()] == ["theirs"]


def test_targets_come_and_go_while_it_runs(writer: RegistryWriter) -> None:
    async def main() -> None:
        first, second = target(Switch(), 1), target(Switch(), 2)
        registrar = Registrar(writer, "mine")
        registrar.add(first)
        async with running(registrar):
            await until_table(writer, expected(1))
            registrar.add(second)
            await until_table(writer, expected(1, 2))
            registrar.remove(first)
            await until_table(writer, expected(2))
            registrar.add(first)
            await until_table(writer, expected(1, 2))

    trio.run(main)


def test_a_removed_target_is_not_checked_any_more(writer: RegistryWriter) -> None:
    async def main() -> None:
        switch = Switch()
        registrar = Registrar(writer, "mine")
        registrar.add(target(switch))
        async with running(registrar):
            await until_table(writer, expected(1))
            registrar.remove(target(switch))
            await until_table(writer, set())
            asked = switch.asked
            other = Switch()
            registrar.add(target(other, 2))
            await until(lambda: other.asked > 5)
            assert switch.asked == asked

    trio.run(main)


def test_the_same_target_twice_and_an_unknown_one_are_mistakes(writer: RegistryWriter) -> None:
    check = Switch()
    registrar = Registrar(writer, "mine")
    registrar.add(target(check))
    with pytest.raises(ValueError, match=r"10\.0\.0\.1:1 for app\.example\.com: added twice"):
        registrar.add(target(check))
    with pytest.raises(ValueError, match="not here to be removed"):
        registrar.remove(target(check, 2))


def test_an_endpoint_may_have_another_check_for_another_route(writer: RegistryWriter) -> None:
    async def main() -> None:
        registrar = Registrar(writer, "mine")
        registrar.add(target(Switch(True), 1, "a.example.com"))
        registrar.add(target(Switch(False), 1, "b.example.com"))
        async with running(registrar):
            await until_table(writer, expected(1, route="a.example.com"))

    trio.run(main)


def test_many_checks_take_turns(writer: RegistryWriter) -> None:
    at_once = [0, 0]

    async def check() -> None:
        at_once[0] += 1
        at_once[1] = max(at_once)
        await trio.sleep(0.01)
        at_once[0] -= 1

    async def main() -> None:
        registrar = Registrar(writer, "mine")
        for port in range(1, 1001):
            registrar.add(target(check, port, schedule=Schedule(interval=30)))
        async with running(registrar):
            await until_table(writer, expected(*range(1, 1001)))

    trio.run(main)
    assert 1 < at_once[1] <= 256


def test_a_bad_route_and_a_bad_ttl_are_refused_at_once(writer: RegistryWriter) -> None:
    with pytest.raises(InvalidRecord):
        target(Switch(), 1, "not a host")
    with pytest.raises(ValueError, match="ttl of lease 'mine': from 1 to 3600 seconds"):
        Registrar(writer, "mine", ttl=0)


def test_the_lease_is_renewed(writer: RegistryWriter) -> None:
    async def main() -> None:
        registrar = Registrar(writer, "mine", ttl=1, description="a test")
        registrar.add(target(Switch()))
        async with running(registrar):
            await until_table(writer, expected(1))
            deadline = trio.current_time() + 1.5
            lowest = 1.0
            while trio.current_time() < deadline:
                (lease,) = await trio.to_thread.run_sync(writer.leases)
                assert lease.registrar == "a test"
                assert lease.seconds_left is not None
                lowest = min(lowest, lease.seconds_left)
                await trio.sleep(0.02)
            assert lowest > 0.3

    trio.run(main)


def test_a_registry_that_forgot_is_told_again_within_one_renewal(redis: EmbeddedRedis, writer: RegistryWriter) -> None:
    async def main() -> None:
        registrar = Registrar(writer, "mine", ttl=1)
        registrar.add(target(Switch(True), 1))
        registrar.add(target(Switch(False), 2))
        async with running(registrar):
            await until_table(writer, expected(1))
            Redis.from_url(redis.url).flushall()
            await until_table(writer, expected(1))

    trio.run(main)


def test_it_starts_without_a_registry_and_catches_up(redis: EmbeddedRedis, writer: RegistryWriter) -> None:
    events: list[Event] = []

    async def main() -> None:
        redis.stop()
        going = Switch(True)
        registrar = Registrar(writer, "mine", ttl=1, on_event=events.append)
        registrar.add(target(Switch(True), 1))
        registrar.add(target(going, 2))
        async with running(registrar):
            await until(lambda: any(event.kind == "unavailable" for event in events))
            asked = going.asked
            going.on = False
            await until(lambda: going.asked > asked + 1)
            await trio.to_thread.run_sync(redis.start)
            await until_table(writer, expected(1))
            await until(lambda: any(event.kind == "available" for event in events))

    trio.run(main)


def test_an_outage_while_it_runs_changes_nothing_but_what_changed(redis: EmbeddedRedis, writer: RegistryWriter) -> None:
    async def main() -> None:
        staying, leaving, coming = Switch(True), Switch(True), Switch(False)
        registrar = Registrar(writer, "mine", ttl=1)
        for port, switch in enumerate((staying, leaving, coming), 1):
            registrar.add(target(switch, port))
        async with running(registrar):
            await until_table(writer, expected(1, 2))
            await trio.to_thread.run_sync(redis.stop)
            leaving.on, coming.on = False, True
            asked = staying.asked
            await until(lambda: staying.asked > asked + 5)
            await trio.to_thread.run_sync(redis.start)
            await until_table(writer, expected(1, 3))

    trio.run(main)


def test_what_an_earlier_run_left_goes_but_never_what_is_still_healthy(writer: RegistryWriter) -> None:
    left = [("app.example.com", EndpointRecord(host="10.0.0.1", port=port)) for port in (1, 2)]
    version = writer.lease("mine", ttl=30).register(left)
    slow = Switch(True)

    async def slowly() -> None:
        await trio.sleep(0.1)
        await slow()

    async def main() -> None:
        registrar = Registrar(writer, "mine")
        registrar.add(target(Switch(True), 3))
        registrar.add(target(slowly, 1))
        async with running(registrar):
            await until_table(writer, expected(1, 3))
            changes = writer.changes(version, wait=0.1)
            assert [(change.address, change.record is None) for change in changes] == [
                ("10.0.0.1:3", False),
                ("10.0.0.1:2", True),
            ]

    trio.run(main)


def test_leaving_is_bounded_though_the_registry_hangs(redis: EmbeddedRedis, writer: RegistryWriter) -> None:
    events: list[Event] = []

    async def main() -> None:
        registrar = Registrar(writer, "mine", exit_timeout=0.2, on_event=events.append)
        registrar.add(target(Switch()))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(registrar.run)
            await until_table(writer, expected(1))
            redis.server.send(signal.SIGSTOP)
            nursery.cancel_scope.cancel()
            started = trio.current_time()
        assert trio.current_time() - started < 2

    try:
        trio.run(main)
    finally:
        redis.server.send(signal.SIGCONT)
    assert events[-1] == Event("left", "the endpoints expire within 30 s: no answer from the registry")


def test_leaving_without_a_registry_says_what_stays(redis: EmbeddedRedis, writer: RegistryWriter) -> None:
    events: list[Event] = []

    async def main() -> None:
        registrar = Registrar(writer, "mine", on_event=events.append)
        registrar.add(target(Switch()))
        async with running(registrar):
            await until_table(writer, expected(1))
            await trio.to_thread.run_sync(redis.stop)

    trio.run(main)
    assert events[-1].kind == "left"
    assert "the endpoints expire within 30 s: registry at unix:///" in events[-1].detail


def test_it_tells_what_it_does_and_why(writer: RegistryWriter) -> None:
    events: list[Event] = []

    async def main() -> None:
        switch = Switch()
        registrar = Registrar(writer, "mine", on_event=events.append)
        registrar.add(target(switch))
        async with running(registrar):
            await until_table(writer, expected(1))
            switch.on = False
            await until_table(writer, set())
            await until(lambda: events[-1].kind == "unregistered")

    trio.run(main)
    assert events == [
        Event("healthy", "10.0.0.1:1 for app.example.com"),
        Event("replaced", "app.example.com -> 10.0.0.1:1"),
        Event("unhealthy", "10.0.0.1:1 for app.example.com: switched off"),
        Event("unregistered", "app.example.com -> 10.0.0.1:1"),
        Event("released", "lease mine"),
    ]


def test_the_error_of_a_broken_check_is_not_hidden(writer: RegistryWriter) -> None:
    async def broken() -> None:
        raise ZeroDivisionError

    registrar = Registrar(writer, "mine")
    registrar.add(target(broken))
    with pytest.raises(ExceptionGroup) as caught:
        trio.run(registrar.run)
    assert caught.group_contains(ZeroDivisionError)
    assert writer.leases() == []


steps = st.lists(st.tuples(st.sampled_from(["toggle", "toggle", "toggle", "forget"]), st.integers(0, 3)), max_size=25)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=steps)
def test_whatever_happens_the_table_becomes_what_is_healthy(
    redis: EmbeddedRedis, writer: RegistryWriter, steps: list[tuple[str, int]]
) -> None:
    async def main() -> None:
        switches = [Switch(port % 2 == 0) for port in range(4)]
        registrar = Registrar(writer, "mine", ttl=1)
        for port, switch in enumerate(switches, 1):
            registrar.add(target(switch, port))
        async with running(registrar):
            for step, number in steps:
                if step == "toggle":
                    switches[number].on = not switches[number].on
                    await trio.lowlevel.checkpoint()
                else:
                    await trio.to_thread.run_sync(partial(Redis.from_url(redis.url).flushall))
            await until_table(writer, expected(*(port for port, switch in enumerate(switches, 1) if switch.on)))

    trio.run(main)
    assert table(writer) == set()
