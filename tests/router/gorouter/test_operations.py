"""A router as its operators meet it: ports, start, end and log (gorouter reference 8.2 to 8.4, 8.7)."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from router.registry.embedded import EmbeddedRedis
from tests.router.supervised import GET, Router, kill, register, running_router
from tests.router.tls.authority import CERT, OWN, chain_of
from tests.router.wire import OK, PATIENCE, Message, Wire, answering, backend, wait_until

ONE = {"workers": 1}
CHECK = b"GET / HTTP/1.1\r\nHost: any.test\r\nUser-Agent: HTTP-Monitor/1.1\r\n\r\n"


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    folder = Path(tempfile.mkdtemp(prefix="mr-", dir="/tmp"))
    with EmbeddedRedis(folder) as server:
        yield server.url
    shutil.rmtree(folder)


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="mr-", dir="/tmp"))
    yield made
    shutil.rmtree(made)


def ask(port: int, request: bytes) -> Message:
    wire = Wire(socket.create_connection(("127.0.0.1", port), PATIENCE))
    try:
        wire.send(request)
        return wire.message()
    finally:
        wire.close()


def messages(router: Router, *wanted: str) -> list[str]:
    return [line["message"] for line in router.lines() if line["message"] in wanted]


def source_of(router: Router, message: str) -> str:
    return next(str(line["source"]) for line in router.lines() if line["message"] == message)


STARTING = (
    "starting",
    "retrieved-isolation-segments",
    "tcp-listener-started",
    "tls-listener-started",
    "tls-listener-not-enabled",
    "gorouter.started",
)


class TestAStart:
    def test_is_told_in_gorouters_order(self, redis_url: str) -> None:
        with running_router(
            redis_url, routing_table_sharding_mode="segments", isolation_segments=["one", "two"], millrace=ONE
        ) as router:
            router.until_healthy().until_said("gorouter.started")
            assert messages(router, *STARTING) == [
                "starting",
                "retrieved-isolation-segments",
                "tcp-listener-started",
                "tls-listener-not-enabled",
                "gorouter.started",
            ]
            assert router.said("retrieved-isolation-segments") == [
                {"isolation_segments": ["one", "two"], "routing_table_sharding_mode": "segments"}
            ]
            assert router.said("tcp-listener-started") == [{"address": f"127.0.0.1:{router.port}"}]
            assert source_of(router, "starting") == "gorouter.stdout"
            assert source_of(router, "tcp-listener-started") == "gorouter.stdout.router"

    def test_tells_its_tls_listener(self, redis_url: str) -> None:
        pair = {"cert_chain": OWN.cert_chain, "private_key": OWN.private_key}
        with running_router(
            redis_url, disable_http=True, enable_ssl=True, ssl_port=0, tls_pem=[pair], millrace=ONE
        ) as router:
            router.until_healthy().until_said("gorouter.started")
            assert router.said("tls-listener-started") == [{"address": f"127.0.0.1:{router.place['https_port']}"}]
            assert not router.said("tcp-listener-started")
            assert not router.said("tls-listener-not-enabled")

    def test_names_every_port_and_what_has_no_effect(self, redis_url: str) -> None:
        status = {
            "host": "127.0.0.1",
            "port": 0,
            "routes": {"port": 0},
            "tls": {"port": 0, "certificate": chain_of(CERT), "key": OWN.private_key},
        }
        with running_router(
            redis_url,
            status=status,
            prometheus={"enabled": True},
            debug_addr="127.0.0.1:0",
            pid_file="/x",
            prot=1,
            millrace=ONE,
        ) as router:
            names = ("port", "routes_port", "status_port", "status_tls_port", "prometheus_port", "debug_port")
            ports = [router.place[name] for name in names]
            assert len(set(ports)) == len(names)
            for port in ports:
                socket.create_connection(("127.0.0.1", port), PATIENCE).close()
            [ignored] = router.said("config-keys-ignored")
            assert [(key["key"], key["meant"]) for key in ignored["keys"]] == [("pid_file", ""), ("prot", "port")]
            [line] = [line for line in router.lines() if line["message"] == "config-keys-ignored"]
            assert line["log_level"] == 2


class TestWhatKeepsItFromStarting:
    def fail(self, folder: Path, text: str | None) -> dict[str, Any]:
        """The last line of the log; without a ``text`` there is no file."""
        config = folder / "router.yml"
        if text is not None:
            config.write_text(text)
        done = subprocess.run(
            [sys.executable, "-m", "router", "-c", config], capture_output=True, text=True, timeout=30, check=False
        )
        assert done.returncode == 1
        line: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return line

    def test_a_bad_file_is_told_with_everything_that_is_wrong(self, folder: Path) -> None:
        line = self.fail(folder, "port: x\ndrain_wait: 5\n")
        assert (line["message"], line["log_level"], line["source"]) == ("Error loading config:", 3, "gorouter.stdout")
        assert [problem.partition("router.yml:")[2][:7] for problem in line["data"]["problems"]] == [
            "1: port",
            "2: drai"[:7],
        ]

    def test_a_file_that_is_not_there(self, folder: Path) -> None:
        assert self.fail(folder, None)["message"] == "Error loading config:"

    @pytest.mark.parametrize("key", ["port", "status.port", "status.routes.port"])
    def test_a_port_that_is_taken(self, folder: Path, key: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as busy:
            taken = busy.getsockname()[1]
            ports = {"port": 0, "status.port": 0, "status.routes.port": 0, key: taken}
            native = {"address": "127.0.0.1", "redis": f"unix://{folder}/no.sock", "data": f"{folder}/data"}
            routes = {"port": ports["status.routes.port"]}
            status = {"host": "127.0.0.1", "port": ports["status.port"], "routes": routes}
            line = self.fail(folder, json.dumps({"port": ports["port"], "status": status, "millrace": native}))
        assert (line["message"], line["log_level"]) == ("gorouter.exited", 3)
        assert f"{key} {taken}" in line["data"]["error"]


class TestADrain:
    def test_is_told_in_gorouters_order_with_what_it_waits_for(self, redis_url: str) -> None:
        may_answer = threading.Event()

        def slow(wire: Wire) -> None:
            wire.message()
            may_answer.wait(PATIENCE)
            wire.send(OK)

        with backend(slow) as app:
            register(redis_url, app.port)
            with running_router(redis_url, millrace=ONE, drain_timeout="20s") as router:
                idle, busy = router.until_healthy().connect(), router.connect()
                busy.send(GET)
                wait_until(lambda: router.metrics()["millrace_client_connections"] == 2, "both connections")
                wait_until(lambda: router.metrics()["millrace_backend_connections_opened_total"] == 1, "the request")
                router.signal(signal.SIGUSR1)
                wait_until(router.leaves, "the end of drain_wait")
                assert router.process.poll() is None
                may_answer.set()
                assert busy.message().status == 200
                assert router.exit_code() == 0
                idle.close()
                busy.close()
                words = [line["message"] for line in router.lines()]
                told = [w for w in words if w.startswith(("gorouter", "Draining")) and w != "gorouter.started"]
                assert told == [
                    "gorouter-draining",
                    "Draining with 1 outstanding active connections",
                    "Draining with 1 outstanding idle connections",
                    "gorouter.stopping",
                    "gorouter.stopped",
                    "gorouter.exited",
                ]
                assert set(router.said("gorouter.stopped")[0]) == {"took"}
                assert source_of(router, "gorouter-draining") == "gorouter.stdout.router"

    def test_that_takes_too_long_says_so_and_exits_0(self, redis_url: str) -> None:
        with backend(lambda wire: wire.read_to_end()) as app:
            register(redis_url, app.port)
            with running_router(redis_url, millrace=ONE, drain_timeout="200ms") as router:
                busy = router.until_healthy().connect()
                busy.send(GET)
                wait_until(lambda: router.metrics()["millrace_backend_connections_opened_total"] == 1, "the request")
                router.signal(signal.SIGUSR1)
                assert router.exit_code() == 0
                order = messages(router, "gorouter-draining", "router.drain.timed-out", "gorouter.stopped")
                assert order == ["gorouter-draining", "router.drain.timed-out", "gorouter.stopped"]
                busy.close()

    def test_without_drain_timeout_waits_as_long_as_a_request_may_take(self, redis_url: str) -> None:
        with running_router(redis_url, millrace=ONE, endpoint_timeout="7s") as router:
            router.until_healthy().signal(signal.SIGUSR1)
            assert router.exit_code() == 0
            assert router.said("gorouter-draining") == [{"wait_seconds": 0.0, "timeout_seconds": 7.0}]

    def test_turns_load_balancers_away_at_once_on_every_port(self, redis_url: str) -> None:
        with backend(answering(OK)) as app:
            register(redis_url, app.port)
            with running_router(redis_url, millrace=ONE, drain_wait="1m") as router:
                plain = router.until_healthy().place["status_port"]
                assert ask(router.port, CHECK).status == 200
                assert ask(plain, b"GET /health HTTP/1.1\r\n\r\n").status == 200
                router.signal(signal.SIGUSR1)
                router.until_said("gorouter-draining")
                wait_until(lambda: ask(router.port, CHECK).status == 503, "503 on the traffic port")
                answer = ask(plain, b"GET /health HTTP/1.1\r\n\r\n")
                assert (answer.status, answer.body) == (503, b"")
                assert router.get().status == 200, "requests are served until drain_wait is over"
                [worker] = router.workers
                kill(worker)
                wait_until(lambda: router.workers not in ([], [worker]), "a worker in its place")
                wait_until(lambda: router.get().status == 200, "which serves")
                assert ask(router.port, CHECK).status == 503, "and turns load balancers away as well"
                router.signal(signal.SIGTERM)
                assert router.exit_code() == 0


class TestAStop:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_is_told(self, redis_url: str, number: signal.Signals) -> None:
        with running_router(redis_url, millrace=ONE) as router:
            router.until_healthy().signal(number)
            assert router.exit_code() == 0
            assert messages(router, "gorouter.stopping", "gorouter.stopped", "gorouter.exited") == [
                "gorouter.stopping",
                "gorouter.stopped",
                "gorouter.exited",
            ]

    def test_sigquit_shows_what_every_process_does_and_exits_2(self, redis_url: str) -> None:
        with running_router(redis_url, millrace=ONE) as router:
            [worker] = router.until_healthy().workers
            router.signal(signal.SIGQUIT)
            assert router.exit_code() == 2
            told = (router.config.parent / "router.log").read_text()
            assert f"==== supervisor, process {router.process.pid}\n" in told
            assert f"==== worker, process {worker}\n" in told
            assert "_obey" in told


class TestDebugging:
    def test_a_level_holds_for_every_process_those_to_come_as_well(self, redis_url: str) -> None:
        with running_router(redis_url, millrace=ONE, debug_addr="127.0.0.1:0", logging={"level": "info"}) as router:
            port = router.until_healthy().place["debug_port"]
            put = b"PUT /log-level HTTP/1.1\r\nContent-Length: 5\r\n\r\nerror"
            router.until_said("worker-ready")
            assert ask(port, put).body == b"error\n"
            [worker] = router.workers
            kill(worker)
            router.until_said("worker-died")
            router.until_healthy()
            assert len(router.said("worker-ready")) == 1, "the new one says nothing below error"
            assert ask(port, put.replace(b"5\r\n\r\nerror", b"4\r\n\r\ninfo")).body == b"info\n"
            kill(router.workers[0])
            router.until_said("worker-ready", 2)

    def test_a_roll_goes_back_to_the_level_of_the_file(self, redis_url: str) -> None:
        with running_router(redis_url, millrace=ONE, debug_addr="127.0.0.1:0", logging={"level": "info"}) as router:
            port = router.until_healthy().place["debug_port"]
            assert ask(port, b"PUT /log-level HTTP/1.1\r\nContent-Length: 5\r\n\r\nerror").status == 200
            router.signal(signal.SIGHUP)
            router.until_said("rolled")
            assert ask(port, b"GET /log-level HTTP/1.1\r\n\r\n").body == b"info\n"

    def test_the_stacks_of_all_processes(self, redis_url: str) -> None:
        with running_router(redis_url, debug_addr="127.0.0.1:0") as router:
            workers = router.until_healthy().workers
            body = ask(router.place["debug_port"], b"GET /debug/pprof/goroutine?debug=2 HTTP/1.1\r\n\r\n").body.decode()
            assert body.count("==== ") == 1 + len(workers)
            assert "thread MainThread" in body


class TestTheLog:
    def test_has_seconds_or_dates(self, redis_url: str) -> None:
        for form, kind in (("unix-epoch", float), ("rfc3339", str)):
            logging = {"format": {"timestamp": form}, "syslog": "vcap.gorouter"}
            with running_router(redis_url, millrace=ONE, logging=logging) as router:
                router.until_healthy()
                lines = router.lines()
                assert {type(line["timestamp"]) for line in lines} == {kind}
                assert all(str(line["source"]).startswith("vcap.gorouter") for line in lines)
                if kind is float:
                    assert all(abs(line["timestamp"] - time.time()) < 60 for line in lines)
