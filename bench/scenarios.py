"""The HTTP scenarios: what is asked of every proxy. A new scenario is one more entry in SCENARIOS.

It must never know a proxy or a generator: whoever makes load reads these fields.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

HOST: Final = "bench.example.com"
"""The one route that every proxy is given."""

SMALL_BYTES: Final = 600
LARGE_BYTES: Final = 1024 * 1024

SMALL_PATH: Final = "/small"
LARGE_PATH: Final = "/large"
"""What every backend serves: SMALL_BYTES on any path, LARGE_BYTES on this one."""


NUMBERED: Final = "app-"


def numbered_host(number: int) -> str:
    """The host of the ``number``-th of many routes, from 0."""
    return f"{NUMBERED}{number}.{HOST}"


@dataclass(frozen=True, slots=True)
class Scenario:
    name: str
    title: str
    connections: int
    """Keep-alive client connections, each with one request at a time."""
    path: str = SMALL_PATH
    response_bytes: int = SMALL_BYTES
    body_bytes: int = 0
    """Request body; 0 means GET, anything else POST."""
    unique: bool = False
    """Every request has its own path, query and cookie."""
    hosts: int = 0
    """Requests go to so many hosts, at random (see numbered_host); 0 means to HOST alone."""
    pause_ms: int = 0
    """How long a connection rests between an answer and its next request."""

    @property
    def method(self) -> str:
        return "POST" if self.body_bytes else "GET"


STEADY: Final = Scenario("steady", "steady small GETs, about 1,000 a second", 32, pause_ms=32)
"""Traffic that goes on while routes change: far from what saturates anything."""

SCENARIOS: Final = {
    scenario.name: scenario
    for scenario in (
        Scenario("small", "small GET, 64 connections", 64),
        Scenario("large", "1 MiB responses, 16 connections", 16, path=LARGE_PATH, response_bytes=LARGE_BYTES),
        Scenario("crowd", "small GET, 1,000 connections", 1000),
        Scenario("unique", "every request different, 64 connections", 64, unique=True),
        Scenario("post", "POST of 10 KiB, 64 connections", 64, body_bytes=10 * 1024),
    )
}
