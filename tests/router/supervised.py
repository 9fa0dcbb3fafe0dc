"""A whole router for tests: `millrace router` as a child process, its log read line by line, a real Redis beside it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from router.registry.records import EndpointRecord
from router.registry.writer import RegistryWriter
from tests.router.wire import PATIENCE, Message, Wire, wait_until

GET = b"GET / HTTP/1.1\r\nHost: app.example.com\r\n\r\n"


class Router:
    """A running supervisor. Settings may be changed in its file with ``configure``."""

    def __init__(self, folder: Path, redis_url: str, *, program: str = "", **settings: Any) -> None:
        self.config = folder / "router.yml"
        self._log = folder / "router.log"
        self._settings: dict[str, Any] = {
            "port": 0,
            "status": {"host": "127.0.0.1", "port": 0, "routes": {"port": 0}},
            "millrace": {"address": "127.0.0.1", "workers": 2, "redis": redis_url, "data": str(folder / "data")},
        }
        self.configure(**settings)
        how = ["-c", program] if program else ["-P", "-m", "router"]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, *how, "-c", str(self.config)], stdout=log, stderr=log, cwd=folder
            )
        wait_until(lambda: self.said("starting") or self.process.poll() is not None, "the router's start")
        assert self.process.poll() is None, self._log.read_text()
        self.place = self.said("starting")[0]
        """Where it listens, by the names of the ports."""
        self.port, self.status_port = int(self.place.get("port", 0)), int(self.place["routes_port"])

    def configure(self, **settings: Any) -> None:
        """Change keys of the file; ``millrace`` is merged, others are replaced."""
        native = {**self._settings["millrace"], **settings.pop("millrace", {})}
        self._settings = {**self._settings, **settings, "millrace": native}
        self.config.write_text(yaml.safe_dump(self._settings))

    def lines(self) -> list[dict[str, Any]]:
        """The log so far."""
        whole = self._log.read_text().rpartition("\n")[0]  # the last line may still be being written
        return [json.loads(line) for line in whole.splitlines() if line.startswith("{")]

    def said(self, message: str) -> list[dict[str, Any]]:
        """The data of every log line with this message, in order."""
        return [line["data"] for line in self.lines() if line["message"] == message]

    def until_said(self, message: str, times: int = 1) -> list[dict[str, Any]]:
        wait_until(lambda: len(self.said(message)) >= times, f"log line {message!r}, {times} times")
        return self.said(message)

    def leaves(self) -> bool:
        """Whether a drain has come to where connections are closed."""
        return any(line["message"].startswith("Draining with") for line in self.lines())

    def until_healthy(self) -> Router:
        wait_until(lambda: self.health() == (200, "ok\n"), "a healthy router")
        return self

    @property
    def workers(self) -> list[int]:
        """The worker processes, by pid."""
        return sorted(children(self.process.pid))

    def connect(self) -> Wire:
        return Wire(socket.create_connection(("127.0.0.1", self.port), PATIENCE))

    def get(self) -> Message:
        """One request on a connection of its own."""
        wire = self.connect()
        try:
            wire.send(GET)
            return wire.message()
        finally:
            wire.close()

    def status(self, path: str, method: str = "GET") -> Message:
        wire = Wire(socket.create_connection(("127.0.0.1", self.status_port), PATIENCE))
        try:
            wire.send(f"{method} {path} HTTP/1.1\r\nHost: status\r\n\r\n".encode())
            return wire.message(bodiless=method == "HEAD")
        finally:
            wire.close()

    def health(self) -> tuple[int, str]:
        message = self.status("/health")
        return message.status, message.body.decode()

    def metrics(self) -> dict[str, float]:
        lines = self.status("/metrics").body.decode().splitlines()
        return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if not line.startswith("#")}

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def exit_code(self) -> int:
        return self.process.wait(PATIENCE)

    def end(self) -> None:
        """Stop it if it still runs, and see that nothing is left."""
        workers = self.workers
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        wait_until(lambda: not any(map(is_alive, workers)), "the end of every worker")


@contextmanager
def running_router(redis_url: str, **settings: Any) -> Iterator[Router]:
    folder = Path(tempfile.mkdtemp(prefix="mr-", dir="/tmp"))
    try:
        router = Router(folder, redis_url, **settings)
        try:
            yield router
        finally:
            router.end()
    finally:
        shutil.rmtree(folder)


def register(redis_url: str, port: int, *, namespace: str = "millrace") -> None:
    """app.example.com leads to 127.0.0.1:``port``, and nowhere else."""
    with RegistryWriter(redis_url, namespace=namespace) as writer:
        lease = writer.lease("test", ttl=600)
        lease.replace([("app.example.com", EndpointRecord(host="127.0.0.1", port=port, app="app-guid"))])


def children(pid: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            name, _, rest = stat.read_text().rpartition(") ")
            state, parent = rest.split(" ")[:2]
            if int(parent) == pid and state != "Z":
                found.append(int(name.split(" ", 1)[0]))
    return found


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


def kill(pid: int, number: signal.Signals = signal.SIGKILL) -> None:
    os.kill(pid, number)
