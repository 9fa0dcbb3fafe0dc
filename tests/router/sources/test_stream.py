"""The announced table as a worker gets it: over a real unix socket, from sources that die, are young, or tell much."""

from __future__ import annotations

import asyncio
import logging
import socket
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from router.registry import snapshot
from router.registry.records import EndpointRecord
from router.sources import stream as stream_module
from router.sources.announced import AnnouncedTable
from router.sources.frames import (
    CHANGES,
    COMPLETE,
    MAX_BODY_BYTES,
    TABLE,
    BrokenStream,
    State,
    field,
    frame,
    frame_of_lines,
    head,
    lines,
    pairs,
)
from router.sources.journal import Journal
from router.sources.stream import Stream
from router.sources.stream_follower import StreamFollower
from router.table import RouteTable

PATIENCE = 10.0
THRESHOLD = 120.0
READY = State(age=1000.0, ready=True)


def on_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """The test runs on a loop of its own, and not for ever."""

    def run(self: object) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(PATIENCE * 3):
                await test(self)

        uvloop.run(bounded())

    return run


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.002)


def at(number: int, **said: Any) -> EndpointRecord:
    return EndpointRecord(host=f"10.0.0.{number}", port=80, **said)


class Source:
    """A stream with its table, listening at a path, as the sources process has it."""

    def __init__(self, listening: socket.socket, state: State) -> None:
        loop = asyncio.get_running_loop()
        self.state = state
        self.failed: list[tuple[str, str]] = []
        self.stream = Stream(lambda: self.state, lambda route, address: self.failed.append((route, address)))
        journal = Journal(logging.getLogger("test"), loop.time)
        self.table = AnnouncedTable(self.stream, journal, threshold=THRESHOLD, clock=loop.time)
        self._listening = listening
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        self._task = asyncio.create_task(self.stream.serve(self._listening.dup(), self.table))

    async def die(self) -> None:
        assert self._task is not None
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task


