"""The sources process, one per router, beside its workers: puts sources, announced table and listener together.

Started only by `router.sources.child` as ``python -m router.sources CONTROL_FD SUPERVISOR_PID SOCKET_FD``. It carries
no traffic; whatever it does, and even its death, must cost no request. It must never outlive its supervisor.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gc
import logging
import os
import socket
import time
from pathlib import Path
from typing import Any, Final

import orjson
import uvloop

from router.config.settings import Settings, from_plain
from router.config.sharding import accepted_segments
from router.heads.vcap_trace import own_address
from router.logs import component_log
from router.metrics.meters import Bounds
from router.processes.control import Channel, Message
from router.processes.own_process import cost, leave_signals_to
from router.registry.writer import RegistryWriter
from router.sources.announced import AnnouncedTable, Listener
from router.sources.bridge import Bridge
from router.sources.figures import Latencies
from router.sources.frames import State
from router.sources.intake import Intake
from router.sources.journal import Journal
from router.sources.memory import FILE, Memory
from router.sources.nats_source import Introduction, NatsClosed, NatsSource, NatsUnreachable
from router.sources.probe import Probe
from router.sources.pruning import Pruner
from router.sources.routing_api_source import RoutingApiSource, RoutingApiUnreachable
from router.sources.stream import Stream
from router.sources.wanted import wanted
from router.status import stacks
from router.status.varz import uptime

TIDY_EVERY: Final = 1.0

COMPLETE: Final = 1e9
"""As an age: what is known is all there is, however short ago it became known."""

_log = logging.getLogger("router.sources")


class Sources:
    """What lives in the process. ``run`` is its whole life."""

    def __init__(self, channel: Channel, listening: socket.socket, start: Message, settings: Settings) -> None:
        loop = asyncio.get_running_loop()
        self._channel = channel
        self._listening = listening
        self._settings = settings
        self._started = loop.time()
        self._first = bool(start["first"])
        self._ready = not self._first
        self._told_of_component: dict[str, Any] = start["component"] or {}
        self._latencies = Latencies(Bounds.from_settings(settings).registration)
        threshold = settings.droplet_stale_threshold
        self._stream: Stream | None = None
        self._bridge: Bridge | None = None
        listener: Listener
        if settings.millrace.redis:
            listener = self._bridge = Bridge(
                RegistryWriter(settings.millrace.redis, namespace=settings.millrace.namespace),
                namespace=settings.millrace.namespace,
                name=start["router_id"],
                threshold=threshold,
                hears=lambda: self._hears() and (self._api is None or not self._api.away),
                heard=self._heard,
                on_populated=self._become_ready,
            )
        else:
            listener = self._stream = Stream(self._state, self._failed)
        # The registry is for routers of all segments; what follows it chooses by itself.
        segments = accepted_segments(settings) if self._stream else None
        self._table = AnnouncedTable(
            listener,
            Journal(logging.getLogger("router.registry"), loop.time),
            threshold=threshold,
            clock=loop.time,
            wall_ns=time.time_ns,
            on_latency=self._registered_after,
            segments=segments,
        )
        self._journal = Journal(logging.getLogger("router.subscriber"), loop.time)
        self._intake = Intake(self._table, self._journal, loop.time)
        self._nats: NatsSource | None = None
        if wanted(settings).nats:
            delay = settings.start_response_delay_interval
            self._nats = NatsSource(
                settings.nats,
                self._intake,
                Introduction(start["router_id"], own_address(), delay, threshold),
                ping_interval=settings.nats_client_ping_interval,
                first=self._first,
                on_change=self._hearing_changed,
                component=self._component if start["component"] is not None else None,
            )
        self._api: RoutingApiSource | None = None
        if wanted(settings).routing_api:
            self._api = RoutingApiSource(
                settings,
                self._table,
                segments,
                first=self._first,
                alone=self._nats is None,
                on_change=self._hearing_changed,
            )
        self._pruner = Pruner(
            self._table,
            interval=settings.prune_stale_droplets_interval,
            suspended=self._suspended,
            connected=self._hears,
            answers=Probe(settings).answers,
        )
        self._memory = Memory(Path(settings.millrace.data) / FILE, self._table, threshold=threshold)

    def _component(self) -> bytes:
        """What the router says of itself as a component, now (reference 1.1)."""
        told = self._told_of_component
        return orjson.dumps({**told["said"], "uptime": uptime(time.time() - told["started"])})

    async def run(self) -> None:
        """Until the supervisor says stop or is gone. Raises what went wrong."""
        await self._memory.load()
        _settle_memory()
        parts = [self._pruner.run(), self._memory.run(), self._tidy()]
        if self._stream is not None:
            parts.append(self._stream.serve(self._listening, self._table))
        if self._bridge is not None:
            parts.append(self._bridge.run(self._table))
        if self._nats is not None:
            parts.append(self._nats.run())
        if self._api is not None:
            parts.append(self._api.run())
        work = [asyncio.create_task(part) for part in parts]
        obey = asyncio.create_task(self._obey())
        done, _ = await asyncio.wait((*work, obey), return_when=asyncio.FIRST_COMPLETED)
        for task in (*work, obey):
            task.cancel()
        await asyncio.gather(*work, obey, return_exceptions=True)
        self._channel.send({"say": "last", **self._report()})
        for finished in done:
            self._end_with(finished)

    def _end_with(self, finished: asyncio.Task[None]) -> None:
        try:
            finished.result()
        except NatsUnreachable as error:
            _log.critical("nats-connection-error", extra={"data": {"error": str(error)}})
            self._channel.send({"say": "fatal", "why": str(error)})
        except RoutingApiUnreachable as error:
            logging.getLogger("router").critical("routing-api-connection-failed", extra={"data": {"error": str(error)}})
            self._channel.send({"say": "fatal", "why": str(error)})
        except NatsClosed as error:
            _log.error("nats-connection-closed", extra={"data": {"error": str(error), "what": "connecting anew"}})

    async def _obey(self) -> None:
        while (order := await self._channel.receive()) is not None:
            match order["do"]:
                case "report":
                    self._channel.send({"say": "report", "id": order["id"], **self._report()})
                case "stacks":
                    text = stacks.page(f"sources, process {os.getpid()}")
                    self._channel.send({"say": "stacks", "text": text})
                case "log-level":
                    component_log.set_level(order["level"])
                case "publish":
                    if self._nats is not None:
                        await self._nats.publish(order["subject"], base64.b64decode(order["payload"]))
                case "stop":
                    return

    async def _tidy(self) -> None:
        frozen = 0
        while True:
            await asyncio.sleep(TIDY_EVERY)
            self._journal.settle()
            self._table.settle()
            if abs(self._table.endpoints - frozen) > 1000:
                frozen = self._table.endpoints
                gc.freeze()

    def _hearing_changed(self) -> None:
        if self._hears() and self._has_list() and not self._ready:
            # A list is whole; announcements take the time that registrars have for them.
            delay = self._settings.start_response_delay_interval if self._nats is not None else 0.0
            asyncio.get_running_loop().call_later(delay, self._become_ready)
        self._tell_state()

    def _become_ready(self) -> None:
        if not self._ready:
            self._ready = True
            self._channel.send({"say": "ready"})
            _log.info("routes-ready", extra={"data": {"routes": len(self._table)}})
            self._tell_state()

    def _tell_state(self) -> None:
        if self._stream is not None:
            self._stream.tell_state()

    def _state(self) -> State:
        return State(age=self._heard(), ready=self._ready, suspended=self._suspended())

    def _hears(self) -> bool:
        """Whether announcements reach us now."""
        return self._nats is None or self._nats.connected

    def _heard(self) -> float:
        """For how many seconds, all together, they have."""
        if not self._has_list():
            return 0.0
        return COMPLETE if self._nats is None else self._nats.heard

    def _has_list(self) -> bool:
        """Whether the Routing API, if it is followed, has told us all that it has."""
        return self._api is None or self._api.known

    def _suspended(self) -> bool:
        return self._settings.suspend_pruning_if_nats_unavailable and not (self._hears() and self._has_list())

    def _failed(self, route: str, address: str) -> None:
        if self._settings.millrace.prune_failed_tls_endpoints:
            self._table.fail(route, address)

    def _registered_after(self, seconds: float) -> None:
        age = asyncio.get_running_loop().time() - self._started
        if not self._first or age >= self._settings.route_latency_metric_muzzle_duration:
            self._latencies.add(seconds)

    def _report(self) -> Message:
        table, nats, stream, bridge = self._table, self._nats, self._stream, self._bridge
        register: dict[str, dict[str, int]] = {}
        for (component, outcome), count in table.registered.items():
            register.setdefault(component, {})[outcome] = count
        updated = table.last_update
        since = -1.0 if updated is None else (asyncio.get_running_loop().time() - updated) * 1000
        return {
            "register": register,
            "unregister": dict(table.unregistered),
            "routes_pruned": table.pruned,
            "refused": self._intake.refused + (self._api.refused if self._api else 0),
            "total_routes": len(table),
            "endpoints": table.endpoints,
            "ms_since_last_registry_update": round(since),
            "nats_connected": nats is not None and nats.connected,
            "nats_reconnects": nats.reconnects if nats else 0,
            "buffered_messages": nats.buffered if nats else 0,
            "total_dropped_messages": nats.dropped if nats else 0,
            "tls_endpoints_dialled": self._pruner.dialled,
            "workers_following": stream.followers if stream else 0,
            "workers_cut_off": stream.cut_off if stream else 0,
            "bridge_leads": bridge is not None and bridge.leads,
            "bridge_writes": bridge.writes if bridge else 0,
            **(self._api.report() if self._api else {}),
            **self._latencies.report(),
            **cost(),
        }


def _settle_memory() -> None:
    """The table lives long and holds no cycles: a collector that walks it again and again would find nothing."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


async def _live(control: int, listening: int) -> int:
    channel = await Channel.over(socket.socket(fileno=control))
    start = await channel.receive()
    if start is None:
        return 0
    settings: Settings = from_plain(Settings, start["settings"])
    component_log.to_stdout(start["log_level"], component_log.Form.of(settings.logging))
    try:
        await Sources(channel, socket.socket(fileno=listening), start, settings).run()
    except Exception:
        _log.exception("sources-failed")
        return 1
    finally:
        with contextlib.suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(1.0):
                await channel.close()
    return 0


def main(control: int, supervisor: int, listening: int) -> int:
    """The process, from its first line to its exit code."""
    leave_signals_to(supervisor)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_live(control, listening))
