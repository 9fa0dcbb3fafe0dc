"""A crowd of client connections in a process of its own, which may have as many files open as the system allows.

Started as ``python crowd_program.py PORT IDLE SLOW``. IDLE connections ask once, get their answer and keep still; SLOW
ones send a request head byte by byte and never come to its end, and begin anew when they are turned away. Prints
``IDLE SLOW`` as they stand once all are there, and how many of the idle ones were lost once its standard input ends.
"""

from __future__ import annotations

import asyncio
import resource
import sys
from typing import Final

GET: Final = b"GET / HTTP/1.1\r\nHost: app.example.com\r\n\r\n"
SLOW_HEAD: Final = b"GET / HTTP/1.1\r\nHost: app.example.com\r\nX-Slow: "
BYTE_EVERY: Final = 2.0
"""Seconds between two bytes of a slow connection."""
AT_ONCE: Final = 100
FILES_OF_OUR_OWN: Final = 200


class Member(asyncio.Protocol):
    def __init__(self, crowd: Crowd, *, slow: bool) -> None:
        self.crowd = crowd
        self.slow = slow
        self.settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.crowd.present.add(self)
        transport.write(SLOW_HEAD if self.slow else GET)
        if self.slow:
            self.settled.set_result(None)

    def data_received(self, data: bytes) -> None:
        if not self.settled.done():
            assert data.startswith(b"HTTP/1.1 200 "), data
            self.settled.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self.crowd.present.discard(self)


class Crowd:
    def __init__(self, port: int) -> None:
        self.present: set[Member] = set()
        self._port = port

    def count(self, *, slow: bool) -> int:
        return sum(member.slow == slow for member in self.present)

    async def come(self, count: int, *, slow: bool) -> None:
        """So many more, a few at a time."""
        loop = asyncio.get_running_loop()
        while count > 0:
            made = await asyncio.gather(
                *(
                    loop.create_connection(lambda: Member(self, slow=slow), "127.0.0.1", self._port)
                    for _ in range(min(count, AT_ONCE))
                )
            )
            await asyncio.gather(*(member.settled for _, member in made))
            count -= AT_ONCE

    async def drip(self, slow: int) -> None:
        """A byte for each slow one, spread over the time, and as many of them as there should be."""
        while True:
            for member in [member for member in self.present if member.slow]:
                member.transport.write(b"x")
                await asyncio.sleep(BYTE_EVERY / slow)
            await self.come(slow - self.count(slow=True), slow=True)


async def main(port: int, idle: int, slow: int) -> None:
    loop = asyncio.get_running_loop()
    crowd = Crowd(port)
    await crowd.come(idle, slow=False)
    await crowd.come(slow, slow=True)
    dripping = asyncio.create_task(crowd.drip(slow))
    print(crowd.count(slow=False), crowd.count(slow=True), flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    dripping.cancel()
    print(idle - crowd.count(slow=False), flush=True)


if __name__ == "__main__":
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    wanted_port, wanted_idle, wanted_slow = map(int, sys.argv[1:])
    possible = min(wanted_idle, most - wanted_slow - FILES_OF_OUR_OWN)
    asyncio.run(main(wanted_port, possible, wanted_slow))
