"""A whole system for the bench: Redis, a router, and the Cloud Controller behind it, on SQLite or on PostgreSQL.

The controller is alone on the core of what is measured; Redis, the router, PostgreSQL and the load are on the other.
Requests go through the router, as clients' do. It must never give the controller what an operator's would not have.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import yaml

from bench import postgres
from bench.api_client import FORM, Ask, Caller, ask, basic
from bench.machine import Cores, pinned
from bench.meter import cpu_ns, memory
from bench.programs import Program
from bench.proxied import status_of
from bench.proxy import new_site
from bench.rounds import Bench
from bench.subject import start_redis, start_router
from controller.database.engine import Database
from controller.database.secrets import KEYS
from controller.uaa.service import ADMIN_NAME

DOMAIN: Final = "localhost"
APPS_DOMAIN: Final = "apps.localhost"
START_SECONDS: Final = 60.0
SQLITE: Final = "SQLite"
POSTGRESQL: Final = "PostgreSQL"
ALL_DATABASES: Final = (SQLITE, POSTGRESQL)


def databases() -> list[str]:
    """Those that there are here."""
    return [SQLITE, POSTGRESQL] if postgres.find("postgres") else [SQLITE]


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """A running one."""

    kind: str
    port: int
    """Of the router."""
    backend_port: int
    program: Program
    """The controller."""
    folder: Path
    database: Database
    """The controller's, opened by the bench for filling it."""

    def ask(self, method: str, path: str, status: int, token: str, body: object = None) -> Ask:
        """A request to the API. ``path`` may be a whole link."""
        path = path.partition(f"api.{DOMAIN}:{self.port}")[2] or path
        fields = {"Authorization": f"bearer {token}"}
        return ask(method, f"api.{DOMAIN}", path, status, fields=fields, body=body)

    def login(self, username: str, password: str) -> Ask:
        """A password grant (RFC 6749 section 4.3), as ``cf login`` asks for it."""
        form = urlencode({"grant_type": "password", "username": username, "password": password})
        fields = {"Authorization": basic("cf", "")}
        return ask("POST", f"uaa.{DOMAIN}", "/oauth/token", 200, fields=fields, body=form.encode(), kind=FORM)

    def token(self, username: str, password: str) -> str:
        """Raises BenchError."""
        caller = Caller(self.port)
        try:
            return str(caller.call(self.login(username, password)).json["access_token"])
        finally:
            caller.close()

    @property
    def admin(self) -> str:
        """A fresh token that may do everything."""
        return self.token(ADMIN_NAME, (self.folder / "data" / "admin-password").read_text().strip())

    def cpu_ns(self) -> int:
        return cpu_ns(self.program.pid)

    def rss(self) -> int:
        return memory(self.program.pid).rss


def start(bench: Bench, kind: str, stack: ExitStack) -> ControlPlane:
    """All of it on a fresh database, ended by ``stack``. Raises BenchError, and what PostgreSQL's start raises."""
    folder = bench.folder / f"controller-{kind.lower()}"
    folder.mkdir()
    side = Cores(bench.cores.load, bench.cores.load)
    redis = start_redis(folder, side.load, stack)
    site = new_site(folder, "router", bench.backend.port, side)
    start_router(site, redis.url, stack)
    url = ""
    if kind == POSTGRESQL:
        with pinned(side.load):
            url = stack.enter_context(postgres.running_postgres(postgres.DURABLE)).new_database()
    own = folder / "controller"
    own.mkdir()
    settings: Mapping[str, Any] = {
        "data": str(own / "data"),
        "database": url,
        "registry": redis.url,
        "system_domain": DOMAIN,
        "app_domains": [APPS_DOMAIN],
        "external_url": f"http://api.{DOMAIN}:{site.port}",
        "uaa_url": f"http://uaa.{DOMAIN}:{site.port}",
    }
    (own / "controller.yml").write_text(yaml.safe_dump(dict(settings)))
    argv = [sys.executable, "-m", "controller", "-c", str(own / "controller.yml")]
    program = stack.enter_context(Program("controller", argv, own, bench.cores.proxy))
    for host, path in (("api", "/v3"), ("uaa", "/info")):
        served = partial(_serves, site.port, f"{host}.{DOMAIN}", path)
        program.wait_until(served, START_SECONDS, f"been reached through the router as {host}.{DOMAIN}")
    KEYS.hold({"local": (own / "data" / "encryption.key").read_bytes()})
    database = Database(url or f"sqlite:///{own}/data/controller.db")
    stack.callback(database.close)
    return ControlPlane(kind, site.port, bench.backend.port, program, own, database)


def _serves(port: int, host: str, path: str) -> bool:
    return status_of(port, host, path) == 200
