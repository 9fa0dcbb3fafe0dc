"""No list asks the database once per row: each takes as many statements for many rows as for few.

The lists are found by what they declare, called in this process, and their statements counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
from fastapi.routing import APIRoute
from sqlalchemy import event
from sqlalchemy.orm import Session

from controller.application import MODULES
from controller.caller import ADMIN, READ, Caller
from controller.database.engine import Database
from controller.database.schema import METADATA
from controller.database.secrets import KEYS
from controller.settings import Settings
from controller.v3.call import Call
from controller.v3.listing import Listing
from tests.controller.crowd import Crowd

MOST: Final = 10
"""Statements of one list, whatever it includes."""
EMPTY: Final = frozenset(
    f"/v3/{name}"
    for name in (
        "app_usage_events",
        "service_brokers",
        "service_offerings",
        "service_plans",
        "service_usage_events",
    )
)
"""There is nothing in them ever."""
FIXED: Final = EMPTY | {"/v3/feature_flags", "/v3/apps/{guid}/features"}
"""Their rows do not become more."""
DEVELOPER = "developer-guid"
CALLERS = {
    "admin": Caller.of("admin-guid", "admin", [ADMIN]),
    "developer": Caller.of(DEVELOPER, "developer", [READ]),
}


def _lists() -> Iterator[tuple[str, Callable[..., Any], list[str]]]:
    """Path, function and parameters of every list."""
    for module in MODULES:
        for route in module.api.router.routes:
            if not isinstance(route, APIRoute) or "GET" not in route.methods:
                continue
            names = [item["name"] for item in (route.openapi_extra or {})["parameters"] if item["in"] == "query"]
            if "per_page" in names:
                yield route.path, getattr(module, route.name), names


LISTS = list(_lists())


def _extras(path: str, names: list[str]) -> Iterator[dict[str, str]]:
    """The list alone, and with all that can be included, embedded and selected."""
    yield {}
    if "embed" in names:
        yield {"embed": "process_instances"}
    listings = [value for module in MODULES for value in vars(module).values() if isinstance(value, Listing)]
    for listing in listings:
        if listing.parameters == names and listing.includes:
            yield {"include": ",".join(listing.includes)}
            break
    for listing in listings:
        if listing.parameters == names and listing.fields:
            yield {f"fields[{resource}]": ",".join(keys) for resource, keys in listing.fields.items()}
            break


def _hold_a_key() -> None:
    """Any will do; that of a controller, which other tests share, stays."""
    try:
        assert KEYS.current
    except StopIteration:
        KEYS.hold({"test": bytes(32)})


class Crowded:
    def __init__(self, folder: Path) -> None:
        _hold_a_key()
        self.database = Database(f"sqlite:///{folder}/crowd.db")
        METADATA.create_all(self.database.engine)

    @contextmanager
    def statements(self) -> Iterator[list[str]]:
        seen: list[str] = []

        def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
            if not statement.startswith("BEGIN"):
                seen.append(statement)

        event.listen(self.database.engine, "before_cursor_execute", note)
        try:
            yield seen
        finally:
            event.remove(self.database.engine, "before_cursor_execute", note)


Counts = Mapping[tuple[str, str, str], tuple[int, int]]
"""Statements and rows, by path, caller and query."""


@pytest.fixture(scope="module")
def counts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Counts, Counts]:
    """With few rows, and with many."""
    crowded = Crowded(tmp_path_factory.mktemp("crowd"))
    database = crowded.database

    def count(session: Session) -> None:
        crowd = Crowd(session, DEVELOPER)
        for _ in range(2):
            crowd.grow()
        session.commit()
        few.update(_measure(crowded, crowd))
        for _ in range(8):
            crowd.grow()
        session.commit()
        many.update(_measure(crowded, crowd))

    few: dict[tuple[str, str, str], tuple[int, int]] = {}
    many: dict[tuple[str, str, str], tuple[int, int]] = {}
    database.read(count)
    database.close()
    return few, many


def _measure(crowded: Crowded, crowd: Crowd) -> Counts:
    roots = {
        "/v3/apps/": crowd.root_app.guid,
        "/v3/organizations/": crowd.root_organization.guid,
        "/v3/spaces/": crowd.root_space.guid,
        "/v3/processes/": crowd.root_process.guid,
        "/v3/packages/": crowd.root_package.guid,
        "/v3/isolation_segments/": crowd.root_segment.guid,
        "/v3/security_groups/": crowd.root_group.guid,
        "/v3/stacks/": crowd.root_stack.guid,
        "/v3/routes/": crowd.root_route.guid,
        "/v3/domains/": crowd.root_domain.guid,
        "/v3/service_instances/": crowd.root_instance.guid,
    }
    found: dict[tuple[str, str, str], tuple[int, int]] = {}
    for path, work, names in LISTS:
        guids = [guid for prefix, guid in roots.items() if path.startswith(prefix) and "{" in path]
        for extra in _extras(path, names):
            for caller in CALLERS:
                with crowded.statements() as seen:
                    body = crowded.database.read(partial(_ask, path, work, guids, extra, caller))
                found[path, caller, str(extra)] = len(seen), len(body["resources"])
    return found


def _ask(
    path: str, work: Callable[..., Any], guids: list[str], extra: dict[str, str], caller: str, session: Session
) -> Any:
    query = {"per_page": "500", **extra}
    return work(Call("GET", path, query, Settings(), session, CALLERS[caller], {}), *guids)


@pytest.mark.parametrize("path", sorted({path for path, _, _ in LISTS}))
def test_a_list_takes_as_many_statements_for_many_rows_as_for_few(counts: tuple[Counts, Counts], path: str) -> None:
    few, many = counts
    for key, (statements, rows) in many.items():
        if key[0] == path:
            assert rows > few[key][1] or path in FIXED, f"{key}: no more rows than before"
            assert statements <= few[key][0], f"{key}: {few[key]} and then {many[key]}"
            assert statements <= MOST, f"{key}: {statements}"


def test_there_are_lists(counts: tuple[Counts, Counts]) -> None:
    assert len(LISTS) > 30
    empty = {key[0] for key, (_, rows) in counts[1].items() if not rows}
    assert empty == EMPTY, "nothing is known of these"
