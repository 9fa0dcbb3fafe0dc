"""100 streams on one connection, mixed sizes, half of them cancelled midway: no cross-talk, and nothing is left behind.

Each body begins with its own digest, so that one byte of another's would be noticed.
"""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from router.registry.records import EndpointRecord
from tests.faults.processes import resident_bytes
from tests.router.http2.frames import Code
from tests.router.http2.peer import Peer, connect
from tests.router.registry.conftest import RedisServer, shared_redis
from tests.router.secured import NAME, SecuredRouter, secured_router
from tests.router.wire import Message, answering, backend, wait_until

__all__ = ["shared_redis"]

STREAMS = 100
SIZES = (0, 1, 100, 16_384, 16_385, 65_536, 300_000, 1_000_000)
ROUNDS = 6
WARM = 2
"""Rounds after which memory is held to have its normal size."""
MOST_GROWTH = 8 << 20
LISTENERS = pytest.mark.parametrize("listener", ["cleartext", "tls"])


def sealed(name: str, size: int) -> bytes:
    """A body that nobody else has: its digest, and what that is of."""
    content = random.Random(name).randbytes(size)
    return hashlib.sha256(content).digest() + content


def is_whole(body: bytes) -> bool:
    return hashlib.sha256(body[32:]).digest() == body[:32]


def respond(request: Message) -> bytes:
    """A body made after the path; uploads must be whole, in chunks or not, and are answered in chunks."""
    path = request.first.split(b" ")[1].decode()
    body = sealed(path, int(path.rpartition("/")[2]))
    if request.body:
        if not is_whole(request.body):
            return b"HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n"
        return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


@pytest.fixture(scope="module")
def router(shared_redis: RedisServer) -> Iterator[SecuredRouter]:
    with backend(answering(respond)) as app:
        route = {NAME: EndpointRecord(host="127.0.0.1", port=app.port)}
        with secured_router(shared_redis.url, route, max_idle_conns_per_host=20) as running:
            yield running


def connection(router: SecuredRouter, listener: str) -> Peer:
    if listener == "tls":
        return connect(router.tls_port, tls=router.context("h2"))
    return connect(router.port)


def one_round(client: Peer, seed: int) -> None:
    """Half of the streams are cancelled: before anything came, in the middle, or nearly at the end."""
    dice = random.Random(seed)
    wanted: dict[int, str] = {}
    cancelled: dict[int, int] = {}
    for number in range(STREAMS):
        size = dice.choice(SIZES)
        path = f"/{seed}/{number}/{size}"
        uploads = dice.random() < 0.3
        stream = client.request(path, method="POST" if uploads else "GET", end=not uploads)
        if number % 2:
            cancelled[stream] = dice.choice([0, size // 2, size - 1])
            if uploads:
                client.data(stream, b"never the whole")
            if not cancelled[stream]:
                client.reset(stream)
        else:
            wanted[stream] = path
            if uploads:
                client.body(stream, sealed(f"up{path}", dice.choice(SIZES[:6])))
    waiting = {stream for stream, after in cancelled.items() if after}
    while waiting or not all(client.stream(stream).ended for stream in wanted):
        client.read_frame()
        for stream in list(waiting):
            state = client.stream(stream)
            if len(state.body) >= cancelled[stream] or state.ended:
                waiting.discard(stream)
                if not state.ended:
                    client.reset(stream, Code.CANCEL)
        if all(client.stream(stream).ended for stream in wanted):
            for stream in waiting:
                client.reset(stream)
            waiting.clear()
    for stream, path in wanted.items():
        message = client.stream(stream).message
        assert message.status == 200, path
        assert is_whole(message.body), path
        assert message.body == sealed(path, int(path.rpartition("/")[2]))
    assert client.answered_ping()


def descriptors(router: SecuredRouter) -> int:
    (pid,) = router.router.workers
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


@LISTENERS
def test_nothing_is_left_and_nothing_is_mixed_up(router: SecuredRouter, listener: str) -> None:
    (pid,) = router.router.workers
    before = descriptors(router)
    sizes = []
    for number in range(ROUNDS):
        client = connection(router, listener)
        one_round(client, number)
        one_round(client, 1000 + number)
        client.close()
        sizes.append(resident_bytes(pid))
    assert sizes[-1] - sizes[WARM] < MOST_GROWTH, sizes
    wait_until(lambda: router.router.metrics()["millrace_client_connections"] == 0, "the end of the connections")
    wait_until(lambda: descriptors(router) <= before + 20, "the end of what was cancelled; idle ones may stay")
    assert router.router.workers == [pid]


@pytest.mark.skipif(sys.platform != "linux", reason="counts sockets in /proc")
def test_many_clients_at_once(router: SecuredRouter) -> None:
    """Four clients in processes of their own: whoever is slow or gone disturbs none of the others."""
    program = (
        "import sys; from tests.compliance.test_http2_interleaving import one_round; "
        "from tests.router.http2.peer import connect; "
        "[one_round(connect(int(sys.argv[1])), int(sys.argv[2]) + n) for n in range(3)]"
    )
    root = Path(__file__).parents[2]
    running = [
        subprocess.Popen([sys.executable, "-c", program, str(router.port), str(100 * number)], cwd=root)
        for number in range(4)
    ]
    assert [process.wait(100) for process in running] == [0, 0, 0, 0]
