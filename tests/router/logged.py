"""A whole router with an access log, whose lines and whose own log's lines are waited for and read."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from tests.router.access_lines import Line, parse
from tests.router.registered import Registered, registered_router
from tests.router.wire import wait_until

_numbers = count()


def fresh_host() -> str:
    """One that nothing else is logged about."""
    return f"host-{next(_numbers)}.test"


@dataclass
class Logged:
    registered: Registered
    file: Path

    def raw(self, host: str, times: int = 1) -> list[bytes]:
        """Lines about this host, once there are so many."""

        def written() -> list[bytes]:
            lines = self.file.read_bytes().splitlines(keepends=True) if self.file.exists() else []
            return [line for line in lines if line.startswith(f"{host} - [".encode()) and line.endswith(b"\n")]

        wait_until(lambda: len(written()) >= times, f"{times} lines about {host}")
        return written()

    def lines(self, host: str, times: int = 1) -> list[Line]:
        return [parse(line) for line in self.raw(host, times)]

    def line(self, host: str) -> Line:
        (line,) = self.lines(host)
        return line

    def said(self, message: str, key: str, value: Any, times: int = 1) -> list[dict[str, Any]]:
        """The data of lines of the router's own log with this message that say this, once there are so many."""

        def found() -> list[dict[str, Any]]:
            return [data for data in self.registered.router.said(message) if data.get(key) == value]

        wait_until(lambda: len(found()) >= times, f"{message} with {key} {value!r}")
        return found()


@contextmanager
def logged_router(registry_url: str, namespace: str, **settings: Any) -> Iterator[Logged]:
    """Its access log is a file in a folder of its own; ``access_log`` adds to that section."""
    with tempfile.TemporaryDirectory(prefix="mr-", dir="/tmp") as folder:
        file = Path(folder) / "access.log"
        section = {"file": str(file), **settings.pop("access_log", {})}
        with registered_router(registry_url, namespace, access_log=section, **settings) as registered:
            yield Logged(registered, file)
