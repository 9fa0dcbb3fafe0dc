"""Bodies of a GiB, as fast as they go and past peers that take 1 MB a second: the router does not grow with them."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

import pytest

from router.registry.writer import Lease
from tests.faults.processes import HOST, router_bytes
from tests.router.registry.conftest import RedisServer
from tests.router.supervised import Router, running_router
from tests.router.wire import wait_until

GIB: Final = 1024**3
RATE: Final = 1_000_000
"""Bytes a second that a slow peer takes."""
SECONDS: Final = 12.0
"""How long the slow peers are watched, unless MILLRACE_LONG=1 asks for the whole 18 minutes."""
GROWTH: Final = 8_000_000
BLOCK: Final = 256 * 1024


class Watch:
    """How much memory a router holds at most, looked at ten times a second."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self._before = router_bytes(router)
        self._most = self._before
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        while not self._over.wait(0.1):
            self._most = max(self._most, router_bytes(self._router))

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def growth(self) -> int:
        return self._most - self._before


def download(router: Router, length: int, rate: int, until: float) -> int:
    """Bytes of the body that were read before ``until``, a monotonic time."""
    wire = router.connect()
    wire.send(f"GET /send/{length} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
    assert wire.head().get("content-length") == str(length).encode()
    read, room, began = len(wire.pending), bytearray(BLOCK), time.monotonic()
    while read < length and time.monotonic() < until:
        if rate:
            time.sleep(max(0.0, began + read / rate - time.monotonic()))
        count = wire.socket.recv_into(room, rate // 20 if rate else 0)
        assert count, f"closed after {read} bytes"
        read += count
    wire.close()
    return read


def upload(router: Router, length: int, rate: int, until: float) -> int:
    """Bytes of the body that were sent before ``until``; all of them only if the backend says that it has them."""
    wire = router.connect()
    path = f"/take/{rate}" if rate else "/take"
    wire.send(f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {length}\r\n\r\n".encode())
    wire.socket.settimeout(0.2)
    sent, block = 0, memoryview(bytes(BLOCK))
    while sent < length and time.monotonic() < until:
        with suppress(TimeoutError):  # a slow backend: the buffers on the way are full
            sent += wire.socket.send(block[: length - sent])
    if sent == length:
        wire.socket.settimeout(60.0)  # what is in buffers on the way, at the pace of the backend
        assert wire.message().body == b"%d" % length
    wire.close()
    return sent


@contextmanager
def at_the_same_time(*work: Callable[[], int]) -> Iterator[list[int]]:
    """Runs each in a thread; their results are there when the context ends."""
    results: list[int] = []
    threads = [threading.Thread(target=lambda one=one: results.append(one())) for one in work]
    for thread in threads:
        thread.start()
    yield results
    for thread in threads:
        thread.join()
    assert len(results) == len(work), "one of them failed"


@pytest.fixture
def single(redis: RedisServer, lease: Lease) -> Iterator[Router]:
    """One worker, which has served before."""
    with running_router(redis.url, millrace={"workers": 1}) as router:
        router.until_healthy()
        for _ in range(20):
            router.get()
        yield router
        wait_until(lambda: router.metrics()["millrace_client_connections"] == 0, "no client connection")


@pytest.mark.parametrize("transfer", [download, upload])
def test_a_whole_body_at_full_speed(single: Router, transfer: Callable[[Router, int, int, float], int]) -> None:
    with Watch(single) as watch:
        assert transfer(single, GIB, 0, time.monotonic() + 120) == GIB
    assert watch.growth <= GROWTH


def slow_peers(router: Router, length: int, seconds: float) -> None:
    until = time.monotonic() + seconds
    with (
        Watch(router) as watch,
        at_the_same_time(
            lambda: download(router, length, RATE, until), lambda: upload(router, length, RATE, until)
        ) as done,
    ):
        pass
    print(f"grew by {watch.growth / 1e6:.1f} MB")
    assert min(done) >= min(length, RATE * seconds / 2)
    assert watch.growth <= GROWTH


def test_slow_peers(single: Router) -> None:
    slow_peers(single, GIB, SECONDS)


@pytest.mark.skipif(os.environ.get("MILLRACE_LONG") != "1", reason="takes 18 minutes; set MILLRACE_LONG=1 to run it")
def test_slow_peers_to_the_end(single: Router) -> None:
    slow_peers(single, GIB, GIB / RATE * 1.5)
