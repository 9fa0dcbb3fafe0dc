"""The sample backend as a real process: it answers, registers itself, and leaves in good order."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from router.registry.child import Child
from router.registry.embedded import EmbeddedRedis
from router.registry.writer import RegistryWriter

SOURCE = Path(__file__).parents[2]


def until(condition: Callable[[], bool], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def redis() -> Iterator[EmbeddedRedis]:
    folder = Path(tempfile.mkdtemp(prefix="mr-", dir="/tmp"))
    with EmbeddedRedis(folder) as server:
        yield server
    shutil.rmtree(folder)


class Backend:
    def __init__(self, redis: EmbeddedRedis, log: Path) -> None:
        self._writer = RegistryWriter(redis.url)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port = listener.getsockname()[1]
            command = [sys.executable, "-m", "director.sample_backend", "--redis", redis.url]
            command += ["--listen-fd", str(listener.fileno())]
            self.child = Child(command, log=log, folder=SOURCE, keep_open=(listener.fileno(),))

    @property
    def routes(self) -> list[tuple[str, str]]:
        return [(entry.route, entry.record.address) for entry in self._writer.list()]

    def get(self, path: str, method: str = "GET") -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request(method, path, headers={"X-Seen": "yes"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


@pytest.fixture
def backend(redis: EmbeddedRedis, tmp_path: Path) -> Iterator[Backend]:
    started = Backend(redis, tmp_path / "log")
    until(lambda: bool(started.routes) or not started.child.running)
    assert started.child.running, started.child.last_lines()
    yield started
    started.child.stop(10)


def test_it_registers_itself_and_answers(backend: Backend) -> None:
    address = f"127.0.0.1:{backend.port}"
    assert backend.routes == [("hello.localhost", address)]
    status, page = backend.get("/?q=1")
    assert status == 200
    assert f"Hello from the sample backend at {address} (process {backend.child.pid})." in page
    assert "  GET /?q=1 HTTP/1.1\n" in page
    assert "  X-Seen: yes\n" in page
    assert backend.get("/healthz") == (200, "ok\n")
    assert backend.get("/bytes/100000") == (200, ("millrace " * 12000)[:100000])
    assert backend.get("/bytes/0") == (200, "")
    assert backend.get("/slow?seconds=0.01") == (200, "Answered after 0.01 s.\n")
    assert backend.get("/nothing")[0] == 404
    for wrong in ("nan", "-1", "61", "long", ""):
        assert backend.get(f"/slow?seconds={wrong or '%20'}")[0] == 400


def test_it_leaves_the_registry_before_it_stops_and_finishes_what_it_began(backend: Backend) -> None:
    with socket.create_connection(("127.0.0.1", backend.port), timeout=10) as connection:
        connection.sendall(b"GET /slow?seconds=1 HTTP/1.1\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n")
        answers = connection.makefile("rb")
        assert answers.readline() == b"HTTP/1.1 100 Continue\r\n", "now the request is under way"
        backend.child.send(signal.SIGTERM)
        until(lambda: backend.routes == [])
        assert backend.child.running, "it still has a request to answer"
        assert answers.read().endswith(b"Answered after 1 s.\n")
    assert backend.child.wait(10)
    assert backend.child.ending == "exited with code 0"
    assert backend.child.last_lines()[-1] == "released: lease sample-backend"


def test_one_that_was_killed_is_replaced_by_the_next(redis: EmbeddedRedis, tmp_path: Path) -> None:
    first = Backend(redis, tmp_path / "first")
    until(lambda: len(first.routes) == 1)
    first.child.kill()
    assert len(first.routes) == 1
    second = Backend(redis, tmp_path / "second")
    until(lambda: second.routes == [("hello.localhost", f"127.0.0.1:{second.port}")])
    assert second.child.stop(10)
    assert second.routes == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--redis", "http://x"], "the scheme must be one of redis://"),
        (["--redis", "redis://x", "--route", "a b"], "route 'a b': host"),
        ([], "Missing option '--redis'"),
    ],
)
def test_mistakes_are_named(arguments: list[str], said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "director.sample_backend", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        cwd=SOURCE,
        env={name: value for name, value in os.environ.items() if name != "MILLRACE_REDIS"},
        check=False,
    )
    assert done.returncode != 0
    assert said in done.stderr
    assert "Traceback" not in done.stderr
