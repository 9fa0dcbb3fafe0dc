"""The keys that sign tokens: RSA, made on first use, kept sealed in the database, published as a key set."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final
from uuid import uuid4

from joserfc.jwk import RSAKey
from sqlalchemy import select
from sqlalchemy.orm import Session

from controller.database.base import now
from controller.database.engine import Database
from controller.database.identity import SigningKey

BITS: Final = 2048
KEPT_AFTER_RETIREMENT: Final = timedelta(days=1)
"""Longer than any access token lives."""


class SigningKeys:
    """Read once and kept; another controller's new keys are found when a token names them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._keys: dict[str, RSAKey] = {}
        self._current = ""

    def current(self) -> RSAKey:
        """The key that signs; the first controller that asks makes it."""
        if not self._current:
            self.load()
        return self._keys[self._current]

    def find(self, kid: str) -> RSAKey | None:
        """The key of that name, if it is or was one of ours."""
        if kid not in self._keys:
            self.load()
        return self._keys.get(kid)

    def published(self) -> dict[str, Any]:
        """As GET /token_keys shows them: public halves only."""
        self.current()
        keys = [key.as_dict(private=False) | {"use": "sig", "alg": "RS256"} for key in self._keys.values()]
        return {"keys": keys}

    def rotate(self) -> None:
        """From now on a new key signs; tokens of the old ones stay good until their end."""
        self._database.write(self._add)
        self.load()

    def load(self) -> None:
        rows = self._database.read(self._rows) or self._database.write(self._first)
        self._keys = {row.kid: RSAKey.import_key(row.private_pem, {"kid": row.kid}) for row in rows}
        self._current = next(row.kid for row in reversed(rows) if row.retired_at is None)

    @staticmethod
    def _rows(session: Session) -> list[SigningKey]:
        return list(session.scalars(select(SigningKey).order_by(SigningKey.id)))

    def _first(self, session: Session) -> list[SigningKey]:
        """Another controller may have been quicker."""
        return self._rows(session) or [self._add(session)]

    @staticmethod
    def _add(session: Session) -> SigningKey:
        moment = now()
        for row in session.scalars(select(SigningKey).where(SigningKey.retired_at.is_(None))):
            row.retired_at = moment
        key = RSAKey.generate_key(BITS, private=True)
        row = SigningKey(kid=f"key-{uuid4()}", private_pem=key.as_pem(private=True).decode(), created_at=moment)
        session.add(row)
        session.flush()
        return row
