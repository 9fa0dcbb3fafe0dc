"""A WebSocket server that says everything again, and a client that does the same: what Autobahn's fuzzers talk to.

    python -m tests.compliance.websocket_echo server                prints its port, serves until its input ends
    python -m tests.compliance.websocket_echo client NAME HOST VIA  lets the fuzzing server HOST run all its cases, the
                                                                    connections being opened to the port VIA

Frames are answered strictly in their order, however they were cut into segments: an echo that looks at all that has
come before it answers would be judged by timing, and a relay changes timing.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import uvloop
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Message,
    Ping,
    Request,
    TextMessage,
)
from wsproto.extensions import PerMessageDeflate
from wsproto.utilities import LocalProtocolError, RemoteProtocolError


class Echo(asyncio.Protocol):
    """One connection; ``heard`` are the messages that came, where somebody wants to know."""

    def __init__(self, asks: Request | None = None) -> None:
        self._asks = asks
        self._link = WSConnection(ConnectionType.CLIENT if asks else ConnectionType.SERVER)
        self._transport: asyncio.Transport
        self.heard: list[str | bytearray] = []
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        if self._asks is not None:
            transport.write(self._link.send(self._asks))

    def data_received(self, data: bytes) -> None:
        try:
            self._link.receive_data(data)
            for event in self._link.events():
                if (answer := self._answer_to(event)) is not None:
                    self._transport.write(self._link.send(answer))
                if isinstance(event, CloseConnection):
                    self._transport.close()
        except RemoteProtocolError as error:
            try:
                if error.event_hint is not None:
                    self._transport.write(self._link.send(error.event_hint))
            finally:
                self._transport.close()
        except LocalProtocolError:  # it asked for something after its own end
            self._transport.close()

    def _answer_to(self, event: Event) -> Event | None:
        match event:
            case Request():
                return AcceptConnection(extensions=[PerMessageDeflate()])
            case TextMessage() | BytesMessage():
                if self._asks is not None and self._asks.target == "/getCaseCount":
                    self.heard.append(event.data)
                    return None
                return Message(data=event.data, message_finished=event.message_finished)
            case Ping() | CloseConnection():
                return event.response()
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set_result(None)


async def server() -> None:
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(Echo, "127.0.0.1", 0)
    print(listening.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


async def client(name: str, host: str, via: str) -> None:
    async def ask(target: str) -> Echo:
        extensions: Any = [PerMessageDeflate()]
        request = Request(host=host, target=target, extensions=extensions)
        _, echo = await asyncio.get_running_loop().create_connection(lambda: Echo(request), "127.0.0.1", int(via))
        await echo.closed
        return echo

    counted = await ask("/getCaseCount")
    for case in range(1, int("".join(map(str, counted.heard))) + 1):
        await ask(f"/runCase?case={case}&agent={name}")
    await ask(f"/updateReports?agent={name}")


if __name__ == "__main__":
    uvloop.run(server() if sys.argv[1] == "server" else client(*sys.argv[2:]))
