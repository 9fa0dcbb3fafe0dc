"""Loggregator in a worker: what the settings ask for, put together."""

from __future__ import annotations

import gc
import sys
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from router.loggregator.metron import Metron
from router.loggregator.parts import PartsOf
from router.loggregator.requests import RequestEvents
from router.loggregator.values import RequestValues

if TYPE_CHECKING:
    from router.config.settings import Settings
    from router.edge import Edge
    from router.logs.access_log import AccessLog
    from router.metrics.counters import Metrics


class WorkerSide:
    """``attach`` it before the first request; then ``run`` it in a task."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.metron = Metron(settings.logging.metron_address)
        self._collecting_since = 0
        self._gc_pause = 0

    def attach(self, edge: Edge, access_log: AccessLog | None) -> None:
        """Have exchanges, metrics and the access log tell what is to be sent."""
        settings = self._settings
        events = RequestEvents(
            self.metron,
            PartsOf(str(settings.index)),
            server=settings.send_http_start_stop_server_event,
            client=settings.send_http_start_stop_client_event,
        )
        if settings.send_http_start_stop_server_event or settings.send_http_start_stop_client_event:
            edge.watch(events)
        if settings.enable_envelope_v1_metrics:
            edge.metrics.tell(RequestValues(self.metron, per_request=settings.per_request_metrics_reporting))
        if access_log is not None:
            access_log.copy_to(events.copy_line)
        gc.callbacks.append(self._collected)

    async def run(self) -> None:
        """Until cancelled."""
        await self.metron.run()

    def report(self) -> dict[str, Any]:
        """What the supervisor sends as figures of the runtime."""
        return {
            "allocated_blocks": sys.getallocatedblocks(),
            "gc_pause_ns": self._gc_pause,
        }

    def count(self, metrics: Metrics) -> None:
        """Tell how many envelopes were sent, and how many dropped."""
        metrics.envelopes_sent, metrics.envelopes_dropped = self.metron.sent, self.metron.dropped

    def _collected(self, phase: str, _: object) -> None:
        if phase == "start":
            self._collecting_since = perf_counter_ns()
        else:
            self._gc_pause = perf_counter_ns() - self._collecting_since
