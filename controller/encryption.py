"""Which keys a controller holds, and whether they are those that its database was sealed with.

A database remembers the keys that sealed anything in it, each by a value of its own that only this key opens
(reference 5: encryption_key_sentinels). A controller with another key, or without one, says so and starts nothing:
otherwise it would serve for hours before the first secret that it cannot read.
"""

from __future__ import annotations

import base64
import binascii
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from controller.database import migrations
from controller.database.bookkeeping import EncryptionKeySentinel
from controller.database.engine import BadDatabaseUrl, Database
from controller.database.secrets import KEY_BYTES, KEYS, CannotUnseal
from controller.settings import Settings, SettingsError

OWN_KEY: Final = "local"
"""The name of a key of our own making."""
_KEY_FILE: Final = "encryption.key"
_KNOWN: Final = b"this key sealed something here"


@contextmanager
def opened(settings: Settings) -> Iterator[Database]:
    """The database that settings name, at the newest schema, with its keys held. Raises SettingsError."""
    settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        database = Database(settings.database_url, pool_size=settings.database_connections)
    except BadDatabaseUrl as error:
        raise SettingsError(str(error)) from None
    try:
        migrations.upgrade(database)
        hold(settings, database)
        yield database
    finally:
        database.close()


def hold(settings: Settings, database: Database) -> None:
    """From now on this process seals and opens with the keys of the settings. Raises SettingsError: another's keys."""
    try:
        KEYS.hold(_given(settings) or {OWN_KEY: _own(settings.data / _KEY_FILE, database)})
    except ValueError as error:
        raise SettingsError(f"encryption_keys: {error}") from None
    problems = database.read(lambda session: _problems(session, settings.data / _KEY_FILE))
    if problems:
        raise SettingsError("\n".join(problems))
    try:
        database.write(_remember)
    except IntegrityError:  # another controller was quicker, perhaps with another key
        hold(settings, database)


def forget_others(session: Session) -> None:
    """Nothing is sealed any more with any key but the one that seals now."""
    session.execute(delete(EncryptionKeySentinel).where(EncryptionKeySentinel.name != KEYS.current.decode()))


def _given(settings: Settings) -> dict[str, bytes]:
    """Raises ValueError."""
    found = {}
    for name, key in settings.encryption_keys.items():
        try:
            found[name] = base64.b64decode(key.get_secret_value(), validate=True)
        except binascii.Error:
            raise ValueError(f"encryption key {name!r} is not base64: make one by openssl rand -base64 32") from None
    return found


def _own(path: Path, database: Database) -> bytes:
    """Made with a new database, readable by its owner alone. Raises SettingsError: the database is older than it."""
    if path.exists():
        return path.read_bytes()
    names = database.read(_names)
    if names:
        raise SettingsError(
            f"the database was sealed with the encryption key {names[0]!r}, and {path} is not there: put it back from "
            "a backup, or name the key in encryption_keys"
        )
    key = secrets.token_bytes(KEY_BYTES)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_bytes()
    with os.fdopen(descriptor, "wb") as file:
        file.write(key)
        os.fsync(file.fileno())
    return key


def _names(session: Session) -> list[str]:
    return list(session.scalars(select(EncryptionKeySentinel.name).order_by(EncryptionKeySentinel.id)))


def _problems(session: Session, own: Path) -> list[str]:
    """Why these keys are not those of the database."""
    found = []
    for row in session.scalars(select(EncryptionKeySentinel)):
        try:
            KEYS.unseal(row.sealed)
        except CannotUnseal:
            where = f"it is in {own}, as 32 bytes" if row.name == OWN_KEY and own.exists() else "it is needed"
            found.append(
                f"encryption key {row.name!r} is not the one that sealed this database: its name is there, its bytes "
                "are others"
                if row.name.encode() in KEYS.names
                else f"encryption_keys lacks the key {row.name!r}, which values in the database are sealed with: "
                f"{where} until `millrace controller rotate-keys` has sealed them anew"
            )
    return found


def _remember(session: Session) -> None:
    name = KEYS.current.decode()
    if name not in _names(session):
        session.add(EncryptionKeySentinel(name=name, sealed=KEYS.seal(_KNOWN)))
