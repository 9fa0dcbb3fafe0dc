"""What the sources process counts, as it reports it to the supervisor: plain dictionaries that go over the channel."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from router.processes.control import Message

LATEST: Final = 256
"""Latencies that are kept one by one."""
COUNTED: Final = (
    "register",
    "unregister",
    "routes_pruned",
    "refused",
    "total_dropped_messages",
    "nats_reconnects",
    "tls_endpoints_dialled",
    "workers_cut_off",
    "bridge_writes",
    "token_fetch_errors",
    "subscribe_events_errors",
    "registration_latency",
)
"""The keys of a report that only ever rise: a later life of the process goes on from what the last one had."""


class Latencies:
    """From an endpoint's making to its registration here. Seconds."""

    def __init__(self, bounds: Sequence[float]) -> None:
        """``bounds``: the upper bounds of the histogram's buckets, rising."""
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self._sum = 0.0
        self._latest: deque[float] = deque(maxlen=LATEST)

    def add(self, seconds: float) -> None:
        seconds = max(0.0, seconds)  # clocks of two machines
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self._sum += seconds
        self._latest.append(seconds)

    def report(self) -> Message:
        """``counts``: per bucket, not cumulative, and last those above all bounds. ``latest``: the newest ones, of as
        many as ``count`` says."""
        return {
            "registration_latency": {"counts": self._counts, "sum": self._sum, "count": sum(self._counts)},
            "registration_latency_latest": list(self._latest),
        }


def summed(earlier: Message, latest: Message) -> Message:
    """The latest report, with what earlier lives counted added to it."""
    return {**latest, **{key: _sum(earlier.get(key), latest.get(key)) for key in COUNTED if key in (earlier | latest)}}


def _sum(one: Any, other: Any) -> Any:
    if one is None or other is None:
        return other if one is None else one
    if isinstance(one, dict):
        return {key: _sum(one.get(key), other.get(key)) for key in one | other}
    if isinstance(one, list):
        return [a + b for a, b in zip(one, other, strict=False)] if len(one) == len(other) else other
    return one + other
