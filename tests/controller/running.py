"""A whole controller for tests: ``python -m controller`` as a child process, and clients with tokens of any kind."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import yaml

from controller.database.engine import Database
from controller.database.secrets import KEYS
from controller.uaa.keys import SigningKeys
from controller.uaa.tokens import Issuer
from tests.controller.conforming import Document
from tests.router.wire import wait_until

UAA_URL = "http://uaa.example.com"
API_URL = "http://api.example.com"
PATIENCE = 20.0
START_PATIENCE = 60.0
"""Seconds; it has a lot to import, beside whatever else this machine does."""
USER_SCOPES = ("cloud_controller.read", "cloud_controller.write")


class Controller:
    """A running one. ``admin`` is a client that may do everything."""

    def __init__(self, folder: Path, database_url: str, **settings: Any) -> None:
        self.folder = folder
        self._log = folder / "log"
        self._settings = {
            "data": str(folder / "data"),
            "database": database_url,
            "external_url": API_URL,
            "uaa_url": UAA_URL,
            "system_domain": "example.com",
            "app_domains": ["apps.example.com"],
            **settings,
        }
        self._file = folder / "controller.yml"
        self._file.write_text(yaml.safe_dump(self._settings))
        self.port = 0
        self.start()
        self.database = Database(database_url or f"sqlite:///{folder}/data/controller.db")
        self._hold_keys()
        self._issuer = Issuer(SigningKeys(self.database), str(self._settings["uaa_url"]))
        self.admin = self.client("admin", "cloud_controller.admin")

    def start(self) -> None:
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(self.command(), stdout=log, stderr=log, cwd=self.folder, env={**os.environ})
        try:
            wait_until(
                lambda: self._port() is not None or self.process.poll() is not None,
                "the controller's start",
                START_PATIENCE,
            )
        except AssertionError:
            self.stop()
            raise
        assert self.process.poll() is None, self.log
        self.port = self._port() or 0
        self.document = Document.of(self.port)

    def command(self, *more: str) -> list[str]:
        """How it is started; with ``more``, how one of its subcommands is."""
        return [sys.executable, "-P", "-m", "controller", "-c", str(self._file), *more]

    def run(self, *more: str) -> subprocess.CompletedProcess[str]:
        """A subcommand, to its end."""
        return subprocess.run(
            self.command(*more), capture_output=True, text=True, cwd=self.folder, timeout=START_PATIENCE, check=False
        )

    def configure(self, **settings: Any) -> None:
        """For the next start."""
        self._settings |= settings
        self._file.write_text(yaml.safe_dump(self._settings))
        self._hold_keys()

    def _hold_keys(self) -> None:
        """In this process, too."""
        given = self._settings.get("encryption_keys")
        own = self.folder / "data" / "encryption.key"
        if given:
            KEYS.hold({name: b64decode(key) for name, key in given.items()})
        elif own.exists():
            KEYS.hold({"local": own.read_bytes()})

    def restart(self) -> None:
        """Clients from before have another address then."""
        self.stop()
        self.start()
        self.admin = self.client("admin", "cloud_controller.admin")

    @property
    def log(self) -> str:
        return self._log.read_text()

    def _port(self) -> int | None:
        match = re.search(r"Running on http://127\.0\.0\.1:(\d+)", self.log)
        return int(match[1]) if match else None

    def token(self, name: str, *scopes: str, guid: str = "") -> str:
        """An access token for a user of this name."""
        user = {"user_id": guid or str(uuid4()), "user_name": name, "origin": "uaa", "email": name, "client_id": "cf"}
        return self._issuer.issue(user, scopes or USER_SCOPES, 600)[0]

    def client(self, name: str, *scopes: str, guid: str = "") -> httpx.Client:
        """With a token of such a user in every request; none of all for the empty name."""
        headers = {"Authorization": f"bearer {self.token(name, *scopes, guid=guid)}"} if name else {}
        client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", headers=headers, timeout=PATIENCE)
        client.event_hooks["response"] = [self.document.check]
        return client

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(PATIENCE)


@contextmanager
def running_controller(database_url: str = "", **settings: Any) -> Iterator[Controller]:
    folder = Path(tempfile.mkdtemp(prefix="mcc-", dir="/tmp"))
    try:
        with keys_of_ones_own():
            controller = Controller(folder, database_url, **settings)
            try:
                yield controller
            finally:
                controller.stop()
                controller.database.close()
    finally:
        shutil.rmtree(folder)


@contextmanager
def keys_of_ones_own() -> Iterator[None]:
    """The keys that this process holds are afterwards what they were before."""
    before = KEYS._ciphers
    try:
        yield
    finally:
        KEYS._ciphers = before


def job_of(client: httpx.Client, response: httpx.Response) -> dict[str, Any]:
    """The end of the job that a response names."""
    path = response.headers["location"].removeprefix(API_URL)
    found: dict[str, Any] = {}

    def over() -> bool:
        found.update(client.get(path).raise_for_status().json())
        return found["state"] in ("COMPLETE", "FAILED")

    wait_until(over, "the end of a job")
    return found
