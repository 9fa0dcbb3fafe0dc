"""One worker process: a route table, its follower, and the edge that serves one slot's sockets.

Started only by `router.processes.slot` as ``python -m router.processes.worker CONTROL_FD SUPERVISOR_PID LISTENER=FD
...``; everything else comes over the control channel. It accepts connections only once the table is complete: who comes
earlier waits in a socket's backlog. It must never outlive its supervisor, and never take a signal of the terminal's as
its own: starting, rolling, draining and stopping are the supervisor's to say.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import itertools
import logging
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import uvloop

from router.config.settings import Settings, from_plain
from router.config.sharding import accepted_segments
from router.edge import Edge
from router.listeners import Listeners
from router.logs import component_log
from router.logs.access_log import AccessLog
from router.metrics.app_counts import AppCounts
from router.metrics.counters import Metrics
from router.metrics.metrics_page import counted
from router.metrics.registration_times import TimedSink
from router.processes.control import Channel, Message
from router.processes.listening import BACKLOG
from router.processes.own_process import cost, leave_signals_to
from router.registry.follower import Follower
from router.sources.memory import FILE as ANNOUNCED
from router.sources.stream_follower import StreamFollower
from router.status import stacks
from router.status.routes_page import NO_TTL, fragments
from router.status.varz import LevelCounts
from router.table import RouteTable

if TYPE_CHECKING:
    from router.loggregator.worker_side import WorkerSide

SNAPSHOT: Final = "routes.snapshot"
"""In the folder of the setting millrace.data."""
FRAGMENTS_PER_PART: Final = 128
"""How much of GET /routes is made between two rounds of requests: well under a millisecond's work."""
CLOSE_IDLE_EVERY: Final = 0.5
"""Seconds between two looks for connections that turned idle while draining."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""From <malloc.h>."""
_HEAP_KEPT: Final = 8 * 1024 * 1024
"""Bytes of free memory a worker does not give back at once."""

_log = logging.getLogger("router.worker")
_router = logging.getLogger("router.router")


