"""Dials an endpoint that speaks TLS, to find out whether it is still what was registered. Sends no request."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import Final

from router.config.settings import Settings
from router.registry.records import EndpointRecord
from router.sources.announced import Announcement
from router.tls.backend_tls import server_name
from router.tls.contexts import backend_context

LONGEST: Final = 15.0
"""Seconds for a dial, where the router's own have no limit."""


class Probe:
    """``answers`` may be asked many times at once."""

    def __init__(self, settings: Settings) -> None:
        self._timeout = settings.endpoint_dial_timeout + settings.tls_handshake_timeout or LONGEST
        self._settings = settings
        self._context: ssl.SSLContext | None = None

    async def answers(self, announcement: Announcement) -> bool:
        """Whether somebody accepts connections there and, where CAs are configured, has the endpoint's certificate."""
        record = EndpointRecord.from_json(announcement.packed)
        context, name = None, None
        if self._settings.ca_certs:
            if self._context is None:
                self._context = backend_context(self._settings, ())
            context, name = self._context, server_name(record)
        try:
            async with asyncio.timeout(self._timeout):
                _, writer = await asyncio.open_connection(
                    record.host, record.tls_port, ssl=context, server_hostname=name
                )
        except (OSError, TimeoutError):  # what TLS finds wrong is an OSError as well
            return False
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return True
