"""What a request costs the router's own code, feature by feature: ``python -m bench.request_cost``.

One worker's edge in this process, between connections whose transports write nowhere: a small GET comes and its
response, again and again, and the processor time of all of it is taken. No kernel, no network and no peer moves these
figures, so that differences of a tenth of a microsecond are seen. Envelopes for Loggregator do go out, to a process
that reads them.

It must never be compared with `millrace bench http`, which counts what the kernel does, too.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import socket
from collections.abc import Callable
from dataclasses import replace
from time import process_time
from typing import Any, Final

import uvloop

from router.config.settings import Settings
from router.edge import Edge
from router.loggregator.worker_side import WorkerSide
from router.logs.access_log import AccessLog
from router.metrics.counters import Metrics
from router.registry.records import EndpointRecord
from router.table import RouteTable

REQUESTS: Final = 5000
"""Between two looks at the clock."""
ROUNDS: Final = 30
"""The best one counts: whatever else the machine did can only have made the others slower."""
SWEEP_EVERY: Final = 250
"""Requests between two turns of the sweep: as many as 5,000 a second bring."""
GET: Final = (
    b"GET /some/path?query=1 HTTP/1.1\r\nHost: app.example.com\r\nUser-Agent: bench/1.0\r\nAccept: */*\r\n"
    b"X-Forwarded-For: 203.0.113.7\r\n\r\n"
)
OK: Final = b"HTTP/1.1 200 OK\r\nDate: Sun, 22 Nov 2026 10:00:00 GMT\r\nContent-Length: 12\r\n\r\nhello world\n"
APP: Final = EndpointRecord(
    host="192.0.2.1",
    port=8080,
    app="0f6f7d8a-3a0e-4b8e-9a46-2d8cbd1f3b5d",
    private_instance_id="c1f5d2c0-8d2e-4c52-6c3f-1b6f",
    private_instance_index="0",
    tags={"component": "route-emitter", "source_id": "0f6f7d8a-3a0e-4b8e-9a46-2d8cbd1f3b5d", "instance_id": "0"},
)


class Nowhere(asyncio.Transport):
    """A transport that takes everything at once."""

    def write(self, data: Any) -> None:
        pass

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("192.0.2.9", 50_000) if name == "peername" else default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def is_closing(self) -> bool:
        return False


def configured(agent: str) -> dict[str, Settings]:
    """By what is added, the settings; each has all that those above it have."""
    plain = Settings(per_request_metrics_reporting=False)
    logging = replace(plain.logging, loggregator_enabled=True, metron_address=agent)
    metrics = replace(plain, per_request_metrics_reporting=True)
    values = replace(
        metrics,
        logging=logging,
        send_http_start_stop_server_event=False,
        send_http_start_stop_client_event=False,
    )
    server = replace(values, send_http_start_stop_server_event=True)
    both = replace(server, send_http_start_stop_client_event=True)
    return {
        "no metrics of single requests": plain,
        "per_request_metrics_reporting": metrics,
        "per_app_prometheus_http_metrics_reporting": replace(metrics, per_app_prometheus_http_metrics_reporting=True),
        "Loggregator: four value metrics": values,
        "Loggregator: server event as well": server,
        "Loggregator: client event as well": both,
        "Loggregator: log line as well, with its making": both,
    }


async def cost(settings: Settings, *, lines: bool) -> float:
    """CPU µs per request. ``lines``: with an access log that is copied to Loggregator and goes nowhere else."""
    loop = asyncio.get_running_loop()
    table = RouteTable()
    metrics = Metrics.from_settings(settings)
    log = AccessLog(settings, []) if lines else None
    edge = Edge(settings, table, metrics, log, loop)
    table.upsert("app.example.com", APP)
    side = WorkerSide(settings) if settings.logging.loggregator_enabled else None
    sending = None
    if side is not None:
        side.attach(edge, log)
        sending = asyncio.create_task(side.run())
        await asyncio.sleep(0.1)
    serve = _connection(edge, table)
    best = min([_timed(serve, edge) for _ in range(ROUNDS)])
    if sending is not None:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
    return best


def _connection(edge: Edge, table: RouteTable) -> Callable[[], None]:
    """One client's connection and one to the endpoint, both open: gives what serves one request."""
    from router.backend import BackendConnection  # noqa: PLC0415 - edge first: it knows the order

    client = edge.client()
    client.connection_made(Nowhere())
    pool = table.lookup("app.example.com", "/")
    assert pool is not None
    backend = BackendConnection(edge, pool.endpoints[0], None)
    backend.transport = Nowhere()
    pool.endpoints[0].idle = [backend]

    def serve() -> None:
        client.data_received(GET)
        backend.data_received(OK)

    return serve


def _timed(serve: Callable[[], None], edge: Edge) -> float:
    began = process_time()
    for _ in range(REQUESTS // SWEEP_EVERY):
        for _ in range(SWEEP_EVERY):
            serve()
        edge.metrics.settle()
    return (process_time() - began) / REQUESTS * 1e6


def _read(sock: socket.socket) -> None:
    while True:
        sock.recv(65_536)


def main() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as agent:
        agent.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 * 1024 * 1024)
        agent.bind(("127.0.0.1", 0))
        reader = multiprocessing.Process(target=_read, args=(agent,), daemon=True)
        reader.start()
        before = 0.0
        for name, settings in configured(f"127.0.0.1:{agent.getsockname()[1]}").items():
            now = uvloop.run(cost(settings, lines="log line" in name))
            print(f"{name:50} {now:6.2f} µs  {now - before:+6.2f}")
            before = now
        reader.kill()


if __name__ == "__main__":
    main()
