"""The embedded UAA as a whole, and what is there when it first starts: its clients, and an admin."""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from controller.caller import AUDIENCE, Caller
from controller.database.base import now
from controller.database.engine import Database
from controller.database.identity import Account, RevokedToken
from controller.uaa import accounts, clients
from controller.uaa.grants import Grants
from controller.uaa.keys import SigningKeys
from controller.uaa.scopes import ADMIN
from controller.uaa.tokens import Issuer, caller_of
from controller.uaa.verified import Verified
from controller.v3.errors import invalid_token

ADMIN_NAME: Final = "admin"
REVOCATIONS_EVERY: Final = 1.0
"""Seconds for which the list of revoked tokens is believed: as long may one still work that was revoked elsewhere."""


class Uaa:
    """Implements `controller.context.Tokens`."""

    def __init__(self, database: Database, url: str) -> None:
        self.database = database
        self.url = url.rstrip("/")
        self.keys = SigningKeys(database)
        self.issuer = Issuer(self.keys, url)
        self.grants = Grants(database, self.issuer)
        self._verified = Verified(self.issuer.claims)
        self._revoked: frozenset[str] = frozenset()
        self._revoked_at = -REVOCATIONS_EVERY
        self._lock = threading.Lock()

    def claims(self, token: str) -> Mapping[str, Any]:
        """Of a token that is valid now and was not revoked. Raises ApiError (InvalidAuthToken)."""
        claims = self._verified.claims(token)
        if claims.get("jti") in self._revocations():
            raise invalid_token()
        return claims

    def caller(self, authorization: str, *, audience: str | None = AUDIENCE) -> Caller | None:
        """Who an Authorization header speaks for; None for an empty one. ``audience``: whom the token must be for, if
        that matters. Raises ApiError (InvalidAuthToken)."""
        if not authorization.strip():
            return None
        scheme, _, token = authorization.strip().partition(" ")
        if scheme.lower() != "bearer":
            raise invalid_token()
        claims = self.claims(token.strip())
        if audience is not None and audience not in claims.get("aud", ()):
            raise invalid_token()
        return caller_of(claims)

    def _revocations(self) -> frozenset[str]:
        with self._lock:
            if time.monotonic() - self._revoked_at >= REVOCATIONS_EVERY:
                statement = select(RevokedToken.jti).where(RevokedToken.expires_at > now())
                self._revoked = self.database.read(lambda session: frozenset(session.scalars(statement)))
                self._revoked_at = time.monotonic()
            return self._revoked

    def prepare(self, folder: Path) -> Path | None:
        """Make what must be there. Returns the file with the first admin's password if one was made just now."""
        made: list[Path] = []

        def work(session: Session) -> None:
            clients.plant(session)
            session.execute(delete(RevokedToken).where(RevokedToken.expires_at < now()))
            if session.scalars(select(Account.id).limit(1)).first() is None:
                password = secrets.token_urlsafe(18)
                accounts.create(session, ADMIN_NAME, password, ADMIN)
                made.append(_written(folder / "admin-password", password))

        self.database.write(work)
        self.keys.load()
        return made[0] if made else None


def _written(path: Path, password: str) -> Path:
    """To a file that only its owner reads."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(password + "\n")
    return path
