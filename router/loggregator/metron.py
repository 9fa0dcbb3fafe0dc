"""The socket to the Loggregator agent (metron): one envelope per datagram, many datagrams per system call.

Nothing here waits, and nothing that the agent does or fails to do reaches a request: what the socket does not take at
once is dropped and counted. Where the kernel can (Linux: UDP segmentation offload), datagrams of one length leave
together, which costs a seventh. Envelopes are filled up to common lengths for that, with a field that no reader knows
and every reader passes over.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import struct
from typing import Final

from router.loggregator.wire import padding
from router.logs.syslog import receiver

FLUSH_EVERY: Final = 0.05
RESOLVE_EVERY: Final = 60.0
RESOLVE_AGAIN: Final = 5.0
"""After a name that was not found, seconds."""
STEP: Final = 64
"""Envelopes are filled up to multiples of so many bytes."""
TOGETHER: Final = 64
"""Datagrams per system call: the most that every kernel takes."""
MAX_DATAGRAM: Final = 65_507
SEND_BUFFER: Final = 1024 * 1024

_UDP_SEGMENT: Final = 103
"""From <linux/udp.h>."""
_IP_MTU: Final = 14
_IPV6_MTU: Final = 24
_HEADERS: Final = 48
"""Of IPv6 and UDP."""
_CANNOT: Final = frozenset((errno.EINVAL, errno.EIO, errno.EMSGSIZE, errno.ENOPROTOOPT, errno.EOPNOTSUPP))
_FILL: Final = {length: padding(length) for length in range(3, STEP + 3)}

_log = logging.getLogger("router.loggregator")


class Metron:
    """``run`` it in a task; ``send`` and ``flush`` are for the same loop."""

    def __init__(self, address: str) -> None:
        """Raises ValueError."""
        self._host, self._port = receiver(address)
        self._socket: socket.socket | None = None
        self._peer: tuple[object, ...] = ()
        self._largest_together = 0
        self._waiting: dict[int, list[bytes]] = {}
        """Envelopes by the length that they are filled up to."""
        self.sent = 0
        self.dropped = 0

    async def run(self) -> None:
        """Until cancelled: know the agent's address, and send what is waiting every FLUSH_EVERY seconds."""
        search = asyncio.create_task(self._know_address())
        try:
            while True:
                await asyncio.sleep(FLUSH_EVERY)
                self.flush()
        finally:
            search.cancel()
            self.close()

    async def _know_address(self) -> None:
        """Find it, and look again now and then whether it is still the same."""
        complained = False
        while True:
            try:
                self._connect(await self._resolve())
            except OSError as error:
                if not complained:
                    _log.warning("metron-not-found", extra={"data": {"host": self._host, "error": str(error)}})
                complained = True
                await asyncio.sleep(RESOLVE_AGAIN)
            else:
                complained = False
                await asyncio.sleep(RESOLVE_EVERY)

    async def _resolve(self) -> tuple[int, tuple[object, ...]]:
        """IPv4 first, as Gorouter does: agents listen on 127.0.0.1."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_DGRAM)
        found.sort(key=lambda entry: entry[0] != socket.AF_INET)
        return found[0][0], found[0][4]

    def _connect(self, found: tuple[int, tuple[object, ...]]) -> None:
        """Raises OSError."""
        family, peer = found
        if peer == self._peer and self._socket is not None:
            return
        sock = socket.socket(family, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
            sock.connect(peer)
            self._largest_together = _largest_together(sock, family)
        except OSError:
            sock.close()
            raise
        self.close()
        self._socket, self._peer = sock, peer

    def close(self) -> None:
        """Send what is waiting and close."""
        self.flush()
        sock, self._socket = self._socket, None
        if sock is not None:
            sock.close()

    # Sending ------------------------------------------------------------------------------------------------------

    def send(self, envelope: bytes) -> None:
        """Put with the others; it leaves at the next ``flush`` at the latest."""
        size = -(-len(envelope) // STEP) * STEP
        if 0 < size - len(envelope) < 3:  # no field is so short
            size += STEP
        waiting = self._waiting.get(size)
        if waiting is None:
            waiting = self._waiting[size] = []
        waiting.append(envelope)
        if len(waiting) == TOGETHER:
            self._waiting[size] = []
            self._send_alike(waiting, size)

    def flush(self) -> None:
        """Send what is waiting."""
        if not self._waiting:
            return
        everything, self._waiting = self._waiting, {}
        for size, envelopes in everything.items():
            if envelopes:
                self._send_alike(envelopes, size)

    def send_same_size(self, envelopes: bytes, size: int) -> None:
        """Send at once what has been made in one piece: envelopes of ``size`` bytes, one after the other."""
        most = size * self._most_together(size)
        for start in range(0, len(envelopes), most):
            self._send_piece(envelopes[start : start + most], size)

    def _send_alike(self, envelopes: list[bytes], size: int) -> None:
        if self._socket is None:
            self.dropped += len(envelopes)
            return
        most = self._most_together(size)
        if most == 1 or len(envelopes) == 1:
            for envelope in envelopes:
                self._send_one(envelope)
            return
        fill = _FILL
        for start in range(0, len(envelopes), most):
            parts: list[bytes] = []
            for envelope in envelopes[start : start + most]:
                parts.append(envelope)
                missing = size - len(envelope)
                if missing:
                    parts.append(fill[missing])
            self._send_piece(b"".join(parts), size)

    def _most_together(self, size: int) -> int:
        return max(1, min(TOGETHER, MAX_DATAGRAM // size)) if size <= self._largest_together else 1

    def _send_piece(self, piece: bytes, size: int) -> None:
        """Datagrams of ``size`` bytes, all at once if there are several."""
        count = len(piece) // size
        if self._socket is None:
            self.dropped += count
            return
        if count > 1:
            try:
                segment = (socket.IPPROTO_UDP, _UDP_SEGMENT, struct.pack("=H", size))
                self._socket.sendmsg([piece], [segment])
                self.sent += count
                return
            except OSError as error:
                if error.errno not in _CANNOT:
                    self.dropped += count
                    return
                self._largest_together = 0
        for start in range(0, len(piece), size):
            self._send_one(piece[start : start + size])

    def _send_one(self, envelope: bytes) -> None:
        if self._socket is None:
            self.dropped += 1
            return
        try:
            self._socket.send(envelope)
            self.sent += 1
        except OSError:  # full, or nobody listens there, or too long
            self.dropped += 1


def _largest_together(sock: socket.socket, family: int) -> int:
    """The longest datagram that may leave with others; 0 where none may."""
    ipv6 = family == socket.AF_INET6
    level, option = (socket.IPPROTO_IPV6, _IPV6_MTU) if ipv6 else (socket.IPPROTO_IP, _IP_MTU)
    try:
        return sock.getsockopt(level, option) - _HEADERS
    except OSError:
        return 0
