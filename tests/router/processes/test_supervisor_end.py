"""How a router ends: drains, stops at once, and never leaves a worker behind."""

from __future__ import annotations

import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from router.registry.embedded import EmbeddedRedis
from tests.router.supervised import GET, Router, is_alive, kill, register, running_router
from tests.router.wire import OK, Backend, Wire, backend, wait_until

ONE = {"workers": 1}


class SlowApp:
    """A backend that answers each request when it is told to."""

    def __init__(self) -> None:
        self.asked = threading.Semaphore(0)
        self.may_answer = threading.Event()

    def __call__(self, wire: Wire) -> None:
        while True:
            while b"\r\n\r\n" not in wire.pending:
                if not wire._more():
                    return
            wire.message()
            self.asked.release()
            if not self.may_answer.wait(20):
                return
            wire.send(OK)


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    folder = Path(tempfile.mkdtemp(prefix="mr-", dir="/tmp"))
    with EmbeddedRedis(folder) as server:
        yield server.url
    shutil.rmtree(folder)


@pytest.fixture
def app() -> SlowApp:
    return SlowApp()


@pytest.fixture
def listening(app: SlowApp, redis_url: str) -> Iterator[Backend]:
    with backend(app) as running:
        register(redis_url, running.port)
        yield running
        app.may_answer.set()


def asked(router: Router, app: SlowApp) -> Wire:
    """A connection whose request has reached the backend."""
    wire = router.connect()
    wire.send(GET)
    assert app.asked.acquire(timeout=10)
    return wire


def is_refused(router: Router) -> bool:
    try:
        router.connect().close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.usefixtures("listening")
class TestADrain:
    def test_finishes_what_is_in_flight_and_exits_0(self, redis_url: str, app: SlowApp) -> None:
        with running_router(redis_url, drain_wait="500ms", drain_timeout="20s", millrace=ONE) as router:
            router.until_healthy()
            idle, slow = router.connect(), asked(router, app)
            began = time.monotonic()
            router.signal(signal.SIGUSR1)
            router.until_said("gorouter-draining")
            assert router.health() == (503, "draining\n")
            assert router.status("/is-process-alive-do-not-use-for-loadbalancing").status == 200
            late = asked(router, app)
            assert not router.leaves(), "drain_wait is not over"
            wait_until(lambda: is_refused(router), "no new connections")
            assert time.monotonic() - began >= 0.5
            assert idle.is_closed()
            assert router.process.poll() is None
            app.may_answer.set()
            for wire in (slow, late):
                answer = wire.message()
                assert (answer.status, answer.body, answer.get("connection")) == (200, b"ok", b"close")
            assert router.exit_code() == 0
            assert router.said("gorouter-draining") == [{"wait_seconds": 0.5, "timeout_seconds": 20.0}]
            assert router.said("gorouter.stopped")[0]["took"] < 10

    def test_lets_in_who_is_in_the_backlog_already(self, redis_url: str, app: SlowApp) -> None:
        app.may_answer.set()
        with running_router(redis_url, millrace=ONE) as router:
            [worker] = router.until_healthy().workers
            kill(worker, signal.SIGSTOP)
            wires = [router.connect() for _ in range(16)]
            for wire in wires:
                wire.send(GET)
            router.signal(signal.SIGUSR1)
            wait_until(router.leaves, "the end of drain_wait")
            kill(worker, signal.SIGCONT)
            answers = [wire.message() for wire in wires]
            assert [(answer.status, answer.get("connection")) for answer in answers] == [(200, b"close")] * 16
            assert router.exit_code() == 0

    def test_has_less_patience_with_idle_connections_than_a_roll(self, redis_url: str, app: SlowApp) -> None:
        app.may_answer.set()
        with running_router(redis_url, millrace=ONE) as router:
            idle = router.until_healthy().connect()
            idle.send(GET)
            assert idle.message().status == 200
            router.signal(signal.SIGHUP)
            router.until_said("rolled")
            assert len(router.workers) == 2, "the old worker keeps its idle connection"
            router.signal(signal.SIGUSR1)
            assert router.exit_code() == 0
            assert idle.is_closed()

    def test_cuts_off_what_lasts_longer_than_drain_timeout(self, redis_url: str, app: SlowApp) -> None:
        with running_router(redis_url, drain_timeout="200ms", millrace=ONE) as router:
            slow = asked(router.until_healthy(), app)
            router.signal(signal.SIGUSR1)
            assert router.exit_code() == 0
            assert slow.read_to_end() == b""
            assert router.said("router.drain.timed-out")

    def test_ignores_other_signals_but_sigterm_ends_it_at_once(self, redis_url: str, app: SlowApp) -> None:
        with running_router(redis_url, drain_wait="1m", millrace=ONE) as router:
            slow = asked(router.until_healthy(), app)
            router.signal(signal.SIGUSR1)
            router.until_said("gorouter-draining")
            for times, number in enumerate((signal.SIGUSR1, signal.SIGHUP, signal.SIGINT), 1):
                router.signal(number)
                ignored = router.until_said("gorouter.signal.ignored", times)
                assert ignored[-1]["signal"] == number.name
            assert router.process.poll() is None
            router.signal(signal.SIGTERM)
            assert router.exit_code() == 0
            assert slow.read_to_end() == b""


@pytest.mark.usefixtures("listening")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_waits_for_nobody(redis_url: str, app: SlowApp, number: signal.Signals) -> None:
    with running_router(redis_url, millrace=ONE) as router:
        slow, workers = asked(router.until_healthy(), app), router.workers
        router.signal(number)
        assert router.exit_code() == 0
        assert slow.read_to_end() == b""
        assert not any(map(is_alive, workers))
        assert router.said("gorouter.exited")


def test_a_stop_ends_even_a_worker_that_hears_nothing(redis_url: str) -> None:
    with running_router(redis_url) as router:
        workers = router.until_healthy().workers
        kill(workers[0], signal.SIGSTOP)
        router.signal(signal.SIGTERM)
        assert router.exit_code() == 0
        assert not any(map(is_alive, workers))


def test_a_killed_supervisor_leaves_no_worker(redis_url: str) -> None:
    with running_router(redis_url) as router:
        workers = router.until_healthy().workers
        kill(workers[0], signal.SIGSTOP)  # it cannot notice; the kernel must end it
        router.process.kill()
        wait_until(lambda: not any(map(is_alive, workers)), "the end of every worker")
        wait_until(lambda: is_refused(router), "a closed port")
