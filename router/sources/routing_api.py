"""The Routing API as its clients see it (gorouter reference 1.7): lists, and event streams, for whoever has a token.

A token that is refused is replaced once per request. Knows no route table; what it gives is JSON that nobody has looked
into yet.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Any, Final

import orjson

from router.sources.http_client import Answer, Origin, Request, RequestFailed, asking
from router.sources.oauth import Tokens
from router.sources.sse import BrokenEvents, Event, EventParser

MAX_LIST_BYTES: Final = 64 * 1024 * 1024
"""About 250,000 routes."""
LIST_SECONDS: Final = 60.0
"""For the body of a list."""
_EVENTS: Final = "text/event-stream"
_JSON: Final = "application/json"


class Unauthorized(RequestFailed):
    """A token that is new opens nothing either: its client lacks a scope, or the API trusts another UAA."""


class RoutingApi:
    """One API. May be asked several things at once."""

    def __init__(self, origin: Origin, prefix: str, tokens: Tokens) -> None:
        """``prefix``: what comes before /routing/v1 in the paths of this API, usually nothing."""
        self._origin = origin
        self._prefix = prefix
        self._tokens = tokens

    async def listed(self, target: str) -> list[Any]:
        """What is there. Raises RequestFailed, NoToken."""
        async with self._asking(target, _JSON) as answer:
            body = await answer.whole(MAX_LIST_BYTES, LIST_SECONDS)
        try:
            said = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise RequestFailed(f"{self._origin}: the list is not JSON: {error}") from None
        if said is None:  # Go's empty list
            return []
        if not isinstance(said, list):
            raise RequestFailed(f"{self._origin}: the list is no array")
        return said

    @contextlib.asynccontextmanager
    async def subscribed(self, target: str) -> AsyncIterator[AsyncIterator[Event]]:
        """Events as they happen; once the block is entered, none is missed. They end with an exception only.

        Raises RequestFailed, NoToken; whoever reads the events, RequestFailed.
        """
        async with self._asking(target, _EVENTS) as answer:
            if not answer.field(b"content-type").startswith(_EVENTS):
                raise RequestFailed(f"{self._origin}: what {target} answers is no event stream")
            yield self._events(answer)

    async def _events(self, answer: Answer) -> AsyncIterator[Event]:
        parser = EventParser()
        try:
            async for piece in answer.pieces():
                for event in parser.feed(piece):
                    yield event
        except BrokenEvents as error:
            raise RequestFailed(f"{self._origin}: {error}") from None
        raise RequestFailed(f"{self._origin}: the event stream ended")

    @contextlib.asynccontextmanager
    async def _asking(self, target: str, kind: str) -> AsyncIterator[Answer]:
        """The answer, which is 200."""
        token = await self._tokens.get()
        async with self._one_request(target, kind, token) as answer:
            if answer.status != HTTPStatus.UNAUTHORIZED:
                yield await _success(answer)
                return
        token = await self._tokens.get(refused=token)
        async with self._one_request(target, kind, token) as answer:
            yield await _success(answer)

    def _one_request(self, target: str, kind: str, token: str) -> contextlib.AbstractAsyncContextManager[Answer]:
        fields = {"Accept": kind}
        if token:
            fields["Authorization"] = f"bearer {token}"
        return asking(self._origin, Request("GET", self._prefix + target, fields))


async def _success(answer: Answer) -> Answer:
    if answer.status == HTTPStatus.UNAUTHORIZED:
        raise Unauthorized(str(await answer.refusal()))
    if answer.status != HTTPStatus.OK:
        raise await answer.refusal()
    return answer
