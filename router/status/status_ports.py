"""The ports of the supervisor's pages, by the settings, and which pages each has (gorouter reference 8.2).

    overview.routes.port, loopback     /routes (with overview.user and overview.pass, where set), our /metrics, /health
    overview.port                      /health for load balancers; where asked for, /healthz, /varz and /routes
    overview.tls.port                  /health over TLS
    prometheus.port, loopback        /metrics with Gorouter's names, over mutual TLS where asked for
    debug_addr                       /log-level and the stacks of all processes

Opens and closes them; what a page says is `router.status.overview`.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from router.config.config_file import ConfigError
from router.config.settings import Settings
from router.processes.listening import CannotListen
from router.status import overview
from router.status.overview import ALIVE, HEALTH, Overview
from router.status.pages import TEXT, BasicAuth, Page, PageServer
from router.tls.pages import pages_context

LOOPBACK: Final = "127.0.0.1"
METRICS: Final = "/metrics"
STACKS: Final = "/debug/pprof/goroutine"
"""Named as Go's page is, since that is where people look."""


class StatusPorts:
    """All of them. ``open`` and ``close`` frame their life."""

    def __init__(self, overview: Overview, settings: Settings) -> None:
        self._overview = overview
        self._settings = settings
        self._servers: list[PageServer] = []

    async def open(self) -> dict[str, int]:
        """The ports by the names that they have in the log. Raises CannotListen and ConfigError."""
        settings = self._settings
        wanted = settings.status
        opened = {
            "routes_port": await self._open(self._for_people(), LOOPBACK, wanted.routes.port, "status.routes.port")
        }
        balancers = self._for_balancers()
        if balancers and wanted.port == wanted.routes.port != 0 and wanted.host == LOOPBACK:
            opened["status_port"] = opened["routes_port"]
        elif balancers:
            opened["status_port"] = await self._open(balancers, wanted.host, wanted.port, "status.port")
        if wanted.tls.certificate:
            context = pages_context(wanted.tls.certificate, wanted.tls.key)
            opened["status_tls_port"] = await self._open(
                self._health_only(), wanted.host, wanted.tls.port, "status.tls.port", context
            )
        prometheus = settings.prometheus
        if prometheus.enabled or (prometheus.enabled is None and prometheus.port):
            pages = {METRICS: overview.metrics(self._overview.prometheus)}
            opened["prometheus_port"] = await self._open(
                pages, LOOPBACK, prometheus.port, "prometheus.port", _prometheus_context(settings)
            )
        if settings.debug_addr:
            host, _, port = settings.debug_addr.rpartition(":")
            opened["debug_port"] = await self._open(self._for_debugging(), host.strip("[]"), int(port), "debug_addr")
        return opened

    async def close(self) -> None:
        """Stop listening and break off what is being answered."""
        for server in self._servers:
            await server.close()

    async def _open(
        self, pages: Mapping[str, Page], host: str, port: int, key: str, context: ssl.SSLContext | None = None
    ) -> int:
        server = PageServer(pages, context)
        try:
            opened = await server.open(host, port)
        except (OSError, OverflowError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise CannotListen(
                f"{key} {port} on {host or 'every address'}: {reason}; change {key}, or stop what uses it"
            ) from None
        self._servers.append(server)
        return opened

    def _health_only(self) -> dict[str, Page]:
        return {HEALTH: overview.health(self._overview, says_why=False), ALIVE: overview.alive}

    def _for_balancers(self) -> dict[str, Page]:
        """Of overview.port; empty where it is not to be opened."""
        wanted = self._settings.status
        pages = self._health_only() if wanted.enable_nontls_health_checks else {}
        if wanted.enable_deprecated_varz_healthz_endpoints:
            auth = BasicAuth(wanted.user, wanted.pass_)  # both empty: asked for all the same, since anybody can connect
            healthy = overview.health(self._overview, says_why=False)
            pages |= {HEALTH: healthy, "/healthz": healthy}
            pages |= {"/varz": auth.before(overview.varz(self._overview))}
            pages |= {"/routes": auth.before(overview.routes(self._overview))}
        return pages

    def _for_people(self) -> dict[str, Page]:
        wanted = self._settings.status
        routes = overview.routes(self._overview)
        if wanted.user or wanted.pass_:
            routes = BasicAuth(wanted.user, wanted.pass_).before(routes)
        return {
            HEALTH: overview.health(self._overview, says_why=True),
            "/routes": routes,
            METRICS: overview.metrics(self._overview.metrics),
            ALIVE: overview.alive,
        }

    def _for_debugging(self) -> dict[str, Page]:
        return {"/log-level": overview.log_level(self._overview), STACKS: overview.text(self._overview.stacks, TEXT)}


def _prometheus_context(settings: Settings) -> ssl.SSLContext | None:
    """None where the port speaks plain HTTP. Raises ConfigError."""
    wanted = settings.prometheus
    if not wanted.cert_path:
        return None
    files = {"cert_path": wanted.cert_path, "key_path": wanted.key_path, "ca_path": wanted.ca_path}
    texts = {}
    for key, path in files.items():
        try:
            texts[key] = Path(path).read_text()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not PEM"
            what = f"{path}: {reason}" if path else "not set, though prometheus.cert_path is"
            raise ConfigError([f"prometheus.{key} {what}"]) from None
    try:
        return pages_context(texts["cert_path"], texts["key_path"], texts["ca_path"])
    except ssl.SSLError as error:
        raise ConfigError([f"prometheus.cert_path, key_path, ca_path: OpenSSL refuses them: {error.reason}"]) from None
