"""The parent of the worker processes: opens the sockets, keeps the slots filled, and answers to signals.

    SIGHUP            read the configuration again and roll the workers one by one; nobody loses a connection
    SIGUSR1           drain: /health says 503, drain_wait seconds as before, then finish what is in flight and exit 0
    SIGTERM, SIGINT   stop at once, exit 0
    SIGQUIT           write the stacks of all processes to standard error and stop at once, exit 2

While draining every signal but SIGTERM is ignored, and SIGTERM ends the drain at once (Gorouter ignores it then). The
supervisor carries no traffic and keeps no routes: it must stay so simple that it never has to be restarted.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import os
import signal
import socket
import sys
import zlib
from collections.abc import AsyncGenerator, Coroutine, Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import orjson
import uvloop

from router.config.config_file import ConfigError, IgnoredKey, load_noting
from router.config.settings import Settings
from router.config.settings_rules import check, completed
from router.heads.error_pages import with_template_read
from router.heads.vcap_trace import own_address
from router.logs import component_log, log_file
from router.metrics import metrics_page
from router.metrics.gorouter_page import Outside
from router.processes.control import Message
from router.processes.descriptors import open_descriptors
from router.processes.listening import open_all, raise_file_limit
from router.processes.own_process import cost
from router.processes.rolling import UNCHANGEABLE, for_a_roll
from router.processes.slot import Slot
from router.processes.worker_process import WorkerProcess
from router.sources.child import SourcesProcess
from router.sources.wanted import wanted
from router.status import stacks
from router.status.overview import NoWorker
from router.status.status_ports import StatusPorts
from router.status.varz import LevelCounts, Varz
from router.tls.certificates import with_files_read

if TYPE_CHECKING:
    from router.loggregator.figures import Figures

REPORT_EVERY: Final = 5.0
"""Seconds between two rounds of questions to the workers: what a killed one had counted is known up to then."""
REPORT_PATIENCE: Final = 1.0
STUCK_AFTER: Final = 30.0
"""A worker that has not said a word for so long, though asked, serves nobody: it is killed, and replaced."""
LAST_GRACE: Final = 5.0
"""Beyond drain_timeout: how long workers may take to leave before they are ended, seconds."""

_main = logging.getLogger("router")
_router = logging.getLogger("router.router")
"""For what Gorouter says of itself and of its traffic ports."""
_log = logging.getLogger("router.supervisor")


class Supervisor:
    """``run`` is its whole life. Everything else is what the status port asks (`router.status.overview.Overview`)."""

    def __init__(self, settings: Settings, config: Path | None) -> None:
        self._settings = with_files_read(with_template_read(settings))
        self._config = config
        self._slots: list[Slot] = []
        self._ended = metrics_page.Totals.from_settings(self._settings)
        self._ports = StatusPorts(self, settings)
        self._log_level = settings.logging.level.lower()
        self._draining = False
        self._roll_again = False
        self._rolling: asyncio.Task[None] | None = None
        self._over = asyncio.Event()
        self._wanted = wanted(settings)
        self._sources: SourcesProcess | None = None
        if self._wanted.process:
            self._sources = SourcesProcess(self._settings, self._cannot_start, self._may_serve)
        self._exit_code = 0
        self._level_counts = LevelCounts.begin()
        router_id = self._sources.router_id if self._sources is not None else f"{settings.index}-{uuid4()}"
        self._varz = Varz(settings, router_id, f"{own_address()}:{settings.status.port}")
        self._figures: Figures | None = None
        self._telling: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    async def run(self) -> int:
        """Serve until a signal says otherwise; returns the exit code. Raises CannotListen, log_file.CannotLog."""
        settings, native = self._settings, self._settings.millrace
        raise_file_limit()
        _check_folder_and_log(settings)
        count = native.workers or max(settings.go_max_procs, 0) or os.cpu_count() or 1
        sockets = open_all(settings, count)
        place = {"address": native.address, **_ports(sockets), **await self._ports.open()}
        if native.tcp_ports:
            place["tcp_ports"] = native.tcp_ports
        _main.info("starting", extra={"data": {"workers": count, **place}})
        _main.debug("local-az-set", extra={"data": {"availability_zone": settings.zone}})
        sharding = {
            "isolation_segments": settings.isolation_segments,
            "routing_table_sharding_mode": settings.routing_table_sharding_mode,
        }
        _main.info("retrieved-isolation-segments", extra={"data": sharding})
        source = ""
        if self._sources is not None:
            self._sources.open()
            if settings.status.enable_deprecated_varz_healthz_endpoints:
                self._sources.component = {"said": self._varz.component(), "started": self._varz.started}
            source = self._sources.path if self._wanted.stream else ""
            self._spawn(self._sources.keep())
        self._slots = [
            Slot(
                number,
                {name: sockets[name][number] for name in sockets},
                settings,
                self._worker_gone,
                source,
                self._must_wait,
            )
            for number in range(count)
        ]
        self._listen_to_signals()
        for slot in self._slots:
            self._spawn(slot.keep())
        self._spawn(self._watch())
        self._spawn(self._announce(place))
        self._tell_loggregator()
        if settings.publish_active_apps_interval and self._sources is not None:
            self._spawn(self._publish_active_apps(self._sources, settings.publish_active_apps_interval))
        await self._over.wait()
        began = monotonic()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        ends = [slot.stop() for slot in self._slots]
        if self._sources is not None:
            ends.append(self._sources.stop())
        await asyncio.gather(*ends)
        await self._ports.close()
        _router.info("gorouter.stopped", extra={"data": {"took": round(monotonic() - began, 3)}})
        _main.info("gorouter.exited")
        return self._exit_code

    def _must_wait(self) -> bool:
        """Whether workers that follow the registry may not serve yet: it may lack what nobody has announced so far."""
        return self._sources is not None and self._wanted.bridge and not self._sources.ready

    def _may_serve(self) -> None:
        for worker in self._workers():
            worker.serve()

    def _cannot_start(self) -> None:
        """There is no source of routes to begin with."""
        self._exit_code = 1
        self._over.set()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)
        return task

    def _tell_loggregator(self) -> None:
        """What the settings now want it to be told."""
        if self._telling is not None:
            self._telling.cancel()
        if self._settings.logging.loggregator_enabled and self._settings.enable_envelope_v1_metrics:
            from router.loggregator.figures import Figures  # noqa: PLC0415 - costs 1 MiB, so not without need

            self._figures = self._figures or Figures(self)
            self._telling = self._spawn(self._figures.run(self._settings))

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.error("supervisor-task-failed", exc_info=task.exception())

    async def _announce(self, place: dict[str, Any]) -> None:
        for slot in self._slots:
            await slot.filled.wait()
        for port, kind in (("port", "tcp"), ("https_port", "tls")):
            if port in place:
                address = f"{place['address']}:{place[port]}"
                _router.info(f"{kind}-listener-started", extra={"data": {"address": address}})
        if "https_port" not in place:
            _router.info("tls-listener-not-enabled")
        _router.info("gorouter.started", extra={"data": place})

    def _worker_gone(self, worker: WorkerProcess) -> None:
        self._ended.add(worker.latest)

    def _listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, number)
        loop.add_signal_handler(signal.SIGUSR1, self._begin_drain)
        loop.add_signal_handler(signal.SIGHUP, self._begin_roll)
        loop.add_signal_handler(signal.SIGQUIT, lambda: self._spawn(self._quit()))

    def _stop(self, number: signal.Signals) -> None:
        if self._draining and number != signal.SIGTERM:
            self._ignored(number)
            return
        _router.info("gorouter.stopping", extra={"data": {"signal": number.name}})
        self._over.set()

    async def _quit(self) -> None:
        """As Go does: whoever sends this wants to know what hangs."""
        sys.stderr.write(await self.stacks())
        sys.stderr.flush()
        self._exit_code = 2
        self._stop(signal.SIGTERM)

    def _ignored(self, number: signal.Signals) -> None:
        _router.info("gorouter.signal.ignored", extra={"data": {"signal": number.name, "why": "draining"}})

    def _begin_drain(self) -> None:
        if self._draining:
            self._ignored(signal.SIGUSR1)
            return
        self._draining = True
        self._spawn(self._drain())

    async def _drain(self) -> None:
        wait, longest = self._settings.drain_wait, self._settings.drain_timeout
        _router.info("gorouter-draining", extra={"data": {"wait_seconds": wait, "timeout_seconds": longest}})
        for slot in self._slots:
            slot.degrade()
        await asyncio.sleep(wait)
        if self._rolling is not None:
            self._rolling.cancel()
        active, idle = await self._connections()
        _router.info("Draining with %d outstanding active connections", active)
        _router.info("Draining with %d outstanding idle connections", idle)
        for slot in self._slots:
            slot.drain(longest)
        with contextlib.suppress(TimeoutError):  # who is still there then is ended by run()
            async with asyncio.timeout(longest + LAST_GRACE):
                for slot in self._slots:
                    for worker in slot.workers:
                        await worker.gone.wait()
        _router.info("gorouter.stopping")
        self._over.set()

    async def _connections(self) -> tuple[int, int]:
        """Of clients: those with something under way, tunnels apart, and those without."""
        told = await self._ask_all("connections")
        return sum(answer["active"] for answer in told), sum(answer["idle"] for answer in told)

    async def _ask_all(self, question: str) -> list[Message]:
        """What the workers answer, but for those that do not."""
        answers = await asyncio.gather(*(worker.ask(question, REPORT_PATIENCE) for worker in self._workers()))
        return [answer for answer in answers if answer is not None]

    def _workers(self) -> list[WorkerProcess]:
        return [worker for slot in self._slots for worker in slot.workers]

    def _begin_roll(self) -> None:
        if self._draining:
            self._ignored(signal.SIGHUP)
        elif self._rolling is not None and not self._rolling.done():
            # Perhaps the file was mended because the new worker cannot become ready: begin anew with what it says now.
            self._roll_again = True
            for slot in self._slots:
                slot.abandon_roll()
        else:
            self._rolling = self._spawn(self._roll())

    async def _roll(self) -> None:
        """Roll every slot to the settings of the file as it is now, and once more if SIGHUP came meanwhile."""
        self._roll_again = True
        while self._roll_again:
            self._roll_again = False
            settings = self._reloaded()
            if settings is None:
                continue
            for slot in self._slots:
                if not await slot.roll(settings):
                    _log.error(
                        "roll-abandoned",
                        extra={"data": {"slot": slot.index, "why": "the new worker died before it was ready"}},
                    )
                    break
            else:
                self._settings = settings
                self._ended.rebound(settings)
                self._log_level = settings.logging.level.lower()
                component_log.set_level(self._log_level)
                component_log.set_form(component_log.Form.of(settings.logging))
                if self._sources is not None:
                    self._sources.change(settings)
                self._tell_loggregator()
                _log.info("rolled", extra={"data": {"workers": len(self._slots)}})

    def _reloaded(self) -> Settings | None:
        if self._config is None:
            return self._settings
        try:
            given, ignored = load_noting(self._config)
            settings = with_template_read(completed(given))
            check(settings)
            _check_folder_and_log(settings)
            fixed = for_a_roll(settings, self._settings)
            check(fixed)
        except (ConfigError, log_file.CannotLog) as error:
            _log.error("config-not-reloaded", extra={"data": {"problems": str(error).splitlines()}})
            return None
        _tell_ignored(ignored)
        if fixed != settings:
            _log.warning(
                "config-needs-restart",
                extra={"data": {"keys": UNCHANGEABLE, "kept": "as they are"}},
            )
        return with_files_read(fixed)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(REPORT_EVERY)
            workers = self._workers()
            await self._ask_for_reports()
            if self._settings.status.enable_deprecated_varz_healthz_endpoints:
                self._varz.tick(self.totals())
            for worker in workers:
                if monotonic() - worker.heard > STUCK_AFTER:
                    _log.error("worker-stuck", extra={"data": {"slot": worker.slot, "pid": worker.pid}})
                    worker.kill()

    async def _publish_active_apps(self, sources: SourcesProcess, interval: float) -> None:
        """Gorouter reference 1.1."""
        while True:
            await asyncio.sleep(interval)
            apps = {app for answer in await self._ask_all("active-apps") for app in answer["apps"]}
            sources.publish("router.active_apps", zlib.compress(orjson.dumps(sorted(apps))))

    async def _ask_for_reports(self) -> None:
        asked: list[Coroutine[Any, Any, Message]] = [worker.report(REPORT_PATIENCE) for worker in self._workers()]
        if self._sources is not None:
            asked.append(self._sources.report(REPORT_PATIENCE))
        await asyncio.gather(*asked)

    def trouble(self) -> str:
        """Why the router should get no new traffic, in one line; empty when it should."""
        if self._draining:
            return "draining"
        waiting = [str(slot.index) for slot in self._slots if not slot.ready]
        return f"not ready: worker {', '.join(waiting)} of {len(self._slots)}" if waiting or not self._slots else ""

    async def metrics(self) -> str:
        """The page of /metrics; a worker that does not answer is shown with its latest known figures."""
        await self._ask_for_reports()
        return metrics_page.page(
            self._ended,
            [(str(slot.index), slot.current.latest) for slot in self._slots if slot.current in slot.workers],
            [worker.latest for slot in self._slots for worker in slot.workers if worker is not slot.current],
            restarts=sum(slot.restarts for slot in self._slots),
            healthy=not self.trouble(),
            outside=self.outside(),
        )

    def totals(self) -> metrics_page.Totals:
        """What all workers counted, as far as they have told."""
        return self._ended.with_those_of(self.reports())

    def reports(self) -> list[Message]:
        """The latest ones of all living workers."""
        return [worker.latest for worker in self._workers()]

    def outside(self) -> Outside:
        """What Gorouter's metrics tell besides what workers count."""
        return Outside.of(self.sources(), self.reports(), open_descriptors(self.pids()))

    def sources(self) -> Message:
        """What the sources process counts; nothing where there is none."""
        return self._sources.figures if self._sources is not None else {}

    def pids(self) -> list[int]:
        """Of all processes of the router."""
        children = [worker.pid for worker in self._workers()]
        if self._sources is not None and self._sources.pid is not None:
            children.append(self._sources.pid)
        return [os.getpid(), *children]

    async def prometheus(self) -> str:
        """The page of prometheus.port."""
        return await self.metrics()

    async def varz(self) -> str:
        """The page of /varz."""
        await self._ask_for_reports()
        own = {"log_counts": self._level_counts.counts, **cost(), "endpoints": 0}
        page = self._varz.page(self.totals(), self.outside(), [*self.reports(), own])
        return orjson.dumps(page).decode() + "\n"

    async def stacks(self) -> str:
        """Of this process and of every worker that answers."""
        workers = await self._ask_all("stacks")
        pages = [stacks.page(f"supervisor, process {os.getpid()}"), *(answer["text"] for answer in workers)]
        if self._sources is not None:
            pages.append(await self._sources.stacks(REPORT_PATIENCE))
        return "\n".join(filter(None, pages))

    @property
    def log_level(self) -> str:
        return self._log_level

    def set_log_level(self, level: str) -> None:
        """Of this process and of every worker, those to come as well, until SIGHUP."""
        self._log_level = level
        component_log.set_level(level)
        for slot in self._slots:
            slot.set_log_level(level)
        if self._sources is not None:
            self._sources.set_log_level(level)

    async def routes(self) -> AsyncGenerator[bytes, None]:
        """The page of /routes, from the first worker that is ready. Raises NoWorker, and WorkerGone midway."""
        ready = next((slot.current for slot in self._slots if slot.ready and slot.current), None)
        if ready is None:
            raise NoWorker
        async with contextlib.aclosing(ready.routes()) as parts:
            async for part in parts:
                yield part


