"""Server-sent events of registered routes: what one process tells those who watch (gorouter reference 1.7).

Theory of operation. As long as anybody watches, one task follows the table's log, whoever wrote it, and puts each
change into the mailbox of every watcher of its kind. A watcher that is too slow for its mailbox, or for the log, loses
its stream; it asks for a list then, and begins a new one, as it does after any other break.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Final

import trio
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from controller.database.engine import Database
from controller.routing_api import store
from controller.routing_api.errors import RoutingApiError, refusal
from controller.routing_api.store import Cursor

POLL_SECONDS: Final = 0.2
MAILBOX: Final = 20_000
"""Events that a watcher may be behind."""
BEAT_SECONDS: Final = 15.0
"""After which a silent stream gets a comment, so that an end that has gone is noticed."""
_AT_ONCE: Final = 200

Event = tuple[str, bytes]
"""Its name and its data."""

_log = logging.getLogger("controller.routing-api")


class Watchers:
    """``run`` is its life; ``changed`` may be called from the trio thread at any time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._mailboxes: dict[trio.MemorySendChannel[Event], str] = {}
        """With the kind of route that each is for."""
        self._cursor = Cursor(0, 0)
        self._changed = trio.Event()
        self._turn = trio.Lock()
        self._over = False

    def changed(self) -> None:
        """A transaction of this process wrote registered routes."""
        self._changed.set()

    def end(self) -> None:
        """The process stops: all streams end, and new ones do at once."""
        self._over = True
        for mailbox in list(self._mailboxes):
            self._end(mailbox)

    @asynccontextmanager
    async def watching(self, kind: str) -> AsyncIterator[trio.MemoryReceiveChannel[Event]]:
        """Once this is entered nothing is missed. The channel ends when its watcher is too slow.

        Raises what the database raises.
        """
        send, receive = trio.open_memory_channel[Event](MAILBOX)
        async with self._turn:
            if not self._mailboxes:
                self._cursor = await trio.to_thread.run_sync(self._database.read, store.newest)
            self._mailboxes[send] = kind
        if self._over:
            self._end(send)
        self._changed.set()
        try:
            yield receive
        finally:
            self._mailboxes.pop(send, None)
            receive.close()

    async def run(self) -> None:
        """Until cancelled."""
        complained = False
        while True:
            self._changed = trio.Event()
            try:
                async with self._turn:
                    while self._mailboxes and await self._deliver():
                        pass
                complained = False
            except SQLAlchemyError as error:
                if not complained:
                    _log.error("routes-not-watched", extra={"data": {"why": str(error).splitlines()[0]}})
                complained = True
            with trio.move_on_after(POLL_SECONDS if self._mailboxes else float("inf")):
                await self._changed.wait()

    async def _deliver(self) -> bool:
        """What was written since; whether there may be more."""
        rows = await trio.to_thread.run_sync(self._database.read, partial(store.changes, after=self._cursor))
        if rows is None:
            for mailbox in list(self._mailboxes):
                self._end(mailbox)
            return False
        if not rows:
            return False
        self._cursor = rows[-1].cursor
        for row in rows:
            event = ("Delete" if row.gone else "Upsert", row.object)
            for mailbox, kind in list(self._mailboxes.items()):
                if kind == row.kind:
                    self._put(mailbox, event)
        return len(rows) == store.BATCH

    def _put(self, mailbox: trio.MemorySendChannel[Event], event: Event) -> None:
        try:
            mailbox.send_nowait(event)
        except trio.WouldBlock:
            self._end(mailbox)
        except trio.BrokenResourceError:  # it is leaving
            self._mailboxes.pop(mailbox, None)

    def _end(self, mailbox: trio.MemorySendChannel[Event]) -> None:
        self._mailboxes.pop(mailbox, None)
        mailbox.close()


class EventStream(Response):
    """The response that a watcher gets: it ends with its connection, or when its watcher was too slow."""

    def __init__(self, watchers: Watchers, kind: str) -> None:
        super().__init__()
        self._watchers = watchers
        self._kind = kind

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"cache-control", b"no-cache, no-store, must-revalidate"),
            *([(b"connection", b"keep-alive")] if scope.get("http_version", "").startswith("1") else []),
        ]
        async with AsyncExitStack() as stack:
            try:
                events = await stack.enter_async_context(self._watchers.watching(self._kind))
            except OperationalError as error:
                await refusal(RoutingApiError("DBCommunicationError", str(error.orig)))(scope, receive, send)
                return
            nursery = await stack.enter_async_context(trio.open_nursery())
            nursery.start_soon(_until_gone, receive, events)
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b"", "more_body": True})
            await _pass_on(events, send)
            nursery.cancel_scope.cancel()


async def _until_gone(receive: Receive, events: trio.MemoryReceiveChannel[Event]) -> None:
    """Nothing is cancelled: the server would be interrupted in the middle of sending, or of ending a response."""
    while (await receive())["type"] != "http.disconnect":
        pass
    events.close()


async def _pass_on(events: trio.MemoryReceiveChannel[Event], send: Send) -> None:
    """Until there are no more."""
    number = 0
    while True:
        chunk = b":\n"
        with trio.move_on_after(BEAT_SECONDS):
            try:
                came = [await events.receive()]
                while len(came) < _AT_ONCE and events.statistics().current_buffer_used:
                    came.append(events.receive_nowait())
            except trio.EndOfChannel:
                break
            except trio.ClosedResourceError:
                return
            chunk = b"".join(
                b"id: %d\nevent: %s\ndata: %s\n\n" % (number + at, name.encode(), data)
                for at, (name, data) in enumerate(came)
            )
            number += len(came)
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
