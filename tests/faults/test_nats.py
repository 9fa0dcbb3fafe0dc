"""A big installation's worth of routes by NATS, all at once: none is lost, nothing grows beyond its bounds."""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.router.sources.nats import NatsServer, Registrar, running_nats
from tests.router.supervised import Router, children, running_router

ROUTES = 100_000
LONGEST = 120.0
"""Seconds that a burst may take on a machine that has other work to do."""
MOST_MIB = 120
"""Of a worker with all routes (PSS)."""
WORKERS = 2


def guid(number: int, kind: int) -> str:
    return f"{number * 2654435761 % 2**32:08x}-{kind:04x}-4{number % 4096:03x}-8000-{number * 40503 % 2**48:012x}"


def message(number: int) -> bytes:
    """As Diego's route emitters write them."""
    said: dict[str, Any] = {
        "host": f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}",
        "port": 61002,
        "tls_port": 61003,
        "uris": [f"app-{number}.apps.example.com"],
        "app": guid(number, 1),
        "private_instance_id": guid(number, 2),
        "private_instance_index": "0",
        "server_cert_domain_san": guid(number, 2),
        "tags": {"component": "route-emitter"},
        "availability_zone": "z1",
        "endpoint_updated_at_ns": 1700000000000000000,
        "options": {"loadbalancing": "least-connection"},
    }
    return json.dumps(said).encode()


def pss_mib(pid: int) -> float:
    found = re.search(r"^Pss: +(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) / 1024


def held(router: Router, what: str = "endpoints") -> list[float]:
    """Endpoints in each worker."""
    metrics = router.metrics()
    return [metrics[f'millrace_{what}{{worker="{worker}"}}'] for worker in range(WORKERS)]


def workers_of(router: Router) -> list[int]:
    found = children(router.process.pid)
    return [pid for pid in found if b"router.processes.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def cpu_seconds(router: Router) -> float:
    """Of all workers together."""
    return sum(value for name, value in router.metrics().items() if name.startswith("millrace_worker_cpu_seconds"))


def heard(router: Router) -> float:
    """Announcements of a route, news or not."""
    return sum(value for name, value in router.metrics().items() if name.startswith("registry_message{"))


def until(condition: Any, what: str, pause: float = 0.1) -> float:
    """Seconds that it took. ``pause``: between two looks, each of which costs the workers a report."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < LONGEST, f"{what}: not within {LONGEST} s"
        time.sleep(pause)
    return time.monotonic() - began


@pytest.fixture(scope="module")
def nats() -> Iterator[NatsServer]:
    with tempfile.TemporaryDirectory(prefix="mr-", dir="/tmp") as folder, running_nats(Path(folder)) as server:
        yield server


@pytest.fixture(scope="module")
def router(nats: NatsServer) -> Iterator[Router]:
    how: dict[str, Any] = {"start_response_delay_interval": "0s", "logging": {"level": "info"}}
    with running_router("", nats={"hosts": [nats.host]}, millrace={"workers": WORKERS}, **how) as running:
        yield running.until_healthy()


class TestABurst:
    """In this order: the table of the first is what the others look at."""

    def test_loses_no_route(self, nats: NatsServer, router: Router) -> None:
        with Registrar(nats) as registrar:
            registrar.publish("router.register", *map(message, range(ROUTES)))
        until(lambda: held(router) == [ROUTES] * WORKERS, "all routes in all workers")
        assert not router.said("nats-connection-disconnected")
        assert not router.said("worker-does-not-read")

    def test_leaves_workers_small(self, router: Router) -> None:
        sizes = [round(pss_mib(pid)) for pid in workers_of(router)]
        print(f"{sizes} MiB")
        assert max(sizes) < MOST_MIB

    def test_that_repeats_itself_changes_nothing(self, nats: NatsServer, router: Router) -> None:
        before = cpu_seconds(router)
        with Registrar(nats) as registrar:
            registrar.publish("router.register", *map(message, range(ROUTES)))
        until(lambda: heard(router) == 2 * ROUTES, "all of it heard", pause=1.0)
        assert held(router) == [ROUTES] * WORKERS
        assert held(router, "registry_resyncs_total") == [1.0] * WORKERS
        # Hearing it cost the sources process seconds.
        assert cpu_seconds(router) - before < 0.5

    def test_of_endings_leaves_nothing(self, nats: NatsServer, router: Router) -> None:
        with Registrar(nats) as registrar:
            registrar.publish("router.unregister", *map(message, range(ROUTES)))
        until(lambda: held(router) == [0.0] * WORKERS, "the end of all routes")
