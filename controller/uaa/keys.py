"""The keys that sign tokens: RSA, made on first use, kept sealed in the database, published as a key set.

A key that was retired stays for as long as a token of its own may be about. Another controller, or the command
``rotate-signing-key``, may add one at any time: keys are read again when some seconds have passed, or when a token
names one that is not known, and for that not more often than once a second, whatever tokens people make up.
"""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from typing import Any, Final
from uuid import uuid4

from joserfc.jwk import RSAKey
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from controller.database.base import now
from controller.database.engine import Database
from controller.database.identity import SigningKey

BITS: Final = 2048
KEPT_AFTER_RETIREMENT: Final = timedelta(days=2)
"""Longer than any access token lives, which is a day at most."""
READ_AGAIN_SECONDS: Final = 5.0
_UNKNOWN_SECONDS: Final = 1.0


class SigningKeys:
    """Safe for use from many threads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._keys: dict[str, RSAKey] = {}
        self._current = ""
        self._read_at = self._missed_at = float("-inf")
        self._lock = threading.Lock()

    def current(self) -> RSAKey:
        """The key that signs; the first controller that asks makes it."""
        if time.monotonic() - self._read_at >= READ_AGAIN_SECONDS:
            self.load()
        return self._keys[self._current]

    def find(self, kid: str) -> RSAKey | None:
        """The key of that name, if it is or was one of ours."""
        if kid not in self._keys and time.monotonic() - self._missed_at >= _UNKNOWN_SECONDS:
            self._missed_at = time.monotonic()
            self.load()
        return self._keys.get(kid)

    def published(self) -> dict[str, Any]:
        """As GET /token_keys shows them: public halves only, the one that signs last."""
        self.current()
        keys = [key.as_dict(private=False) | {"use": "sig", "alg": "RS256"} for key in self._keys.values()]
        return {"keys": keys}

    def rotate(self) -> str:
        """From now on a new key signs, whose name is returned; tokens of the old ones stay good until their end."""
        self._database.write(_add)
        self.load()
        return self._current

    def load(self) -> None:
        """Read them; who comes while somebody else does waits for him."""
        asked_at = time.monotonic()
        with self._lock:
            if self._read_at > asked_at:
                return
            began_at = time.monotonic()
            rows = self._database.read(_rows) or self._database.write(_first)
            self._keys = {row.kid: self._keys.get(row.kid) or _imported(row) for row in rows}
            self._current = next(row.kid for row in reversed(rows) if row.retired_at is None)
            self._read_at = began_at


def _imported(row: SigningKey) -> RSAKey:
    return RSAKey.import_key(row.private_pem, {"kid": row.kid})


def _rows(session: Session) -> list[SigningKey]:
    return list(session.scalars(select(SigningKey).order_by(SigningKey.id)))


def _first(session: Session) -> list[SigningKey]:
    """Another controller may have been quicker."""
    return _rows(session) or [_add(session)]


def _add(session: Session) -> SigningKey:
    moment = now()
    session.execute(delete(SigningKey).where(SigningKey.retired_at < moment - KEPT_AFTER_RETIREMENT))
    for row in session.scalars(select(SigningKey).where(SigningKey.retired_at.is_(None))):
        row.retired_at = moment
    key = RSAKey.generate_key(BITS, private=True)
    row = SigningKey(kid=f"key-{uuid4()}", private_pem=key.as_pem(private=True).decode(), created_at=moment)
    session.add(row)
    session.flush()
    return row
