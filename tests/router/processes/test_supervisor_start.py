"""How a router starts: when it serves, what keeps it from starting, and what becomes of workers that fail."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.processes.listening import CannotListen, open_sockets
from router.processes.slot import FIRST_DELAY, LONGEST_DELAY, PROVEN, YOUNG, Backoff
from router.registry.embedded import EmbeddedRedis
from tests.router.supervised import GET, Router, kill, register, running_router
from tests.router.wire import OK, answering, backend, wait_until


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="mr-", dir="/tmp"))
    yield made
    shutil.rmtree(made)


@pytest.fixture
def redis(folder: Path) -> Iterator[EmbeddedRedis]:
    server = EmbeddedRedis(folder)
    yield server
    server.stop()


class TestReadiness:
    def test_who_comes_before_the_routes_is_served_after_them(self, redis: EmbeddedRedis) -> None:
        with backend(answering(OK)) as app:
            with redis:
                register(redis.url, app.port)
            with running_router(redis.url, millrace={"workers": 1}) as router:
                wait_until(lambda: len(router.workers) == 1)
                assert router.health() == (503, "not ready: worker 0 of 1\n")
                assert router.status("/routes").status == 503
                early = router.connect()
                early.send(GET)
                redis.start()
                assert early.message().status == 200
                router.until_healthy()
                assert router.until_said("gorouter.started")[0]["port"] == router.port

    def test_a_worker_that_says_nothing_is_replaced(self, redis: EmbeddedRedis) -> None:
        redis.start()
        program = (
            "from router.processes import supervisor; supervisor.REPORT_EVERY = 0.1; supervisor.STUCK_AFTER = 4.0\n"
            "supervisor.REPORT_PATIENCE = 0.1\n"
            "from router.command import router; router()"
        )
        with running_router(redis.url, program=program, millrace={"workers": 1}) as router:
            [stuck] = router.until_healthy().workers
            kill(stuck, signal.SIGSTOP)
            assert router.until_said("worker-stuck")[-1]["pid"] == stuck
            wait_until(lambda: router.workers not in ([], [stuck]))
            router.until_healthy()

    def test_a_worker_that_cannot_start_says_why_and_is_tried_again(self, folder: Path, redis: EmbeddedRedis) -> None:
        redis.start()
        program = (
            "from router.processes import supervisor; supervisor._check_folder_and_log = lambda settings: None\n"
            "from router.command import router; router()"
        )
        log = {"file": str(folder / "logs" / "access.log")}
        with running_router(redis.url, program=program, access_log=log, millrace={"workers": 1}) as router:
            why = router.until_said("worker-failed")[0]["trace"]
            assert f"CannotLog: access_log.file {folder}/logs/access.log: No such file or directory" in why
            died = router.until_said("worker-died", 2)
            assert [death["how"] for death in died[:2]] == ["exit code 1"] * 2
            assert [death["restart_in"] for death in died[:2]] == [0.0, 0.1]
            (folder / "logs").mkdir()
            router.until_healthy()

    def test_runs_in_a_folder_that_holds_a_router_of_its_own(self, folder: Path, redis: EmbeddedRedis) -> None:
        redis.start()
        (folder / "router").mkdir()
        (folder / "router" / "__init__.py").write_text("raise SystemExit('not this one')")
        router = Router(folder, redis.url, millrace={"workers": 1})
        try:
            router.until_healthy()
        finally:
            router.end()


class TestWhatKeepsItFromStarting:
    def run(self, folder: Path, text: str) -> str:
        config = folder / "router.yml"
        config.write_text(text)
        done = subprocess.run(
            [sys.executable, "-m", "router", "-c", config], capture_output=True, text=True, timeout=30, check=False
        )
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        return done.stderr

    def settings(self, folder: Path, port: int, more: str = "") -> str:
        return (
            f"port: {port}\nmillrace: {{address: 127.0.0.1, workers: 1, redis: 'unix://{folder}/no.sock', "
            f"data: '{folder}/data'}}\n{more}"
        )

    def test_a_busy_port(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            said = self.run(folder, self.settings(folder, port, "status: {port: 0, routes: {port: 0}}"))
        assert said == (
            f"millrace.address '127.0.0.1', port {port}: Address already in use; "
            "change port or millrace.address, or stop what uses it\n"
        )

    def test_a_busy_status_port(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            said = self.run(folder, self.settings(folder, 0, f"status: {{port: {port}, routes: {{port: 0}}}}"))
        assert said.startswith(f"status.port {port} on 0.0.0.0: ")
        assert said.endswith("; change status.port, or stop what uses it\n")

    def test_an_access_log_that_cannot_be_opened(self, folder: Path) -> None:
        said = self.run(folder, self.settings(folder, 0, f"access_log: {{file: {folder}/no/access.log}}"))
        assert said.startswith(f"access_log.file {folder}/no/access.log: No such file or directory; make it writable")

    def test_a_folder_that_cannot_be_made(self, folder: Path) -> None:
        (folder / "data").write_text("")
        said = self.run(folder, self.settings(folder, 0))
        assert said.startswith(f"millrace.data {folder}/data: cannot make this folder: File exists")

    def test_a_registry_url_that_leads_nowhere(self, folder: Path) -> None:
        assert self.run(folder, "millrace: {redis: 'redis+sentinel://h:1'}").startswith("millrace.redis: ")

    def test_a_bad_file(self, folder: Path) -> None:
        assert self.run(folder, "port: x").endswith(
            "router.yml:1: port: 'x' is not allowed; give a whole number from 0 to 65535\n"
        )


class TestTheSockets:
    def test_all_slots_share_one_port_and_the_kernel_spreads_connections(self) -> None:
        sockets = open_sockets("127.0.0.1", 0, 4)
        [place] = {sock.getsockname() for sock in sockets}
        clients = [socket.create_connection(place, 5) for _ in range(64)]
        taken = 0
        for sock in sockets:
            sock.setblocking(False)
            mine = 0
            while True:
                try:
                    sock.accept()[0].close()
                except BlockingIOError:
                    break
                mine += 1
            assert 0 < mine < 64
            taken += mine
            sock.close()
        assert taken == 64
        for client in clients:
            client.close()

    def test_a_port_that_other_sockets_share_is_busy_all_the_same(self) -> None:
        [first] = open_sockets("127.0.0.1", 0, 1)
        with first, pytest.raises(CannotListen, match=r"Address already in use; change port"):
            open_sockets("127.0.0.1", first.getsockname()[1], 1)

    @pytest.mark.parametrize(
        ("address", "reason"),
        [("192.0.2.1", "Cannot assign requested address"), ("no.such.host.invalid", "Name or service")],
    )
    def test_an_address_that_is_not_ours_is_named(self, address: str, reason: str) -> None:
        with pytest.raises(CannotListen, match=f"millrace.address '{address}', port 0: .*{reason}"):
            open_sockets(address, 0, 1)

    def test_two_colons_serve_ipv4_too(self) -> None:
        [sock] = open_sockets("::", 0, 1)
        with sock, socket.create_connection(("127.0.0.1", sock.getsockname()[1]), 5):
            pass


class TestBackoff:
    def test_the_first_start_after_a_death_is_immediate_then_they_wait_longer(self) -> None:
        backoff = Backoff()
        assert [backoff.after(0.5) for _ in range(9)] == [0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10]

    def test_a_long_life_makes_the_next_start_immediate_again(self) -> None:
        backoff = Backoff()
        for _ in range(5):
            backoff.after(1)
        assert backoff.after(PROVEN + 1) == 0

    @given(st.lists(st.floats(0, 100)))
    def test_never_waits_longer_than_its_limit_nor_forgets_without_proof(self, lives: list[float]) -> None:
        backoff = Backoff()
        before = 0.0
        for lived in lives:
            delay = backoff.after(lived)
            assert delay == 0 or FIRST_DELAY <= delay <= LONGEST_DELAY
            if YOUNG <= lived <= PROVEN:
                assert delay >= before
            elif lived > PROVEN:
                assert delay == 0
            before = delay