def _ports(sockets: Mapping[str, list[socket.socket]]) -> dict[str, int]:
    """Where each listener listens, but for those of TCP ports: ``port`` for http, ``https_port`` and the like."""
    names = {name: "port" if name == "http" else f"{name}_port" for name in sockets if not name.startswith("tcp:")}
    return {names[name]: ours[0].getsockname()[1] for name, ours in sockets.items() if name in names}


def _check_folder_and_log(settings: Settings) -> None:
    try:
        Path(settings.millrace.data).mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        problem = f"millrace.data {settings.millrace.data}: cannot make this folder: {error.strerror}"
        raise ConfigError([problem]) from None
    if settings.access_log.file:
        os.close(log_file.open_for_lines(settings.access_log.file))


def _tell_ignored(keys: Sequence[IgnoredKey]) -> None:
    if keys:
        _main.warning("config-keys-ignored", extra={"data": {"keys": [dataclasses.asdict(key) for key in keys]}})


def run(settings: Settings, config: Path | None = None, ignored: Sequence[IgnoredKey] = ()) -> int:
    """Run a router in this process and its children; returns the exit code.

    ``settings`` are completed; ``config`` is what SIGHUP reads again, ``ignored`` what of it has no effect.
    Raises ConfigError, CannotListen, log_file.CannotLog: nothing was started.
    """
    check(settings)
    component_log.to_stdout(settings.logging.level, component_log.Form.of(settings.logging))
    _tell_ignored(ignored)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(Supervisor(settings, config).run())
