"""How endpoints become HTTP: one handler for all, and the OpenAPI document that follows from their declarations.

An endpoint is a plain function of a `Call`, path parameters and maybe a body; it runs in a worker thread, in one
transaction, and returns a body or a `Reply`, or raises an `ApiError`. The handler here does what is the same for all:
reading and checking bodies, tokens and their scopes, commits, errors, headers. No endpoint may know Starlette.
"""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote
from uuid import uuid4

import orjson
import trio
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ValidationError
from sqlalchemy.exc import DataError, IntegrityError, OperationalError
from sqlalchemy.orm import Session

from controller import logs
from controller.caller import Caller
from controller.context import Context
from controller.v3 import bodies
from controller.v3.call import Call, Reply
from controller.v3.errors import ApiError, bad_query, insufficient_scope, not_authenticated, unprocessable
from controller.v3.listing import check_include, unknown_parameters
from controller.v3.openapi import operations
from controller.v3.openapi.operations import Parameters

JOB_PATIENCE: Final = 1.0
"""How long an answer waits for the job that it began, seconds: most are over by then, and clients poll slowly."""
_ANONYMOUS: Final = Caller("", "", "", "", True, frozenset())

_log = logging.getLogger("controller.api")

Endpoint = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Declared:
    """What an endpoint says of itself."""

    work: Endpoint
    method: str
    path: str
    status: int
    listing: Parameters | None
    query: tuple[str, ...]
    includes: tuple[str, ...]
    anonymous: bool
    audited: bool
    """Whether reading it leaves an audit event."""
    scope: str
    """One that is enough for this endpoint alone; empty: none is."""
    body: type[BaseModel] | None
    content: str
    """Of what media type its raw content is, if it takes that instead of a body."""
    content_bytes: int
    """More of it is not read."""
    produces: str
    summary: str


class Api:
    """Collects endpoints. One per module; the application takes in their routers."""

    def __init__(self, tag: str) -> None:
        self.router = APIRouter(tags=[tag])

    def get(self, path: str, **options: Any) -> Callable[[Endpoint], Endpoint]:
        return self._route("GET", path, 200, **options)

    def post(self, path: str, status: int = 201, **options: Any) -> Callable[[Endpoint], Endpoint]:
        return self._route("POST", path, status, **options)

    def patch(self, path: str, status: int = 200, **options: Any) -> Callable[[Endpoint], Endpoint]:
        return self._route("PATCH", path, status, **options)

    def put(self, path: str, status: int = 200, **options: Any) -> Callable[[Endpoint], Endpoint]:
        return self._route("PUT", path, status, **options)

    def delete(self, path: str, status: int = 204, **options: Any) -> Callable[[Endpoint], Endpoint]:
        return self._route("DELETE", path, status, **options)

    def _route(
        self,
        method: str,
        path: str,
        status: int,
        *,
        listing: Parameters | None = None,
        query: tuple[str, ...] = (),
        includes: tuple[str, ...] = (),
        anonymous: bool = False,
        audited: bool = False,
        scope: str = "",
        content: str = "",
        content_bytes: int = bodies.MAX_JSON_BYTES,
        produces: str = "application/json",
    ) -> Callable[[Endpoint], Endpoint]:
        """``listing``: the parameters are those of this list; else ``query`` names them and ``includes`` what
        ``include`` may be. ``anonymous``: no token is needed. ``audited``: a GET that records who
        reads. ``scope``: a token with it needs no other. ``content``:
        the endpoint takes bytes of this media type (`content_bytes` and one more at most: it says itself what is too
        long). A body of more is refused."""

        def declare(work: Endpoint) -> Endpoint:
            hints = inspect.get_annotations(work, eval_str=True)
            body = hints.get("body")
            declared = Declared(
                work,
                method,
                path,
                status,
                listing,
                query,
                includes,
                anonymous,
                audited,
                scope,
                body,
                content,
                content_bytes,
                produces,
                (work.__doc__ or "").strip(),
            )

            async def handle(request: Request) -> Response:
                return await respond(declared, request)

            self.router.add_api_route(
                path,
                handle,
                methods=[method],
                status_code=status,
                name=work.__name__,
                summary=declared.summary.splitlines()[0] if declared.summary else None,
                response_class=Response,
                openapi_extra=operations.entry(declared),
            )
            return work

        return declare


async def respond(declared: Declared, request: Request) -> Response:
    """The one way from a request to a response."""
    context: Context = request.app.state.context
    request_id = request_id_of(request.headers)
    try:
        raw = await _read(request, declared)
        authorization = request.headers.get("authorization", "")
        reply, call = await trio.to_thread.run_sync(
            _run, context, declared, request, authorization, raw, limiter=context.threads
        )
        if call.routes_changed:
            context.routes_changed()
        if call.jobs:
            await context.jobs.began(call.jobs, patience=JOB_PATIENCE)
        headers = {**reply.headers, **_warnings(call.warnings)}
        return answer(reply.status, reply.body, request_id, headers)
    except ApiError as error:
        return refusal(error, request_id)


