"""What the tests start and kill: backends as processes, a registrar beside them; how much memory one holds."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Final

import trio

from router.registry.health import Schedule, TcpCheck
from router.registry.records import EndpointRecord
from router.registry.registrar import Event, Registrar, Target
from router.registry.writer import RegistryWriter
from tests.router.supervised import Router, children
from tests.router.wire import PATIENCE

HOST: Final = "app.example.com"
_PROGRAM: Final = Path(__file__).with_name("backend_program.py")


class BackendProcess:
    """A running ``backend_program``."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.port = 0
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen([sys.executable, "-I", _PROGRAM, self.name, str(self.port)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        self.port = int(process.stdout.readline())
        return process

    @property
    def record(self) -> EndpointRecord:
        return EndpointRecord(host="127.0.0.1", port=self.port, app=self.name)

    def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        assert self._process.stdout is not None
        self._process.kill()
        self._process.wait(PATIENCE)
        self._process.stdout.close()

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def come_back(self) -> None:
        """Again, on the same port."""
        self._process = self._start()


class RunningRegistrar:
    """A registrar for these backends, with a thread of its own; leaving the context stops it without a goodbye."""

    def __init__(self, redis_url: str, backends: list[BackendProcess], *, ttl: float) -> None:
        self._writer = RegistryWriter(redis_url)
        self.events: list[Event] = []
        self._registrar = Registrar(self._writer, "cell", ttl=ttl, on_event=self.events.append, exit_timeout=0.0)
        for backend in backends:
            check = TcpCheck("127.0.0.1", backend.port)
            self._registrar.add(Target((HOST,), backend.record, check, Schedule(interval=1.0, timeout=5.0)))
        self._thread = threading.Thread(target=trio.run, args=(self._run,), daemon=True)
        self._token: trio.lowlevel.TrioToken
        self._scope: trio.CancelScope
        self._running = threading.Event()

    async def _run(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        with trio.CancelScope() as self._scope:
            self._running.set()
            await self._registrar.run()

    def told(self, kind: str) -> int:
        """How often it said so."""
        return sum(event.kind == kind for event in list(self.events))

    def __enter__(self) -> RunningRegistrar:
        self._thread.start()
        assert self._running.wait(PATIENCE)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._token.run_sync_soon(self._scope.cancel)
        self._thread.join(PATIENCE)
        self._writer.close()
        assert not self._thread.is_alive()


def resident_bytes(pid: int) -> int:
    """Resident memory of one process. Linux."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise ProcessLookupError(pid)


def router_bytes(router: Router) -> int:
    """Resident memory of a router: its supervisor and its workers."""
    return sum(map(resident_bytes, [router.process.pid, *children(router.process.pid)]))
