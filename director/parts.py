"""The parts of a Millrace on one machine: Redis, router, controller, sample backend. Started, ready, watched, stopped.

Each part is a child process that ends with this one. Must never call a part ready that does not answer, nor leave one
running: they stop in the reverse of their order, so that the registry is the last to go.
"""

from __future__ import annotations

import hashlib
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import trio
import yaml

from director.local_ca import InvalidAuthority, LocalAuthority
from router.registry.child import Child
from router.registry.embedded import EmbeddedRedis
from router.registry.health import Check, HttpCheck, failure_of
from router.registry.writer import RegistryWriter

LOOPBACK: Final = "127.0.0.1"
ROUTE: Final = "hello.localhost"
SYSTEM_DOMAIN: Final = "localhost"
APPS_DOMAIN: Final = "apps.localhost"
API: Final = f"api.{SYSTEM_DOMAIN}"
UAA: Final = f"uaa.{SYSTEM_DOMAIN}"
NAMES: Final = ("localhost", "*.localhost", ROUTE, "*.apps.localhost", LOOPBACK, "::1")
"""What the certificate is for. Many clients refuse ``*.localhost`` as they would ``*.com``: so ROUTE is named too."""
READY_SECONDS: Final = 30.0
RENEWAL_LOOK_SECONDS: Final = 6 * 3600.0
"""How often it is looked whether the certificate is due: a clock that was put forward is noticed as soon."""
DRAIN_SECONDS: Final = 3
_NOT_FROM_HERE: Final = {"PYTHONSAFEPATH": "1"}
"""Python would look for ``router`` in the current folder first, where a project may well have one of its own."""
_BACKEND_GRACE: Final = 10.0
"""The backend's own bounds together, and some more: leaving the registry, then finishing what is in flight."""
_ROUTER_GRACE: Final = 2.0
_CONTROLLER_GRACE: Final = 8.0
_LINE_CHARS: Final = 500


