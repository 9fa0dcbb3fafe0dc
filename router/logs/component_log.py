"""The router's own log: one JSON object per line on standard output, as Gorouter's component log (reference 8.7).

    {"log_level":1,"timestamp":1735725600.123456789,"message":"...","source":"gorouter.stdout.router","data":{}}

Figures and names belong in ``data`` (`logger.info("worker-died", extra={"data": {...}})`), so that a message is always
the same few words and can be searched for; events that Gorouter logs too keep Gorouter's words, and its names of
components: the logger ``router.nats`` writes lines of the component ``nats``, and ``router`` those of none. Nothing on
the hot path logs here: the access log is `router.logs.access_log`. Nobody waits for standard output: lines that it does
not take are dropped, and how many is said (``log-lines-dropped``) once it takes some again.
"""

from __future__ import annotations

import logging
import time
from typing import Any, Final, NamedTuple

import orjson

from router.config.settings import Logging
from router.logs.log_file import STDOUT, LogFile

_NUMBERS: Final = {logging.DEBUG: 0, logging.INFO: 1, logging.WARNING: 2, logging.ERROR: 3, logging.CRITICAL: 3}
LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "warning": logging.WARNING,
    **dict.fromkeys(("error", "dpanic", "panic", "fatal"), logging.ERROR),
}
"""By the names of the setting logging.level, in lower case."""


_OURS: Final = "router"
"""The name of the logger above all of ours."""


class Form(NamedTuple):
    """How lines look."""

    prefix: str = "gorouter.stdout"
    """Of every source."""
    epoch: bool = False
    """Seconds since 1970 as timestamp, not a date."""

    @classmethod
    def of(cls, wanted: Logging) -> Form:
        return cls(wanted.syslog or cls().prefix, wanted.format.timestamp == "unix-epoch")


class JsonLines(logging.Formatter):
    """Formats a record as one line of JSON; ``always`` is added to the data of every line."""

    def __init__(self, always: dict[str, Any], form: Form = Form()) -> None:  # noqa: B008 - it cannot change
        super().__init__()
        self._always = always
        self.form = form

    def format(self, record: logging.LogRecord) -> str:
        data = {**self._always, **getattr(record, "data", {})}
        if record.exc_info:
            data["trace"] = self.formatException(record.exc_info)
        line = {
            "log_level": _NUMBERS.get(record.levelno, 1),
            "timestamp": record.created if self.form.epoch else _date(record.created),
            "message": record.getMessage(),
            "source": f"{self.form.prefix}.{record.name.removeprefix(_OURS).removeprefix('.')}".removesuffix("."),
            "data": data,
        }
        return orjson.dumps(line, default=str).decode()


def _date(moment: float) -> str:
    """RFC 3339, with nine decimals."""
    second, fraction = divmod(moment, 1)
    when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
    return f"{when}.{int(fraction * 1e9):09d}Z"


class StandardOutput(logging.Handler):
    """Writes by a thread of its own."""

    def __init__(self) -> None:
        super().__init__()
        self._queue = LogFile(STDOUT, prompt=True)
        self._queue.start()
        self._told = 0

    @property
    def dropped(self) -> int:
        """Lines given up so far."""
        return self._queue.dropped

    def emit(self, record: logging.LogRecord) -> None:
        """Called with the handler's lock held, and so by one thread at a time."""
        try:
            line = self.format(record).encode() + b"\n"
        except Exception:
            self.handleError(record)
            return
        if self._queue.offer(line) and self._queue.dropped > self._told:
            self._tell()

    def _tell(self) -> None:
        dropped = self._queue.dropped
        more = {"data": {"dropped": dropped - self._told}}
        record = logging.LogRecord("router.logs", logging.WARNING, "", 0, "log-lines-dropped", None, None)
        record.__dict__.update(more)
        if self._queue.offer(self.format(record).encode() + b"\n"):
            self._told = dropped

    def close(self) -> None:
        """Also called at the end of the process: what was said last is written, if somebody takes it."""
        self._queue.close()
        super().close()


def to_stdout(level: str, form: Form = Form(), **always: Any) -> StandardOutput:  # noqa: B008 - it cannot change
    """Send every logger of this process to standard output; ``level`` as in ``set_level``."""
    handler = StandardOutput()
    handler.setFormatter(JsonLines(always, form))
    logging.basicConfig(handlers=[handler], force=True)
    set_level(level)
    return handler


def set_form(form: Form) -> None:
    """How lines look from now on."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler.formatter, JsonLines):
            handler.formatter.form = form


def set_level(level: str) -> None:
    """Write lines from ``level`` on, a key of LEVELS in any case; of libraries, never what is for their makers only."""
    number = LEVELS[level.lower()]
    logging.getLogger(_OURS).setLevel(number)
    logging.getLogger().setLevel(max(number, logging.INFO))


def dropped() -> int:
    """Lines of this process that standard output did not take, so far."""
    return sum(output.dropped for output in logging.getLogger().handlers if isinstance(output, StandardOutput))