def _run(context: Context, declared: Declared, request: Request, authorization: str, raw: bytes) -> tuple[Reply, Call]:
    """In a worker thread."""
    try:
        return _answered(context, declared, request, authorization, raw)
    except ApiError:
        raise
    except DataError:
        raise _not_storable(declared) from None
    except IntegrityError as error:
        why = {"rule": str(error.orig).partition("\n")[0]}
        _log.warning("a rule of the database has no text of its own", extra={"data": why})
        raise unprocessable("The request conflicts with what others have done meanwhile; try again") from None
    except OperationalError as error:
        _log.error("database-failed", extra={"data": {"why": str(error.orig).partition("\n")[0]}})
        raise ApiError("ServiceUnavailable", "The database is not available; try again") from None
    except Exception:
        _log.exception("endpoint-failed", extra={"data": {"endpoint": f"{declared.method} {declared.path}"}})
        raise ApiError("UnknownError", "An unknown error occurred.") from None


def _answered(
    context: Context, declared: Declared, request: Request, authorization: str, raw: bytes
) -> tuple[Reply, Call]:
    """Raises ApiError, and whatever goes wrong beyond that."""
    caller = context.tokens.caller(authorization)
    if caller is not None:
        logs.caller_known(caller.guid)
    if caller is None and not declared.anonymous:
        raise not_authenticated()
    if caller is not None and not declared.anonymous and not _scopes_suffice(caller, declared):
        raise insufficient_scope()
    arguments: dict[str, Any] = dict(request.path_params)
    if declared.body is not None:
        try:
            arguments["body"] = declared.body.model_validate(bodies.parse(raw))
        except ValidationError as error:
            raise bodies.problems(error) from None
    elif declared.content:
        arguments["content"] = raw
    query = dict(request.query_params)
    if declared.listing is None:
        _check_query(declared, query)

    def work(session: Session) -> tuple[Reply, Call]:
        call = Call(
            declared.method,
            request.scope["path"],
            query,
            context.settings,
            session,
            caller or _ANONYMOUS,
            request.headers,
        )
        result = declared.work(call, **arguments)
        return (result if isinstance(result, Reply) else Reply(declared.status, result)), call

    reads = declared.method == "GET" and not declared.audited
    return context.database.read(work) if reads else context.database.write(work)


def _not_storable(declared: Declared) -> ApiError:
    """For values that no model refused and the database does: null bytes in text, numbers beyond its own."""
    problem = "a value holds null bytes, or is out of range"
    return bad_query(problem) if declared.method == "GET" else unprocessable(f"The request cannot be stored: {problem}")


def _scopes_suffice(caller: Caller, declared: Declared) -> bool:
    return declared.scope in caller.scopes or caller.may_use(declared.method)


def _check_query(declared: Declared, query: Mapping[str, str]) -> None:
    known = (*declared.query, *(("include",) if declared.includes else ()))
    unknown = [name for name in query if name not in known]
    if unknown:
        raise unknown_parameters(unknown, known)
    check_include(query, declared.includes)


async def _read(request: Request, declared: Declared) -> bytes:
    """Raises ApiError: more than a body may have."""
    if declared.body is None and not declared.content:
        return b""
    raw = bytearray()
    async for part in request.stream():
        raw += part
        if len(raw) > declared.content_bytes:
            if declared.content:
                return bytes(raw[: declared.content_bytes + 1])
            raise unprocessable(f"Request body is larger than {declared.content_bytes} bytes")
    return bytes(raw)


def request_id_of(headers: Mapping[str, str]) -> str:
    """Of the request that is answered here, as its log lines have it."""
    return logs.request_id_here() or new_request_id(headers)


def new_request_id(headers: Mapping[str, str]) -> str:
    """The client's own, if it is one, stays in front (reference 2.6)."""
    given = re.sub(r"[^A-Za-z0-9:._-]", "", headers.get("x-vcap-request-id", ""))[:200]
    return f"{given}::{uuid4()}" if given else str(uuid4())


def answer(status: int, body: Any, request_id: str, headers: Mapping[str, str]) -> Response:
    """JSON, text for what is text already, or nothing."""
    content = b"" if body is None else body if isinstance(body, bytes) else orjson.dumps(body)
    kind = {} if body is None or "content-type" in headers else {"content-type": "application/json; charset=utf-8"}
    more = {"X-Vcap-Request-Id": request_id, "X-Content-Type-Options": "nosniff"}
    return Response(content, status, {**kind, **headers, **more})


def refusal(error: ApiError, request_id: str) -> Response:
    return answer(error.status, {"errors": error.objects}, request_id, {})


def _warnings(warnings: list[str]) -> dict[str, str]:
    return {"X-Cf-Warnings": ",".join(quote(text, safe="") for text in warnings)} if warnings else {}
