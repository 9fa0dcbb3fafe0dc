"""The supervisor and its workers, as real processes: crashes, rolls and failed rolls."""

from __future__ import annotations

import json
import re
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from router.processes.listening import CannotListen, open_sockets
from router.registry.embedded import EmbeddedRedis
from tests.router.supervised import GET, Router, is_alive, kill, register, running_router
from tests.router.wire import OK, Backend, Message, answering, backend, wait_until


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    folder = Path(tempfile.mkdtemp(prefix="mr-", dir="/tmp"))
    with EmbeddedRedis(folder) as server:
        yield server.url
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def app(redis_url: str) -> Iterator[Backend]:
    with backend(answering(OK)) as running:
        register(redis_url, running.port)
        yield running


@pytest.fixture(scope="module")
def log_file() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="mr-", dir="/tmp"))
    yield folder / "access.log"
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def shared(redis_url: str, app: Backend, log_file: Path) -> Iterator[Router]:
    with running_router(redis_url, access_log={"file": str(log_file)}, drain_timeout="5s") as router:
        yield router.until_healthy()


@pytest.fixture
def router(shared: Router) -> Router:
    """The module's router, healthy, with exactly its two workers: what one test leaves behind is awaited."""
    shared.until_healthy()
    wait_until(lambda: len(shared.workers) == 2, "two workers")
    return shared


class Callers:
    """Clients that ask again and again, each on a new connection, and note what they got."""

    def __init__(self, router: Router, count: int) -> None:
        self._router = router
        self._over = threading.Event()
        self.answers: list[Message] = []
        self.errors: list[Exception] = []
        self._threads = [threading.Thread(target=self._call) for _ in range(count)]

    def _call(self) -> None:
        while not self._over.is_set():
            try:
                self.answers.append(self._router.get())
            except (OSError, AssertionError) as error:
                self.errors.append(error)
            self._over.wait(0.002)

    def __enter__(self) -> Callers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()


def roll(router: Router, number: signal.Signals = signal.SIGHUP) -> None:
    rolled = len(router.said("rolled"))
    router.signal(number)
    router.until_said("rolled", rolled + 1)


class TestServing:
    def test_requests_go_to_the_registered_backend(self, router: Router) -> None:
        assert router.get().status == 200

    def test_routes_are_shown_as_gorouter_shows_them(self, router: Router, app: Backend) -> None:
        message = router.status("/routes")
        assert message.get("content-type") == b"application/json"
        [endpoint] = json.loads(message.body)["app.example.com"]
        assert endpoint["address"] == f"127.0.0.1:{app.port}"
        assert {"availability_zone", "protocol", "tls", "ttl", "tags"} <= set(endpoint)

    def test_metrics_count_what_all_workers_served(self, router: Router) -> None:
        before = router.metrics()["millrace_requests_total"]
        for _ in range(20):
            router.get()
        after = router.metrics()
        assert after["millrace_requests_total"] == before + 20
        assert after['millrace_routes{worker="0"}'] == after['millrace_routes{worker="1"}'] == 1
        assert after['millrace_worker_memory_bytes{worker="1"}'] > 1e6
        assert after["millrace_healthy"] == 1

    def test_a_second_router_does_not_slip_onto_the_same_port(self, router: Router) -> None:
        with pytest.raises(CannotListen, match="Address already in use"):
            open_sockets("127.0.0.1", router.port, 1)


class TestACrash:
    def test_connections_wait_for_the_next_worker(self, router: Router) -> None:
        before, dead = router.metrics(), router.workers
        for pid in dead:
            kill(pid, signal.SIGSTOP)  # nobody may accept what is sent now
        wires = [router.connect() for _ in range(8)]
        for wire in wires:
            wire.send(GET)
        for pid in dead:
            kill(pid)
        assert [wire.message().status for wire in wires] == [200] * 8
        router.until_healthy()
        assert not set(router.workers) & set(dead)
        after = router.metrics()
        assert after["millrace_worker_restarts_total"] == before["millrace_worker_restarts_total"] + 2
        assert after["millrace_requests_total"] == before["millrace_requests_total"] + 8

    def test_is_logged_with_how_it_ended(self, router: Router) -> None:
        died, pid = len(router.said("worker-died")), router.workers[0]
        kill(pid)
        said = router.until_said("worker-died", died + 1)[-1]
        assert said["pid"] == pid
        assert said["how"] == "signal SIGKILL"

    def test_the_router_is_not_healthy_until_the_slot_is_filled(self, router: Router) -> None:
        died = len(router.said("worker-died"))
        kill(router.workers[0])
        router.until_said("worker-died", died + 1)
        status, reason = router.health()
        assert (status, re.sub(r"\d", "N", reason)) == (503, "not ready: worker N of N\n")
        router.until_healthy()


