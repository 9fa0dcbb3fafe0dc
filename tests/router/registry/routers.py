"""A follower running in a thread of its own, as a router would run it, filling a plain dictionary."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import uvloop

from router.registry.follower import Follower
from router.registry.records import EndpointRecord


class DictSink:
    """Holds the table as {route: {address: record}} and counts what the follower did to it."""

    def __init__(self) -> None:
        self.table: dict[str, dict[str, EndpointRecord]] = {}
        self.upserts = 0
        self.removals = 0

    def upsert(self, route: str, record: EndpointRecord) -> None:
        self.upserts += 1
        self.table.setdefault(route, {})[record.address] = record

    def remove(self, route: str, address: str) -> None:
        self.removals += 1
        pool = self.table.get(route, {})
        pool.pop(address, None)
        if not pool:
            self.table.pop(route, None)

    def routes(self) -> list[str]:
        return list(self.table)

    def records(self, route: str) -> Sequence[EndpointRecord]:
        return list(self.table.get(route, {}).values())

    def flat(self) -> dict[tuple[str, str], EndpointRecord]:
        return {(route, address): r for route, pool in list(self.table.items()) for address, r in list(pool.items())}


class Router:
    """Use as a context manager; leaving it stops the follower cleanly."""

    def __init__(self, url: str, snapshot: Path | None = None, **options: Any) -> None:
        self.sink = DictSink()
        self.became_ready = 0
        options.setdefault("writes_snapshot", snapshot is not None)
        self.follower = Follower(url, self.sink, snapshot=snapshot, on_ready=self._ready, **options)
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._run)

    def _ready(self) -> None:
        self.became_ready += 1

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._task = self._loop.create_task(self.follower.run())
        try:
            self._loop.run_until_complete(self._task)
        except asyncio.CancelledError:
            return
        finally:
            self._loop.close()

    def __enter__(self) -> Router:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(10)
        assert not self._thread.is_alive()

    def routes(self) -> set[str]:
        return set(self.sink.table)
