"""The UAA's HTTP face (reference 1.1): logins, tokens, keys, accounts and clients.

Its conventions are its own: forms in, OAuth's errors out. Paths do not meet those of the V3 API, so that both may live
at one address or at two.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

import orjson
import trio
from fastapi import APIRouter, Request, Response
from sqlalchemy import select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from controller import logs
from controller.context import Context
from controller.database.identity import Client, RefreshToken, RevokedToken
from controller.uaa import clients, scim
from controller.uaa.errors import UaaError, insufficient_scope, invalid_request, invalid_token
from controller.uaa.service import Uaa
from controller.v3.errors import ApiError

MAX_FORM_BYTES: Final = 64 * 1024
VERSION: Final = "77.20.0"
"""The version of the UAA whose calls are answered here."""

router = APIRouter(tags=["UAA"], include_in_schema=False)
"""Not in the API's document: what is spoken here is OAuth 2 and SCIM."""

_log = logging.getLogger("controller.uaa")


def json(status: int, body: Any, **headers: str) -> Response:
    more = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", **headers}
    return Response(orjson.dumps(body), status, more, media_type="application/json")


def refused(error: UaaError) -> Response:
    return json(error.status, {"error": error.error, "error_description": error.description})


async def _in_thread(request: Request, work: Callable[[Uaa], Response]) -> Response:
    """Run it where it may wait for the database and for Argon2."""
    context: Context = request.app.state.context
    uaa: Uaa = request.app.state.uaa
    try:
        return await trio.to_thread.run_sync(work, uaa, limiter=context.threads)
    except UaaError as error:
        return refused(error)
    except OperationalError as error:
        _log.error("database-failed", extra={"data": {"why": str(error.orig).partition("\n")[0]}})
        return refused(UaaError(503, "server_error", "The database is not available; try again"))
    except Exception:
        _log.exception("endpoint-failed", extra={"data": {"endpoint": f"{request.method} {request.url.path}"}})
        return refused(UaaError(500, "server_error", "An unknown error occurred."))


async def body_of(request: Request) -> bytes:
    """Raises UaaError: too much."""
    raw = bytearray()
    async for part in request.stream():
        raw += part
        if len(raw) > MAX_FORM_BYTES:
            raise UaaError(413, "invalid_request", f"The body is longer than {MAX_FORM_BYTES} bytes")
    return bytes(raw)


async def _form(request: Request) -> Mapping[str, str]:
    """Fields of a form; where the query has some, too, the form's count."""
    raw = (await body_of(request)).decode("utf-8", "replace")
    return {**request.query_params, **dict(parse_qsl(raw, keep_blank_values=True, max_num_fields=64))}


# Who is there ---------------------------------------------------------------------------------------------------------


@router.get("/login")
@router.get("/info")
async def get_login(request: Request) -> Response:
    """What clients ask for before they log in."""
    uaa: Uaa = request.app.state.uaa
    return json(
        200,
        {
            "app": {"version": VERSION},
            "links": {"uaa": uaa.url, "login": uaa.url, "passwd": f"{uaa.url}/forgot_password"},
            "zone_name": "uaa",
            "entityID": uaa.url,
            "prompts": {
                "username": ["text", "Email"],
                "password": ["password", "Password"],
            },
            "timestamp": "",
        },
    )


@router.get("/.well-known/openid-configuration")
async def get_configuration(request: Request) -> Response:
    """For whoever checks tokens by themselves (OpenID Connect Discovery)."""
    uaa: Uaa = request.app.state.uaa
    return json(
        200,
        {
            "issuer": uaa.issuer.name,
            "authorization_endpoint": f"{uaa.url}/oauth/authorize",
            "token_endpoint": f"{uaa.url}/oauth/token",
            "jwks_uri": f"{uaa.url}/token_keys",
            "userinfo_endpoint": f"{uaa.url}/userinfo",
            "id_token_signing_alg_values_supported": ["RS256"],
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
        },
    )