class Place:
    """A socket that outlives sources, and workers that connect to it."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "s")
        self.listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listening.bind(self.path)
        self.listening.listen(16)
        self._tasks: list[asyncio.Task[None]] = []

    def source(self, state: State = READY) -> Source:
        return Source(self.listening, state)

    def worker(self, **how: Any) -> tuple[StreamFollower, RouteTable]:
        table = RouteTable()
        follower = StreamFollower(self.path, table, threshold=THRESHOLD, **how)
        self._tasks.append(asyncio.create_task(follower.run()))
        return follower, table

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.listening.close()


@asynccontextmanager
async def place() -> AsyncIterator[Place]:
    with tempfile.TemporaryDirectory(prefix="mr-", dir="/tmp") as folder:
        there = Place(Path(folder))
        try:
            yield there
        finally:
            await there.close()


def held(table: RouteTable) -> dict[str, list[str]]:
    return {route: [address for address, _ in table.packed(route)] for route in sorted(table.routes())}


class TestFollowing:
    @on_a_loop
    async def test_the_whole_table_comes_and_then_every_change(self) -> None:
        async with place() as there:
            source = there.source()
            for number in range(1000):
                source.table.register((f"{number}.com",), at(number % 200))
            source.begin()
            worker, table = there.worker()
            await until(lambda: worker.ready)
            assert len(table) == 1000
            assert worker.counters.resyncs == 1
            source.table.register(("new.com",), at(1))
            source.table.register(("0.com",), at(0, app="changed"))
            source.table.unregister(("1.com",), "10.0.0.1:80")
            await until(lambda: worker.applied == 1003)
            assert held(table)["new.com"] == ["10.0.0.1:80"]
            assert dict(table.packed("0.com")) == {"10.0.0.0:80": at(0, app="changed").to_json()}
            assert "1.com" not in table.routes()
            await source.die()

    @on_a_loop
    async def test_changes_during_the_loading_are_not_lost(self) -> None:
        async with place() as there:
            source = there.source()
            for number in range(5000):
                source.table.register((f"{number}.com",), at(number % 200))
            source.begin()
            workers = [there.worker() for _ in range(3)]
            number = 0
            while not all(worker.ready for worker, _ in workers):
                source.table.unregister((f"{number}.com",), f"10.0.0.{number % 200}:80")
                source.table.register((f"late{number}.com",), at(1))
                source.table.register((f"{number + 1}.com",), at(201))
                number += 2
                await asyncio.sleep(0)
            assert number
            wanted = {}
            for route in sorted(source.table.routes()):
                pool = source.table.pool(route)
                assert pool is not None
                wanted[route] = sorted(each.address for each in pool.announcements)
            for _, table in workers:
                await until(lambda table=table: {r: sorted(a) for r, a in held(table).items()} == wanted)  # type: ignore[misc]
            await source.die()

    @on_a_loop
    async def test_a_router_that_begins_is_ready_when_its_source_says_so(self) -> None:
        async with place() as there:
            source = there.source(State())
            source.table.register(("a.com",), at(1))
            source.begin()
            worker, table = there.worker()
            await until(lambda: held(table) == {"a.com": ["10.0.0.1:80"]})
            assert not worker.ready
            source.state = READY
            source.stream.tell_state()
            await until(lambda: worker.ready)
            await source.die()

    @on_a_loop
    async def test_what_a_pool_was_last_asked_for_reaches_workers_that_come_later(self) -> None:
        async with place() as there:
            source = there.source()
            slow, fast = {"loadbalancing": "least-connection"}, {"loadbalancing": "round-robin"}
            source.table.register(("a.com",), at(1, options=slow))
            source.table.register(("a.com",), at(2, options=fast))
            source.begin()
            early, table = there.worker()
            await until(lambda: early.ready)
            assert table.lookup("a.com", "").algorithm == "round-robin"  # type: ignore[union-attr]
            source.table.register(("a.com",), at(1, options=slow))
            await until(lambda: table.lookup("a.com", "").algorithm == "least-connection")  # type: ignore[union-attr]
            for _ in range(2):
                late, other = there.worker()
                await until(lambda late=late: late.ready)  # type: ignore[misc]
                await until(lambda o=other: o.lookup("a.com", "").algorithm == "least-connection")  # type: ignore[misc]
                source.table.register(("b.com",), at(1))
            await source.die()

    @on_a_loop
    async def test_endpoints_that_failed_are_told_upwards(self) -> None:
        async with place() as there:
            source = there.source()
            source.begin()
            worker, _ = there.worker()
            worker.report_failed("nobody.com", "10.0.0.1:443")  # without a source it is not said
            await until(lambda: worker.ready)
            worker.report_failed("a.com/x", "10.0.0.1:443")
            await until(lambda: source.failed == [("a.com/x", "10.0.0.1:443")])
            await source.die()

    @on_a_loop
    async def test_a_source_that_says_nothing_lags(self) -> None:
        async with place() as there:
            source = there.source()
            source.begin()
            worker, _ = there.worker()
            await until(lambda: worker.ready)
            assert worker.lag == 0.0
            worker._heard -= 10.0
            assert worker.lag > 9.0
            await until(lambda: worker.lag == 0.0)
            await source.die()


class TestSourcesThatDie:
    @on_a_loop
    async def test_everything_is_served_meanwhile_and_what_was_lost_is_kept_by_age(self) -> None:
        async with place() as there:
            source = there.source()
            for number in range(3):
                source.table.register((f"{number}.com",), at(number))
            source.begin()
            worker, table = there.worker()
            await until(lambda: worker.ready)
            await source.die()
            await until(lambda: not worker.connected)
            assert len(table) == 3

            young = there.source(State(age=THRESHOLD - 1.0, ready=True))
            young.table.register(("0.com",), at(0))
            young.begin()
            await until(lambda: worker.connected and worker.counters.resyncs == 2)
            await until(lambda: worker.unconfirmed == 2)
            assert len(table) == 3
            young.table.unregister(("1.com",), "10.0.0.1:80")  # of which it never heard before
            await until(lambda: "1.com" not in table.routes())
            await until(lambda: table.routes() == ["0.com"])
            assert worker.unconfirmed == 0
            await young.die()

    @on_a_loop
    async def test_a_source_that_has_heard_everything_is_believed_at_once(self) -> None:
        async with place() as there:
            source = there.source()
            source.table.register(("a.com", "b.com"), at(1))
            source.begin()
            worker, table = there.worker()
            await until(lambda: worker.ready)
            await source.die()
            old = there.source(State(age=THRESHOLD, ready=True))
            old.table.register(("a.com",), at(1))
            old.begin()
            await until(lambda: worker.counters.resyncs == 2 and table.routes() == ["a.com"])
            await old.die()

    @on_a_loop
    async def test_nothing_leaves_while_nothing_may_be_pruned(self) -> None:
        async with place() as there:
            source = there.source()
            source.table.register(("a.com",), at(1))
            source.begin()
            worker, table = there.worker()
            await until(lambda: worker.ready)
            await source.die()
            cut_off = there.source(State(age=THRESHOLD - 0.2, ready=True, suspended=True))
            cut_off.begin()
            await until(lambda: worker.unconfirmed == 1)
            await asyncio.sleep(0.5)
            cut_off.stream.tell_state()
            await asyncio.sleep(0.1)
            assert table.routes() == ["a.com"]
            await cut_off.die()

    @on_a_loop
    async def test_what_is_announced_again_is_confirmed(self) -> None:
        async with place() as there:
            source = there.source()
            source.table.register(("a.com",), at(1))
            source.begin()
            worker, table = there.worker()
            await until(lambda: worker.ready)
            await source.die()
            young = there.source(State(age=0.0, ready=True))
            young.begin()
            await until(lambda: worker.unconfirmed == 1)
            young.table.register(("a.com",), at(1))
            await until(lambda: worker.unconfirmed == 0)
            assert table.routes() == ["a.com"]
            await young.die()

    @on_a_loop
    async def test_a_worker_without_a_source_serves_from_the_snapshot(self) -> None:
        async with place() as there:
            file = Path(there.path).parent / "snapshot"
            entry = field("a.com", at(1).address), at(1).to_json()
            await snapshot.save(file, snapshot.Header("announced"), [[entry]])
            there.listening.close()
            worker, table = there.worker(snapshot=file, grace=0.05)
            await until(lambda: worker.ready)
            assert held(table) == {"a.com": ["10.0.0.1:80"]}
            assert not worker.connected

    @on_a_loop
    async def test_a_worker_without_a_source_and_a_snapshot_waits(self) -> None:
        async with place() as there:
            damaged = Path(there.path).parent / "damaged"
            damaged.write_bytes(b"nonsense")
            source = there.source()
            workers = [
                there.worker(snapshot=Path(there.path).parent / name, grace=0.01)[0] for name in ("damaged", "none")
            ]
            await asyncio.sleep(0.2)
            assert not any(worker.ready for worker in workers)
            source.begin()
            await until(lambda: all(worker.ready for worker in workers))
            await source.die()


class TestSlowWorkers:
    @on_a_loop
    async def test_one_that_does_not_read_is_cut_off_and_the_others_go_on(self) -> None:
        limit, stream_module.MAX_UNREAD = stream_module.MAX_UNREAD, 200_000
        try:
            async with place() as there:
                source = there.source()
                source.begin()
                worker, table = there.worker()
                await until(lambda: worker.ready)
                _, writer = await asyncio.open_unix_connection(there.path)
                writer.transport.pause_reading()  # type: ignore[attr-defined]
                await until(lambda: source.stream.followers == 2)
                number = 0
                while source.stream.followers == 2:
                    number += 1
                    source.table.register((f"{number}.com",), at(1, app="x" * 1000))
                    await asyncio.sleep(0)
                assert source.stream.cut_off == 1
                await until(lambda: len(table) == number)
                writer.transport.abort()
                await source.die()
        finally:
            stream_module.MAX_UNREAD = limit  # type: ignore[misc]


class TestManyChanges:
    def test_never_hold_the_loop(self) -> None:
        """However much of the stream has been read already, requests have their turn in between."""
        records = [at(number % 250, app="x" * 300).to_json() for number in range(250)]
        changes = b"".join(
            frame_of_lines(CHANGES, [b"+%d.com 10.0.0.%d:80" % (number, number % 250), records[number % 250]])
            for number in range(20_000)
        )

        def tell(listening: socket.socket) -> None:
            worker, _ = listening.accept()
            with worker, suppress(OSError):
                worker.sendall(frame(COMPLETE, READY.packed()) + changes)
                worker.recv(1)

        async def test() -> None:
            async with place() as there:
                teller = threading.Thread(target=tell, args=(there.listening,))
                teller.start()
                worker, table = there.worker()
                held: list[float] = []
                while len(table) < 20_000:
                    last = time.thread_time()
                    await asyncio.sleep(0)
                    held.append(time.thread_time() - last)
                assert sorted(held)[len(held) * 99 // 100] < 0.005
                assert worker.connected
            teller.join(PATIENCE)

        uvloop.run(test())


class TestFrames:
    @given(st.lists(st.binary(max_size=20).filter(lambda line: b"\n" not in line), min_size=1))
    def test_lines_come_back(self, written: list[bytes]) -> None:
        packed = frame_of_lines(CHANGES, written)
        length, kind = head(packed[:5])
        assert (kind, len(packed) - 5) == (CHANGES, length)
        assert lines(packed[5:]) in (written, [] if written == [b""] else written)

    def test_no_lines_are_none(self) -> None:
        assert lines(frame_of_lines(TABLE, [])[5:]) == []

    @pytest.mark.parametrize("state", [State(), State(12.5, True, True)])
    def test_a_state_comes_back(self, state: State) -> None:
        assert State.read(state.packed()) == state

    def test_what_no_stream_says_is_refused(self) -> None:
        with pytest.raises(BrokenStream):
            head((MAX_BODY_BYTES + 1).to_bytes(4, "big") + TABLE)
        with pytest.raises(BrokenStream):
            pairs(b"one line")
        for body in (b"", b"[]", b'{"x":1}', b"{"):
            with pytest.raises(BrokenStream):
                State.read(body)

    @pytest.mark.parametrize("kind", [b"?", COMPLETE, TABLE])
    def test_a_follower_leaves_a_stream_that_is_none(self, kind: bytes) -> None:
        """A second table, or a frame of no known kind, after the first table was complete."""

        async def test() -> None:
            async with place() as there:
                asked = 0

                async def nonsense(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                    nonlocal asked
                    asked += 1
                    writer.write(frame(COMPLETE, READY.packed()) + frame(kind, READY.packed()))

                server = await asyncio.start_unix_server(nonsense, sock=there.listening.dup())
                worker, _ = there.worker()
                await until(lambda: asked > 1)
                assert worker.ready
                server.close()

        uvloop.run(test())
