"""The bench's own backend, for machines without nginx: ``python -m bench.backend PORT``.

It answers 200 to every request on every path: LARGE_BYTES on LARGE_PATH, SMALL_BYTES elsewhere; bodies framed by
Content-Length are read and dropped. It must never be what is measured: nothing is parsed that the answer does not need.
"""

from __future__ import annotations

import asyncio
import re
import sys
from typing import Final, cast

import uvloop

from bench.scenarios import LARGE_BYTES, LARGE_PATH, SMALL_BYTES

MAX_HEAD_BYTES: Final = 64 * 1024

_CONTENT_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)[ \t]*\r\n", re.IGNORECASE)
_TRANSFER_ENCODING: Final = re.compile(rb"\r\ntransfer-encoding:", re.IGNORECASE)
_REFUSAL: Final = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


def _answer(size: int) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n%b" % (size, b"x" * size)


class Backend(asyncio.Protocol):
    """One connection; requests may be pipelined."""

    def __init__(self) -> None:
        self._large = _answer(LARGE_BYTES)
        self._small = _answer(SMALL_BYTES)
        self._reply = self._small
        self._pending = b""
        self._body_left = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are not its subclasses

    def data_received(self, data: bytes) -> None:
        if self._body_left:
            taken = min(self._body_left, len(data))
            self._body_left -= taken
            data = data[taken:]
            if self._body_left:
                return
            self._transport.write(self._reply)
        data = self._pending + data
        while (end := data.find(b"\r\n\r\n")) >= 0:
            head = data[: end + 4]
            data = data[end + 4 :]
            if _TRANSFER_ENCODING.search(head):
                self._refuse()
                return
            self._reply = self._large if head.split(b" ", 2)[1] == LARGE_PATH.encode() else self._small
            length = _CONTENT_LENGTH.search(head)
            if length:
                self._body_left = int(length[1])
                taken = min(self._body_left, len(data))
                self._body_left -= taken
                data = data[taken:]
                if self._body_left:
                    break
            self._transport.write(self._reply)
        self._pending = data
        if len(data) > MAX_HEAD_BYTES:
            self._refuse()

    def _refuse(self) -> None:
        self._transport.write(_REFUSAL)
        self._transport.close()


async def serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Backend, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
