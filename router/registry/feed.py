"""What a router asks of the registry, over one pinned connection: a typed method per question, nothing kept between.

All answers come from the same Redis process; when that ends, so does the feed. After any error it is to be closed. It
asks one thing at a time and decides nothing: what the answers mean is the follower's business.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import redis
from redis.asyncio.connection import AbstractConnection

from router.registry import connect
from router.registry.scripts import NO_VERSION, PRUNE, Keys, version_order

_SCAN_SLICE = 500
_ENTRIES = 16
"""Log entries per reply: one entry may carry a thousand changes."""


class NotServing(redis.ConnectionError):
    """This Redis answers, but holds no registry that may be followed now."""


@dataclass(frozen=True, slots=True)
class TableState:
    """What Redis says of the table."""

    epoch: str
    """Empty: nothing was ever written."""
    version: str
    longest_ttl: float
    """Seconds, of the leases that this epoch has seen."""

    def behind(self, version: str) -> bool:
        """Whether this table is older than that version."""
        return version_order(self.version) < version_order(version)


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the log."""

    version: str
    previous: str
    operations: list[bytes]
    """``+field, record`` and ``-field, nothing`` in turn."""


class Feed:
    """Made by `open`."""

    def __init__(self, connection: AbstractConnection, keys: Keys) -> None:
        self._connection: Any = connection
        self._keys = keys
        self._closed = False

    @classmethod
    async def open(cls, location: connect.Location, keys: Keys) -> Feed:
        """Raises redis.RedisError, OSError; NotServing: a replica."""
        feed = cls(await connect.pinned_connection(location, keys.table), keys)
        try:
            await feed.require_master()
        except BaseException:
            await feed.close()
            raise
        return feed

    @property
    def address(self) -> tuple[str, int] | None:
        """Where the connection leads; None for a unix socket."""
        host = getattr(self._connection, "host", None)
        return None if host is None else (host, self._connection.port)

    async def close(self) -> None:
        """At once; a question that waits for its answer fails."""
        self._closed = True
        await self._connection.disconnect(nowait=True)

    async def require_master(self) -> None:
        """Raises NotServing: a replica may be promoted, or fall behind; only a master's log is the log."""
        role = (await self._ask("ROLE"))[0].decode()
        if role != "master":
            raise NotServing(f"this Redis is a {'replica' if role == 'slave' else role}, not a master")

    async def state(self) -> TableState:
        epoch, version, ttl = await self._ask("HMGET", self._keys.meta, "epoch", "version", "ttl")
        return _state(epoch, version, ttl)

    async def scan(self, cursor: bytes) -> tuple[bytes, list[bytes]]:
        """A slice of the table from a cursor (b"0" first, b"0" returned when done): field and value in turn."""
        following, flat = await self._ask("HSCAN", self._keys.table, cursor, "COUNT", _SCAN_SLICE)
        return following, flat

    async def entries(self, after: str, wait: float) -> list[Entry]:
        """The next log entries after a version, waiting up to `wait` seconds for the first; 0 does not wait."""
        block = ("BLOCK", round(wait * 1000)) if wait >= 0.001 else ()
        reply = await self._ask("XREAD", "COUNT", _ENTRIES, *block, "STREAMS", self._keys.log, after)
        return [_entry(version, fields) for _, entries in reply or () for version, fields in entries]

    async def oldest(self) -> str | None:
        """The version of the oldest entry that the log still holds."""
        reply = await self._ask("XRANGE", self._keys.log, "-", "+", "COUNT", 1)
        return reply[0][0].decode() if reply else None

    async def prune(self, budget: int) -> tuple[TableState, int, bool]:
        """Removes endpoints of expired leases, at most `budget`. Returns the table's state after, how many left, and
        whether there is more to do."""
        keys = self._keys.shared()
        try:
            reply = await self._ask("EVALSHA", PRUNE.sha, len(keys), *keys, budget)
        except redis.exceptions.NoScriptError:
            reply = await self._ask("EVAL", PRUNE.text, len(keys), *keys, budget)
        more, removed, epoch, version, ttl = reply
        return _state(epoch, version, ttl), removed, bool(more)

    async def _ask(self, *command: Any) -> Any:
        if self._closed:  # redis-py would connect again by itself, perhaps to another server
            raise redis.ConnectionError("the connection was closed")
        async with asyncio.timeout(connect.SOCKET_TIMEOUT):
            await self._connection.send_command(*command)
            return await self._connection.read_response()


def _state(epoch: bytes | None, version: bytes | None, ttl: bytes | int | None) -> TableState:
    try:
        state = TableState((epoch or b"").decode(), (version or NO_VERSION.encode()).decode(), int(ttl or 0) / 1000)
        version_order(state.version)
    except ValueError:
        raise NotServing(f"its registry is damaged: epoch {epoch!r}, version {version!r}, ttl {ttl!r}") from None
    return state


def _entry(version: bytes, fields: list[bytes]) -> Entry:
    if fields[0] != b"prev":
        raise NotServing(f"log entry {version!r} does not begin with the version before it")
    return Entry(version.decode(), fields[1].decode(), fields[2:])
