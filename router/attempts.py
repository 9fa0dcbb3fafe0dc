"""How the attempts of one exchange went, in time: for the access log's extra fields and for the router's own log.

Most exchanges go through at the first try on a connection that is open already, and then there is nothing to keep: an
exchange gets an ``Attempts`` only when it opens a connection or an attempt fails (gorouter reference 8.5, 3.5).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from router.heads.answers import SEMICOLONS
from router.logs.access_line import dash_or_quoted, dash_or_seconds

if TYPE_CHECKING:
    from router.exchange import Exchange


class Opening(NamedTuple):
    """How long the opening of a connection took, seconds; 0 for what did not happen."""

    dns: float = 0.0
    dial: float = 0.0
    """TCP alone."""
    tls: float = 0.0


NOTHING_OPENED: Final = Opening()


class Attempts:
    __slots__ = ("failed", "failed_at", "opening")

    def __init__(self) -> None:
        self.failed = 0
        """Attempts that failed so far."""
        self.failed_at = 0.0
        """Monotonic seconds at which the last of them did."""
        self.opening = NOTHING_OPENED
        """Of the connection of the attempt under way, where it needed a new one."""


class ExtraFields:
    """The access log's fields about attempts that the settings ask for, in their order."""

    __slots__ = ("_fields", "_local_address", "_usual")

    def __init__(self, names: Sequence[str]) -> None:
        names = tuple(dict.fromkeys(names))
        self._fields = [(f" {name}:", _FIELDS[name]) for name in names]
        self._local_address = "local_address" in names
        self._usual = "".join(f" {name}:{_USUAL.get(name, '0.000000')}" for name in names).encode()

    def text(self, exchange: Exchange, took: float) -> bytes:
        """For an exchange that is over ``took`` seconds after it began."""
        attempts = exchange.attempts
        answered = _answered(exchange)
        if answered and attempts is None:
            return self._usual % {
                b"backend_time": exchange.started + took - exchange.sent_at,
                b"local_address": (self._local_address and exchange.local_address) or b"-",
            }
        view = _View(exchange, attempts or _NONE, exchange.started + took, answered)
        return "".join([name + field(view) for name, field in self._fields]).encode()


class _View(NamedTuple):
    exchange: Exchange
    attempts: Attempts
    over_at: float
    answered: bool


def _answered(exchange: Exchange) -> bool:
    """Whether a response's head came from an endpoint. A tunnel has an error as well, where it did not simply end."""
    error = exchange.error
    return exchange.sent_at > 0 and (not error or error == SEMICOLONS or exchange.status < 400)


def _phase(view: _View, seconds: float) -> str:
    """Of the attempt that succeeded; 0 where it needed no such phase."""
    return f"{seconds:.6f}" if view.answered else '"-"'


def _backend_time(view: _View) -> str:
    began = view.attempts.failed_at or view.exchange.sent_at
    return _phase(view, view.over_at - began)


def _failed_attempts_time(view: _View) -> str:
    failed_at = view.attempts.failed_at
    return dash_or_seconds(failed_at - view.exchange.sent_at if failed_at else -1.0)


def _local_address(view: _View) -> str:
    return dash_or_quoted(view.exchange.local_address)


_FIELDS: Final[dict[str, Callable[[_View], str]]] = {
    "backend_time": _backend_time,
    "dial_time": lambda view: _phase(view, view.attempts.opening.dial),
    "dns_time": lambda view: _phase(view, view.attempts.opening.dns),
    "failed_attempts": lambda view: str(view.attempts.failed),
    "failed_attempts_time": _failed_attempts_time,
    "local_address": _local_address,
    "tls_time": lambda view: _phase(view, view.attempts.opening.tls),
}
_USUAL: Final = {
    "backend_time": "%(backend_time).6f",
    "failed_attempts": "0",
    "failed_attempts_time": '"-"',
    "local_address": '"%(local_address)b"',
}
"""What they are where the first attempt succeeded on a connection that was open; all others are 0."""
_NONE: Final = Attempts()
