"""What a drain and a roll mean for tunnels: they live on, hear nothing of it, and are cut when patience ends."""

from __future__ import annotations

import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from router.registry.embedded import EmbeddedRedis
from tests.router.supervised import Router, register, running_router
from tests.router.wire import PATIENCE, Wire, backend, wait_until

UPGRADE = b"GET / HTTP/1.1\r\nHost: app.example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
ONE = {"workers": 1}


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    folder = Path(tempfile.mkdtemp(prefix="mr-", dir="/tmp"))
    with EmbeddedRedis(folder) as server:
        yield server.url
    shutil.rmtree(folder)


@pytest.fixture(autouse=True)
def echo(redis_url: str) -> Iterator[None]:
    def script(wire: Wire) -> None:
        wire.head()
        wire.send(SWITCHED)
        while wire._more():
            wire.send(wire.pending)
            wire.pending = b""

    with backend(script) as app:
        register(redis_url, app.port)
        yield


def opened(router: Router) -> Wire:
    wire = router.connect()
    wire.send(UPGRADE)
    assert wire.head().status == 101
    return wire


def echoes(wire: Wire) -> bool:
    wire.send(b"ping")
    return wire.read_exactly(4) == b"ping"


def test_a_drain_ends_with_its_last_tunnel(redis_url: str) -> None:
    with running_router(redis_url, drain_timeout="20s", millrace=ONE) as router:
        link = opened(router.until_healthy())
        router.signal(signal.SIGUSR1)
        wait_until(router.leaves, "the end of drain_wait")
        assert echoes(link)
        time.sleep(0.7)  # longer than idle connections are left alone
        assert echoes(link), "not a byte was added, and nothing closed"
        link.socket.shutdown(socket.SHUT_WR)
        assert link.is_closed()
        assert router.exit_code() == 0
        assert not router.said("router.drain.timed-out")


def test_what_lasts_longer_than_the_drain_is_cut_and_logged(redis_url: str, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    with running_router(redis_url, drain_timeout="500ms", access_log={"file": str(log)}, millrace=ONE) as router:
        link = opened(router.until_healthy())
        assert echoes(link)
        began = time.monotonic()
        router.signal(signal.SIGUSR1)
        with pytest.raises(ConnectionResetError):
            link.socket.recv(1)
        assert 0.45 <= time.monotonic() - began < PATIENCE
        assert router.exit_code() == 0
    (line,) = log.read_text().splitlines()
    assert " 101 4 4 " in line
    assert line.endswith('x_cf_routererror:"router_stopped"')


def test_a_roll_leaves_tunnels_to_the_old_worker(redis_url: str) -> None:
    with running_router(redis_url, drain_timeout="20s", millrace=ONE) as router:
        old = opened(router.until_healthy())
        router.signal(signal.SIGHUP)
        router.until_said("rolled")
        new = opened(router)
        heard: list[bool] = []
        talk = threading.Thread(target=lambda: heard.extend(echoes(old) for _ in range(50)))
        talk.start()
        assert all(echoes(new) for _ in range(50))
        talk.join(PATIENCE)
        assert heard == [True] * 50
        assert router.metrics()["millrace_tunnels"] == 2
