"""Reads the whole table beside the serving one: scan first, then the log since the scan began, until both agree.

The result is a plain dict that nobody serves from yet. Touches neither sink nor replica.
"""

from __future__ import annotations

from router.registry.feed import Feed, TableState
from router.registry.slices import sliced


class LogMoved(Exception):
    """The log no longer reaches back to where the scan began, or the table was replaced meanwhile: load again."""


async def load(feed: Feed) -> tuple[TableState, str, dict[bytes, bytes]]:
    """The state found, the version loaded, and the table: field to record.

    A scan may show an endpoint or not when it changes meanwhile; the log since then says what it became, and saying it
    twice changes nothing. Raises LogMoved, redis.RedisError, OSError.
    """
    state = await feed.state()
    if not state.epoch:
        state, _, _ = await feed.prune(0)  # Opens the table, and removes nothing.
    table: dict[bytes, bytes] = {}
    cursor = b"0"
    while True:
        cursor, flat = await feed.scan(cursor)
        for field, value in zip(flat[::2], flat[1::2], strict=True):
            table[field] = value.partition(b" ")[2]
        if cursor == b"0":
            break
    version = state.version
    while entries := await feed.entries(version, wait=0):
        async for (entry,) in sliced(entries, 1):
            if entry.previous != version:
                raise LogMoved(f"the log was trimmed past version {version} during the load")
            _merge(table, entry.operations)
            version = entry.version
    if (await feed.state()).epoch != state.epoch:
        raise LogMoved("the table was replaced during the load")
    return state, version, table


def _merge(table: dict[bytes, bytes], operations: list[bytes]) -> None:
    for operation, record in zip(operations[::2], operations[1::2], strict=True):
        if operation.startswith(b"+"):
            table[operation[1:]] = record
        else:
            table.pop(operation[1:], None)
