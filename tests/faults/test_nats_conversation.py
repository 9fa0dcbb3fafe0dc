"""A day in the life of an installation by NATS: a registrar with 1,000 routes, and restarts of everything around it.

The registrar does as route-registrar and Diego's emitters do: it announces everything when a router says that it
starts, and when something changes. Requests to all routes go on meanwhile; none may fail.
"""

from __future__ import annotations

import json
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import pytest

from tests.router.sources.nats import NatsServer, Registrar, registration, running_nats
from tests.router.supervised import Router
from tests.router.wire import Backend, Wire, answering, backend, wait_until

ROUTES: Final = 1000
PER_BACKEND: Final = 250
THRESHOLD: Final = 120
OK: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def host_of(number: int) -> str:
    return f"app-{number}.example.com"


class Emitter:
    """Says what it is told to say when a router starts, and when it is asked to."""

    def __init__(self, nats: NatsServer) -> None:
        self._nats = nats
        self.ports: dict[int, int] = {}
        """By route."""
        self.starts: list[dict[str, Any]] = []
        """What routers said of themselves."""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._answer_starts)

    def __enter__(self) -> Emitter:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()
        with Registrar(self._nats) as registrar:  # so that the one who listens looks up
            registrar.publish("router.start", b"{}")
        self._thread.join()

    def announce(self) -> None:
        with Registrar(self._nats) as registrar:
            registrar.publish("router.register", *(self._said(*entry) for entry in self.ports.items()))

    def withdraw(self, ports: dict[int, int]) -> None:
        """Routes lose their endpoints at these ports."""
        with Registrar(self._nats) as registrar:
            registrar.publish("router.unregister", *(self._said(*entry) for entry in ports.items()))

    def _said(self, number: int, port: int) -> bytes:
        app = f"00000000-0000-4000-8000-{number:012d}"
        return registration(
            port, [host_of(number)], app=app, private_instance_id=f"i-{number}", private_instance_index="0"
        )

    def _answer_starts(self) -> None:
        while not self._over.is_set():
            with suppress(OSError, AssertionError), Registrar(self._nats) as listener:
                listener.listen("router.start")
                while said := json.loads(listener.receive()):
                    self.starts.append(said)
                    self.announce()
            self._over.wait(0.05)


class Asking:
    """Asks all routes one after the other, again and again, on one connection as long as it holds."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self.asked = 0
        self.failures: list[str] = []

    def __enter__(self) -> Asking:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _ask(self) -> None:
        wire: Wire | None = None
        for number in count():
            if self._over.is_set():
                break
            try:
                wire = wire or Wire(socket.create_connection(("127.0.0.1", self._port), 10))
                wire.send(f"GET / HTTP/1.1\r\nHost: {host_of(number % ROUTES)}\r\n\r\n".encode())
                answer = wire.message()
                if answer.status != 200:
                    self.failures.append(f"{host_of(number % ROUTES)}: {answer.status}")
                if answer.get("Connection") == b"close":
                    wire.close()
                    wire = None
            except (OSError, AssertionError) as error:
                self.failures.append(f"{host_of(number % ROUTES)}: {error!r}")
                wire = None
            self.asked += 1
            self._over.wait(0.002)
        if wire is not None:
            wire.close()

    def until_all_were_asked(self) -> None:
        """Every route, from now on."""
        enough = self.asked + ROUTES
        wait_until(lambda: self.asked >= enough, "a request to each route")


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="mr-", dir="/tmp") as made:
        yield Path(made)


def start_router(folder: Path, nats: NatsServer) -> Router:
    router = Router(
        folder,
        "",
        nats={"hosts": [nats.host]},
        start_response_delay_interval="0s",
        suspend_pruning_if_nats_unavailable=True,
        droplet_stale_threshold=f"{THRESHOLD}s",
        millrace={"workers": 2},
    )
    return router.until_healthy()


def served(router: Router) -> int:
    """Routes in the worker that knows the fewest."""
    metrics = router.metrics()
    return int(min(metrics[f'millrace_routes{{worker="{worker}"}}'] for worker in range(2)))


def listed(router: Router, port: int) -> int:
    """How many routes lead to a port."""
    return router.status("/routes").body.count(b'"127.0.0.1:%d"' % port)


def test_a_thousand_routes_outlive_restarts_of_all_around_them(folder: Path) -> None:
    with ExitStack() as stack:
        nats = stack.enter_context(running_nats(folder))
        apps: list[Backend] = [stack.enter_context(backend(answering(OK))) for _ in range(ROUTES // PER_BACKEND)]
        emitter = Emitter(nats)
        emitter.ports = {number: apps[number // PER_BACKEND].port for number in range(ROUTES)}
        stack.enter_context(emitter)
        router = start_router(folder, nats)
        try:
            wait_until(lambda: served(router) == ROUTES, "all routes, announced because the router said that it starts")
            (said,) = emitter.starts
            assert said.keys() == {"id", "hosts", "minimumRegisterIntervalInSeconds", "pruneThresholdInSeconds"}
            assert said["pruneThresholdInSeconds"] == THRESHOLD

            with Asking(router.port) as asking:
                asking.until_all_were_asked()

                nats.kill()
                router.until_said("nats-connection-disconnected")
                asking.until_all_were_asked()
                nats.start()
                router.until_said("nats-connection-reconnected")
                wait_until(lambda: len(emitter.starts) == 2, "the router's word that it is back")
                asking.until_all_were_asked()

                moved = range(PER_BACKEND)
                successor = stack.enter_context(backend(answering(OK)))
                former = dict(emitter.ports)
                emitter.ports |= dict.fromkeys(moved, successor.port)
                emitter.announce()
                wait_until(lambda: listed(router, successor.port) == PER_BACKEND, "the successor beside the first")
                emitter.withdraw({number: former[number] for number in moved})
                wait_until(lambda: not listed(router, apps[0].port), "the end of the first")
                before = apps[0].connections
                apps[0].close()
                asking.until_all_were_asked()
                assert apps[0].connections == before

                router.signal(signal.SIGHUP)
                router.until_said("rolled")
                asking.until_all_were_asked()
            assert asking.failures == []
        finally:
            router.end()

        again = start_router(folder, nats)
        try:
            wait_until(lambda: served(again) == ROUTES, "all routes once more")
            with Asking(again.port) as asking:
                asking.until_all_were_asked()
            assert asking.failures == []
        finally:
            again.end()
