"""A child process that ends with the program that started it, and the lock that keeps a folder to one program.

Plain synchronous code with no event loop, so that any program can use it. Must never leave a process behind: a child
runs in a process group of its own (a Ctrl-C at the terminal reaches only the parent, which then stops its children in
order), and what remains of the group when the child itself has ended is killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import MappingProxyType
from typing import Final

from router.registry import child_exec

NOTHING_MORE: Final[Mapping[str, str]] = MappingProxyType({})
_TAIL_BYTES: Final = 16 * 1024


class FolderInUse(RuntimeError):
    """Another process holds the lock; the message names the file and, where known, the pid."""

    def __init__(self, lock: Path, pid: int) -> None:
        holder = f"process {pid}" if pid else "another process"
        super().__init__(f"{lock.parent} is in use by {holder} ({lock.name} is locked)")
        self.pid = pid
        """0 where the holder has not written it yet."""


def claim(lock: Path) -> int:
    """Locks the file, making it where needed, and returns its descriptor: the lock lasts until the last copy is closed.

    The lock decides, never the file: one that a crash left behind hinders nobody. Raises FolderInUse.
    """
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        written = os.pread(descriptor, 32, 0).strip()
        os.close(descriptor)
        raise FolderInUse(lock, int(written) if written.isdigit() else 0) from None
    os.ftruncate(descriptor, 0)
    return descriptor


def sign(descriptor: int, pid: int) -> None:
    """Writes who holds a claimed lock, for the message of whoever comes second."""
    os.pwrite(descriptor, f"{pid}\n".encode(), 0)


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


class Child:
    """One running child process. Its output goes to a log file, begun anew; its files only its owner may read."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path,
        folder: Path | None = None,
        environment: Mapping[str, str] = NOTHING_MORE,
        keep_open: Sequence[int] = (),
    ) -> None:
        """Starts the command in ``folder``. It inherits the descriptors in ``keep_open`` and the environment, to which
        ``environment`` adds what other users must not see in the list of processes. Raises OSError."""
        self.log = log
        self._exited = threading.Event()
        born: Future[subprocess.Popen[bytes]] = Future()
        arguments = [sys.executable, "-I", "-S", child_exec.__file__, str(os.getpid()), *command]
        # The kernel signals a child when the *thread* that made it ends, so each child has a thread that waits for it.
        threading.Thread(
            target=self._own,
            args=(born, arguments, folder, {**os.environ, **environment}, keep_open),
            name=f"child {command[0]}",
            daemon=True,
        ).start()
        self._process = born.result()

    def _own(
        self,
        born: Future[subprocess.Popen[bytes]],
        arguments: list[str],
        folder: Path | None,
        environment: Mapping[str, str],
        keep_open: Sequence[int],
    ) -> None:
        try:
            with open(self.log, "wb", opener=_open_private) as log:
                process = subprocess.Popen(
                    arguments,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=folder,
                    env=environment,
                    pass_fds=keep_open,
                    process_group=0,
                    umask=0o077,
                )
        except BaseException as error:  # it belongs to the thread that wanted a child
            born.set_exception(error)
            return
        born.set_result(process)
        process.wait()
        self._kill_group(process.pid)
        self._exited.set()

    @staticmethod
    def _kill_group(pid: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return not self._exited.is_set()

    @property
    def ending(self) -> str:
        """How it ended, for people: ``exited with code 1``, ``was ended by SIGKILL``, or ``is running``."""
        code = self._process.returncode
        if code is None:
            return "is running"
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"

    def wait(self, timeout: float | None = None) -> bool:
        """Blocks until it has ended, at most ``timeout`` seconds; whether it has."""
        return self._exited.wait(timeout)

    def send(self, number: signal.Signals) -> None:
        """Sends a signal to the process itself; nothing where it has ended."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """Ends the whole group at once and waits until it is gone."""
        if self.running:
            self._kill_group(self.pid)
            self._exited.wait()

    def stop(self, grace: float, first: signal.Signals = signal.SIGTERM) -> bool:
        """Asks with ``first``, and kills after ``grace`` seconds. Whether asking was enough."""
        self.send(first)
        if self.wait(grace):
            return True
        self.kill()
        return False

    def last_lines(self, count: int = 10) -> list[str]:
        """The end of its log, for the message that says why it died."""
        with self.log.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - _TAIL_BYTES))
            return log.read().decode(errors="replace").splitlines()[-count:]
