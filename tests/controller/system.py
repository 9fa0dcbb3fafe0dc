"""A whole system for tests: Redis, a router, and a controller behind it, at ``api.`` and ``uaa.`` of ``localhost``.

Clients reach the controller through the router's port only. Names under ``localhost`` are this machine (RFC 6761,
section 6.3); resolvers that do not know that yet are helped by ``names_of_localhost``.
"""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx

from router.registry.embedded import EmbeddedRedis
from tests.controller.running import Controller, running_controller
from tests.router.supervised import Router, running_router
from tests.router.wire import wait_until

DOMAIN = "localhost"


class System:
    """A running one."""

    def __init__(self, redis: EmbeddedRedis, router: Router, controller: Controller) -> None:
        self.redis = redis
        self.router = router
        self.controller = controller
        self.api = f"http://api.{DOMAIN}:{router.port}"
        self.uaa = f"http://uaa.{DOMAIN}:{router.port}"
        wait_until(self._answers, "the controller behind the router")

    @property
    def admin_password(self) -> str:
        return (self.controller.folder / "data" / "admin-password").read_text().strip()

    def client(self, host: str, **headers: str) -> httpx.Client:
        """Of ``api`` or ``uaa``, through the router, whatever the machine's resolver knows."""
        more = {"Host": f"{host}.{DOMAIN}:{self.router.port}", **headers}
        return httpx.Client(base_url=f"http://127.0.0.1:{self.router.port}", headers=more, timeout=20)

    def log_in(self, username: str, password: str) -> dict[str, Any]:
        """The answer to a login: tokens."""
        form = {"grant_type": "password", "username": username, "password": password}
        answer = self.client("uaa").post("/oauth/token", data=form, auth=("cf", "")).raise_for_status()
        tokens: dict[str, Any] = answer.json()
        return tokens

    def as_admin(self, host: str = "api") -> httpx.Client:
        token = self.log_in("admin", self.admin_password)["access_token"]
        return self.client(host, Authorization=f"bearer {token}")

    def _answers(self) -> bool:
        return all(self.client(host).get(path).status_code == 200 for host, path in (("api", "/"), ("uaa", "/login")))


@contextmanager
def running_system(**settings: Any) -> Iterator[System]:
    """``settings`` are the controller's."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="ms-", dir="/tmp"))
        redis = stack.enter_context(EmbeddedRedis(folder))
        router = stack.enter_context(running_router(redis.url)).until_healthy()
        urls = {host: f"http://{host}.{DOMAIN}:{router.port}" for host in ("api", "uaa")}
        places = {"registry": redis.url, "external_url": urls["api"], "uaa_url": urls["uaa"], "system_domain": DOMAIN}
        yield System(redis, router, stack.enter_context(running_controller(**{**places, **settings})))


@contextmanager
def names_of_localhost() -> Iterator[None]:
    """Within, this process knows the addresses of names under ``localhost``."""
    resolve = socket.getaddrinfo

    def resolving(host: Any, *rest: Any, **more: Any) -> Any:
        here = isinstance(host, str) and host.endswith(f".{DOMAIN}")
        return resolve("127.0.0.1" if here else host, *rest, **more)

    socket.getaddrinfo = resolving  # type: ignore[assignment]
    try:
        yield
    finally:
        socket.getaddrinfo = resolve
