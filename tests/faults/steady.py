"""A steady load: a few callers who ask again and again on connections that they keep, and note every failure.

A caller behaves as a careful HTTP client does: a connection that was closed while nothing was asked on it is opened
anew, and ``Connection: close`` is obeyed. Nothing is ever asked twice: whatever has no whole answer with status 200 is
a failure, and says what happened.
"""

from __future__ import annotations

import select
import socket
import threading
from dataclasses import dataclass
from time import monotonic
from types import TracebackType

from tests.faults.processes import HOST
from tests.router.wire import PATIENCE, Message, Wire, wait_until


@dataclass(frozen=True, slots=True)
class Failure:
    caller: int
    what: str
    """``refused``: nobody listened. ``status N``. Else what became of the connection after the request was sent."""


class Caller:
    """One thread, one connection at a time."""

    def __init__(self, number: int, load: SteadyLoad) -> None:
        self._number = number
        self._load = load
        self._wire: Wire | None = None
        self.seconds: list[float] = []
        """How long each answered request took."""
        self.serial = 0
        """Of the request that was sent last."""
        self.answered = 0
        """Serial of the request that was answered or failed last."""
        self.thread = threading.Thread(target=self._call)

    @property
    def waiting_for(self) -> tuple[int, int] | None:
        """Caller and serial of the request in flight."""
        return (self._number, self.serial) if self.serial > self.answered else None

    def _call(self) -> None:
        load = self._load
        while not load.over.is_set():
            try:
                self._ask()
            except ConnectionRefusedError:
                self._failed("refused")
            except TimeoutError:
                self._failed(f"no answer within {PATIENCE} s")
            except (OSError, AssertionError, ValueError) as error:
                self._failed(f"{type(error).__name__}: {error}")
            load.over.wait(load.pause)
        self._hang_up()

    def _failed(self, what: str) -> None:
        self._load.failures.append(Failure(self._number, what))
        self._hang_up()
        self.answered = self.serial

    def _hang_up(self) -> None:
        if self._wire is not None:
            self._wire.close()
            self._wire = None

    def _connected(self) -> Wire:
        if self._wire is not None and select.select([self._wire.socket], [], [], 0)[0]:
            self._hang_up()
        if self._wire is None:
            self._wire = Wire(socket.create_connection(("127.0.0.1", self._load.port), PATIENCE))
        return self._wire

    def _ask(self) -> None:
        wire = self._connected()
        wire.seen = b""
        self.serial += 1
        began = monotonic()
        wire.send(self._load.request)
        answer = wire.message()
        self.seconds.append(monotonic() - began)
        if answer.status != 200:
            self._failed(f"status {answer.status} {answer.get('x-cf-routererror')!r}")
            return
        self.answered = self.serial
        self._load.note(answer)
        if answer.get("connection") == b"close":
            self._hang_up()


class SteadyLoad:
    """Runs while its context is entered."""

    def __init__(self, port: int, *, callers: int = 6, pause: float = 0.005, path: str = "/") -> None:
        """``pause``: seconds between an answer and the next request of the same caller."""
        self.port = port
        self.pause = pause
        self.request = f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
        self.over = threading.Event()
        self.failures: list[Failure] = []
        self.by_backend: dict[str, int] = {}
        self._noting = threading.Lock()
        self._callers = [Caller(number, self) for number in range(callers)]

    def note(self, answer: Message) -> None:
        name = answer.body.decode()
        with self._noting:
            self.by_backend[name] = self.by_backend.get(name, 0) + 1

    @property
    def answered(self) -> int:
        with self._noting:
            return sum(self.by_backend.values())

    @property
    def seconds(self) -> list[float]:
        """How long each answered request took."""
        return [took for caller in self._callers for took in caller.seconds]

    @property
    def in_flight(self) -> set[tuple[int, int]]:
        """Caller and serial of every request that has no answer yet."""
        return {waiting for caller in self._callers if (waiting := caller.waiting_for)}

    def more(self, count: int = 100) -> None:
        """Returns when so many more requests were answered."""
        goal = self.answered + count
        wait_until(lambda: self.answered >= goal, f"{count} more answers; failures: {self.failures[:5]}")

    def held_up(self, count: int = 100) -> set[tuple[int, int]]:
        """Requests in flight that made no progress while ``count`` others were answered."""
        before = self.in_flight
        self.more(count)
        return before & self.in_flight

    def hang_up(self) -> None:
        """No more requests; returns when the last answer came."""
        self.over.set()
        for caller in self._callers:
            caller.thread.join()

    def __enter__(self) -> SteadyLoad:
        for caller in self._callers:
            caller.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.hang_up()
