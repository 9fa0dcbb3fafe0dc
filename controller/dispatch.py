"""From a path and a method to the endpoint, without the framework's own way through every route there is.

The framework declares endpoints and describes them (OpenAPI); with some hundreds of them its search, and what it
prepares for endpoints of other kinds than ours, cost a request several times what its answer does. All of ours take a
Request, maybe texts from the path, and return a Response, so that finding and calling them is all there is to do. What
is not found here is the framework's to answer.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.routing import APIRoute
from starlette.types import Receive, Scope, Send

Endpoint = Callable[[Request, dict[str, str]], Awaitable[Response]]
Failed = Callable[[Request], Response]
_SLASH: Final = "/"

_log = logging.getLogger("controller.api")


class _Place:
    """A point in the tree of paths: what may follow, and what is there."""

    __slots__ = ("any", "endpoints", "named")

    def __init__(self) -> None:
        self.named: dict[str, _Place] = {}
        self.any: _Place | None = None
        """Below a parameter."""
        self.endpoints: dict[str, tuple[Endpoint, tuple[str, ...]]] = {}
        """By method, with the names of the path's parameters in their order."""


class Paths:
    """A tree of paths by segment. A segment that is named goes before a parameter in its place."""

    def __init__(self) -> None:
        self._root = _Place()

    def add(self, method: str, path: str, endpoint: Endpoint) -> None:
        """``path`` with parameters such as ``{guid}``, each a whole segment. The first of two equal ones stays."""
        place, names = self._root, []
        for segment in path.split(_SLASH):
            if segment.startswith("{"):
                names.append(segment[1:-1])
                place.any = place.any or _Place()
                place = place.any
            else:
                place = place.named.setdefault(segment, _Place())
        place.endpoints.setdefault(method, (endpoint, tuple(names)))

    def find(self, method: str, path: str) -> tuple[Endpoint, dict[str, str]] | None:
        """The endpoint and its path's parameters."""
        found = self._find(self._root, method, path.split(_SLASH), 0, ())
        if found is None:
            return None
        (endpoint, names), values = found
        return endpoint, dict(zip(names, values, strict=True))

    def _find(
        self, place: _Place, method: str, segments: list[str], at: int, values: tuple[str, ...]
    ) -> tuple[tuple[Endpoint, tuple[str, ...]], tuple[str, ...]] | None:
        if at == len(segments):
            here = place.endpoints.get(method)
            return None if here is None else (here, values)
        segment = segments[at]
        following = place.named.get(segment)
        if following is not None and (found := self._find(following, method, segments, at + 1, values)) is not None:
            return found
        if place.any is None or not segment:
            return None
        return self._find(place.any, method, segments, at + 1, (*values, segment))


def _taking_texts(endpoint: Callable[..., Awaitable[Response]]) -> Endpoint:
    """Some name the path's parameters among their own, others read them from the request."""
    if len(inspect.signature(endpoint).parameters) > 1:
        return lambda request, parameters: endpoint(request, **parameters)
    return lambda request, _parameters: endpoint(request)


class Dispatcher:
    """An ASGI application: the endpoints of ``routes``, and for everything else ``app``."""

    def __init__(self, app: FastAPI, routes: Iterable[Any], failed: Failed) -> None:
        """``failed`` makes the answer where an endpoint raised what it should not have."""
        self._app = app
        self._failed = failed
        self.paths = Paths()
        for route in routes:
            if isinstance(route, APIRoute):
                for method in route.methods or ():
                    self.paths.add(method, route.path, _taking_texts(route.endpoint))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path: str = scope["path"]
            if path.endswith(_SLASH) and path != _SLASH:  # clients write some paths so (reference 1.0)
                scope["path"] = path = path.rstrip(_SLASH) or _SLASH
            found = self.paths.find(scope["method"], path)
            if found is not None:
                endpoint, parameters = found
                scope["app"], scope["path_params"] = self._app, parameters
                response = await self._answer(endpoint, Request(scope, receive), parameters)
                await response(scope, receive, send)
                return
        await self._app(scope, receive, send)

    async def _answer(self, endpoint: Endpoint, request: Request, parameters: dict[str, str]) -> Response:
        try:
            return await endpoint(request, parameters)
        except Exception:
            _log.exception("endpoint-failed", extra={"data": {"endpoint": f"{request.method} {request.url.path}"}})
            return self._failed(request)
