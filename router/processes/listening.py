"""Opens the traffic ports: per listener one socket per worker slot, all on one address, spread by the kernel.

A listener has a name (``http``) that says what `router.listeners` does with what it accepts. A slot's sockets live as
long as the supervisor, whoever serves them: connections that arrive while its worker is being replaced wait in a
backlog and are lost to nobody. Never accepts anything itself.
"""

from __future__ import annotations

import resource
import socket
from dataclasses import dataclass
from typing import Final

from router.config.settings import Settings

BACKLOG: Final = 4096
MAX_TCP_PORTS: Final = 1000


class CannotListen(Exception):
    """The address cannot be had; the message says which, why, and which settings to change."""


@dataclass(frozen=True, slots=True)
class Listener:
    """One traffic port."""

    name: str
    """What is spoken there: ``http``, ``https``, or for TCP routes ``tcp:`` and the port."""
    port: int
    key: str
    """The setting that says the port, for messages."""


def listeners(settings: Settings) -> list[Listener]:
    """The traffic ports that these settings ask for."""
    found = [] if settings.disable_http else [Listener("http", settings.port, "port")]
    if settings.enable_ssl:
        found.append(Listener("https", settings.ssl_port, "ssl_port"))
    found += [Listener(f"tcp:{port}", port, "millrace.tcp_ports") for port in tcp_ports(settings.millrace.tcp_ports)]
    return found


def tcp_ports(text: str) -> list[int]:
    """The ports of the setting ``millrace.tcp_ports``, such as ``1024-1033,5432``. Raises ValueError."""
    found: set[int] = set()
    for part in filter(None, (part.strip() for part in text.split(","))):
        first, _, last = part.partition("-")
        low, high = int(first), int(last or first)
        if not 1 <= low <= high <= 65535:
            raise ValueError(f"{part!r}: give ports from 1 to 65535, the lower one first")
        found.update(range(low, high + 1))
    if len(found) > MAX_TCP_PORTS:
        raise ValueError(f"{len(found)} ports: at most {MAX_TCP_PORTS}, since each is a socket in every worker")
    return sorted(found)


def open_all(settings: Settings, count: int) -> dict[str, list[socket.socket]]:
    """``count`` listening sockets per listener, by its name. Raises CannotListen; then none is left open."""
    opened: dict[str, list[socket.socket]] = {}
    try:
        for listener in listeners(settings):
            opened[listener.name] = open_sockets(settings.millrace.address, listener.port, count, listener.key)
    except CannotListen:
        for sock in (sock for sockets in opened.values() for sock in sockets):
            sock.close()
        raise
    return opened


def open_sockets(address: str, port: int, count: int, key: str = "port") -> list[socket.socket]:
    """``count`` listening sockets that share ``address``:``port`` by SO_REUSEPORT; port 0 is chosen by the system.

    ``key`` is the setting that says the port.

    Raises CannotListen: the name does not resolve, the address is not of this machine, the port is taken or privileged.
    """
    where = f"millrace.address {address!r}, {key} {port}"
    try:
        family, _, _, _, place = socket.getaddrinfo(
            address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV
        )[0]
        free = _reserve(family, place)
        return [_listen(family, free) for _ in range(count)]
    except PermissionError:
        raise CannotListen(
            f"{where}: ports below 1024 need root or CAP_NET_BIND_SERVICE; choose another port"
        ) from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise CannotListen(f"{where}: {reason}; change {key} or millrace.address, or stop what uses it") from None


def _reserve(family: int, place: tuple[object, ...]) -> tuple[object, ...]:
    """The address with its final port, known to be free.

    SO_REUSEPORT alone would let a second router of the same user slip onto a busy port and take half its connections.
    """
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _both_families(probe)
        probe.bind(place)
        probe.listen(1)
        bound: tuple[object, ...] = probe.getsockname()
        return bound


def _listen(family: int, place: tuple[object, ...]) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        _both_families(sock)
        sock.bind(place)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def _both_families(sock: socket.socket) -> None:
    if sock.family == socket.AF_INET6:
        # "::" serves IPv4 as well, as Gorouter's listener does.
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)


def raise_file_limit() -> int:
    """Lift the soft limit of open files to the hard one; every connection is a file. Returns the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
