"""Tells the workers what is announced: first the whole table, then every change as it happens. The sources' side.

Theory of operation. A worker connects and is sent the table slice by slice, then the mark that it is complete. Changes
go to it from the moment of its connection on, also between slices: a slice says what holds when it is made, a change
what holds since, and both go the same way, so that the last word on an endpoint is always the true one. Changes of one
round of the loop go together, put into bytes once for all workers. Nothing waits for a slow worker: one that leaves too
much unread is cut off, and will connect again and be sent the table anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable
from typing import Final

from router.sources.announced import AnnouncedTable, Announcement, Pool
from router.sources.frames import (
    CHANGES,
    COMPLETE,
    FAILED,
    HEAD_BYTES,
    MAX_LINES,
    STATE,
    TABLE,
    BrokenStream,
    State,
    field,
    frame,
    frame_of_lines,
    head,
    lines,
)

MAX_UNREAD: Final = 64 * 1024 * 1024
"""Bytes that may wait for a worker."""
STATE_EVERY: Final = 1.0
_ROUTES: Final = 200
"""Routes whose endpoints are put into bytes at a stretch."""
_HIGH_WATER: Final = 1024 * 1024

_log = logging.getLogger("router.sources")


class Stream:
    """Implements the table's ``Listener``. ``serve`` it once the table is there."""

    def __init__(self, state: Callable[[], State], on_failed: Callable[[str, str], None]) -> None:
        """``on_failed`` hears of a route and an address that a worker could not use."""
        self._state = state
        self._on_failed = on_failed
        self._table: AnnouncedTable | None = None
        self._followers: dict[asyncio.StreamWriter, None] = {}
        self._changes: list[bytes] = []
        self.cut_off = 0
        """Workers that left too much unread."""

    @property
    def followers(self) -> int:
        return len(self._followers)

    async def serve(self, listening: socket.socket, table: AnnouncedTable) -> None:
        """Until cancelled."""
        self._table = table
        server = await asyncio.start_unix_server(self._follow, sock=listening, limit=_HIGH_WATER)
        try:
            while True:
                self.tell_state()
                await asyncio.sleep(STATE_EVERY)
        finally:
            server.close()
            for follower in list(self._followers):
                follower.transport.abort()

    def tell_state(self) -> None:
        """To be called when something in it changed; once a second it is told anyway."""
        self._send(frame(STATE, self._state().packed()))

    def put(self, route: str, announcement: Announcement) -> None:
        if self._followers:
            self._change(b"+" + field(route, announcement.address), announcement.packed)

    def put_again(self, route: str, announcement: Announcement) -> None:
        if self._followers:
            self._change(b"*" + field(route, announcement.address), announcement.packed)

    def left(self, route: str, address: str) -> None:
        if self._followers:
            self._change(b"-" + field(route, address), b"")

    def _change(self, operation: bytes, record: bytes) -> None:
        if not self._changes:
            asyncio.get_running_loop().call_soon(self._flush)
        self._changes += (operation, record)

    def _flush(self) -> None:
        changes, self._changes = self._changes, []
        for start in range(0, len(changes), MAX_LINES):
            self._send(frame_of_lines(CHANGES, changes[start : start + MAX_LINES]))

    def _send(self, text: bytes) -> None:
        for follower in list(self._followers):
            if follower.transport.get_write_buffer_size() > MAX_UNREAD:
                self._cut_off(follower)
            else:
                follower.write(text)

    def _cut_off(self, follower: asyncio.StreamWriter) -> None:
        self.cut_off += 1
        del self._followers[follower]
        follower.transport.abort()
        _log.error("worker-does-not-read", extra={"data": {"unread_bytes": MAX_UNREAD, "what": "it is cut off"}})

    async def _follow(self, reader: asyncio.StreamReader, follower: asyncio.StreamWriter) -> None:
        follower.transport.set_write_buffer_limits(high=_HIGH_WATER)
        self._followers[follower] = None
        sending = asyncio.create_task(self._send_table(follower))
        try:
            while True:
                length, kind = head(await reader.readexactly(HEAD_BYTES))
                body = await reader.readexactly(length)
                if kind == FAILED:
                    for each in lines(body):
                        route, _, address = each.decode().partition(" ")
                        self._on_failed(route, address)
        except BrokenStream as error:
            _log.error("worker-stream-broken", extra={"data": {"why": str(error)}})
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._followers.pop(follower, None)
            sending.cancel()
            follower.transport.abort()

    async def _send_table(self, follower: asyncio.StreamWriter) -> None:
        table = self._table
        assert table is not None
        routes = table.routes()
        contested: list[str] = []
        with contextlib.suppress(ConnectionError):  # whoever reads from it notices
            for start in range(0, len(routes), _ROUTES):
                entries: list[bytes] = []
                for route in routes[start : start + _ROUTES]:
                    pool = table.pool(route)
                    if pool is not None:
                        for announcement in pool.announcements:
                            entries += (field(route, announcement.address), announcement.packed)
                        if len(pool.announcements) > 1 and _spokesman(pool) is not pool.announcements[0]:
                            contested.append(route)
                for first in range(0, len(entries), MAX_LINES):
                    follower.write(frame_of_lines(TABLE, entries[first : first + MAX_LINES]))
                await follower.drain()
                await asyncio.sleep(0)
            follower.write(frame(COMPLETE, self._state().packed()))
            for route in contested:
                pool = table.pool(route)
                speaks = None if pool is None else _spokesman(pool)
                if speaks is not None:
                    again = b"*" + field(route, speaks.address), speaks.packed
                    follower.write(frame_of_lines(CHANGES, again))


def _spokesman(pool: Pool) -> Announcement | None:
    """The endpoint that asked for what now holds in the pool; the first one where all ask for the same."""
    asks = pool.asks
    for announcement in pool.announcements:
        if announcement.asks != asks:
            break
    else:
        return pool.announcements[0] if pool.announcements else None
    return next((each for each in reversed(pool.announcements) if each.asks == asks), None)