class Worker:
    """What lives in the process. ``run`` is its whole life."""

    def __init__(
        self, channel: Channel, listening: Mapping[str, socket.socket], start: Message, settings: Settings
    ) -> None:
        """``start``: the supervisor's first message."""
        loop = asyncio.get_running_loop()
        self._channel = channel
        self._listening = listening
        self._table = RouteTable(
            settings.empty_pool_timeout, accepted_segments(settings), squeeze=bool(start["source"])
        )
        self._metrics = Metrics.from_settings(settings)
        self._access_log = AccessLog.from_settings(settings)
        self._edge = Edge(settings, self._table, self._metrics, self._access_log, loop)
        self._apps = AppCounts.from_settings(settings)
        if self._apps is not None:
            self._apps.attach(self._edge)
        self._level_counts = LevelCounts.begin()
        self._loggregator = _loggregator(settings)
        if self._loggregator is not None:
            self._loggregator.attach(self._edge, self._access_log)
        self._caught_up = asyncio.Event()
        self._may_serve = asyncio.Event()
        if not start["must_wait"]:
            self._may_serve.set()
        self._follower = (
            self._of_source(start["source"], settings)
            if start["source"]
            else self._of_registry(settings, first=start["slot"] == 0)
        )
        self._listeners = Listeners(settings, self._edge)
        self._servers: list[asyncio.AbstractServer] = []
        self._ttl = round(settings.droplet_stale_threshold) if start["source"] else NO_TTL
        self._dumps: dict[int, Iterator[bytes]] = {}
        self._draining: asyncio.Task[None] | None = None
        self._drained = asyncio.Event()

    def _of_source(self, path: str, settings: Settings) -> StreamFollower:
        follower = StreamFollower(
            path,
            self._table,
            threshold=settings.droplet_stale_threshold,
            snapshot=Path(settings.millrace.data) / ANNOUNCED,
            on_ready=self._caught_up.set,
        )
        if settings.millrace.prune_failed_tls_endpoints:
            self._edge.failed_tls_endpoint = follower.report_failed
        return follower

    def _of_registry(self, settings: Settings, *, first: bool) -> Follower:
        muzzle = settings.route_latency_metric_muzzle_duration
        return Follower(
            settings.millrace.redis,
            TimedSink(self._table, self._metrics, muzzle) if first else self._table,
            namespace=settings.millrace.namespace,
            snapshot=Path(settings.millrace.data) / SNAPSHOT,
            on_ready=self._caught_up.set,
            writes_snapshot=first,
        )

    async def run(self) -> None:
        """Serves until the supervisor says stop, a drain is done, or the supervisor is gone. Raises what went wrong."""
        work = asyncio.create_task(self._follow_and_serve())
        obey = asyncio.create_task(self._obey())
        drained = asyncio.create_task(self._drained.wait())
        done, _ = await asyncio.wait((work, obey, drained), return_when=asyncio.FIRST_COMPLETED)
        for server in self._servers:
            server.close()
        self._edge.abort()
        tasks = [task for task in (work, obey, drained, self._draining) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._access_log is not None:
            self._access_log.close()
        self._channel.send({"say": "last", **self._report()})
        with contextlib.suppress(TimeoutError, ConnectionError):  # a supervisor that is gone needs no last figures
            async with asyncio.timeout(1.0):
                await self._channel.close()
        for finished in done:
            finished.result()

    async def _follow_and_serve(self) -> None:
        works = [self._follower.run(), self._serve_when_caught_up(), self._listeners.watch()]
        if self._loggregator is not None:
            works.append(self._loggregator.run())
        await asyncio.gather(*works)

    async def _serve_when_caught_up(self) -> None:
        await self._caught_up.wait()
        await self._may_serve.wait()
        self._edge.backend_tls.prepare()
        self._edge.route_services.prepare()
        _settle_memory()
        self._edge.start()
        loop = asyncio.get_running_loop()
        self._servers = [
            await loop.create_server(self._listeners.protocol(name), sock=sock.dup(), backlog=BACKLOG)
            for name, sock in self._listening.items()
        ]
        self._channel.send({"say": "ready"})
        _log.info("worker-ready", extra={"data": {"routes": len(self._table)}})

    async def _obey(self) -> None:
        while (order := await self._channel.receive()) is not None:
            match order["do"]:
                case "report":
                    self._channel.send({"say": "report", "id": order["id"], **self._report()})
                case "routes":
                    self._dumps[order["id"]] = fragments(self._table, self._ttl)
                    self._send_part(order["id"])
                case "more":
                    self._send_part(order["id"])
                case "enough":
                    del self._dumps[order["id"]]
                case "connections":
                    active, idle = self._edge.census()
                    self._channel.send({"say": "connections", "id": order["id"], "active": active, "idle": idle})
                case "active-apps":
                    apps = self._apps.take_active() if self._apps is not None else []
                    self._channel.send({"say": "active-apps", "id": order["id"], "apps": apps})
                case "stacks":
                    text = stacks.page(f"worker, process {os.getpid()}")
                    self._channel.send({"say": "stacks", "id": order["id"], "text": text})
                case "log-level":
                    component_log.set_level(order["level"])
                case "degrade":
                    self._edge.healthy = False
                case "serve":
                    self._may_serve.set()
                case "drain":
                    if self._draining is not None:  # rolled first, and now the whole router drains: less patience
                        self._draining.cancel()
                    self._draining = asyncio.create_task(self._drain(order["idle_grace"], order["longest"]))
                case "stop":
                    return
        _log.error("supervisor-gone")

    def _send_part(self, number: int) -> None:
        """The next part of a route dump, asked for when the one before was passed on: a slow reader costs no memory."""
        part = b"".join(itertools.islice(self._dumps[number], FRAGMENTS_PER_PART))
        self._channel.send({"say": "part", "id": number, "text": part.decode()})

    async def _drain(self, idle_grace: float, longest: float) -> None:
        """Stop accepting and leave when the last connection ends, or after ``longest`` seconds.

        Idle connections stay for ``idle_grace`` seconds: a request that the client has sent already still arrives.
        """
        self._edge.drain()
        await self._stop_accepting()
        try:
            async with asyncio.timeout(longest):
                try:
                    async with asyncio.timeout(min(idle_grace, longest)):
                        await self._edge.drained()
                except TimeoutError:
                    await self._drained_but_for_idle()
        except TimeoutError:
            _router.warning("router.drain.timed-out", extra={"data": {"connections": self._edge.connections}})
        self._drained.set()

    async def _drained_but_for_idle(self) -> None:
        while self._edge.connections:
            self._edge.close_idle()
            try:
                async with asyncio.timeout(CLOSE_IDLE_EVERY):
                    await self._edge.drained()
            except TimeoutError:
                continue

    async def _stop_accepting(self) -> None:
        """Close this process's copies of the listening sockets, once everyone in their backlogs has been let in."""
        servers, self._servers = self._servers, []
        if not servers:
            return
        for server in servers:
            server.close()
        loop = asyncio.get_running_loop()
        for name, sock in self._listening.items():
            sock.setblocking(False)
            while True:
                try:
                    client, _ = sock.accept()
                except (BlockingIOError, ConnectionAbortedError):
                    break
                client.setblocking(False)
                await loop.connect_accepted_socket(self._listeners.protocol(name), client)
            sock.close()

    def _report(self) -> Message:
        follower = self._follower
        self._metrics.log_lines_dropped = component_log.dropped()
        if self._loggregator is not None:
            self._loggregator.count(self._metrics)
        return {
            "counted": counted(self._metrics, self._access_log.dropped if self._access_log else 0),
            **cost(),
            "ready": follower.ready,
            "connected": follower.connected,
            "lag_seconds": follower.lag,
            "since_update_ms": -1 if follower.silence is None else round(follower.silence * 1000),
            "resyncs": follower.counters.resyncs,
            "reconnects": follower.counters.reconnects,
            "pruned": follower.counters.pruned,
            "unconfirmed": follower.unconfirmed,
            "routes": len(self._table),
            "endpoints": self._table.endpoint_count,
            "log_counts": self._level_counts.counts,
            "apps": self._apps.report() if self._apps is not None else {},
            **(self._loggregator.report() if self._loggregator is not None else {}),
        }


def _loggregator(settings: Settings) -> WorkerSide | None:
    """None where nothing is to be sent."""
    if not settings.logging.loggregator_enabled:
        return None
    from router.loggregator.worker_side import WorkerSide  # noqa: PLC0415 - costs 1 MiB, so not without need

    return WorkerSide(settings)


def _settle_memory() -> None:
    """The table is built and stays: take it out of the collector's sight, or each full collection walks it all.

    With a hundred thousand routes such a walk stops every request for a tenth of a second. What connections leave
    behind is still collected, after more allocations than by default, since few of them are ever part of a cycle.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    gc.enable()


def _keep_buffers() -> None:
    """glibc: the buffers that bodies arrive in (a quarter of a MiB each) come from the heap and go back to it.

    By default each is mapped, filled with zeros by the kernel and unmapped again, which is a quarter of what relaying a
    large body costs.
    """
    with contextlib.suppress(OSError, AttributeError):  # another C library: it has its own ways
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, _HEAP_KEPT // 2)
        libc.mallopt(_M_TRIM_THRESHOLD, _HEAP_KEPT)


async def _live(control: int, listening: Mapping[str, int]) -> int:
    channel = await Channel.over(socket.socket(fileno=control))
    start = await channel.receive()
    if start is None:
        return 0
    settings: Settings = from_plain(Settings, start["settings"])
    component_log.to_stdout(settings.logging.level, component_log.Form.of(settings.logging), worker=start["slot"])
    try:
        sockets = {name: socket.socket(fileno=number) for name, number in listening.items()}
        await Worker(channel, sockets, start, settings).run()
    except Exception:
        _log.exception("worker-failed")
        return 1
    return 0


def main(control: int, supervisor: int, listening: Mapping[str, int]) -> int:
    """The process, from its first line to its exit code."""
    leave_signals_to(supervisor)
    _keep_buffers()
    gc.disable()  # until the table is built: nothing of it is garbage
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_live(control, listening))


if __name__ == "__main__":
    _named = (argument.rpartition("=") for argument in sys.argv[3:])
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]), {name: int(number) for name, _, number in _named}))
