"""Passwords and secrets, hashed with Argon2id. A check takes as long for a name that nobody has."""

from __future__ import annotations

from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

MAX_CHARACTERS: Final = 1024
"""Longer ones are refused unread: hashing them would only cost time."""

_hasher: Final = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
"""OWASP's second recommendation for Argon2id; about 20 ms."""
_NOBODYS: Final = _hasher.hash("nobody has this password")


def hashed(password: str) -> str:
    return _hasher.hash(password)


def matches(password: str, known: str | None) -> bool:
    """Whether it is the password behind this hash; None is nobody's."""
    if len(password) > MAX_CHARACTERS:
        return False
    try:
        return _hasher.verify(known or _NOBODYS, password) and known is not None
    except (VerificationError, InvalidHashError):
        return False


def is_outdated(known: str) -> bool:
    """Whether the hash was made with less effort than hashes are made now."""
    return _hasher.check_needs_rehash(known)