class PartFailed(Exception):
    """A part ended or did not get ready; the message holds the end of its log."""

    def __init__(self, part: Part, what: str) -> None:
        log = part.child.log
        lines = part.child.last_lines() or ["(empty)"]
        super().__init__(
            "\n".join([f"{part.name} {what}. The end of {log}:", *(f"  {line[:_LINE_CHARS]}" for line in lines)])
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run and where."""

    port: int
    status_port: int
    tls_port: int
    data: Path
    """Absolute; exists, and belongs to this program alone."""
    workers: int
    redis: str
    """URL; empty for an embedded one."""
    controller: bool = True
    """Whether the Cloud Controller is a part."""

    @property
    def logs(self) -> Path:
        return self.data / "logs"

    @property
    def authority(self) -> LocalAuthority:
        """Of the certificate that the router shows."""
        return LocalAuthority(self.data / "tls", NAMES)

    def router_settings(self, redis: str) -> str:
        """The router's configuration file."""
        identity = self.authority.identity
        settings = {
            "port": self.port,
            "enable_ssl": True,
            "ssl_port": self.tls_port,
            "tls_pem": [{"cert_file": str(identity.chain), "key_file": str(identity.key)}],
            "status": {"host": LOOPBACK, "port": self.status_port, "routes": {"port": self.status_port}},
            "drain_timeout": f"{DRAIN_SECONDS}s",
            "millrace": {"address": LOOPBACK, "redis": redis, "data": str(self.data), "workers": self.workers},
        }
        return yaml.safe_dump(settings, sort_keys=False)

    @property
    def controller_data(self) -> Path:
        """Folder of the controller's database, keys and first password."""
        return self.data / "controller"

    @property
    def admin_password(self) -> Path:
        """The file with the password that the first start makes."""
        return self.controller_data / "admin-password"

    def controller_settings(self, redis: str) -> str:
        """The controller's configuration file."""
        settings = {
            "data": str(self.controller_data),
            "registry": redis,
            "system_domain": SYSTEM_DOMAIN,
            "app_domains": [APPS_DOMAIN],
            "external_url": f"http://{API}:{self.port}",
            "uaa_url": f"http://{UAA}:{self.port}",
        }
        return yaml.safe_dump(settings, sort_keys=False)

    @property
    def lease(self) -> str:
        """The sample backend's: the same in each run in this folder, so that one takes over what a killed one left."""
        place = f"{socket.gethostname()}:{self.data}"
        return f"sample-backend-{hashlib.sha256(place.encode()).hexdigest()[:16]}"


@dataclass(frozen=True, slots=True)
class Part:
    """A running child process."""

    name: str
    address: str
    """What people use, or look at."""
    child: Child
    stop: Callable[[], object]
    """Blocks until it is gone; bounded."""


@dataclass(slots=True)
class Parts:
    """All parts of one plan, in the order of their start."""

    plan: Plan
    running: list[Part] = field(default_factory=list)

    async def start(self, nursery: trio.Nursery, tell: Callable[[str], object]) -> None:
        """Returns when a request comes through. From each part's start on, the nursery fails with PartFailed when it
        ends. ``tell`` hears what is awaited.

        Raises PartFailed, InvalidAuthority, EmbeddedRedisError, RegistryUnavailable, InvalidRedisUrl.
        """
        self.plan.logs.mkdir(mode=0o700, exist_ok=True)
        try:
            await trio.to_thread.run_sync(self.plan.authority.ensure)
        except OSError as error:
            raise InvalidAuthority(f"{self.plan.authority.folder}: {error.strerror}") from None
        nursery.start_soon(_renew, self.plan.authority)
        tell("Redis: starting")
        redis = await self._find_redis(nursery)
        router = self._start_router(redis)
        nursery.start_soon(_watch, router)
        controller = self._start_controller(redis) if self.plan.controller else None
        if controller is not None:
            nursery.start_soon(_watch, controller)
        backend = self._start_backend(redis)
        nursery.start_soon(_watch, backend)
        tell("router: reading the routes")
        await _ready(router, HttpCheck(LOOPBACK, self.plan.status_port, "/health", accept={200}))
        tell("sample backend: registering itself")
        await _ready(backend, HttpCheck(LOOPBACK, self.plan.port, "/", accept={200}, host_header=ROUTE))
        if controller is not None:
            tell("controller: registering itself")
            for host, path in ((API, "/healthz"), (UAA, "/login")):
                await _ready(controller, HttpCheck(LOOPBACK, self.plan.port, path, accept={200}, host_header=host))

    async def stop(self, tell: Callable[[str], object]) -> None:
        """Stops each part, the last one first. Blocking work runs in threads; bounded by the parts' own bounds."""
        while self.running:
            part = self.running[-1]
            tell(f"{part.name}: stopping")
            await trio.to_thread.run_sync(part.stop)
            self.running.pop()

    async def kill(self) -> None:
        """Ends every part at once."""
        for part in self.running:
            await trio.to_thread.run_sync(part.child.kill)

    async def _find_redis(self, nursery: trio.Nursery) -> str:
        """The URL of one that answers."""
        if self.plan.redis:
            with RegistryWriter(self.plan.redis) as writer:
                await trio.to_thread.run_sync(writer.version)
            return self.plan.redis
        server = EmbeddedRedis(self.plan.data, log=self.plan.logs / "redis.log")
        await trio.to_thread.run_sync(server.start)
        part = Part("Redis", server.url, server.server, server.stop)
        self.running.append(part)
        nursery.start_soon(_watch, part)
        return server.url

    def _start_router(self, redis: str) -> Part:
        config = self.plan.data / "router.yml"
        config.touch(mode=0o600)  # the Redis URL may hold a password
        config.write_text(self.plan.router_settings(redis))
        child = Child(
            [sys.executable, "-m", "router", "-c", str(config)],
            log=self.plan.logs / "router.log",
            environment=_NOT_FROM_HERE,
        )
        address = (
            f"http://{LOOPBACK}:{self.plan.port}\nhttps://{LOOPBACK}:{self.plan.tls_port}\n"
            f"http://{LOOPBACK}:{self.plan.status_port} (status)"
        )
        part = Part("router", address, child, partial(_drain, child))
        self.running.append(part)
        return part

    def _start_controller(self, redis: str) -> Part:
        config = self.plan.data / "controller.yml"
        config.touch(mode=0o600)  # the Redis URL may hold a password
        config.write_text(self.plan.controller_settings(redis))
        child = Child(
            [sys.executable, "-m", "controller", "-c", str(config)],
            log=self.plan.logs / "controller.log",
            environment=_NOT_FROM_HERE,
        )
        address = f"http://{API}:{self.plan.port}\nhttp://{UAA}:{self.plan.port} (logins)"
        part = Part("controller", address, child, partial(child.stop, _CONTROLLER_GRACE))
        self.running.append(part)
        return part

    def _start_backend(self, redis: str) -> Part:
        with socket.create_server((LOOPBACK, 0)) as listener:
            address = f"http://{LOOPBACK}:{listener.getsockname()[1]}\nroute {ROUTE}"
            command = [sys.executable, "-m", "director.sample_backend", "--route", ROUTE]
            child = Child(
                [*command, "--lease", self.plan.lease, "--listen-fd", str(listener.fileno())],
                log=self.plan.logs / "sample_backend.log",
                environment={**_NOT_FROM_HERE, "MILLRACE_REDIS": redis},
                keep_open=(listener.fileno(),),
            )
        part = Part("sample backend", address, child, partial(child.stop, _BACKEND_GRACE))
        self.running.append(part)
        return part


def _drain(router: Child) -> None:
    router.send(signal.SIGUSR1)
    if not router.wait(DRAIN_SECONDS + 1):
        router.stop(_ROUTER_GRACE)


async def _renew(authority: LocalAuthority) -> None:
    """The router watches the files, so that a renewed certificate is used at once.

    What cannot be renewed is still good for weeks and no reason to stop serving: the next look tries again.
    """
    while True:
        await trio.sleep(RENEWAL_LOOK_SECONDS)
        with suppress(OSError, InvalidAuthority):
            await trio.to_thread.run_sync(authority.ensure)


async def _watch(part: Part) -> None:
    await trio.to_thread.run_sync(part.child.wait, abandon_on_cancel=True)
    raise PartFailed(part, part.child.ending)


async def _ready(part: Part, check: Check) -> None:
    reason = ""
    with trio.move_on_after(READY_SECONDS):
        while True:
            reason = await failure_of(check, 2.0)
            if not reason:
                return
            await trio.sleep(0.05)
    raise PartFailed(part, f"is not ready after {READY_SECONDS:g} s ({reason})")
