"""Opens the database that a URL names, and runs transactions on it: SQLite in WAL mode, or PostgreSQL.

A transaction that writes says so before it begins. On SQLite it then takes the write lock at once, so that two writers
queue instead of failing halfway; on PostgreSQL it is repeated when the server asks for that (serialization, deadlock).
"""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import Session

BUSY_SECONDS: Final = 30
"""How long a writer waits for another one on SQLite."""
ATTEMPTS: Final = 5
_REPEATABLE: Final = frozenset(("40001", "40P01"))
"""SQLSTATE of serialization failures and deadlocks: the whole transaction is to be run again."""
_WRITES: Final = "writes"

Result = TypeVar("Result")


class BadDatabaseUrl(ValueError):
    """The message says what is wrong and what would be right."""


class Database:
    """One pool of connections. Safe for use from many threads."""

    def __init__(self, url: str, *, pool_size: int = 10) -> None:
        """``sqlite:///path`` or ``postgresql://user:password@host/name``. Raises BadDatabaseUrl; opens nothing yet."""
        self.engine = _engine(url, pool_size)
        self.is_sqlite = self.engine.dialect.name == "sqlite"

    def read(self, work: Callable[[Session], Result]) -> Result:
        """Run ``work`` in a transaction that changes nothing."""
        with Session(self.engine, expire_on_commit=False) as session:
            return work(session)

    def write(self, work: Callable[[Session], Result]) -> Result:
        """Run ``work`` in a transaction that is committed when it returns, and rolled back when it raises.

        It may run more than once: it must do nothing outside the database.
        """
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with Session(self.engine, expire_on_commit=False) as session:
                    session.connection(execution_options={_WRITES: True})
                    result = work(session)
                    session.commit()
                    return result
            except DBAPIError as error:
                if attempt == ATTEMPTS or getattr(error.orig, "sqlstate", None) not in _REPEATABLE:
                    raise
            time.sleep(random.uniform(0, 0.02 * 2**attempt))
        raise AssertionError("the last attempt returns or raises")

    def answers(self) -> bool:
        """Whether the database can be asked now."""
        try:
            with self.engine.connect() as connection:
                connection.execute(text("SELECT 1"))
        except OperationalError:
            return False
        return True

    def close(self) -> None:
        self.engine.dispose()


def _engine(url: str, pool_size: int) -> Engine:
    try:
        parsed = make_url(url)
    except Exception as error:
        raise BadDatabaseUrl(f"database {url!r} is no URL such as sqlite:///controller.db") from error
    match parsed.get_backend_name():
        case "sqlite":
            if not parsed.database:
                raise BadDatabaseUrl("database sqlite:// names no file: write sqlite:///path/of/controller.db")
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
            engine = create_engine(
                parsed.set(drivername="sqlite+pysqlite"),
                connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False},
                pool_size=pool_size,
                max_overflow=0,
            )
            event.listen(engine, "connect", _prepare_sqlite)
            event.listen(engine, "begin", _begin_sqlite)
            return engine
        case "postgresql":
            return create_engine(
                parsed.set(drivername="postgresql+psycopg"),
                pool_size=pool_size,
                max_overflow=0,
                pool_pre_ping=True,
                connect_args={"connect_timeout": 5},
            )
    raise BadDatabaseUrl(f"database {parsed.drivername}:// is not supported: use sqlite:/// or postgresql://")


def _prepare_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    connection.isolation_level = None  # transactions begin where ``_begin_sqlite`` says
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get(_WRITES) else "BEGIN")
