"""The programs of the bench: started on a core, waited for, and gone when the bench is gone.

It must never leave one behind, nor wait for one without a deadline.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from bench.machine import BenchError, pinned
from router.registry.child import Child

STOP_SECONDS: Final = 5.0
POLL_SECONDS: Final = 0.01


class Program(Child):
    """A child process bound to one core. As a context manager it is ended, with all that it started, on the way out."""

    def __init__(
        self, name: str, command: Sequence[str], folder: Path, core: int, environment: Mapping[str, str] | None = None
    ) -> None:
        """Start ``command`` in ``folder``; what it prints goes to ``<folder>/<name>.log``. Raises OSError."""
        self.name = name
        variables = [f"{key}={value}" for key, value in (environment or {}).items()]
        with pinned(core):
            super().__init__(["env", *variables, *command], log=folder / f"{name}.log", folder=folder)

    def wait_until(self, ready: Callable[[], bool], seconds: float, what: str) -> None:
        """Poll ``ready`` until it says yes. Raises BenchError, with the last words, when it ends or is late."""
        deadline = time.monotonic() + seconds
        while not ready():
            if not self.running:
                raise BenchError(f"{self.name} {self.ending} before it {what}\n{self._last_words()}")
            if time.monotonic() > deadline:
                raise BenchError(f"{self.name} has not {what} within {seconds:g} s\n{self._last_words()}")
            time.sleep(POLL_SECONDS)

    def wait_for_port(self, port: int, seconds: float = 15.0) -> None:
        """Until something listens on ``port`` of the loopback address. Raises BenchError."""
        self.wait_until(lambda: listens(port), seconds, f"listened on port {port}")

    def _last_words(self) -> str:
        return "\n".join(self.last_lines()) or "(it printed nothing)"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop(STOP_SECONDS)


def free_port() -> int:
    """A TCP port of the loopback address that nobody holds at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def listens(port: int) -> bool:
    """Whether a connection to ``port`` of the loopback address succeeds."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
