"""Keys change while everything goes on: encryption keys of secrets at rest, and the keys that sign tokens."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy import LargeBinary, func, insert, literal, select, text, type_coerce
from sqlalchemy.orm import Session

from controller import encryption, rotation
from controller.database.applications import App
from controller.database.bookkeeping import EncryptionKeySentinel
from controller.database.engine import Database
from controller.database.secrets import KEYS, KeyRing
from controller.database.tenancy import Space
from controller.settings import Settings, SettingsError
from tests.controller.running import START_PATIENCE, Controller, keys_of_ones_own, running_controller
from tests.controller.test_uaa import claims, log_in, password_of
from tests.controller.worlds import app, name, space, started_app
from tests.router.wire import wait_until

OLD, NEW, OTHER = (base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2, 3))
MANY: Final = 3000
"""Apps: enough for a rotation to be killed in the middle of."""


def prefixes(database: Database) -> Counter[str]:
    """How many values each key has sealed, in all columns."""

    def read(session: Session) -> Counter[str]:
        found: Counter[str] = Counter()
        for column in rotation.sealed_columns():
            for (value,) in session.execute(select(type_coerce(column, LargeBinary)).where(column.is_not(None))):
                found[bytes(value).partition(b":")[0].decode()] += 1
        return found

    return database.read(read)


def begun(database: Database) -> int:
    """How many apps' variables are sealed with ``new``."""
    first = func.substr(type_coerce(App.environment_variables, LargeBinary), 1, 4)
    statement = select(func.count(App.id)).where(first == literal(b"new:", LargeBinary))
    return database.read(lambda session: session.scalars(statement).one())


@pytest.fixture(params=["sqlite", "postgresql"])
def keyed(request: pytest.FixtureRequest) -> Iterator[Controller]:
    """A controller with the key ``old``, and secrets of many kinds."""
    url = request.getfixturevalue("postgres_server").new_database() if request.param == "postgresql" else ""
    with running_controller(url, encryption_keys={"old": OLD}) as controller:
        yield controller


def plant(controller: Controller) -> dict[str, str]:
    """Secrets by the path under which they are shown."""
    place = space(controller)
    variables = started_app(controller, place["guid"], environment_variables={"SECRET": "of an app"})
    service = controller.admin.post(
        "/v3/service_instances",
        json={
            "type": "user-provided",
            "name": name("service"),
            "credentials": {"secret": "of a service"},
            "relationships": {"space": {"data": {"guid": place["guid"]}}},
        },
    ).json()
    task = controller.admin.post(f"/v3/apps/{variables['guid']}/tasks", json={"command": "of a task"}).json()
    revision = controller.admin.get(f"/v3/apps/{variables['guid']}/revisions").json()["resources"][0]

    def add(session: Session) -> None:
        owner = session.scalars(select(Space.id).where(Space.guid == place["guid"])).one()
        rows = [{"name": f"app-{n}", "space_id": owner, "environment_variables": {"n": str(n)}} for n in range(MANY)]
        session.execute(insert(App), [{**row, "labels": {}, "annotations": {}, "lifecycle_data": {}} for row in rows])

    controller.database.write(add)
    return {
        f"/v3/apps/{variables['guid']}/environment_variables": "of an app",
        f"/v3/service_instances/{service['guid']}/credentials": "of a service",
        f"/v3/tasks/{task['guid']}": "of a task",
        f"/v3/revisions/{revision['guid']}/environment_variables": "of an app",
    }


def assert_shown(controller: Controller, secrets: dict[str, str]) -> None:
    for path, secret in secrets.items():
        assert secret in controller.admin.get(path).text, path


class Writers:
    """Who go on setting variables of some apps, each its own, while they are running."""

    def __init__(self, controller: Controller) -> None:
        place = space(controller)["guid"]
        self._paths = [f"/v3/apps/{app(controller, place)['guid']}/environment_variables" for _ in range(4)]
        self._controller = controller
        self._written = dict.fromkeys(self._paths, 0)
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._write, args=(path,)) for path in self._paths]

    def _write(self, path: str) -> None:
        client = self._controller.client("admin", "cloud_controller.admin")
        while not self._over.is_set():
            number = self._written[path] + 1
            client.patch(path, json={"var": {"N": str(number)}}).raise_for_status()
            self._written[path] = number

    def __enter__(self) -> Writers:
        for thread in self._threads:
            thread.start()
        wait_until(lambda: all(self._written.values()), "the first writes")
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def assert_kept(self) -> None:
        for path, number in self._written.items():
            assert self._controller.admin.get(path).json()["var"] == {"N": str(number)}


