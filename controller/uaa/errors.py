"""Errors as a UAA tells them: OAuth's own shape (RFC 6749 section 5.2), which clients take apart by its words."""

from __future__ import annotations

from typing import Final

LOCKED: Final = "Your account has been locked because of too many failed attempts to login."


class UaaError(Exception):
    """``error`` is a word, ``description`` is for people."""

    def __init__(self, status: int, error: str, description: str) -> None:
        super().__init__(description)
        self.status = status
        self.error = error
        self.description = description


def bad_credentials() -> UaaError:
    return UaaError(401, "unauthorized", "Bad credentials")


def locked() -> UaaError:
    return UaaError(401, "unauthorized", LOCKED)


def invalid_client() -> UaaError:
    return UaaError(401, "invalid_client", "Bad client credentials")


def invalid_grant(why: str) -> UaaError:
    return UaaError(400, "invalid_grant", why)


def invalid_request(why: str) -> UaaError:
    return UaaError(400, "invalid_request", why)


def invalid_token(why: str) -> UaaError:
    return UaaError(401, "invalid_token", why)


def insufficient_scope(needed: str) -> UaaError:
    return UaaError(403, "insufficient_scope", f"Insufficient scope for this resource: it needs {needed}")