class TestARoll:
    def test_loses_nobody(self, router: Router) -> None:
        before = router.workers
        idle = router.connect()
        idle.send(GET)
        assert idle.message().get("connection") is None
        with Callers(router, 4) as callers:
            wait_until(lambda: len(callers.answers) > 20)
            roll(router)
            served = len(callers.answers)
            wait_until(lambda: len(callers.answers) > served + 20)
        assert callers.errors == []
        assert {message.status for message in callers.answers} == {200}
        idle.send(GET)
        last = idle.message()
        assert (last.status, last.get("connection")) == (200, b"close")
        assert idle.is_closed()
        wait_until(lambda: not any(map(is_alive, before)), "the end of the old workers")
        assert not {died["pid"] for died in router.said("worker-died")} & set(before), "a rolled worker is no casualty"

    def test_counts_on(self, router: Router) -> None:
        router.get()
        before = router.metrics()
        roll(router)
        wait_until(lambda: len(router.workers) == 2)
        after = router.metrics()
        assert after["millrace_requests_total"] == before["millrace_requests_total"]
        assert after["millrace_worker_restarts_total"] == before["millrace_worker_restarts_total"]

    def test_a_crash_after_it_is_seen_though_the_old_worker_still_lingers(self, router: Router) -> None:
        old = router.workers
        held = [router.connect() for _ in range(16)]
        for wire in held:
            wire.send(GET)
            assert wire.message().status == 200
        roll(router)
        died = len(router.said("worker-died"))
        new = sorted(set(router.workers) - set(old))
        for pid in new:
            kill(pid)
        router.until_said("worker-died", died + 2)
        router.until_healthy()
        assert router.get().status == 200
        assert any(map(is_alive, old)), "connections to the old workers are still open"
        for wire in held:
            wire.close()

    def test_brings_new_settings_and_opens_a_rotated_log_anew(self, router: Router, log_file: Path) -> None:
        router.get()
        wait_until(lambda: log_file.exists() and "app.example.com" in log_file.read_text(), "a line in the log")
        log_file.rename(log_file.with_suffix(".1"))
        router.configure(force_forwarded_proto_https=True)
        roll(router)
        router.get()
        wait_until(lambda: log_file.exists() and 'x_forwarded_proto:"https"' in log_file.read_text())

    def test_a_bad_file_is_named_and_changes_nothing(self, router: Router) -> None:
        before, text = router.workers, router.config.read_text()
        router.config.write_text("millrace: {wrokers: 2}\n")
        try:
            router.signal(signal.SIGHUP)
            [problem] = router.until_said("config-not-reloaded")[-1]["problems"]
        finally:
            router.config.write_text(text)
        assert problem.startswith(f"{router.config}:1: unknown key millrace.wrokers; did you mean millrace.workers?")
        assert router.workers == before
        assert router.get().status == 200

    def test_the_log_looks_as_the_file_says_now(self, router: Router) -> None:
        router.configure(logging={"syslog": "another.name", "format": {"timestamp": "rfc3339"}})
        roll(router)
        last = [line for line in router.lines() if line["message"] == "rolled"][-1]
        assert (last["source"], type(last["timestamp"])) == ("another.name.supervisor", str)

    def test_what_has_no_effect_is_told_again(self, router: Router) -> None:
        router.configure(prot=80)
        roll(router)
        assert router.said("config-keys-ignored")[-1]["keys"][0]["key"] == "prot"

    def test_what_belongs_to_the_sockets_stays_and_is_said(self, router: Router) -> None:
        port = router.port
        router.configure(port=1, millrace={"workers": 5})
        try:
            roll(router)
        finally:
            router.configure(port=0, millrace={"workers": 2})
        assert router.said("config-needs-restart")[-1]["keys"][0] == "port"
        wait_until(lambda: len(router.workers) == 2)
        assert router.port == port
        assert router.get().status == 200

    def test_one_that_hangs_is_ended_by_the_next(self, router: Router, redis_url: str, tmp_path: Path) -> None:
        good = str(router.config.parent / "data")
        router.configure(millrace={"redis": f"unix://{tmp_path}/no.sock", "data": str(tmp_path / "empty")})
        router.signal(signal.SIGHUP)
        wait_until(lambda: len(router.workers) == 3, "a successor that waits for Redis")
        assert router.health() == (200, "ok\n")
        router.configure(millrace={"redis": redis_url, "data": good})
        rolled = len(router.said("rolled"))
        router.signal(signal.SIGHUP)
        router.until_said("rolled", rolled + 1)
        assert router.said("roll-abandoned")
        assert router.get().status == 200
