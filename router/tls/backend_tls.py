"""What one worker needs to speak TLS to endpoints: contexts, and sessions to resume. Opens no connection."""

from __future__ import annotations

import ssl
from typing import Final

from router.config.settings import Settings
from router.registry.records import EndpointRecord
from router.tls.contexts import H2, HTTP1, backend_context

MAX_SESSIONS: Final = 1024
"""How many endpoints' latest sessions are kept; the one that was put first goes first."""


class BackendTls:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._contexts: dict[bool, ssl.SSLContext] = {}
        self._sessions: dict[tuple[str, str, bool], ssl.SSLSession] = {}

    def prepare(self) -> None:
        """Make the contexts now: reading the system's CAs takes some 20 ms, which no connection should have to wait."""
        self.context(False)
        if self._settings.enable_http2:
            self.context(True)

    def context(self, http2: bool) -> ssl.SSLContext:
        """``http2``: whether ALPN offers it, before HTTP/1.1; without it nothing is offered."""
        context = self._contexts.get(http2)
        if context is None:
            context = backend_context(self._settings, (H2, HTTP1) if http2 else ())
            self._contexts[http2] = context
        return context

    def session(self, record: EndpointRecord, http2: bool) -> ssl.SSLSession | None:
        """The latest session with this endpoint under this name, if there was one."""
        return self._sessions.get(_key(record, http2))

    def keep_session(self, record: EndpointRecord, http2: bool, session: ssl.SSLSession | None) -> None:
        """Remember how to resume."""
        if session is None or not session.has_ticket:
            return
        key = _key(record, http2)
        if key not in self._sessions and len(self._sessions) >= MAX_SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        self._sessions[key] = session


def server_name(record: EndpointRecord) -> str:
    """The name that the endpoint's certificate must have (gorouter reference 6.2)."""
    return record.server_cert_domain_san or record.host


def _key(record: EndpointRecord, http2: bool) -> tuple[str, str, bool]:
    return record.address, server_name(record), http2
