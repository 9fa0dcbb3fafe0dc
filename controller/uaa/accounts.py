"""Accounts: logging in with a password, and being locked out after guessing (reference 1.1).

Five wrong passwords in a row lock an account for five minutes; the right one starts anew. What a failed login writes is
committed before its refusal is told, so that guessing fast does not help.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from controller.database.base import now
from controller.database.engine import Database
from controller.database.identity import Account
from controller.uaa import passwords
from controller.uaa.errors import UaaError, bad_credentials, locked

MAX_FAILURES: Final = 5
LOCKED_FOR: Final = timedelta(minutes=5)
UAA: Final = "uaa"


def find(session: Session, username: str, origin: str = UAA) -> Account | None:
    """Without regard to case."""
    statement = select(Account).where(Account.username == username.lower(), Account.origin == origin)
    return session.scalars(statement).one_or_none()


def log_in(database: Database, username: str, password: str) -> Account:
    """Whose name and password these are. Raises UaaError: nobody's, or an account that is locked."""

    def work(session: Session) -> Account | UaaError:
        found = find(session, username)
        if found is not None and found.locked_until is not None and found.locked_until > now():
            return locked()
        known = found.password_hash if found is not None and found.active else None
        if not passwords.matches(password, known) or found is None:
            if found is not None:
                _failed(found)
            return bad_credentials()
        found.failed_logins, found.locked_until = 0, None
        if known is not None and passwords.is_outdated(known):
            found.password_hash = passwords.hashed(password)
        return found

    outcome = database.write(work)
    if isinstance(outcome, UaaError):
        raise outcome
    return outcome


def _failed(account: Account) -> None:
    account.failed_logins += 1
    if account.failed_logins >= MAX_FAILURES:
        account.failed_logins, account.locked_until = 0, now() + LOCKED_FOR


def create(
    session: Session, username: str, password: str | None, scopes: Iterable[str] = (), *, origin: str = UAA
) -> Account:
    """A new account. The caller has made sure that the name is free."""
    account = Account(
        username=username.lower(),
        origin=origin,
        email=username if "@" in username else None,
        password_hash=passwords.hashed(password) if password is not None else None,
        scopes=sorted(scopes),
        failed_logins=0,
    )
    session.add(account)
    session.flush()
    return account


def set_password(account: Account, password: str) -> None:
    """All tokens from before are void."""
    account.password_hash = passwords.hashed(password)
    account.tokens_from = now()
    account.failed_logins, account.locked_until = 0, None
