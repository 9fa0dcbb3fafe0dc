"""The registry scenarios, for the router alone: how fast a change shows, what many routes cost, how a burst is taken.

It must never look inside the router: a route is there when a request for it is answered, as a user would find out.
"""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from math import ceil
from statistics import median
from typing import Final

from rich.table import Table

from bench.histogram import Histogram
from bench.machine import BenchError, pinned
from bench.meter import memory
from bench.programs import Program
from bench.proxy import Site, new_site
from bench.report import MEBIBYTE
from bench.rounds import Bench
from bench.scenarios import HOST, SCENARIOS, SMALL_PATH, STEADY, numbered_host
from bench.subject import bench_lease, start_redis, start_router
from router.registry.records import EndpointRecord
from router.registry.writer import Lease, RegistryWriter

SINGLE_CHANGES: Final = 500
SHOWN_SECONDS: Final = 300.0
"""The longest that a registered route may take to be served."""
ASKED_EVERY: Final = 10
"""One in so many routes is asked for in the lookups."""
LEAD_IN_SECONDS: Final = 0.5
"""Steady requests before a burst, so that all connections are open when it comes."""
LONGEST_LOAD_SECONDS: Final = 900.0


@dataclass(frozen=True, slots=True)
class Changes:
    """Single registrations under steady load, each from the return of the call to the first 200 for the new route."""

    count: int
    p50_ms: float
    p99_ms: float
    errors: int
    """Of the steady requests meanwhile."""


@dataclass(frozen=True, slots=True)
class Burst:
    """All routes registered in one call."""

    call_seconds: float
    lag_seconds: float
    """From the call's return until the last of them answers."""
    quiet_p99_ms: float
    """Steady requests before, and meanwhile."""
    p99_ms: float
    errors: int


@dataclass(frozen=True, slots=True)
class Size:
    """PSS of the router's process tree, with one route and with all, and of Redis with all."""

    before_bytes: int
    after_bytes: int
    redis_bytes: int


@dataclass(frozen=True, slots=True)
class Lookups:
    """Small requests to one host, and to many of all over the table at random: medians over rounds in turn."""

    hosts: int
    one_host_cpu_us: float
    many_hosts_cpu_us: float
    one_host_p50_us: float
    many_hosts_p50_us: float
    errors: dict[str, int]
    """By kind."""


@dataclass(frozen=True, slots=True)
class Start:
    """From the start of the router's process until it says that it is ready, without a snapshot on disk."""

    one_route_seconds: float
    all_routes_seconds: float


@dataclass(frozen=True, slots=True)
class RegistryResult:
    routes: int
    changes: Changes
    burst: Burst
    size: Size
    lookups: Lookups
    start: Start


