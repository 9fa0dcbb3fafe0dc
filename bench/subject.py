"""The router itself, as the bench runs it: one worker, a log only where all keep one, its routes in a Redis of its own.

The Redis runs on the load side's core and is no part of the router's cost. It must never be given what a peer is not,
nor what a user's router would not have: the routes are registered by the registry's own writer.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import yaml

from bench import bosh
from bench.machine import pinned
from bench.programs import Program, free_port
from bench.proxied import status_of
from bench.proxy import IDLE_CONNECTIONS, Proxy, Site
from bench.scenarios import HOST
from router.registry.embedded import EmbeddedRedis
from router.registry.records import EndpointRecord
from router.registry.writer import Lease, RegistryWriter

NOTHING_MORE: Final[Mapping[str, Any]] = MappingProxyType({})
READY_SECONDS: Final = 300.0
"""A router that reads a million routes takes its time."""


class Router(Proxy):
    name = "router"
    logs = True

    def missing(self) -> str:
        return ""

    def version(self) -> str:
        return f"Millrace {version('millrace')}"

    def start(self, site: Site, stack: ExitStack) -> Program:
        redis = start_redis(site.folder, site.cores.load, stack)
        with RegistryWriter(redis.url) as writer:
            bench_lease(writer).register([(HOST, EndpointRecord("127.0.0.1", site.backend_port))])
        return start_router(site, redis.url, stack, bosh.settings(site, discard(stack)) if site.scenario.logged else {})


def start_redis(folder: Path, core: int, stack: ExitStack) -> EmbeddedRedis:
    """A registry on ``core``, ended by ``stack``. Raises EmbeddedRedisError."""
    with pinned(core):
        return stack.enter_context(EmbeddedRedis(folder / "redis"))


def bench_lease(writer: RegistryWriter) -> Lease:
    """A lease that outlasts any run."""
    return writer.lease("bench", ttl=0, registrar="the bench")


def discard(stack: ExitStack) -> int:
    """A UDP port whose datagrams nobody reads, as far as the sender can tell like any other; closed by ``stack``."""
    nowhere = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    nowhere.bind(("127.0.0.1", 0))
    return int(nowhere.getsockname()[1])


def start_router(site: Site, redis_url: str, stack: ExitStack, more: Mapping[str, Any] = NOTHING_MORE) -> Program:
    """A router that says that it is ready: it serves the table that Redis holds. Raises BenchError when it does not.

    ``more``: further settings.
    """
    config = site.folder / "millrace.yml"
    status_port = free_port()
    native = {"address": "127.0.0.1", "workers": 1, "redis": redis_url, "data": str(site.folder / "data")}
    status = {"host": "127.0.0.1", "port": status_port, "routes": {"port": status_port}}
    settings: dict[str, Any] = {
        "port": site.port,
        "status": status,
        "max_idle_conns_per_host": IDLE_CONNECTIONS,
        "millrace": native,
        **more,
    }
    if site.identity:
        pair = {"cert_file": str(site.identity.chain), "key_file": str(site.identity.key)}
        tls = {"enable_ssl": True, "ssl_port": site.port, "tls_pem": [pair], "enable_http2": site.http2}
        settings |= {"port": free_port(), "disable_http": True, **tls}
    config.write_text(yaml.safe_dump(settings))
    command = [sys.executable, "-m", "router", "-c", str(config)]
    program = stack.enter_context(Program("router", command, site.folder, site.cores.proxy))
    program.wait_until(lambda: status_of(status_port, path="/health") == 200, READY_SECONDS, "said that it is ready")
    return program
