"""The table of registered routes as its own log: whoever follows it knows what is there, whatever happened between."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.database.engine import Database
from controller.database.routing import RegisteredRoutesVersion
from controller.database.schema import METADATA
from controller.routing_api import store
from controller.routing_api.said import Said, http_route
from controller.routing_api.store import Cursor

BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    folder: Path = tmp_path_factory.mktemp("store")
    made = Database(f"sqlite:///{folder}/routes.db")
    METADATA.create_all(made.engine)
    made.write(lambda session: session.add(RegisteredRoutesVersion(id=1)))
    yield made
    made.close()


def said(number: int, ttl: int = 60) -> Said:
    return http_route({"route": f"r{number}.example.com", "ip": "10.0.0.1", "port": 80, "ttl": ttl}, 3600)


class Follower:
    """Knows what changed since it last looked, and nothing else."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._cursor = Cursor(0, 0)
        self.known: dict[int, str] = {}

    def look(self, moment: datetime) -> None:
        while (rows := self._database.read(partial(store.changes, after=self._cursor))) != []:
            if rows is None:  # too late: everything anew
                self._cursor = self._database.read(store.newest)
                live = self._database.read(partial(store.live, moment=moment))
                self.known = {row.id: row.said for row in live}
                continue
            for row in rows:
                self.known.pop(row.id, None)
                if not row.gone:
                    self.known[row.id] = row.said
            self._cursor = rows[-1].cursor


STEPS = st.one_of(
    st.tuples(st.just("register"), st.lists(st.integers(0, 5), min_size=1, max_size=4), st.integers(1, 900)),
    st.tuples(st.just("remove"), st.lists(st.integers(0, 6), min_size=1, max_size=4), st.just(0)),
    st.tuples(st.just("wait"), st.just([]), st.integers(1, 900)),
    st.tuples(st.just("look"), st.lists(st.integers(0, 1), min_size=1, max_size=1), st.just(0)),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(STEPS, max_size=14))
def test_followers_know_what_is_there_however_rarely_they_look(
    database: Database, steps: list[tuple[str, list[int], int]]
) -> None:
    moment = BEGINNING
    database.write(lambda session: session.execute(METADATA.tables["registered_routes"].delete()))
    database.write(lambda session: setattr(session.get(RegisteredRoutesVersion, 1), "forgotten", 0))
    followers = [Follower(database), Follower(database)]
    expected: dict[int, datetime] = {}
    for what, which, seconds in steps:
        match what:
            case "register":
                entries = [said(number, seconds) for number in which]
                database.write(partial(store.upsert, entries=entries, moment=moment))
                expected |= {number: moment + timedelta(seconds=seconds) for number in which}
            case "remove":
                database.write(partial(store.remove, entries=[said(number) for number in which], moment=moment))
                expected = {number: end for number, end in expected.items() if number not in which}
            case "wait":
                moment += timedelta(seconds=seconds)
                assert database.read(partial(store.any_expired, moment=moment)) == any(
                    end <= moment for end in expected.values()
                )
                database.write(partial(store.expire, moment=moment))
                database.write(partial(store.forget, moment=moment))
                expected = {number: end for number, end in expected.items() if end > moment}
            case "look":
                followers[which[0]].look(moment)
    names = sorted(f"r{number}.example.com" for number in expected)
    for follower in followers:
        follower.look(moment)
        assert sorted(text.split('"')[3] for text in follower.known.values()) == names
    assert len(database.read(partial(store.live, moment=moment))) == len(expected)


def test_an_index_goes_up_with_every_word_and_begins_anew_with_a_new_tag(database: Database) -> None:
    def tag() -> tuple[str, int]:
        (row,) = [row for row in database.read(partial(store.live, moment=BEGINNING)) if "r77." in row.said]
        return row.tag_guid, row.tag_index

    register = partial(store.upsert, entries=[said(77)], moment=BEGINNING)
    database.write(register)
    first, index = tag()
    assert index == 0
    database.write(register)
    assert tag() == (first, 1)
    database.write(partial(store.upsert, entries=[said(77), said(77, 61)], moment=BEGINNING))
    assert tag() == (first, 2), "twice in one call is once, and the last counts"
    database.write(partial(store.remove, entries=[said(77)], moment=BEGINNING))
    database.write(register)
    second, index = tag()
    assert (second != first, index) == (True, 0)
