"""Opens the database that a URL names, and runs transactions on it: SQLite in WAL mode, or PostgreSQL.

A transaction that writes says so before it begins. On SQLite it then takes the write lock at once, so that two writers
queue instead of failing halfway: those of one process at a lock of its own, which wakes the next one at once, where
SQLite would have it look again after a while. On PostgreSQL a transaction is repeated when the server asks for that
(serialization, deadlock), and when the connection was lost before the commit: the server was started anew.
"""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import DBAPIError, InvalidatePoolError, OperationalError
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry

BUSY_SECONDS: Final = 30
"""How long a writer waits for another one on SQLite."""
ATTEMPTS: Final = 5
_REPEATABLE: Final = frozenset(("40001", "40P01"))
"""SQLSTATE of serialization failures and deadlocks: the whole transaction is to be run again."""
_WRITES: Final = "writes"
FRESH_SECONDS: Final = 1.0
"""A connection that was used within this time is not asked whether it is still there."""
_USED: Final = "used"

Result = TypeVar("Result")


class BadDatabaseUrl(ValueError):
    """The message says what is wrong and what would be right."""


class Database:
    """One pool of connections. Safe for use from many threads."""

    def __init__(self, url: str, *, pool_size: int = 10) -> None:
        """``sqlite:///path`` or ``postgresql://user:password@host/name``. Raises BadDatabaseUrl; opens nothing yet."""
        self.engine = _engine(url, pool_size)
        self.is_sqlite = self.engine.dialect.name == "sqlite"
        self._reading = self.engine
        self._turn: AbstractContextManager[Any] = threading.Lock()
        if not self.is_sqlite:
            # By default every statement of PostgreSQL sees what is committed when it begins, in a transaction or not.
            self._reading = self.engine.execution_options(isolation_level="AUTOCOMMIT")
            self._turn = nullcontext()

    def read(self, work: Callable[[Session], Result]) -> Result:
        """Run ``work``, which changes nothing. It may run more than once."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with Session(self._reading, expire_on_commit=False) as session:
                    return work(session)
            except DBAPIError as error:
                if attempt == ATTEMPTS or not error.connection_invalidated:
                    raise
        raise AssertionError("the last attempt returns or raises")

    def write(self, work: Callable[[Session], Result]) -> Result:
        """Run ``work`` in a transaction that is committed when it returns, and rolled back when it raises.

        It may run more than once: it must do nothing outside the database.
        """
        for attempt in range(1, ATTEMPTS + 1):
            committing = False
            try:
                with self._turn, Session(self.engine, expire_on_commit=False) as session:
                    session.connection(execution_options={_WRITES: True})
                    result = work(session)
                    session.flush()
                    committing = True
                    session.commit()
                    return result
            except DBAPIError as error:
                repeatable = getattr(error.orig, "sqlstate", None) in _REPEATABLE
                lost = error.connection_invalidated and not committing  # who knows what became of a commit
                if attempt == ATTEMPTS or not (repeatable or lost):
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
                hide_parameters=True,
                connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False},
                pool_size=pool_size,
                max_overflow=0,
            )
            event.listen(engine, "connect", _prepare_sqlite)
            event.listen(engine, "begin", _begin_sqlite)
            return engine
        case "postgresql":
            engine = create_engine(
                parsed.set(drivername="postgresql+psycopg"),
                hide_parameters=True,
                pool_size=pool_size,
                max_overflow=0,
                connect_args={"connect_timeout": 5},
            )
            event.listen(engine, "checkin", _note_use)
            event.listen(engine, "checkout", partial(_ask_whether_there, engine))
            return engine
    raise BadDatabaseUrl(f"database {parsed.drivername}:// is not supported: use sqlite:/// or postgresql://")


def _prepare_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    connection.isolation_level = None  # transactions begin where ``_begin_sqlite`` says
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get(_WRITES) else "BEGIN")


def _note_use(_connection: Any, record: ConnectionPoolEntry) -> None:
    record.info[_USED] = time.monotonic()


def _ask_whether_there(engine: Engine, connection: Any, record: ConnectionPoolEntry, _proxy: Any) -> None:
    """Raises InvalidatePoolError, upon which the pool opens new connections: the server was started anew."""
    used = record.info.get(_USED)
    if used is None or time.monotonic() - used < FRESH_SECONDS:
        return
    try:
        engine.dialect.do_ping(connection)
    except engine.dialect.loaded_dbapi.Error as error:
        raise InvalidatePoolError from error
