"""Is an endpoint well? The checks that a registrar runs, and the thresholds between one answer and a decision.

A check is a coroutine of trio that returns where the endpoint is well and raises CheckFailed, with a reason of one
short line, where it is not. Must never wait without the caller's timeout, keep a connection, read more than a bounded
answer, or know what its result is used for.
"""

from __future__ import annotations

import os
import random
import re
import ssl
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import trio

MAX_HEAD_BYTES: Final = 16 * 1024
"""The most of an HTTP answer that is read: a status needs no more."""

_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: .*)?", re.DOTALL)
_TARGET: Final = re.compile(r"/[!-~]*")
_HOST_FIELD: Final = re.compile(r"[!-~]*")
_STARTTIME: Final = 19
"""proc_pid_stat(5): field 22, counted from the state, field 3, which follows the name in parentheses."""


class CheckFailed(Exception):
    """The endpoint is not well; the text says why, in one line."""


class Check(Protocol):
    async def __call__(self) -> None:
        """Returns where the endpoint is well. Raises CheckFailed."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """When to check, and how many equal answers in a row decide. Seconds."""

    interval: float = 5.0
    """From the end of one check to the start of the next."""
    timeout: float = 2.0
    healthy_threshold: int = 1
    unhealthy_threshold: int = 2
    jitter: float = 0.1
    """Each wait is longer or shorter by up to this part of the interval, so that many checks do not march in step."""

    def __post_init__(self) -> None:
        if self.interval <= 0 or self.timeout <= 0:
            raise ValueError(f"interval and timeout: more than 0 seconds, not {self.interval} and {self.timeout}")
        if self.healthy_threshold < 1 or self.unhealthy_threshold < 1:
            raise ValueError(
                f"thresholds: at least 1 check, not {self.healthy_threshold} and {self.unhealthy_threshold}"
            )
        if not 0 <= self.jitter <= 1:
            raise ValueError(f"jitter: from 0 to 1, not {self.jitter}")

    def next_wait(self) -> float:
        """Seconds until the next check."""
        return self.interval * random.uniform(1 - self.jitter, 1 + self.jitter)


class HealthState:
    """Whether an endpoint counts as healthy: changes only after a threshold of equal answers in a row.

    Begins unhealthy: nothing is registered before it has shown that it works.
    """

    __slots__ = ("_against", "_schedule", "healthy")

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self._against = 0
        self.healthy = False

    def observe(self, passed: bool) -> bool:
        """Counts one answer; whether ``healthy`` has just changed."""
        if passed == self.healthy:
            self._against = 0
            return False
        self._against += 1
        schedule = self._schedule
        if self._against < (schedule.unhealthy_threshold if self.healthy else schedule.healthy_threshold):
            return False
        self.healthy = passed
        self._against = 0
        return True


async def failure_of(check: Check, seconds: float) -> str:
    """Runs one check for at most so long; why it failed, or an empty string where it passed."""
    with trio.move_on_after(seconds):
        try:
            await check()
        except CheckFailed as failure:
            return str(failure)
        return ""
    return f"no answer within {seconds:g} s"


async def connect(host: str, port: int, tls: ssl.SSLContext | None = None, server_name: str = "") -> trio.abc.Stream:
    """A connection, with TLS where a context is given. Raises CheckFailed: it cannot be made."""
    try:
        stream = await trio.open_tcp_stream(host, port)
    except OSError as error:
        raise CheckFailed(f"{address_of(host, port)}: {_reason(error)}") from error
    if tls is None:
        return stream
    secure = trio.SSLStream(stream, tls, server_hostname=server_name or host, https_compatible=True)
    try:
        await secure.do_handshake()
    except trio.BrokenResourceError as error:
        await trio.aclose_forcefully(stream)
        raise CheckFailed(f"{address_of(host, port)}: TLS: {_reason(error.__cause__ or error)}") from error
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return secure


@dataclass(frozen=True, slots=True)
class TcpCheck:
    """Passes where a connection can be made."""

    host: str
    port: int

    async def __call__(self) -> None:
        await trio.aclose_forcefully(await connect(self.host, self.port))


@dataclass(frozen=True, slots=True)
class HttpCheck:
    """Passes where GET is answered with an accepted status (RFC 9112). Redirects are not followed."""

    host: str
    port: int
    path: str = "/"
    accept: Container[int] = range(200, 400)
    host_header: str = ""
    """Where empty, the address."""
    tls: ssl.SSLContext | None = None
    """For https; decides what is verified."""
    server_name: str = ""
    """What TLS asks for and verifies; where empty, ``host``."""

    def __post_init__(self) -> None:
        if not _TARGET.fullmatch(self.path):
            raise ValueError(f"path: begins with / and holds printable ASCII without spaces, not {self.path!r}")
        if not _HOST_FIELD.fullmatch(self.host_header):
            raise ValueError(f"host_header: a host name, perhaps with a port, not {self.host_header!r}")

    async def __call__(self) -> None:
        address = address_of(self.host, self.port)
        request = (
            f"GET {self.path} HTTP/1.1\r\nHost: {self.host_header or address}\r\n"
            "User-Agent: millrace-health\r\nAccept: */*\r\nConnection: close\r\n\r\n"
        )
        stream = await connect(self.host, self.port, self.tls, self.server_name)
        try:
            await stream.send_all(request.encode())
            status = await _final_status(stream)
        except trio.BrokenResourceError as error:
            raise CheckFailed(f"{address}: the connection broke") from error
        except CheckFailed as failure:
            raise CheckFailed(f"{address}: {failure}") from None
        finally:
            await trio.aclose_forcefully(stream)
        if status not in self.accept:
            raise CheckFailed(f"{address}: GET {self.path} answered {status}")


async def _final_status(stream: trio.abc.Stream) -> int:
    received = b""
    while (status := status_in(received)) is None:
        if len(received) > MAX_HEAD_BYTES:
            raise CheckFailed(f"no status in the first {MAX_HEAD_BYTES} bytes")
        more = await stream.receive_some(4096)
        if not more:
            raise CheckFailed("closed without an answer")
        received += more
    return status


def status_in(received: bytes) -> int | None:
    """The first status that is not 1xx (RFC 9110 section 15.2), None where more must be read. Raises CheckFailed."""
    while True:
        line, ended, _ = received.partition(b"\r\n")
        if not ended:
            return None
        status = _STATUS_LINE.fullmatch(line)
        if not status:
            raise CheckFailed(f"not an HTTP answer: {line[:40]!r}")
        if not status[1].startswith(b"1"):
            return int(status[1])
        _, ended, received = received.partition(b"\r\n\r\n")
        if not ended:
            return None


@dataclass(frozen=True, slots=True)
class ProcessCheck:
    """Passes while the same process lives: a pid that was given to another process since does not count. Linux."""

    pid: int
    started: int
    """Clock ticks from boot to its start."""

    @classmethod
    def of(cls, pid: int) -> ProcessCheck:
        """For the process that has the pid now. Raises CheckFailed: there is none."""
        return cls(pid, _start_of(pid))

    async def __call__(self) -> None:
        await trio.lowlevel.checkpoint()
        if _start_of(self.pid) != self.started:
            raise CheckFailed(f"process {self.pid} is another one now")


def _start_of(pid: int) -> int:
    try:
        state, *others = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        raise CheckFailed(f"process {pid} is gone") from None
    if state in "ZX":
        raise CheckFailed(f"process {pid} has ended")
    return int(others[_STARTTIME - 1])


def address_of(host: str, port: int) -> str:
    """``host:port``, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _reason(error: BaseException) -> str:
    """The innermost cause, in one line. Trio wraps the failure of each address that a name has."""
    cause = error
    while inner := (cause.exceptions[0] if isinstance(cause, BaseExceptionGroup) else _cause_of(cause)):
        cause = inner
    if isinstance(cause, ssl.SSLError) and cause.reason:
        return getattr(cause, "verify_message", "") or cause.reason.lower().replace("_", " ")
    if isinstance(cause, OSError) and cause.errno:  # errors of name resolution have numbers below 0
        return (os.strerror(cause.errno) if cause.errno > 0 else str(cause.strerror)).lower()
    return str(cause) or type(cause).__name__


def _cause_of(error: BaseException) -> BaseException | None:
    return error.__cause__ if isinstance(error, OSError | trio.BrokenResourceError) else None
