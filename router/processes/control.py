"""The channel between the supervisor and one worker: JSON messages over an inherited socket pair, length first.

Both ends speak through `Channel`. The supervisor says ``start``, ``degrade``, ``log-level``, ``drain`` and ``stop``,
and asks for ``report``, ``routes``, ``connections`` and ``stacks``; the worker says ``ready``, answers under the ``id``
of the question, and says ``last`` before it leaves. The end of the stream means that the other side is gone. Nothing
here knows what a message is for, and no message may grow past MAX_MESSAGE_BYTES: what is larger (the route table) goes
in parts.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any, Final

import orjson

MAX_MESSAGE_BYTES: Final = 4 * 1024 * 1024
_LENGTH_BYTES: Final = 4

Message = dict[str, Any]


class BrokenChannel(ConnectionError):
    """The other side sent what no channel sends; only a bug or a foreign process does."""


class Channel:
    """One end. Reading is for one task at a time; anyone may send."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def over(cls, sock: socket.socket) -> Channel:
        """Takes ``sock``, a connected stream socket, over: the channel closes it."""
        sock.setblocking(False)
        return cls(*await asyncio.open_unix_connection(sock=sock))

    def send(self, message: Message) -> None:
        """Queue ``message``. To a side that is gone it is lost; reading is what notices."""
        body = orjson.dumps(message)
        if len(body) > MAX_MESSAGE_BYTES:
            raise ValueError(f"a control message of {len(body)} bytes; the most is {MAX_MESSAGE_BYTES}")
        self._writer.write(len(body).to_bytes(_LENGTH_BYTES, "big") + body)

    async def drain(self) -> None:
        """Wait until the other side has room. Raises ConnectionError when it is gone."""
        await self._writer.drain()

    async def receive(self) -> Message | None:
        """The next message; None when the other side is gone. Raises BrokenChannel."""
        try:
            length = int.from_bytes(await self._reader.readexactly(_LENGTH_BYTES), "big")
            if length > MAX_MESSAGE_BYTES:
                raise BrokenChannel(f"a control message claims {length} bytes; the most is {MAX_MESSAGE_BYTES}")
            message = orjson.loads(await self._reader.readexactly(length))
        except (asyncio.IncompleteReadError, ConnectionResetError, BrokenPipeError):
            return None
        except orjson.JSONDecodeError as error:
            raise BrokenChannel(f"a control message is not JSON: {error}") from None
        if not isinstance(message, dict):
            raise BrokenChannel("a control message is not an object")
        return message

    async def close(self) -> None:
        """Send what is queued and close. Raises ConnectionError when the other side was gone before."""
        self._writer.close()
        await self._writer.wait_closed()
