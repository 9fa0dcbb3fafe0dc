"""X-Vcap-Trace: who knows the key is told which router and which endpoint served a request (gorouter reference 4.2)."""

from __future__ import annotations

import socket
from contextlib import suppress
from hmac import compare_digest
from typing import Final

REPLACED: Final = frozenset((b"x-vcap-router", b"x-vcap-backend", b"x-cf-routeendpoint"))
"""What an endpoint says under these names is no news to the client."""

_ANYWHERE: Final = ("1.2.3.4", 80)
"""Nothing is ever sent there."""


class VcapTrace:
    """Without a key nobody is told anything."""

    __slots__ = ("_key", "_router")

    def __init__(self, key: str) -> None:
        self._key = key.encode()
        self._router = own_address() if key else ""

    def knows_key(self, value: bytes) -> bool:
        """Whether a request's X-Vcap-Trace is the key; how long the comparison takes does not say how close it was."""
        return bool(self._key) and compare_digest(value, self._key)

    def lines(self, endpoint: str) -> bytes:
        """The field lines for a response of the endpoint with this address."""
        return (
            f"X-Vcap-Router: {self._router}\r\nX-Vcap-Backend: {endpoint}\r\nX-Cf-Routeendpoint: {endpoint}\r\n"
        ).encode()


def own_address() -> str:
    """The address that this machine would send from to the world, as Gorouter finds its own."""
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(_ANYWHERE)
        address: str = probe.getsockname()[0]
        return address
    return "127.0.0.1"