@router.get("/token_keys")
async def get_token_keys(request: Request) -> Response:
    """The keys that tokens can be checked with."""
    return await _in_thread(request, lambda uaa: json(200, uaa.keys.published()))


@router.get("/token_key")
async def get_token_key(request: Request) -> Response:
    """The one that signs now."""
    return await _in_thread(request, lambda uaa: json(200, uaa.keys.published()["keys"][-1]))


# Tokens ---------------------------------------------------------------------------------------------------------------


@router.post("/oauth/token")
async def post_token(request: Request) -> Response:
    """A token, for one of the grants."""
    try:
        form = await _form(request)
    except UaaError as error:
        return refused(error)
    authorization = request.headers.get("authorization", "")

    def work(uaa: Uaa) -> Response:
        name, secret = clients.credentials(authorization, form)
        client = uaa.database.read(lambda session: clients.authenticated(session, name, secret))
        return json(200, uaa.grants.answer(client, form))

    return await _in_thread(request, work)


@router.delete("/oauth/token/revoke/{token_id}")
async def revoke(request: Request, token_id: str) -> Response:
    """End a token of one's own before its time, and the refresh tokens that came with it."""

    def work(uaa: Uaa) -> Response:
        claims = claims_of(uaa, request)
        if claims["jti"] != token_id:
            require(claims, "uaa.admin")
        uaa.database.write(lambda session: _revoke(session, token_id, claims))
        return json(200, {})

    return await _in_thread(request, work)


def _revoke(session: Session, token_id: str, claims: Mapping[str, Any]) -> None:
    if session.scalars(select(RevokedToken).where(RevokedToken.jti == token_id)).first() is None:
        session.add(RevokedToken(jti=token_id, expires_at=datetime.fromtimestamp(int(claims["exp"]), UTC)))
    user = claims.get("user_id")
    for token in session.scalars(select(RefreshToken).where(RefreshToken.account_guid == user)):
        session.delete(token)


@router.get("/oauth/authorize")
async def authorize(request: Request) -> Response:
    """A one-time code for who shows a token already, as ``cf ssh-code`` wants it."""

    def work(uaa: Uaa) -> Response:
        claims = claims_of(uaa, request)
        query = request.query_params
        if query.get("response_type") != "code" or "user_id" not in claims:
            raise invalid_request("response_type must be code, for a user")
        name = query.get("client_id", "")
        client = uaa.database.read(
            lambda session: session.scalars(select(Client).where(Client.name == name)).one_or_none()
        )
        if client is None or "authorization_code" not in client.grant_types:
            raise UaaError(400, "invalid_client", f"No client with requested id: {name}")
        target = query.get("redirect_uri") or next(iter(client.redirect_uris), f"{uaa.url}/login")
        if "redirect_uri" in query and target not in client.redirect_uris:
            raise invalid_request("Invalid redirect: it is none of the client's")
        scopes = frozenset(claims["scope"]) & frozenset(client.scopes)
        code = uaa.grants.code_for(client.name, claims["user_id"], scopes)
        return Response(status_code=302, headers={"Location": f"{target}?{urlencode({'code': code})}"})

    return await _in_thread(request, work)


@router.get("/userinfo")
async def get_userinfo(request: Request) -> Response:
    """Who one is."""

    def work(uaa: Uaa) -> Response:
        claims = claims_of(uaa, request)
        names = ("user_id", "sub", "user_name", "email", "origin")
        return json(200, {name: claims[name] for name in names if name in claims})

    return await _in_thread(request, work)


