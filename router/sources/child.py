"""The sources process as the supervisor keeps it: started, replaced when it dies, asked for its figures, ended.

The socket at which the workers ask for its stream is opened here and lives as long as the supervisor: a worker that
connects while the process is being replaced waits, and is served by the next one. Only one failure concerns the router
as a whole: that the first process of its life finds no NATS server.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import logging
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any, Final
from uuid import uuid4

from router.config.settings import Settings
from router.processes.control import BrokenChannel, Channel, Message
from router.processes.listening import CannotListen
from router.processes.slot import Backoff
from router.sources.figures import summed

STOP_GRACE: Final = 3.0
"""How long the process may take to write its snapshot when it is told to stop, seconds."""
STUCK_AFTER: Final = 30.0
LONGEST_PATH: Final = 100
"""Bytes of a unix socket's path; the kernel takes 107."""
_BACKLOG: Final = 512

_log = logging.getLogger("router.supervisor")


class SourcesProcess:
    """``open`` first, then ``keep`` in a task until ``stop``."""

    def __init__(self, settings: Settings, on_fatal: Callable[[], None], on_ready: Callable[[], None]) -> None:
        """``on_ready``: routers may serve what is announced so far."""
        self._settings = settings
        self._on_fatal = on_fatal
        self._on_ready = on_ready
        self.router_id = f"{settings.index}-{uuid4()}"
        self.component: dict[str, Any] | None = None
        """Where the router is announced as a component: what is ``said`` of it, and when it ``started``."""
        self._listening: socket.socket | None = None
        self._folder: Path | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._channel: Channel | None = None
        self._first = True
        self._ending = False
        self._replacing = False
        self._heard = 0.0
        self._answered = asyncio.Event()
        self._earlier: Message = {}
        self._latest: Message = {}
        self.path = ""
        """Of the socket; empty before ``open``."""
        self._log_level = settings.logging.level
        self._asking: list[asyncio.Future[str]] = []
        """For its stacks."""
        self.restarts = 0
        """Processes started because one died."""

    @property
    def ready(self) -> bool:
        """Whether it ever was: that is a matter of a router's start, not of this process's."""
        return not self._first

    @property
    def figures(self) -> Message:
        """The latest known ones, of all lives of the process together; {}: none yet."""
        return summed(self._earlier, self._latest)

    @property
    def pid(self) -> int | None:
        """Of the process; None while there is none."""
        return None if self._process is None or self._process.returncode is not None else self._process.pid

    def open(self) -> None:
        """Opens the socket. Raises CannotListen."""
        folder = Path(self._settings.millrace.data).absolute()
        path = folder / f"sources.{os.getpid()}.sock"
        if len(os.fsencode(path)) > LONGEST_PATH:
            self._folder = Path(tempfile.mkdtemp(prefix="millrace-"))
            path = self._folder / "sources.sock"
        _remove_left_over(folder)
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)
        try:
            self._listening.bind(str(path))
        except OSError as error:
            raise CannotListen(f"millrace.data {folder}: cannot open a socket there: {error.strerror}") from None
        finally:
            os.umask(before)
        self._listening.listen(_BACKLOG)
        self.path = str(path)

    async def keep(self) -> None:
        """Keep a process running until told to stop."""
        backoff = Backoff()
        while not self._ending:
            began = monotonic()
            try:
                await self._live()
            except OSError as error:
                _log.error("sources-not-started", extra={"data": {"why": str(error)}})
            if self._ending:
                return
            if self._replacing:
                self._replacing = False
                continue
            delay = backoff.after(monotonic() - began)
            code = None if self._process is None else self._process.returncode
            _log.error("sources-died", extra={"data": {"exit_code": code, "restart_in": delay}})
            await asyncio.sleep(delay)
            self.restarts += 1

    def change(self, settings: Settings) -> None:
        """Replace the process by one with these settings, if they are others."""
        self.set_log_level(settings.logging.level)
        if settings != self._settings:
            self._settings = settings
            self._replacing = True
            self._tell_to_stop()

    async def report(self, patience: float) -> Message:
        """Its figures, fresh if it answers within ``patience`` seconds."""
        channel, self._answered = self._channel, asyncio.Event()
        if channel is not None:
            channel.send({"do": "report", "id": 0})
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await self._answered.wait()
            if monotonic() - self._heard > STUCK_AFTER:
                _log.error("sources-stuck")
                self._kill()
        return self.figures

    async def stacks(self, patience: float) -> str:
        """Where it is at work; empty if it does not say within ``patience`` seconds."""
        if self._channel is None:
            return ""
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._asking.append(answer)
        self._channel.send({"do": "stacks"})
        try:
            async with asyncio.timeout(patience):
                return await answer
        except TimeoutError:
            return ""

    def set_log_level(self, level: str) -> None:
        """Of the process, and of those to come, until ``change``."""
        self._log_level = level
        if self._channel is not None:
            self._channel.send({"do": "log-level", "level": level})

    def publish(self, subject: str, payload: bytes) -> None:
        """Have it said by NATS; lost where there is no process, or no connection."""
        if self._channel is not None:
            said = base64.b64encode(payload).decode()
            self._channel.send({"do": "publish", "subject": subject, "payload": said})

    async def stop(self) -> None:
        """End it, and give the socket up; returns when it is gone."""
        self._ending = True
        self._tell_to_stop()
        if self._process is not None:
            try:
                async with asyncio.timeout(STOP_GRACE):
                    await self._process.wait()
            except TimeoutError:
                self._kill()
                await self._process.wait()
        self._close()

    def _close(self) -> None:
        if self._listening is not None:
            self._listening.close()
            Path(self.path).unlink(missing_ok=True)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    async def _live(self) -> None:
        """One life of the process. Raises OSError: it could not begin."""
        assert self._listening is not None
        ours, theirs = socket.socketpair()
        with theirs, contextlib.ExitStack() as undo:
            undo.enter_context(ours)
            numbers = theirs.fileno(), os.getpid(), self._listening.fileno()
            self._process = await asyncio.create_subprocess_exec(
                # -P: a folder that happens to hold a "router" of its own must not be taken for this package.
                *(sys.executable, "-P", "-m", "router.sources", *map(str, numbers)),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), self._listening.fileno()),
            )
            undo.pop_all()
        channel = self._channel = await Channel.over(ours)
        self._heard = monotonic()
        channel.send(
            {
                "do": "start",
                "settings": dataclasses.asdict(self._settings),
                "log_level": self._log_level,
                "first": self._first,
                "router_id": self.router_id,
                "component": self.component,
            }
        )
        try:
            while (message := await channel.receive()) is not None:
                self._hear(message)
        except BrokenChannel as error:
            _log.error("sources-channel-broken", extra={"data": {"why": str(error)}})
            self._kill()
        self._channel = None
        await self._process.wait()
        self._earlier, self._latest = self.figures, {}

    def _hear(self, message: Message) -> None:
        self._heard = monotonic()
        match message["say"]:
            case "report" | "last":
                self._latest = {key: value for key, value in message.items() if key not in ("say", "id")}
                self._answered.set()
            case "stacks":
                for asking in filter(lambda asking: not asking.done(), self._asking):
                    asking.set_result(message["text"])
                self._asking.clear()
            case "ready":
                self._first = False
                self._on_ready()
            case "fatal":
                self._ending = True
                self._on_fatal()

    def _tell_to_stop(self) -> None:
        if self._channel is not None:
            self._channel.send({"do": "stop"})

    def _kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()


def _remove_left_over(folder: Path) -> None:
    """Sockets of supervisors that were killed."""
    for path in folder.glob("sources.*.sock"):
        number = path.name.split(".")[1]
        if number.isdigit() and not _is_alive(int(number)):
            path.unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