def entry(backend_port: int, number: int) -> tuple[str, EndpointRecord]:
    """The ``number``-th of many routes, at the bench's backend, each of an application of its own.

    But every ASKED_EVERYth is a numbered host of one application: these are asked for, and share its connections to the
    backend, so that what their requests cost beyond those to one host is the looking up.
    """
    route, application = f"other-{number}.{HOST}", number
    if number % ASKED_EVERY == 0:
        route, application = numbered_host(number // ASKED_EVERY), 0
    guid = f"{application:08x}-0000-4000-8000-{application:012x}"
    record = EndpointRecord(
        "127.0.0.1", backend_port, app=guid, private_instance_id=f"{guid}-0", private_instance_index="0"
    )
    return route, record


class Client:
    """Asks one router for one host after another over one connection."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)

    def served(self, host: str) -> bool:
        """Whether ``host`` is answered with 200. Raises BenchError when it is not answered at all."""
        try:
            self._connection.request("GET", SMALL_PATH, headers={"Host": host})
            response = self._connection.getresponse()
            response.read()
        except (OSError, http.client.HTTPException) as error:
            raise BenchError(f"the router did not answer a request for {host}: {error}") from None
        return response.status == 200

    def wait_for(self, host: str, pause: float) -> float:
        """Seconds until ``host`` is served, asked every ``pause`` seconds. Raises BenchError after SHOWN_SECONDS."""
        began = time.perf_counter()
        while not self.served(host):
            if time.perf_counter() - began > SHOWN_SECONDS:
                raise BenchError(f"{host} was registered and is not served after {SHOWN_SECONDS:g} s")
            time.sleep(pause)
        return time.perf_counter() - began

    def close(self) -> None:
        self._connection.close()


def run(bench: Bench, routes: int, progress: Callable[[str], None]) -> RegistryResult:
    """All registry scenarios, one after the other, with ``routes`` routes.

    Raises BenchError, and what the registry's writer and its Redis raise.
    """
    with pinned(bench.cores.load), ExitStack() as stack:
        site = _site(bench, "registry")
        redis = start_redis(site.folder, site.cores.load, stack)
        lease = bench_lease(stack.enter_context(RegistryWriter(redis.url)))
        lease.register([(HOST, entry(site.backend_port, 0)[1])])
        progress("starting a router with one route")
        program, one_route_seconds = _timed_start(site, redis.url, stack)

        progress(f"{SINGLE_CHANGES} single registrations under steady load")
        changes = _single_changes(bench, site, lease)
        before = memory(program.pid).pss
        progress(f"a burst of {routes:,} registrations under steady load")
        burst = _burst(bench, site, lease, routes)
        size = Size(before, memory(program.pid).pss, memory(redis.server.pid).pss)
        progress("requests to hosts at random")
        lookups = _lookups(bench, site, program, routes)
        progress(f"starting a fresh router with {routes:,} routes")
        _, all_routes_seconds = _timed_start(_site(bench, "fresh"), redis.url, stack)
    return RegistryResult(routes, changes, burst, size, lookups, Start(one_route_seconds, all_routes_seconds))


def _site(bench: Bench, name: str) -> Site:
    return new_site(bench.folder, name, bench.backend.port, bench.cores)


def _timed_start(site: Site, redis_url: str, stack: ExitStack) -> tuple[Program, float]:
    began = time.perf_counter()
    program = start_router(site, redis_url, stack)
    return program, time.perf_counter() - began


def _single_changes(bench: Bench, site: Site, lease: Lease) -> Changes:
    waits = Histogram()
    client = Client(site.port)
    with bench.generator.start(STEADY, site.port, LONGEST_LOAD_SECONDS, site.cores.load) as generation:
        for number in range(SINGLE_CHANGES):
            host = f"single-{number}.{HOST}"
            lease.register([(host, entry(site.backend_port, number)[1])])
            waits.record(round(client.wait_for(host, 0) * 1e6))
        generation.stop()
    client.close()
    failed = generation.result().failed
    return Changes(SINGLE_CHANGES, waits.percentile(50) / 1000, waits.percentile(99) / 1000, failed)


def _burst(bench: Bench, site: Site, lease: Lease, routes: int) -> Burst:
    entries = [entry(site.backend_port, number) for number in range(routes)]
    quiet = bench.generator.run(STEADY, site.port, bench.effort.seconds, site.cores.load)
    client = Client(site.port)
    with bench.generator.start(STEADY, site.port, LONGEST_LOAD_SECONDS, site.cores.load) as generation:
        generation.running(LEAD_IN_SECONDS)
        began = time.perf_counter()
        lease.register(entries)
        call = time.perf_counter() - began
        # The log keeps the order of the call, so the last route stands for all; the lookups then ask for each.
        lag = client.wait_for(entries[-1][0], 0.002)
        generation.stop()
    client.close()
    load = generation.result()
    return Burst(call, lag, quiet.p99_us / 1000, load.p99_us / 1000, load.failed)


def _lookups(bench: Bench, site: Site, program: Program, routes: int) -> Lookups:
    hosts = ceil(routes / ASKED_EVERY)
    one, many = SCENARIOS["small"], replace(SCENARIOS["small"], hosts=hosts)
    rounds = [
        (bench.measure(program, site.port, one), bench.measure(program, site.port, many))
        for _ in range(bench.effort.rounds)
    ]
    return Lookups(
        hosts=hosts,
        one_host_cpu_us=median(ours.cpu_us_per_request for ours, _ in rounds),
        many_hosts_cpu_us=median(theirs.cpu_us_per_request for _, theirs in rounds),
        one_host_p50_us=median(ours.p50_us for ours, _ in rounds),
        many_hosts_p50_us=median(theirs.p50_us for _, theirs in rounds),
        errors={kind: sum(each.errors[kind] for pair in rounds for each in pair) for kind in rounds[0][0].errors},
    )


def table(result: RegistryResult) -> Table:
    """The registry scenarios, for a terminal."""
    changes, burst, size, lookups, start = result.changes, result.burst, result.size, result.lookups, result.start
    grown = size.after_bytes - size.before_bytes
    shown = Table(
        title=f"registry, {result.routes:,} routes", title_justify="left", title_style="bold", show_header=False
    )
    shown.add_column()
    shown.add_column(justify="right")
    for label, value in (
        (f"one change to first 200 under load, p50 ({changes.count} times)", f"{changes.p50_ms:.2f} ms"),
        ("the same, p99", f"{changes.p99_ms:.2f} ms"),
        ("failed requests meanwhile", str(changes.errors)),
        (
            "burst: the registrar's call",
            f"{burst.call_seconds:.2f} s ({result.routes / burst.call_seconds:,.0f} routes/s)",
        ),
        ("burst: from the call's return until all is served", f"{burst.lag_seconds * 1000:.1f} ms"),
        ("p99 of steady requests, quiet", f"{burst.quiet_p99_ms:.2f} ms"),
        ("p99 of steady requests during the burst", f"{burst.p99_ms:.2f} ms"),
        ("failed requests during the burst", str(burst.errors)),
        (
            "router's memory with one route and with all",
            f"{size.before_bytes / MEBIBYTE:.1f} / {size.after_bytes / MEBIBYTE:.1f} MiB",
        ),
        ("router's memory per route", f"{grown / result.routes:,.0f} bytes"),
        ("Redis's memory with all", f"{size.redis_bytes / MEBIBYTE:.1f} MiB"),
        (
            f"CPU per request to one host / to {lookups.hosts:,} at random",
            f"{lookups.one_host_cpu_us:.1f} / {lookups.many_hosts_cpu_us:.1f} µs",
        ),
        (
            f"p50 of requests to one host / to {lookups.hosts:,} at random",
            f"{lookups.one_host_p50_us / 1000:.2f} / {lookups.many_hosts_p50_us / 1000:.2f} ms",
        ),
        (
            "failed requests in these two",
            ", ".join(f"{count} {kind}" for kind, count in lookups.errors.items() if count) or "0",
        ),
        ("start until ready, one route / all", f"{start.one_route_seconds:.2f} / {start.all_routes_seconds:.2f} s"),
    ):
        shown.add_row(label, value)
    return shown
