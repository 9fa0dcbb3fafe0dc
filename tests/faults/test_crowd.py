"""Ten thousand idle connections and a thousand that send their heads byte by byte: others do not feel them."""

from __future__ import annotations

import statistics
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Final

from router.registry.writer import Lease
from tests.faults.processes import resident_bytes
from tests.router.registry.conftest import RedisServer
from tests.router.supervised import GET, Router, running_router

IDLE: Final = 10_000
SLOW: Final = 1_000
BYTES_PER_IDLE: Final = 16 * 1024
SAMPLES: Final = 7
REQUESTS: Final = 300
"""In each sample: enough for a 99th percentile."""
NOISE: Final = 0.005
"""Seconds that a busy machine may add; a quiet 99th percentile is well below it."""
_PROGRAM: Final = Path(__file__).with_name("crowd_program.py")


@contextmanager
def crowd(router: Router) -> Iterator[int]:
    """A crowd that is connected; gives the number of idle ones. None of them may be lost meanwhile."""
    arguments = [str(router.port), str(IDLE), str(SLOW)]
    with subprocess.Popen(
        [sys.executable, "-I", _PROGRAM, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            idle, slow = map(int, process.stdout.readline().split())
            assert slow == SLOW
            yield idle
            process.stdin.close()
            assert process.stdout.readline() == "0\n", "idle connections that were lost"
        finally:
            process.kill()


def slow_end(router: Router) -> float:
    """Seconds: the median of several 99th percentiles of one client's requests."""
    wire = router.connect()
    found = []
    for _ in range(SAMPLES):
        took = []
        for _ in range(REQUESTS):
            began = monotonic()
            wire.send(GET)
            assert wire.message().status == 200
            took.append(monotonic() - began)
        found.append(statistics.quantiles(took, n=100)[98])
    wire.close()
    return statistics.median(found)


def test_a_crowd_that_is_idle_or_slow(redis: RedisServer, lease: Lease) -> None:
    with running_router(redis.url, millrace={"workers": 1}) as router:
        [worker] = router.until_healthy().workers
        quiet = slow_end(router)
        before = resident_bytes(worker)
        with crowd(router) as idle:
            if idle < IDLE:
                warnings.warn(f"the limit of open files allows {idle} idle connections, not {IDLE}", stacklevel=1)
            assert router.metrics()["millrace_client_connections"] >= idle
            crowded = slow_end(router)
            each = (resident_bytes(worker) - before) / (idle + SLOW)
        print(f"p99 {quiet * 1000:.2f} ms quiet, {crowded * 1000:.2f} ms in a crowd; {each:.0f} bytes per connection")
        assert crowded <= max(2 * quiet, NOISE)
        assert each <= BYTES_PER_IDLE