def claims_of(uaa: Uaa, request: Request) -> Mapping[str, Any]:
    """Of the token that a request shows. Raises UaaError."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise UaaError(401, "unauthorized", "Full authentication is required to access this resource")
    try:
        claims = uaa.claims(token.strip())
    except ApiError:
        raise invalid_token("The token expired, was revoked, or is not one of ours") from None
    logs.caller_known(str(claims.get("user_id") or claims.get("client_id") or ""))
    return claims


def require(claims: Mapping[str, Any], *scopes: str) -> None:
    """One of them. Raises UaaError."""
    if frozenset(scopes).isdisjoint(claims.get("scope", ())):
        raise insufficient_scope(" or ".join(scopes))


# Accounts and clients -------------------------------------------------------------------------------------------------


async def _json_body(request: Request) -> Any:
    """Raises UaaError."""
    raw = await body_of(request)
    try:
        body = orjson.loads(raw or b"{}")
    except orjson.JSONDecodeError:
        body = None
    if not isinstance(body, dict):
        raise UaaError(400, "invalid_request", "The body is not a JSON object")
    return body


async def _managing(
    request: Request,
    scopes: tuple[str, ...],
    work: Callable[[Session, Any], tuple[int, Any]],
    *,
    own: str = "",
    knowing: str = "",
) -> Response:
    """Work on accounts or clients for who has one of ``scopes``, or is the user ``own``; with ``knowing`` only if the
    body has that field."""
    try:
        body = await _json_body(request) if request.method in ("POST", "PUT") else None
    except UaaError as error:
        return refused(error)

    def answer(uaa: Uaa) -> Response:
        claims = claims_of(uaa, request)
        if not own or claims.get("user_id") != own or (knowing and knowing not in (body or {})):
            require(claims, *scopes)
        run = uaa.database.read if request.method == "GET" else uaa.database.write
        status, shown = run(lambda session: work(session, body))
        return json(status, shown)

    return await _in_thread(request, answer)


_READ: Final = ("scim.read", "scim.write", "uaa.admin")
_WRITE: Final = ("scim.write", "uaa.admin")


@router.get("/Users")
async def list_accounts(request: Request) -> Response:
    """Accounts, by a filter of SCIM's."""
    query = request.query_params
    return await _managing(request, _READ, lambda session, _: (200, scim.listed(session, query)))


@router.post("/Users")
async def create_account(request: Request) -> Response:
    """A new account."""
    return await _managing(request, _WRITE, lambda session, body: (201, scim.created(session, body)))


@router.get("/Users/{guid}")
async def get_account(request: Request, guid: str) -> Response:
    """One account."""
    return await _managing(request, _READ, lambda session, _: (200, scim.shown(scim.found(session, guid))), own=guid)


@router.put("/Users/{guid}")
async def update_account(request: Request, guid: str) -> Response:
    """Change an account."""
    return await _managing(request, _WRITE, lambda session, body: (200, scim.updated(session, guid, body)))


@router.delete("/Users/{guid}")
async def delete_account(request: Request, guid: str) -> Response:
    """Delete an account."""
    return await _managing(request, _WRITE, lambda session, _: (200, scim.deleted(session, guid)))


@router.put("/Users/{guid}/password")
async def set_password(request: Request, guid: str) -> Response:
    """A new password: one's own with the old one beside it, anybody's with the right to."""
    return await _managing(
        request,
        ("uaa.admin",),
        lambda session, body: (200, scim.password_set(session, guid, body)),
        own=guid,
        knowing="oldPassword",
    )


@router.get("/oauth/clients/{name}")
async def get_client(request: Request, name: str) -> Response:
    """One client."""
    scopes = ("clients.read", "clients.write", "uaa.admin")
    return await _managing(request, scopes, lambda session, _: (200, scim.client_shown(session, name)))


@router.post("/oauth/clients")
async def create_client(request: Request) -> Response:
    """A new client."""
    return await _managing(
        request, ("clients.write", "uaa.admin"), lambda session, body: (201, scim.client_created(session, body))
    )


@router.delete("/oauth/clients/{name}")
async def delete_client(request: Request, name: str) -> Response:
    """Delete a client."""
    return await _managing(
        request, ("clients.write", "uaa.admin"), lambda session, _: (200, scim.client_deleted(session, name))
    )
