"""Nothing grows with uptime: after many connections, unknown routes and registrations memory is what it was before."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from itertools import count
from typing import Final

from router.registry.records import EndpointRecord
from router.registry.writer import Lease
from tests.faults.processes import resident_bytes
from tests.router.registry.conftest import RedisServer, eventually
from tests.router.supervised import GET, Router, running_router
from tests.router.wire import PATIENCE, Wire

CONNECTIONS: Final = 20_000
UNKNOWN: Final = 20_000
REGISTRATIONS: Final = 2_000
BATCH: Final = 50
"""Requests that are sent at once on one connection."""
GROWTH: Final = 1024 * 1024


def addresses() -> Iterator[tuple[str, int]]:
    """Sources for many connections: one address alone would run out of ports, which stay taken for a minute."""
    for number in count():
        yield f"127.0.1.{1 + number % 200}", 0


def connect_often(router: Router, times: int) -> None:
    """One request on each connection; the connections are closed by either side in turn."""
    sources = addresses()
    closing = GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    for number in range(times):
        wire = Wire(socket.create_connection(("127.0.0.1", router.port), PATIENCE, next(sources)))
        wire.send(closing if number % 2 else GET)
        assert wire.message().status == 200
        wire.close()


def ask_for_the_unknown(router: Router, times: int, series: int) -> None:
    """Hosts and paths that nobody asked for before."""
    wire = router.connect()
    for first in range(0, times, BATCH):
        names = [f"{series}-{number}" for number in range(first, first + BATCH)]
        wire.send(b"".join(f"GET /{n} HTTP/1.1\r\nHost: h{n}.example.com\r\n\r\n".encode() for n in names))
        assert {wire.message().status for _ in names} == {404}
        wire.seen = b""
    wire.close()


def register_often(router: Router, lease: Lease, times: int, series: int) -> None:
    """Routes that come and go, each under a name of its own."""
    for number in range(times):
        route = f"{series}-{number}.example.com"
        record = EndpointRecord(host="127.0.0.1", port=1 + number)
        lease.register([(route, record)])
        lease.unregister([(route, record.address)])
    eventually(lambda: 'millrace_endpoints{worker="0"} 3\n' in router.status("/metrics").body.decode())


def test_memory_is_the_same_after_a_busy_day(redis: RedisServer, lease: Lease) -> None:
    with running_router(redis.url, millrace={"workers": 1}, empty_pool_timeout="100ms") as router:
        [worker] = router.until_healthy().workers

        def a_day(series: int, connections: int) -> int:
            connect_often(router, connections)
            ask_for_the_unknown(router, UNKNOWN, series)
            register_often(router, lease, REGISTRATIONS, series)
            return resident_bytes(worker)

        first, supervisor = a_day(1, CONNECTIONS // 4), resident_bytes(router.process.pid)
        second = a_day(2, CONNECTIONS)
        print(f"worker: {first} bytes, then {second}")
        assert second - first <= GROWTH
        assert resident_bytes(router.process.pid) - supervisor <= GROWTH
