"""Errors as a Routing API tells them: ``{"name": ..., "message": ...}`` (gorouter reference 1.7)."""

from __future__ import annotations

from typing import Final

import orjson
from starlette.responses import Response

_STATUS: Final = {
    "ProcessRequestError": 400,
    "RouteInvalidError": 400,
    "RouteServiceUrlInvalidError": 400,
    "TcpRouteMappingInvalidError": 400,
    "UnauthorizedError": 401,
    "ResourceNotFoundError": 404,
    "DBConflictError": 409,
    "DBCommunicationError": 500,
}


class RoutingApiError(Exception):
    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name
        self.message = message
        self.status = _STATUS[name]


def bad_request(why: str) -> RoutingApiError:
    return RoutingApiError("ProcessRequestError", f"Cannot process request: {why}")


def refusal(error: RoutingApiError) -> Response:
    body = orjson.dumps({"name": error.name, "message": error.message})
    return Response(body, error.status, media_type="application/json")
