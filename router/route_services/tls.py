"""What one worker needs to speak TLS to route services (gorouter reference 6.3)."""

from __future__ import annotations

import ssl

from router.tls.backend_tls import BackendTls
from router.tls.contexts import service_context


class ServiceTls(BackendTls):
    """As for endpoints, with the settings for route services. HTTP/2 is never offered."""

    def prepare(self) -> None:
        self.context(False)

    def context(self, http2: bool) -> ssl.SSLContext:
        context = self._contexts.get(False)
        if context is None:
            context = self._contexts[False] = service_context(self._settings)
        return context
