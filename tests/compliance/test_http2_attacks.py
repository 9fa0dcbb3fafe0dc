"""Known attacks on HTTP/2 servers: what each may cost the router, while others are served as before.

One worker, so that the attackers and the normal client share it. The normal client asks again and again; its 99th
percentile during an attack is held against the one before. A machine that is busy with other things can spoil one
measurement: what holds at the second or third try holds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from router.registry.records import EndpointRecord
from router.registry.writer import RegistryWriter
from tests.compliance.http2_attackers import ATTACKS, FLOODING, STALLS
from tests.faults.processes import HOST, BackendProcess, resident_bytes
from tests.router.http2.peer import Peer, connect
from tests.router.registry.conftest import RedisServer, shared_redis
from tests.router.supervised import Router, running_router
from tests.router.wire import wait_until

__all__ = ["shared_redis"]

SECONDS = 1.2
CONNECTIONS = 12
"""Of one flood, spread over its seconds."""
STALLING_CONNECTIONS = 5
SETTLED = 1.0
"""Seconds after which those that stall have all begun: what they ask for until then is real work."""
MOST_CPU = 0.3
"""Of a core, on top of what the normal client costs; to serve every frame of a flood would take more than all."""
MOST_MEMORY = 24 << 20
"""Bytes by which the worker may grow. 500 streams that stall want 500 MB."""
GENEROUS = 0.020
"""Seconds that a 99th percentile may always take: the attackers and the test share the router's processors."""
TRIES = 3


@pytest.fixture(scope="module")
def backend() -> Iterator[BackendProcess]:
    running = BackendProcess("app")
    yield running
    running.kill()


@pytest.fixture(scope="module")
def router(shared_redis: RedisServer, backend: BackendProcess) -> Iterator[Router]:
    with RegistryWriter(shared_redis.url) as writer:
        lease = writer.lease("attacks", ttl=0)
        lease.replace([(HOST, backend.record), ("other.example.com", EndpointRecord(host="127.0.0.1", port=1))])
        quick = {"workers": 1, "body_progress_timeout": "1s"}
        with running_router(shared_redis.url, read_header_timeout="2s", millrace=quick) as running:
            yield running.until_healthy()
        lease.replace([])


def cpu_seconds(pid: int) -> float:
    """User and system time of one process. Linux."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split(" ")
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class NormalClient:
    """Asks on one HTTP/2 connection, one request at a time, a thousand a second at most."""

    def __init__(self, port: int) -> None:
        self._peer: Peer = connect(port)
        self.seconds: list[float] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.error: BaseException | None = None

    def _run(self) -> None:
        try:
            while not self._over.wait(0.001):
                began = time.perf_counter()
                assert self._peer.exchange(authority=HOST).status == 200
                self.seconds.append(time.perf_counter() - began)
        except BaseException as error:  # told by the test's own thread
            self.error = error

    def __enter__(self) -> NormalClient:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join(15)
        self._peer.close()

    @property
    def p99(self) -> float:
        if self.error is not None:
            raise self.error
        assert len(self.seconds) > 50, f"only {len(self.seconds)} answers"
        return sorted(self.seconds)[int(len(self.seconds) * 0.99)]


class Measured:
    """One attack and what came of it."""

    def __init__(self, router: Router, name: str) -> None:
        (pid,) = router.workers
        self.quiet, quiet_cpu = _load(router, pid, SECONDS / 3)
        memory = resident_bytes(pid)
        root = Path(__file__).parents[2]
        stalls = name in STALLS
        count, lasts = (STALLING_CONNECTIONS, SETTLED + SECONDS) if stalls else (CONNECTIONS, SECONDS)
        command = [sys.executable, "-m", "tests.compliance.http2_attackers", name, str(router.port)]
        attack = subprocess.Popen([*command, str(count), str(lasts)], stdout=subprocess.PIPE, cwd=root)
        time.sleep(SETTLED if stalls else 0)
        self.attacked, attacked_cpu = _load(router, pid, SECONDS)
        self.grown = resident_bytes(pid) - memory
        out, _ = attack.communicate(timeout=30)
        self.attack = json.loads(out)
        self.cpu = attacked_cpu - quiet_cpu
        assert router.workers == [pid]

    @property
    def complaint(self) -> str:
        """What was too much; empty where nothing was."""
        allowed = max(2 * self.quiet, GENEROUS)
        found = [
            (self.attacked > allowed, f"p99 {self.attacked * 1000:.1f} ms instead of {self.quiet * 1000:.1f}"),
            (self.cpu > MOST_CPU, f"{self.cpu:.2f} of a core"),
            (self.grown > MOST_MEMORY, f"{self.grown >> 20} MiB more memory"),
        ]
        return "; ".join(text for wrong, text in found if wrong)


def _load(router: Router, worker: int, seconds: float) -> tuple[float, float]:
    """The normal client's p99 in seconds, and the worker's share of a core, over so many seconds."""
    before, began = cpu_seconds(worker), time.monotonic()
    with NormalClient(router.port) as client:
        time.sleep(seconds)
        used, took = cpu_seconds(worker) - before, time.monotonic() - began
    return client.p99, used / took


@pytest.mark.parametrize("name", ATTACKS)
def test_others_are_served_as_before(router: Router, name: str) -> None:
    for _ in range(TRIES):
        measured = Measured(router, name)
        if not measured.complaint:
            break
    assert not measured.complaint, measured.attack


@pytest.mark.parametrize("name", [made.__name__ for made in FLOODING])
def test_who_floods_is_shut_out(router: Router, name: str) -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "tests.compliance.http2_attackers", name, str(router.port), "2", "3"]
    done = subprocess.run(command, capture_output=True, cwd=root, timeout=30, check=True)
    assert json.loads(done.stdout)["shut"] == 2


@pytest.mark.parametrize("name", sorted(STALLS))
def test_who_stalls_is_shut_out_in_time(router: Router, name: str) -> None:
    """Within the deadline for standing still, not when the client feels like it."""
    peer = connect(router.port, greet=False, acks=False, credits=False)
    for piece in ATTACKS[name]():
        peer.send(piece)
    peer.until(lambda: peer.frames)
    opened = [number for number in range(1, 201, 2) if name != "half_a_head"]
    if opened:
        peer.until(lambda: all(peer.stream(number).reset is not None or peer.stream(number).ended for number in opened))
    else:
        peer.end_of_connection()
    peer.close()


def test_afterwards_nothing_is_left(router: Router) -> None:
    wait_until(lambda: router.metrics()["millrace_client_connections"] == 0, "the end of every connection")
    wait_until(lambda: _descriptors(router) <= 40, "the end of what the attackers asked for")


def _descriptors(router: Router) -> int:
    (pid,) = router.workers
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))
