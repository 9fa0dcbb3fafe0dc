"""What a worker does with a connection, by the listener that it came to: the layers it passes, the protocol spoken.

The one place that knows how listeners are composed. A layer is an asyncio protocol that takes something off the front
of a connection (a PROXY header, TLS) and then makes the next one; the last is a client connection of the edge.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from router.config.settings import Settings
from router.edge import Edge
from router.proxy_layer import ProxyLayer, ProxyRules, networks
from router.tcp import TcpConnection
from router.tls.contexts import H2, HTTP1
from router.tls.front import TlsFront


class Listeners:
    """Of one worker. Raises what `router.tls.certificates.Certificates` raises."""

    def __init__(self, settings: Settings, edge: Edge) -> None:
        self._settings = settings
        self._edge = edge
        native = settings.millrace
        self._proxy_rules: ProxyRules | None = None
        if settings.enable_proxy:
            self._proxy_rules = ProxyRules(networks(native.proxy_trusted), required=native.proxy_required)
        self._tls: TlsFront | None = None
        if settings.enable_ssl:
            from router.tls.certificates import Certificates  # noqa: PLC0415 - costs 12 MiB, so not without need
            from router.tls.subjects import SubjectRules  # noqa: PLC0415 - as the one before

            protocols = (H2, HTTP1) if settings.enable_http2 else ()
            certificates = Certificates(settings, protocols)
            subjects = SubjectRules.from_settings(settings)
            self._tls = TlsFront(edge, certificates, protocols, native.tls_handshake_timeout, subjects)

    def protocol(self, name: str) -> Callable[[], asyncio.Protocol]:
        """The factory of protocols for what the listener ``name`` accepts."""
        kind, _, port = name.partition(":")
        match kind:
            case "http":
                return self._behind_proxies(self._http)
            case "https" if self._tls is not None:
                return self._behind_proxies(partial(self._https, self._tls))
            case "tcp":
                return self._behind_proxies(partial(TcpConnection, self._edge, int(port)))
        raise ValueError(f"no listener is called {name}")

    async def watch(self) -> None:
        """Give new connections new certificates when their files change. Returns where there are none to watch."""
        if self._tls is not None:
            await self._tls.certificates.watch()

    def _behind_proxies(
        self, following: Callable[[ProxyLayer | None], asyncio.Protocol]
    ) -> Callable[[], asyncio.Protocol]:
        """What ``following`` makes, behind a PROXY layer where PROXY headers are expected."""
        if self._proxy_rules is None:
            return partial(following, None)
        return partial(ProxyLayer, self._edge, self._proxy_rules, following)

    def _http(self, proxied: ProxyLayer | None) -> asyncio.Protocol:
        if proxied is None:
            return self._edge.client()
        return self._edge.client(proxied.source, layer=proxied)

    def _https(self, tls: TlsFront, proxied: ProxyLayer | None) -> asyncio.Protocol:
        if proxied is None:
            return tls.accept()
        return tls.accept(proxied.source, proxied)
