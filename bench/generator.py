"""The bench's own load generator, for machines without wrk: ``python -m bench.generator SCENARIO PORT SECONDS``.

SCENARIO is the JSON object of a Scenario's fields. A closed loop: each connection sends its next request when the last
one was answered. At its end, or at SIGINT, it prints one line of JSON, the same as the wrk script (see bench.load).
It must never count what it did not see whole: a response is counted when its last byte came, and everything else is an
error of a named kind.
"""

from __future__ import annotations

import asyncio
import re
import signal
import ssl
import sys
from contextlib import suppress
from random import randrange
from time import perf_counter_ns
from typing import Final, cast

import orjson
import uvloop

from bench.histogram import Histogram
from bench.scenarios import HOST, Scenario, numbered_host

TIMEOUT_SECONDS: Final = 5.0
"""A request that waits longer when the time is up counts as timed out."""
RETRY_SECONDS: Final = 0.02
MAX_HEAD_BYTES: Final = 64 * 1024

_CONTENT_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)[ \t]*\r\n", re.IGNORECASE)


def request_bytes(scenario: Scenario, number: int) -> bytes:
    """The ``number``-th request of a scenario, as it goes on the wire."""
    path, cookie, body, host = scenario.path, "", b"", HOST
    if scenario.unique:
        path = f"{path}/{number}?request={number}"
        cookie = f"Cookie: session=s{number}\r\n"
    if scenario.hosts:
        host = numbered_host(randrange(scenario.hosts))
    length = f"Content-Length: {scenario.body_bytes}\r\n" if scenario.body_bytes else ""
    if scenario.body_bytes:
        body = b"x" * scenario.body_bytes
    return f"{scenario.method} {path} HTTP/1.1\r\nHost: {host}\r\n{cookie}{length}\r\n".encode() + body


def unchecked() -> ssl.SSLContext:
    """A client's context that checks no certificate, as wrk's: the load is to be cheap, and whom it loads is known."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ecdh_curve("X25519")
    return context


class Run:
    """What all connections of one run share: the requests to send and the figures so far."""

    def __init__(self, scenario: Scenario, port: int) -> None:
        self.scenario = scenario
        self.port = port
        self.latencies = Histogram()
        self.bytes = 0
        self.errors = {"connect": 0, "broken": 0, "timeout": 0, "status": 0}
        self.over = False
        self._number = 0
        self._same = b"" if scenario.unique or scenario.hosts else request_bytes(scenario, 0)
        self._tls = unchecked() if scenario.tls else None
        self._connecting: set[asyncio.Task[None]] = set()
        self.open: set[Connection] = set()

    def next_request(self) -> bytes:
        self._number += 1
        return self._same or request_bytes(self.scenario, self._number)

    def connect(self) -> None:
        task = asyncio.get_running_loop().create_task(self._connect())
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _connect(self) -> None:
        while not self.over:
            try:
                await asyncio.get_running_loop().create_connection(
                    lambda: Connection(self),
                    "127.0.0.1",
                    self.port,
                    ssl=self._tls,
                    server_hostname=HOST if self._tls else None,
                )
            except OSError:
                self.errors["connect"] += 1
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return

    @staticmethod
    async def _time_is_up(seconds: float) -> None:
        stopped = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, stopped.set)
        with suppress(TimeoutError):
            await asyncio.wait_for(stopped.wait(), seconds)

    async def last(self, seconds: float) -> dict[str, object]:
        """Run for ``seconds`` and return the figures."""
        began = perf_counter_ns()
        for _ in range(self.scenario.connections):
            self.connect()
        await self._time_is_up(seconds)
        self.over = True
        elapsed = perf_counter_ns() - began
        for connection in tuple(self.open):
            connection.end()
        for task in self._connecting:
            task.cancel()
        return {
            "requests": self.latencies.count,
            "seconds": elapsed / 1e9,
            "bytes": self.bytes,
            "p50_us": self.latencies.percentile(50),
            "p99_us": self.latencies.percentile(99),
            "errors": self.errors,
        }


class Connection(asyncio.Protocol):
    """One keep-alive connection with one request under way."""

    __slots__ = ("_body_left", "_head", "_in_body", "_run", "_sent", "_status_ok", "_transport")

    def __init__(self, run: Run) -> None:
        self._run = run
        self._head = b""
        self._in_body = False
        self._body_left = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are not its subclasses
        self._run.open.add(self)
        self._send()

    def _send(self) -> None:
        if self._run.over or self._transport.is_closing():
            return
        self._sent = perf_counter_ns()
        self._transport.write(self._run.next_request())

    def data_received(self, data: bytes) -> None:
        self._run.bytes += len(data)
        if not self._in_body:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                if len(self._head) > MAX_HEAD_BYTES:
                    self._transport.abort()
                return
            length = _CONTENT_LENGTH.search(self._head, 0, end + 2)
            if length is None:
                self._transport.abort()
                return
            self._status_ok = self._head[8:13] == b" 200 "
            self._in_body = True
            self._body_left = int(length[1]) - (len(self._head) - end - 4)
            self._head = b""
        else:
            self._body_left -= len(data)
        if self._body_left < 0:
            self._transport.abort()
        elif self._body_left == 0:
            self._in_body = False
            self._answered()

    def _answered(self) -> None:
        if not self._run.over:
            self._run.latencies.record((perf_counter_ns() - self._sent) // 1000)
            if not self._status_ok:
                self._run.errors["status"] += 1
        if self._run.scenario.pause_ms:
            asyncio.get_running_loop().call_later(self._run.scenario.pause_ms / 1000, self._send)
        else:
            self._send()

    def connection_lost(self, error: Exception | None) -> None:
        self._run.open.discard(self)
        if not self._run.over:
            self._run.errors["broken"] += 1
            asyncio.get_running_loop().call_later(RETRY_SECONDS, self._run.connect)

    def end(self) -> None:
        if perf_counter_ns() - self._sent > TIMEOUT_SECONDS * 1e9:
            self._run.errors["timeout"] += 1
        self._transport.abort()


def main() -> None:
    fields, port, seconds = sys.argv[1:]
    figures = uvloop.run(Run(Scenario(**orjson.loads(fields)), int(port)).last(float(seconds)))
    sys.stdout.write(orjson.dumps(figures).decode() + "\n")


if __name__ == "__main__":
    main()
