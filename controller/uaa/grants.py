"""Token grants (RFC 6749 sections 4 and 6): password, refresh, client credentials, authorization code.

Refresh tokens rotate: each use gives the next one of its chain. Who uses one a second time has got it from somebody,
and the whole chain ends (RFC 9700 section 4.14.2). In the database stand digests only.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import uuid4

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from controller.database.base import now
from controller.database.engine import Database
from controller.database.identity import Account, AuthorizationCode, Client, RefreshToken
from controller.uaa import accounts
from controller.uaa.errors import UaaError, invalid_grant, invalid_request
from controller.uaa.scopes import EVERYBODY, granted
from controller.uaa.tokens import Issuer

CODE_SECONDS: Final = 300
REUSE_GRACE: Final = timedelta(seconds=10)
"""A client whose answer got lost may ask once more."""


@dataclass(frozen=True)
class Grants:
    database: Database
    issuer: Issuer

    def answer(self, client: Client, form: Mapping[str, str]) -> dict[str, Any]:
        """The body of a token response. Raises UaaError."""
        kind = form.get("grant_type", "")
        if not kind:
            raise invalid_request("Missing grant type")
        if kind not in client.grant_types:
            raise UaaError(401, "invalid_client", f"Unauthorized grant type: {kind}")
        match kind:
            case "password":
                return self._password(client, form)
            case "refresh_token":
                return self._refresh(client, form)
            case "client_credentials":
                return self._client_credentials(client, form)
            case "authorization_code":
                return self._code(client, form)
        raise UaaError(400, "unsupported_grant_type", f"Unsupported grant type: {kind}")

    def _password(self, client: Client, form: Mapping[str, str]) -> dict[str, Any]:
        username, password = form.get("username", ""), form.get("password", "")
        if not username or not password:
            raise invalid_request("Both username and password are needed")
        account = accounts.log_in(self.database, username, password)
        scopes = granted((*EVERYBODY, *account.scopes), client.scopes, form.get("scope", ""))
        return self._for_user(client, account, scopes, "password", str(uuid4()))

    def _client_credentials(self, client: Client, form: Mapping[str, str]) -> dict[str, Any]:
        scopes = granted(client.authorities, client.authorities, form.get("scope", ""))
        claims = {"client_id": client.name, "sub": client.name, "grant_type": "client_credentials"}
        token, token_id = self.issuer.issue(claims, scopes, client.access_token_seconds)
        return _body(token, token_id, scopes, client.access_token_seconds, None)

    def _code(self, client: Client, form: Mapping[str, str]) -> dict[str, Any]:
        def work(session: Session) -> tuple[Account, frozenset[str]]:
            digest = _digest(form.get("code", ""))
            code = session.scalars(select(AuthorizationCode).where(AuthorizationCode.digest == digest)).one_or_none()
            if code is None or code.client_name != client.name or code.expires_at < now():
                raise invalid_grant("Invalid authorization code")
            session.delete(code)
            account = session.scalars(select(Account).where(Account.guid == code.account_guid)).one_or_none()
            if account is None or not account.active:
                raise invalid_grant("Invalid authorization code")
            return account, frozenset(code.scopes)

        account, scopes = self.database.write(work)
        return self._for_user(client, account, scopes, "authorization_code", str(uuid4()))

    def _refresh(self, client: Client, form: Mapping[str, str]) -> dict[str, Any]:
        def work(session: Session) -> tuple[Account, RefreshToken] | UaaError:
            digest = _digest(form.get("refresh_token", ""))
            token = session.scalars(
                select(RefreshToken).where(RefreshToken.digest == digest).with_for_update()
            ).one_or_none()
            refused = UaaError(401, "invalid_token", "The token expired, was revoked, or the token ID is incorrect.")
            if token is None or token.client_name != client.name or token.expires_at < now():
                return refused
            if token.used_at is not None and token.used_at + REUSE_GRACE < now():
                session.execute(delete(RefreshToken).where(RefreshToken.chain == token.chain))
                return refused
            account = session.scalars(select(Account).where(Account.guid == token.account_guid)).one_or_none()
            if account is None or not account.active or _void(account, token):
                return refused
            token.used_at = token.used_at or now()
            return account, token

        outcome = self.database.write(work)
        if isinstance(outcome, UaaError):
            raise outcome
        account, token = outcome
        scopes = granted((*EVERYBODY, *account.scopes), token.scopes, form.get("scope", ""))
        return self._for_user(client, account, scopes, "password", token.chain)

    def _for_user(
        self, client: Client, account: Account, scopes: frozenset[str], grant: str, chain: str
    ) -> dict[str, Any]:
        claims = {
            "client_id": client.name,
            "sub": account.guid,
            "user_id": account.guid,
            "user_name": account.username,
            "email": account.email or account.username,
            "origin": account.origin,
            "grant_type": grant,
            "revocable": False,
        }
        token, token_id = self.issuer.issue(claims, scopes, client.access_token_seconds)
        refresh = None
        if "refresh_token" in client.grant_types:
            refresh = f"{secrets.token_urlsafe(32)}-r"
            self.database.write(lambda session: self._keep(session, client, account, scopes, chain, refresh))
        return _body(token, token_id, scopes, client.access_token_seconds, refresh)

    @staticmethod
    def _keep(
        session: Session, client: Client, account: Account, scopes: Iterable[str], chain: str, refresh: str
    ) -> None:
        session.execute(delete(RefreshToken).where(RefreshToken.expires_at < now()))
        session.add(
            RefreshToken(
                digest=_digest(refresh),
                chain=chain,
                account_guid=account.guid,
                client_name=client.name,
                scopes=sorted(scopes),
                issued_at=now(),
                expires_at=now() + timedelta(seconds=client.refresh_token_seconds),
            )
        )

    def code_for(self, client_name: str, account_guid: str, scopes: Iterable[str]) -> str:
        """A one-time authorization code."""
        code = secrets.token_urlsafe(24)

        def work(session: Session) -> None:
            session.execute(delete(AuthorizationCode).where(AuthorizationCode.expires_at < now()))
            session.add(
                AuthorizationCode(
                    digest=_digest(code),
                    account_guid=account_guid,
                    client_name=client_name,
                    scopes=sorted(scopes),
                    expires_at=now() + timedelta(seconds=CODE_SECONDS),
                )
            )

        self.database.write(work)
        return code


def _void(account: Account, token: RefreshToken) -> bool:
    return account.tokens_from is not None and token.issued_at < account.tokens_from


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _body(token: str, token_id: str, scopes: Iterable[str], seconds: int, refresh: str | None) -> dict[str, Any]:
    body = {
        "access_token": token,
        "token_type": "bearer",
        "expires_in": seconds - 1,
        "scope": " ".join(sorted(scopes)),
        "jti": token_id,
    }
    return {**body, "refresh_token": refresh} if refresh is not None else body
