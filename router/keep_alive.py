"""Has the kernel ask silent peers whether they are still there, so that one that vanished without a word is noticed.

Nobody may be writing to such a peer: an exchange waits for its response, a tunnel for its next byte.
"""

from __future__ import annotations

import math
import socket
from typing import Any, Final, Protocol

GO_INTERVAL: Final = 15.0
"""Seconds that Go takes where nobody says how often, as 0 does not."""


class HasSocket(Protocol):
    def get_extra_info(self, name: str, /) -> Any: ...


class Probes:
    """How often, as the kernel wants to know it."""

    __slots__ = ("_options",)

    def __init__(self, silent: float, interval: float, times: int | None = None) -> None:
        """Seconds of silence before the first question, seconds between questions, and how many go unanswered before
        the connection is given up (None: the system's own number)."""
        wanted = {
            "TCP_KEEPIDLE": math.ceil(silent),
            "TCP_KEEPINTVL": math.ceil(interval),
            "TCP_KEEPCNT": times,
        }
        self._options = [
            (getattr(socket, name), value)
            for name, value in wanted.items()
            if value is not None and hasattr(socket, name)
        ]

    def watch(self, transport: HasSocket) -> None:
        """Ask the peer of this connection; nothing is done where there is no network in between."""
        sock = transport.get_extra_info("socket")
        if sock is None or sock.family == socket.AF_UNIX:
            return
        real = socket.socket(sock.family, sock.type, sock.proto, sock.fileno())  # uvloop's own makes one for each call
        try:
            real.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in self._options:
                real.setsockopt(socket.IPPROTO_TCP, option, value)
        finally:
            real.detach()


def every(interval: float) -> Probes:
    """As the setting endpoint_keep_alive_probe_interval says (gorouter reference 3.7)."""
    seconds = interval or GO_INTERVAL
    return Probes(seconds, seconds)
