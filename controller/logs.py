"""The controller's log: one JSON object per line on standard output, in the shape of the router's own log.

    {"log_level":1,"timestamp":"2026-01-01T12:00:00.123456789Z","message":"request","source":"controller.api","data":{}}

Figures and names belong in ``data``. A line that is written while a request is answered names it (``vcap_request_id``)
and who asks, whoever writes it. Bodies, queries, tokens and parameters of statements never stand in a line, and of what
went wrong only its place and its kind, where its words could quote one of them. Nobody waits for standard output: a
thread writes, and lines that it cannot take are counted and said (``log-lines-dropped``).
"""

from __future__ import annotations

import atexit
import logging
import os
import queue
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

import orjson

MOST_WAITING: Final = 10_000
"""Lines."""
LAST_WORDS_SECONDS: Final = 2.0
"""For what was said last, at the end of the process."""
_NUMBERS: Final = {logging.DEBUG: 0, logging.INFO: 1, logging.WARNING: 2, logging.ERROR: 3, logging.CRITICAL: 3}
_OURS: Final = "controller"
_QUOTING: Final = ("pydantic", "pydantic_core", "sqlalchemy", "psycopg", "sqlite3", "orjson", "yaml")
"""Packages whose exceptions say the values that they are about."""


@dataclass(slots=True)
class RequestScope:
    """The request that is answered here; who asks is known once its token was read."""

    request_id: str
    user: str = ""

    @property
    def shown(self) -> dict[str, str]:
        return {"vcap_request_id": self.request_id, **({"user": self.user} if self.user else {})}


def request_id_here() -> str:
    """Of the request that is answered here; empty where none is."""
    scope = _scope.get()
    return scope.request_id if scope is not None else ""


_scope: ContextVar[RequestScope | None] = ContextVar("request", default=None)


@contextmanager
def request_scope(request_id: str) -> Iterator[RequestScope]:
    """Lines that are written within name the request; worker threads take it with them."""
    scope = RequestScope(request_id)
    token = _scope.set(scope)
    try:
        yield scope
    finally:
        _scope.reset(token)


def caller_known(user: str) -> None:
    """Whose the request is, from its token."""
    scope = _scope.get()
    if scope is not None:
        scope.user = user


class JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        scope = _scope.get()
        data: dict[str, Any] = {**(scope.shown if scope is not None else {}), **getattr(record, "data", {})}
        if record.exc_info and record.exc_info[1] is not None:
            data["trace"] = _trace(record.exc_info[1])
        line = {
            "log_level": _NUMBERS.get(record.levelno, 1),
            "timestamp": _date(record.created),
            "message": record.getMessage(),
            "source": record.name,
            "data": data,
        }
        return orjson.dumps(line, default=str).decode()


def _trace(error: BaseException) -> list[str]:
    """Where it happened, and what; the same of what led to it."""
    lines: list[str] = []
    current: BaseException | None = error
    while current is not None and len(lines) < 200:
        lines.append(what(current))
        lines += [
            f"  {frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(current.__traceback__)
        ]
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return lines


def what(error: BaseException) -> str:
    """The kind of an exception, and its first line where that cannot quote a value."""
    kind = type(error)
    if kind.__module__.partition(".")[0] in _QUOTING:
        return f"{kind.__module__}.{kind.__qualname__}"
    first = str(error).partition("\n")[0]
    return f"{kind.__qualname__}: {first}" if first else kind.__qualname__


def _date(moment: float) -> str:
    """RFC 3339, with nine decimals."""
    second, fraction = divmod(moment, 1)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(second))}.{int(fraction * 1e9):09d}Z"


class StandardOutput(logging.Handler):
    """Writes by a thread of its own."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: queue.Queue[bytes | None] = queue.Queue(MOST_WAITING)
        self._dropped = 0
        self._thread = threading.Thread(target=self._write, name="log", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def emit(self, record: logging.LogRecord) -> None:
        """Called with the handler's lock held, and so by one thread at a time."""
        try:
            self._waiting.put_nowait(self.format(record).encode() + b"\n")
        except queue.Full:
            self._dropped += 1
        except Exception:
            self.handleError(record)

    def _write(self) -> None:
        told = 0
        descriptor = sys.stdout.fileno()
        while (line := self._waiting.get()) is not None:
            if self._dropped > told:
                line += self._told(self._dropped - told)
                told = self._dropped
            try:
                while line:
                    line = line[os.write(descriptor, line) :]
            except OSError:
                self._dropped += 1

    def _told(self, dropped: int) -> bytes:
        record = logging.LogRecord("controller.logs", logging.WARNING, "", 0, "log-lines-dropped", None, None)
        record.__dict__["data"] = {"dropped": dropped}
        return self.format(record).encode() + b"\n"

    def close(self) -> None:
        """What was said last is written, if somebody takes it."""
        try:
            self._waiting.put(None, timeout=LAST_WORDS_SECONDS)
        except queue.Full:
            return
        self._thread.join(LAST_WORDS_SECONDS)
        super().close()


def to_stdout() -> None:
    """Send every logger of this process to standard output; of libraries, what is for their users only."""
    handler = StandardOutput()
    handler.setFormatter(JsonLines())
    logging.basicConfig(handlers=[handler], force=True, level=logging.WARNING)
    for name in (_OURS, "router"):
        logging.getLogger(name).setLevel(logging.INFO)
