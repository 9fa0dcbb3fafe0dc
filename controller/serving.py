"""A controller process: opens the database, plants what must be there, and serves until it is told to stop."""

from __future__ import annotations

import logging
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial
from typing import Final
from uuid import uuid4

import trio
from hypercorn.config import Config
from hypercorn.trio import serve

from controller import application, encryption, seeds
from controller.context import Context
from controller.database.engine import Database
from controller.jobs import JobRunner
from controller.reconciler import Reconciler
from controller.routing_api.service import RoutingApi
from controller.settings import Settings, SettingsError
from controller.uaa.service import ADMIN_NAME, Uaa
from router.registry.health import HttpCheck
from router.registry.records import EndpointRecord
from router.registry.registrar import Registrar, Target
from router.registry.writer import RegistryWriter

BACKLOG: Final = 512
KEEP_ALIVE_SECONDS: Final = 120.0
"""Longer than a router keeps a connection that it does not use (90 s): whoever closes first must not be we, who may do
so at the moment when a request is on its way."""
_TAGS: Final = {"component": "cloud_controller"}

_log = logging.getLogger("controller")


def run(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code. Raises SettingsError: nothing was started."""
    with encryption.opened(settings) as database:
        database.write(partial(seeds.plant, settings=settings))
        trio.run(_serve, settings, database)
    return 0


async def _serve(settings: Settings, database: Database) -> None:
    uaa = Uaa(database, settings.uaa_url)
    password_file = await trio.to_thread.run_sync(uaa.prepare, settings.data)
    if password_file is not None:
        where = {"user": ADMIN_NAME, "password_file": str(password_file)}
        _log.info("first-admin-made", extra={"data": where})
    reconciler: Reconciler | None = None
    if settings.registry:
        reconciler = Reconciler(database, settings.registry, settings.registry_namespace)
    routing = RoutingApi(database, settings)
    runner = JobRunner(database, application.operations(settings))
    context = Context(
        settings,
        database,
        uaa,
        runner,
        reconciler.changed if reconciler is not None else _nobody,
        trio.CapacityLimiter(settings.database_connections),
    )
    listening = _listen(settings)
    port = listening.getsockname()[1]
    config = Config()
    config.bind = [f"fd://{listening.fileno()}"]
    config.accesslog = None
    config.keep_alive_timeout = KEEP_ALIVE_SECONDS
    config.keep_alive_max_requests = sys.maxsize
    config.errorlog = logging.getLogger("controller.http")
    config.graceful_timeout = 5.0
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_until_told, stop, routing.watchers.end)
        if reconciler is not None:
            nursery.start_soon(reconciler.run)
            nursery.start_soon(_registrar(settings, port).run)
        nursery.start_soon(routing.run)
        _log.info("started", extra={"data": {"address": settings.host, "port": port}})
        app = application.application(context, runner, uaa, routing)
        await serve(app, config, shutdown_trigger=stop.wait)  # type: ignore[arg-type]
        nursery.cancel_scope.cancel()


def _nobody() -> None:
    """Nobody keeps a registry."""


def _registrar(settings: Settings, port: int) -> Registrar:
    """Keeps this controller itself registered, as long as it answers."""
    hosts = ["api"] if settings.external_uaa else ["api", "uaa", "login"]
    routes = tuple(f"{host}.{settings.system_domain}" for host in hosts)
    record = EndpointRecord(host=settings.host, port=port, private_instance_id=str(uuid4()), tags=_TAGS)
    check = HttpCheck(settings.host, port, "/healthz")
    writer = RegistryWriter(settings.registry, namespace=settings.registry_namespace)
    registrar = Registrar(writer, f"controller-{record.private_instance_id}", description="the Cloud Controller")
    registrar.add(Target(routes, record, check))
    return registrar


async def _until_told(stop: trio.Event, end_streams: Callable[[], None]) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for number in signals:
            _log.info("stopping", extra={"data": {"signal": signal.Signals(number).name}})
            stop.set()
            end_streams()  # which would be waited for
            return


def _listen(settings: Settings) -> socket.socket:
    """Raises SettingsError: the address is taken or not ours."""
    try:
        return socket.create_server((settings.host, settings.port), backlog=BACKLOG)
    except OSError as error:
        raise SettingsError(
            f"host {settings.host}, port {settings.port}: {error.strerror}; choose another port, or stop what uses it"
        ) from None
