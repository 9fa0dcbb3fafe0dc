"""One line for each request, when its answer is made: what was asked for, by whom, how it ended, how long it took.

The path stands in it, the query does not: what clients put there is theirs.
"""

from __future__ import annotations

import logging
import time
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from controller import logs
from controller.v3.api import new_request_id

UNLOGGED: Final = frozenset(("/healthz",))
"""What asks every second whether this process is there."""
_MOST_OF_A_PATH: Final = 500

_log = logging.getLogger("controller.requests")


class RequestLog:
    """Around the application: everything within knows which request it is about (`controller.logs`)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        with logs.request_scope(new_request_id(Headers(scope=scope))):
            try:
                await self._app(scope, receive, noting)
            finally:
                if scope["path"] not in UNLOGGED:
                    about = {
                        "method": scope["method"],
                        "path": scope["path"][:_MOST_OF_A_PATH],
                        "status": status,
                        "seconds": round(time.perf_counter() - began, 6),
                    }
                    _log.info("request", extra={"data": about})
