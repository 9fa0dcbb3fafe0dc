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


MESSAGE_BYTES: Final = 125
"""Payload of one WebSocket message: the most that needs no length of its own (RFC 6455 section 5.2)."""


@dataclass(frozen=True, slots=True)
class Goal:
    """What the router is meant to reach."""

    most: float
    """Its CPU time per request, message or handshake over nginx's."""
    meaning: str = ""
    """The same in other words, where it was set in those."""

    def met(self, ratio: float) -> bool:
        return ratio <= self.most


@dataclass(frozen=True, slots=True)
class Scenario:
    name: str
    title: str
    connections: int
    """Client connections: kept alive, each with one request at a time, where nothing else is said."""
    unit: str = "req"
    """What is counted."""
    goal: Goal | None = None
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

    tls: bool = False
    http2: bool = False
    streams: int = 1
    """Requests at a time on each connection; more than one only with HTTP/2."""
    handshakes: bool = False
    """Every request has a new TLS connection that resumes nothing."""
    websocket: bool = False
    """After an upgrade, messages of MESSAGE_BYTES go to and fro, one at a time on each connection."""
    logged: bool = False
    """Each proxy keeps its access log in a file, and the router has on what BOSH switches on in a Gorouter."""
    envelopes: bool = False
    """Besides, the router tells a Loggregator agent of every request, by UDP."""

    @property
    def special(self) -> bool:
        """Whether it takes another generator than most."""
        return self.http2 or self.handshakes or self.websocket

    @property
    def method(self) -> str:
        return "POST" if self.body_bytes else "GET"


PLAIN: Final = Scenario("plain", "HTTP/1.1 without TLS", 1)
"""What a proxy is set up for where nothing else is asked."""

STEADY: Final = Scenario("steady", "steady small GETs, about 1,000 a second", 32, pause_ms=32)
"""Traffic that goes on while routes change: far from what saturates anything."""

SCENARIOS: Final = {
    scenario.name: scenario
    for scenario in (
        Scenario("small", "small GET, 64 connections", 64, goal=Goal(1.3)),
        Scenario(
            "bosh",
            "small GET as BOSH sets a Gorouter up: access log, sticky cookies, tracing, metrics; 64 connections",
            64,
            logged=True,
            goal=Goal(1.6),
        ),
        Scenario("loggregator", "the same with envelopes to Loggregator", 64, logged=True, envelopes=True),
        Scenario("large", "1 MiB responses, 16 connections", 16, path=LARGE_PATH, response_bytes=LARGE_BYTES),
        Scenario("crowd", "small GET, 1,000 connections", 1000),
        Scenario("unique", "every request different, 64 connections", 64, unique=True),
        Scenario("post", "POST of 10 KiB, 64 connections", 64, body_bytes=10 * 1024),
        Scenario("tls", "small GET over TLS, 64 connections", 64, tls=True, goal=Goal(1.3)),
        Scenario(
            "tls-large",
            "1 MiB responses over TLS, 16 connections",
            16,
            path=LARGE_PATH,
            response_bytes=LARGE_BYTES,
            tls=True,
            goal=Goal(0.8),
        ),
        Scenario(
            "handshakes",
            "a new TLS connection per request, none resumed, 16 at a time",
            16,
            unit="handshake",
            tls=True,
            handshakes=True,
            goal=Goal(1.25, "handshakes per second of a full core at least 0.8 of nginx's"),
        ),
        Scenario(
            "websocket",
            f"WebSocket echo of {MESSAGE_BYTES}-byte messages, 64 connections",
            64,
            unit="message",
            response_bytes=MESSAGE_BYTES,
            websocket=True,
            goal=Goal(1.2),
        ),
        Scenario(
            "h2",
            "HTTP/2 over TLS, small GET, 16 connections of 32 streams",
            16,
            tls=True,
            http2=True,
            streams=32,
            goal=Goal(5.0),
        ),
        Scenario(
            "h2c",
            "HTTP/2 without TLS (prior knowledge), small GET, 16 connections of 32 streams",
            16,
            http2=True,
            streams=32,
            goal=Goal(5.0),
        ),
    )
}
