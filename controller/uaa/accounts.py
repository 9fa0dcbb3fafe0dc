"""Accounts: logging in with a password, and being locked out after guessing (reference 1.1).

Five wrong passwords in a row lock an account for five minutes; the right one starts anew. What a failed login writes is
committed before its refusal is told, so that guessing fast does not help.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from functools import partial
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
    """Whose name and password these are. Raises UaaError: nobody's, or an account that is locked.

    The password is checked between two transactions, as that takes its time by design, and others have to write. What
    counts is how the account is then: of many guesses at a time, none that ends after the lock is told apart from it.
    """
    while True:
        seen = database.read(lambda session: find(session, username))
        if seen is not None and _is_locked(seen):
            raise locked()
        right = passwords.matches(password, seen.password_hash if seen is not None and seen.active else None)
        if seen is None:
            raise bad_credentials()
        if not right:
            raise database.write(partial(_guessed, seen.guid))
        outcome = _entered(database, seen, password)
        if isinstance(outcome, UaaError):
            raise outcome
        if outcome is not None:
            return outcome


def _entered(database: Database, seen: Account, password: str) -> Account | UaaError | None:
    """With the right password of an account as it was seen; None: it has another one since. Writes only what is new."""
    known = seen.password_hash or ""
    better = passwords.hashed(password) if passwords.is_outdated(known) else known
    if better == known and not seen.failed_logins and seen.locked_until is None:
        return database.read(partial(_still, seen.guid, known))

    def work(session: Session) -> Account | UaaError | None:
        account = _still(seen.guid, known, session)
        if isinstance(account, Account):
            account.failed_logins, account.locked_until, account.password_hash = 0, None, better
        return account

    return database.write(work)


def _still(guid: str, known: str, session: Session) -> Account | UaaError | None:
    """The account, if it may be entered with the password behind ``known``; None: it has another one."""
    account = session.scalars(select(Account).where(Account.guid == guid).with_for_update()).one_or_none()
    if account is None or not account.active:
        return bad_credentials()
    if _is_locked(account):
        return locked()
    return account if account.password_hash == known else None


def _guessed(guid: str, session: Session) -> UaaError:
    """A wrong password: counted, and refused."""
    account = session.scalars(select(Account).where(Account.guid == guid).with_for_update()).one_or_none()
    if account is None:
        return bad_credentials()
    if _is_locked(account):
        return locked()
    account.failed_logins += 1
    if account.failed_logins >= MAX_FAILURES:
        account.failed_logins, account.locked_until = 0, now() + LOCKED_FOR
    return bad_credentials()


def _is_locked(account: Account) -> bool:
    return account.locked_until is not None and account.locked_until > now()


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
