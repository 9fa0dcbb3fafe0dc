"""A worker as its supervisor sees it: a child process and the control channel to it.

Starts it, hears whether it is ready, asks it for its figures and its routes, and ends it. Decides nothing: when to
start, roll or drain is `router.processes.slot` and `router.processes.supervisor`.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Iterator, Mapping
from time import monotonic
from typing import Final, Protocol, Self

from router.config.settings import Settings
from router.processes.control import BrokenChannel, Channel, Message

STOP_GRACE: Final = 2.0
"""How long a worker that was told to stop may take before it is killed, seconds."""

_log = logging.getLogger("router.supervisor")


class WorkerGone(ConnectionError):
    """The worker ended before it had answered."""


class Keeper(Protocol):
    """Who hears of a worker's fate."""

    def worker_ready(self, worker: WorkerProcess) -> None:
        """It accepts connections."""

    def worker_gone(self, worker: WorkerProcess) -> None:
        """It has ended, and its last figures are known."""


class WorkerProcess:
    """Made by ``start``."""

    def __init__(
        self,
        slot: int,
        process: asyncio.subprocess.Process,
        channel: Channel,
        keeper: Keeper,
    ) -> None:
        self.slot = slot
        self.pid = process.pid
        self.started = monotonic()
        self.heard = monotonic()
        """When it last said anything."""
        self.ready = asyncio.Event()
        self.gone = asyncio.Event()
        self.latest: Message = {}
        """Its latest report, empty before the first one; `router.processes.worker` says what is in it."""
        self._process = process
        self._channel = channel
        self._questions: dict[int, asyncio.Queue[Message | None]] = {}
        self._asked = 0
        self._keeper = keeper
        self._life = asyncio.create_task(self._live())

    @classmethod
    async def start(
        cls,
        slot: int,
        listening: Mapping[str, socket.socket],
        settings: Settings,
        keeper: Keeper,
        source: str = "",
        must_wait: bool = False,
    ) -> Self:
        """A new process that serves ``listening``, sockets by the name of their listener; it is not ready yet.

        ``source``: the socket of the sources process, empty where the registry is to be followed. ``must_wait``: not to
        serve before ``serve``.

        Raises OSError: no process can be made.
        """
        ours, theirs = socket.socketpair()
        with theirs, contextlib.ExitStack() as undo:
            undo.enter_context(ours)
            descriptors = (theirs.fileno(), *(sock.fileno() for sock in listening.values()))
            named = (f"{name}={sock.fileno()}" for name, sock in listening.items())
            process = await asyncio.create_subprocess_exec(
                # -P: a folder that happens to hold a "router" of its own must not be taken for this package.
                *(sys.executable, "-P", "-m", "router.processes.worker"),
                *(str(theirs.fileno()), str(os.getpid()), *named),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=descriptors,
            )
            undo.pop_all()
        channel = await Channel.over(ours)
        how = {"slot": slot, "settings": dataclasses.asdict(settings), "source": source, "must_wait": must_wait}
        channel.send({"do": "start", **how})
        return cls(slot, process, channel, keeper)

    @property
    def ending(self) -> str:
        """How it ended, for people."""
        code = self._process.returncode
        if code is None:
            return "still running"
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    async def ready_or_gone(self, patience: float) -> bool:
        """Returns once it is ready or has ended, or False after ``patience`` seconds."""
        waits = [asyncio.create_task(event.wait()) for event in (self.ready, self.gone)]
        try:
            done, _ = await asyncio.wait(waits, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        return bool(done)

    async def report(self, patience: float) -> Message:
        """Its figures, fresh if it answers within ``patience`` seconds, else the latest known ones ({}: none yet)."""
        with contextlib.suppress(TimeoutError, WorkerGone):
            async with asyncio.timeout(patience):
                with self._question() as (number, answers):
                    await self._ask({"do": "report", "id": number}, answers)
        return self.latest

    async def ask(self, question: str, patience: float) -> Message | None:
        """Its answer to ``connections`` or ``stacks``; None if there is none within ``patience`` seconds."""
        with contextlib.suppress(TimeoutError, WorkerGone):
            async with asyncio.timeout(patience):
                with self._question() as (number, answers):
                    return await self._ask({"do": question, "id": number}, answers)
        return None

    async def routes(self) -> AsyncGenerator[bytes, None]:
        """The text of GET /routes, in parts. Each part is made when the one before was taken. Raises WorkerGone."""
        with self._question() as (number, answers):
            try:
                part = await self._ask({"do": "routes", "id": number}, answers)
                while part["text"]:
                    yield part["text"].encode()
                    part = await self._ask({"do": "more", "id": number}, answers)
            finally:
                self._channel.send({"do": "enough", "id": number})

    @contextlib.contextmanager
    def _question(self) -> Iterator[tuple[int, asyncio.Queue[Message | None]]]:
        self._asked += 1
        answers: asyncio.Queue[Message | None] = asyncio.Queue()
        self._questions[self._asked] = answers
        number = self._asked
        try:
            yield number, answers
        finally:
            del self._questions[number]

    async def _ask(self, question: Message, answers: asyncio.Queue[Message | None]) -> Message:
        if self.gone.is_set():
            raise WorkerGone
        self._channel.send(question)
        answer = await answers.get()
        if answer is None:
            raise WorkerGone
        return answer

    def serve(self) -> None:
        """Let one that must wait begin."""
        self._channel.send({"do": "serve"})

    def drain(self, idle_grace: float, longest: float) -> None:
        """Tell it to accept no more, to let idle connections be for ``idle_grace`` and all for ``longest`` seconds."""
        self._channel.send({"do": "drain", "idle_grace": idle_grace, "longest": longest})

    def degrade(self) -> None:
        """Tell it to answer health checks on the traffic ports with 503."""
        self._channel.send({"do": "degrade"})

    def set_log_level(self, level: str) -> None:
        self._channel.send({"do": "log-level", "level": level})

    async def stop(self) -> None:
        """End it at once: by asking, and after STOP_GRACE seconds by SIGKILL. Returns when it is gone."""
        self._channel.send({"do": "stop"})
        try:
            async with asyncio.timeout(STOP_GRACE):
                await self.gone.wait()
        except TimeoutError:
            self.kill()
            await self.gone.wait()

    def kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()

    async def _live(self) -> None:
        try:
            while (message := await self._channel.receive()) is not None:
                self._hear(message)
        except BrokenChannel as error:
            _log.error("worker-channel-broken", extra={"data": {"slot": self.slot, "pid": self.pid, "why": str(error)}})
            self.kill()
        await self._process.wait()
        self.gone.set()
        for answers in self._questions.values():
            answers.put_nowait(None)
        self._keeper.worker_gone(self)

    def _hear(self, message: Message) -> None:
        self.heard = monotonic()
        match message["say"]:
            case "ready":
                self.ready.set()
                self._keeper.worker_ready(self)
            case "report" | "last":
                self.latest = message
        if message.get("id") in self._questions:
            self._questions[message["id"]].put_nowait(message)