def test_all_secrets_are_sealed_anew_by_a_rotation_that_was_killed_and_begun_again(keyed: Controller) -> None:
    secrets = plant(keyed)
    total = prefixes(keyed.database).total()
    keyed.configure(encryption_keys={"new": NEW, "old": OLD})
    keyed.restart()
    assert_shown(keyed, secrets)

    killed = subprocess.Popen(keyed.command("rotate-keys"), stdout=subprocess.DEVNULL)
    wait_until(lambda: begun(keyed.database) > MANY // 20, "the rotation")
    os.kill(killed.pid, signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    halfway = prefixes(keyed.database)
    assert halfway["old"], "it was over already"
    assert halfway.total() == total
    assert_shown(keyed, secrets)

    with Writers(keyed) as writers:
        done = keyed.run("rotate-keys")
    assert done.returncode == 0, done.stderr
    assert "apps.environment_variables: " in done.stdout
    writers.assert_kept()
    assert prefixes(keyed.database).keys() == {"new"}


class TestWithoutAController:
    @pytest.fixture
    def database(self, tmp_path: Path) -> Iterator[Database]:
        settings = Settings.model_validate({"data": tmp_path, "encryption_keys": {"old": OLD}})
        with keys_of_ones_own(), encryption.opened(settings) as database:
            database.write(self._plant)
            KEYS.hold({"new": base64.b64decode(NEW), "old": base64.b64decode(OLD)})
            yield database

    @staticmethod
    def _plant(session: Session) -> None:
        statement = text(
            "INSERT INTO environment_groups (name, variables, updated_at)"
            " VALUES ('running', :value, '2020-01-01'), ('staging', :value, '2020-01-01')"
        )
        session.execute(statement, {"value": KEYS.seal(b"{}")})

    def test_what_cannot_be_opened_is_named_and_stays_as_it_is(self, database: Database) -> None:
        damaged = b"old:" + bytes(40)
        change = text("UPDATE environment_groups SET variables = :v WHERE name = 'running'")
        database.write(lambda session: session.execute(change, {"v": damaged}))
        outcome = rotation.rotate(database)
        assert list(outcome.unreadable) == ["environment_groups.variables, id 1"]
        assert outcome.sealed_anew.total() == 1
        assert prefixes(database) == {"old": 1, "new": 1}
        assert self._remembered(database) == ["old"], "the old key is still needed"

    def test_a_value_that_nobody_changed_was_not_updated(self, database: Database) -> None:
        rotation.rotate(database)
        moments = database.read(lambda session: set(session.scalars(text("SELECT updated_at FROM environment_groups"))))
        assert {str(moment)[:10] for moment in moments} == {"2020-01-01"}

    def test_who_goes_on_sealing_with_an_older_key_is_noticed(self, database: Database) -> None:
        older = KeyRing()
        older.hold({"old": base64.b64decode(OLD)})
        again = "UPDATE environment_groups SET variables = :value WHERE name = 'running'"
        trigger = f"CREATE TRIGGER stubborn AFTER UPDATE ON environment_groups BEGIN {again}; END"
        literal_value = f"X'{older.seal(b'{}').hex()}'"
        database.write(lambda session: session.execute(text(trigger.replace(":value", literal_value))))
        outcome = rotation.rotate(database)
        assert not outcome.finished
        assert self._remembered(database) == ["old"]

    def test_a_rotation_with_nothing_to_do_forgets_the_older_keys(self, database: Database) -> None:
        assert rotation.rotate(database).finished
        assert self._remembered(database) == []
        assert rotation.rotate(database).sealed_anew.total() == 0

    @pytest.mark.parametrize(
        ("keys", "why"),
        [
            ({"new": NEW}, "encryption_keys lacks the key 'old'"),
            ({"new": NEW, "old": OTHER}, "encryption key 'old' is not the one that sealed this database"),
            ({"old": OTHER}, "encryption key 'old' is not the one that sealed this database"),
            ({"old": "c2hvcnQ="}, "encryption key 'old': 32 bytes are needed, not 5"),
            ({"old": "?"}, "encryption key 'old' is not base64"),
            ({}, "was sealed with the encryption key 'old', and .* is not there"),
        ],
    )
    def test_other_keys_than_the_databases_are_refused(
        self, tmp_path: Path, database: Database, keys: dict[str, str], why: str
    ) -> None:
        with pytest.raises(SettingsError, match=why):
            encryption.hold(Settings.model_validate({"data": tmp_path, "encryption_keys": keys}), database)
        assert not (tmp_path / "encryption.key").exists(), "made nothing that hides what is missing"

    def test_a_key_that_sealed_nothing_yet_comes_and_goes(self, tmp_path: Path, database: Database) -> None:
        for keys in ({"old": OLD, "new": OTHER}, {"old": OLD}, {"old": OLD, "new": NEW}):
            encryption.hold(Settings.model_validate({"data": tmp_path, "encryption_keys": keys}), database)

    def test_two_controllers_with_keys_of_their_own_making_are_not_of_one_database(
        self, tmp_path: Path, database: Database
    ) -> None:
        elsewhere = Settings.model_validate({"data": tmp_path / "elsewhere"})
        elsewhere.data.mkdir()
        with pytest.raises(SettingsError, match="was sealed with the encryption key 'old'"):
            encryption.hold(elsewhere, database)

    @staticmethod
    def _remembered(database: Database) -> list[str]:
        return database.read(lambda session: list(session.scalars(select(EncryptionKeySentinel.name))))


def test_tokens_of_the_old_signing_key_stay_good(controller: Controller) -> None:
    def kid() -> Any:
        body = log_in(controller, "admin", password_of(controller)).json()
        header = body["access_token"].split(".")[0]
        return claims(f".{header}.")["kid"]

    before, client = kid(), controller.client("somebody")
    done = controller.run("rotate-signing-key")
    assert done.returncode == 0, done.stderr
    wait_until(lambda: kid() != before, "logins with the new key")
    assert kid() in done.stdout
    assert client.get("/v3/organizations").status_code == 200
    published = {key["kid"] for key in controller.client("").get("/token_keys").json()["keys"]}
    assert {before, kid()} <= published


def test_without_its_key_the_command_says_so_and_starts_nothing(tmp_path: Path) -> None:
    file = tmp_path / "controller.yml"
    file.write_text(f"data: {tmp_path}")
    with keys_of_ones_own(), encryption.opened(Settings(data=tmp_path)):
        (tmp_path / "encryption.key").unlink()
    command = [sys.executable, "-P", "-m", "controller", "run", "-c", str(file)]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=START_PATIENCE, check=False)
    assert refused.returncode == 1
    assert "is not there: put it back from a backup" in refused.stderr
    assert [json.loads(line)["message"] for line in refused.stdout.splitlines()][-1] == "not-started"
    assert "Running on" not in refused.stdout
    assert not (tmp_path / "encryption.key").exists()
