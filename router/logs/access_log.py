"""The access log: one line per exchange in Gorouter's format, to a file, to syslog, or to whoever asks for copies.

The loop's thread formats a line; a `router.logs.line_queue` brings it where it goes, and drops it, counted, rather than
ever holding up a request.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from router.logs.access_line import UDP_LIMIT, Entry, shortened, text_of
from router.logs.log_entry import ExchangeLines
from router.logs.log_file import LogFile
from router.logs.syslog import Syslog

if TYPE_CHECKING:
    from router.config.settings import Settings
    from router.exchange import Exchange
    from router.heads.answers import Answer
    from router.logs.line_queue import LineQueue
    from router.pool import Endpoint


class LineCopy(Protocol):
    """Who gets a copy of the lines of requests that an app's endpoint was chosen for (gorouter reference 8.5)."""

    def __call__(self, line: bytes, endpoint: Endpoint) -> object:
        """Called in the loop, so it must not wait. ``line`` has no newline and fits into a datagram."""


class AccessLog:
    """An open access log, for one thread, the loop's."""

    @classmethod
    def from_settings(cls, settings: Settings) -> AccessLog | None:
        """The log that the settings ask for, None where they ask for none. Raises CannotLog."""
        outputs: list[LineQueue] = []
        if settings.access_log.file:
            outputs.append(LogFile(settings.access_log.file))
        if settings.access_log.enable_streaming:
            outputs.append(Syslog(settings.logging, structured=settings.millrace.syslog_format == "rfc5424"))
        if not outputs and not settings.logging.loggregator_enabled:
            return None
        return cls(settings, outputs)

    def __init__(self, settings: Settings, outputs: Sequence[LineQueue]) -> None:
        """Starts the outputs, which are its own from here on."""
        self._lines = ExchangeLines(settings)
        self._outputs = tuple(outputs)
        self._copies: tuple[LineCopy, ...] = ()
        for output in self._outputs:
            output.start()
        self._offer = self._outputs[0].offer if len(self._outputs) == 1 else self._offer_to_all

    @property
    def dropped(self) -> int:
        """Lines given up so far because an output did not keep up or refused them."""
        return sum(output.dropped for output in self._outputs)

    def copy_to(self, copy: LineCopy) -> None:
        self._copies = (*self._copies, copy)

    def exchange_over(self, exchange: Exchange, took: float) -> None:
        """An exchange is over ``took`` seconds after its request had come: format and queue its line. Never waits."""
        line = self._lines.line(exchange, took)
        self._offer(line)
        if self._copies and exchange.endpoint is not None and exchange.endpoint.record.app:
            text = line[:-1]
            if len(text) > UDP_LIMIT:
                text = shortened(self._lines.entry(exchange, took), self._lines.clock)
            for copy in self._copies:
                copy(text, exchange.endpoint)

    def refused(self, client: bytes, answer: Answer) -> None:
        """What came from ``client`` (``ip:port``) was no request, and ``answer`` said so."""
        self.write(self._lines.refusal(client, answer))

    def write(self, entry: Entry) -> None:
        """Format and queue one line, given value by value."""
        self._offer(text_of(entry, self._lines.clock) + b"\n")

    def _offer_to_all(self, line: bytes) -> None:
        for output in self._outputs:
            output.offer(line)

    def close(self) -> None:
        """Deliver what is queued; what an output does not take within a second is given up."""
        for output in self._outputs:
            output.close()
