"""Backends that die, hang and break off, and clients that do: nobody else notices, and nothing stays behind."""

from __future__ import annotations

import select
import shutil
import signal
import socket
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from router.registry.embedded import EmbeddedRedis
from tests.faults.processes import HOST, BackendProcess
from tests.faults.steady import SteadyLoad
from tests.router.supervised import Router, register, running_router
from tests.router.wire import Wire, wait_until

TIMES = 12
"""More than the endpoint may have in flight: one exchange that is never given back would show."""
LIMIT = 4
MORE_THAN_BUFFERS = 64 * 1024 * 1024


def test_one_of_three_is_killed_and_comes_back(router: Router, backends: list[BackendProcess]) -> None:
    with SteadyLoad(router.port, callers=8) as load:
        load.more()
        for victim in backends:
            victim.kill()
            load.more(200)
            victim.come_back()
        load.more(200)
    assert load.failures == []
    assert set(load.by_backend) == {"a", "b", "c"}


def test_one_that_stands_still_for_a_while_costs_only_time(router: Router, backends: list[BackendProcess]) -> None:
    with SteadyLoad(router.port, callers=8) as load:
        load.more()
        backends[0].send(signal.SIGSTOP)
        wait_until(lambda: len(load.in_flight) == 8, "every caller held up")
        answers = [ask(router, "/") for _ in range(12)]
        sound = {wire.message().body for wire in answers if select.select([wire.socket], [], [], 1.0)[0]}
        assert sound == {b"b", b"c"}
        backends[0].send(signal.SIGCONT)
        load.more()
        for wire in answers:
            wire.close()
    assert load.failures == []


@pytest.fixture(scope="module")
def impatient() -> Iterator[Router]:
    """One backend with few exchanges at once, and deadlines that pass within a test."""
    home = Path(tempfile.mkdtemp(prefix="mr-", dir="/tmp"))
    native = {"workers": 1, "body_progress_timeout": "600ms", "response_header_timeout": "1s"}
    backend = BackendProcess("one")
    with EmbeddedRedis(home) as redis:
        register(redis.url, backend.port)
        with running_router(
            redis.url, backends={"max_conns": LIMIT}, read_header_timeout="2s", millrace=native
        ) as router:
            yield router.until_healthy()
    backend.kill()
    shutil.rmtree(home)


def ask(router: Router, path: str) -> Wire:
    wire = router.connect()
    wire.send(f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
    return wire


def reset(wire: Wire) -> None:
    wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wire.close()


def nothing_is_left(router: Router) -> None:
    """No connection is open, and every exchange was given back: as many fit as at first."""
    wait_until(lambda: router.metrics()["millrace_client_connections"] == 0, "no client connection")
    wires = [ask(router, "/wait/50") for _ in range(LIMIT)]
    assert [wire.message().status for wire in wires] == [200] * LIMIT
    for wire in wires:
        wire.close()
    wait_until(lambda: router.metrics()["millrace_client_connections"] == 0, "no client connection")


class TestABackendThat:
    @pytest.mark.parametrize(("path", "status"), [("/cut-head", 502), ("/garbage", 502), ("/never", 504)], ids=str)
    def test_gives_no_response(self, impatient: Router, path: str, status: int) -> None:
        for _ in range(TIMES // LIMIT):
            wires = [ask(impatient, path) for _ in range(LIMIT)]
            assert {wire.message().status for wire in wires} == {status}
            for wire in wires:
                wire.close()
        nothing_is_left(impatient)

    @pytest.mark.parametrize("path", ["/cut-body", "/end-body"])
    def test_breaks_off_in_the_body_is_not_passed_off_as_whole(self, impatient: Router, path: str) -> None:
        for _ in range(TIMES):
            wire = ask(impatient, path)
            assert wire.head().status == 200
            with pytest.raises((ConnectionResetError, AssertionError)):
                wire.read_exactly(100_000)
            wire.close()
        nothing_is_left(impatient)


class TestAClientThat:
    def test_resets_in_its_request(self, impatient: Router) -> None:
        for sent in (b"GET / HT", b"POST /take HTTP/1.1\r\nHost: app.example.com\r\nContent-Length: 9000\r\n\r\nhalf"):
            for _ in range(TIMES):
                wire = impatient.connect()
                wire.send(sent)
                reset(wire)
        nothing_is_left(impatient)

    def test_resets_while_it_waits_for_a_response(self, impatient: Router) -> None:
        before = impatient.metrics()["millrace_requests_total"]
        for number in range(1, TIMES + 1):
            wire = ask(impatient, "/never")
            goal = before + number
            wait_until(lambda n=goal: impatient.metrics()["millrace_requests_total"] == n)  # type: ignore[misc]
            reset(wire)
        nothing_is_left(impatient)

    def test_resets_in_its_response(self, impatient: Router) -> None:
        for _ in range(TIMES):
            wire = ask(impatient, f"/send/{MORE_THAN_BUFFERS}")
            assert wire.head().status == 200
            wire.read_exactly(100_000)
            reset(wire)
        nothing_is_left(impatient)

    def test_has_no_more_to_say_in_its_request(self, impatient: Router) -> None:
        for sent in (b"GET / HT", b"POST /take HTTP/1.1\r\nHost: app.example.com\r\nContent-Length: 9000\r\n\r\nhalf"):
            wire = impatient.connect()
            wire.send(sent)
            wire.socket.shutdown(socket.SHUT_WR)
            assert wire.is_closed()
            wire.close()
        nothing_is_left(impatient)

    def test_stops_in_its_head_or_body_is_told_so(self, impatient: Router) -> None:
        for sent in (b"GET / HT", b"POST /take HTTP/1.1\r\nHost: app.example.com\r\nContent-Length: 9000\r\n\r\nhalf"):
            wires = [impatient.connect() for _ in range(LIMIT)]
            for wire in wires:
                wire.send(sent)
            assert {wire.message().status for wire in wires} == {408}
            for wire in wires:
                wire.close()
        nothing_is_left(impatient)

    def test_reads_no_more_is_cut_off(self, impatient: Router) -> None:
        wires = [ask(impatient, f"/send/{MORE_THAN_BUFFERS}") for _ in range(LIMIT)]
        wait_until(lambda: impatient.metrics()["millrace_client_connections"] == 0, "no client connection")
        for wire in wires:
            with pytest.raises((ConnectionResetError, AssertionError)):
                wire.read_exactly(MORE_THAN_BUFFERS)
            wire.close()
        nothing_is_left(impatient)
