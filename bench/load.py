"""The load side: the backend behind the proxies and the generator before them, on a core of their own.

nginx and wrk where they are on PATH, else the bench's own. It must never ask one proxy for other work than another.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import orjson

from bench.machine import BenchError, first_line, pinned
from bench.programs import Program, free_port
from bench.scenarios import HOST, LARGE_BYTES, LARGE_PATH, NUMBERED, SMALL_BYTES, Scenario

LATE_SECONDS: Final = 30.0
"""How long past its time a generator may take to end."""


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What one run of a generator saw. Times in seconds and microseconds."""

    requests: int
    seconds: float
    bytes: int
    p50_us: float
    p99_us: float
    errors: dict[str, int]
    """By kind: connect, broken, timeout, status."""

    @classmethod
    def from_output(cls, text: str) -> LoadResult:
        """From what a generator printed: the last line that is a JSON object. Raises BenchError when there is none."""
        for line in reversed(text.splitlines()):
            if line.startswith("{"):
                try:
                    return cls(**orjson.loads(line))
                except (orjson.JSONDecodeError, TypeError) as error:
                    raise BenchError(f"the load generator's figures are damaged ({error}): {line[:200]}") from None
        raise BenchError(f"the load generator printed no figures; its last words: {text[-400:] or '(none)'}")

    @property
    def failed(self) -> int:
        return sum(self.errors.values())


class Generation:
    """A generator at work. As a context manager it is ended on the way out, done or not."""

    def __init__(self, argv: list[str], seconds: float, core: int, read: Callable[[str], LoadResult]) -> None:
        """Start ``argv`` on ``core``; ``read`` finds the figures in what it prints."""
        self._read = read
        self._deadline = time.monotonic() + seconds + LATE_SECONDS
        with pinned(core):
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )

    def running(self, wait: float) -> bool:
        """Whether it is still at work after up to ``wait`` seconds. Raises BenchError when it is far too late."""
        try:
            self._process.wait(wait)
        except subprocess.TimeoutExpired:
            if time.monotonic() > self._deadline:
                raise BenchError(f"the load generator has not ended {LATE_SECONDS:g} s after it should have") from None
            return True
        return False

    def wait(self) -> None:
        """Until it has ended. Raises BenchError when it is far too late."""
        while self.running(1.0):
            pass

    def stop(self) -> None:
        """End it now, with the figures so far. Raises BenchError when it does not."""
        self._process.send_signal(signal.SIGINT)
        self._deadline = time.monotonic() + LATE_SECONDS
        self.wait()

    def result(self) -> LoadResult:
        """The figures of a generator that has ended. Raises BenchError when it printed none."""
        return self._read(self._output)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        # It prints one short line at its end, which any pipe holds: reading late cannot make it wait.
        self._output = self._process.communicate()[0]


class Generator(ABC):
    """Makes load on the core given and tells what it saw."""

    name: str

    @abstractmethod
    def argv(self, scenario: Scenario, port: int, seconds: float) -> list[str]: ...

    def read(self, output: str) -> LoadResult:
        """The figures in what it printed. Raises BenchError when there are none."""
        return LoadResult.from_output(output)

    def start(self, scenario: Scenario, port: int, seconds: float, core: int) -> Generation:
        """Begin to load ``port`` of the loopback address for ``seconds``."""
        return Generation(self.argv(scenario, port, seconds), seconds, core, self.read)

    def run(self, scenario: Scenario, port: int, seconds: float, core: int) -> LoadResult:
        """Load for ``seconds`` and wait. Raises BenchError when the generator fails."""
        with self.start(scenario, port, seconds, core) as generation:
            generation.wait()
        return generation.result()


class OwnGenerator(Generator):
    name = "bench.generator (own, uvloop)"

    def argv(self, scenario: Scenario, port: int, seconds: float) -> list[str]:
        fields = orjson.dumps(asdict(scenario)).decode()
        return [sys.executable, "-m", "bench.generator", fields, str(port), str(seconds)]


# wrk calls `done` once, after the run; a `request` function is called per request, so only the scenario that needs it
# has one, and it joins strings itself because wrk.format costs several times as much.
_WRK_DONE: Final = """
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '{"requests":%d,"seconds":%.6f,"bytes":%.0f,"p50_us":%.1f,"p99_us":%.1f,' ..
    '"errors":{"connect":%d,"broken":%d,"timeout":%d,"status":%d}}\\n',
    summary.requests, summary.duration / 1e6, summary.bytes, latency:percentile(50), latency:percentile(99),
    e.connect, e.read + e.write, e.timeout, e.status))
end
"""
_WRK_POST: Final = 'wrk.method = "POST"\nwrk.body = string.rep("x", {body})\n'
_WRK_UNIQUE: Final = """
local number = 0
request = function()
  number = number + 1
  return "GET {path}/" .. number .. "?request=" .. number ..
    " HTTP/1.1\\r\\nHost: {host}\\r\\nCookie: session=s" .. number .. "\\r\\n\\r\\n"
end
"""
_WRK_HOSTS: Final = """
local before, after = "GET {path} HTTP/1.1\\r\\nHost: {numbered}", ".{host}\\r\\n\\r\\n"
request = function()
  return before .. math.random(0, {hosts} - 1) .. after
end
"""
_WRK_PAUSE: Final = "delay = function() return {pause} end\n"


class Wrk(Generator):
    name = "wrk"

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def argv(self, scenario: Scenario, port: int, seconds: float) -> list[str]:
        script = self._folder / f"{scenario.name}.lua"
        script.write_text(self.script(scenario))
        # A server name that is an address would be none (RFC 6066 section 3).
        url = f"https://localhost:{port}{scenario.path}" if scenario.tls else f"http://127.0.0.1:{port}{scenario.path}"
        options = ["-t1", f"-c{scenario.connections}", f"-d{max(1, round(seconds))}s", "--timeout", "5s"]
        return ["wrk", *options, "-H", f"Host: {HOST}", "-s", str(script), url]

    @staticmethod
    def script(scenario: Scenario) -> str:
        parts = (
            (_WRK_POST, scenario.body_bytes),
            (_WRK_UNIQUE, scenario.unique),
            (_WRK_HOSTS, scenario.hosts),
            (_WRK_PAUSE, scenario.pause_ms),
        )
        values = {
            "body": scenario.body_bytes,
            "path": scenario.path,
            "host": HOST,
            "hosts": scenario.hosts,
            "numbered": NUMBERED,
            "pause": scenario.pause_ms,
        }
        return "".join(part.format(**values) for part, wanted in parts if wanted) + _WRK_DONE


def choose_generator(folder: Path) -> Generator:
    """wrk where it is on PATH, else our own."""
    return Wrk(folder) if shutil.which("wrk") else OwnGenerator()


_NGINX_BACKEND: Final = """\
daemon off;
{user}
worker_processes 1;
pid {folder}/backend.pid;
error_log /dev/null crit;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  default_type text/plain;
  sendfile on;
  tcp_nopush on;
  keepalive_timeout 600s;
  keepalive_requests 1000000000;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location = {large_path} {{ root {folder}; }}
    location / {{ return 200 "{small}"; }}
  }}
}}
"""


@dataclass(frozen=True, slots=True)
class Backend:
    name: str
    port: int


def nginx_user_line() -> str:
    """nginx drops root for its workers, who then could not read a private folder; elsewhere it would only warn."""
    return "user root;" if os.geteuid() == 0 else ""


def start_backend(folder: Path, core: int, stack: ExitStack) -> Backend:
    """Start the backend of all proxies, for ``stack`` to end: nginx where it is on PATH, else our own.

    Raises BenchError when it does not start.
    """
    port = free_port()
    if shutil.which("nginx"):
        name, argv = first_line("nginx", "-v"), _nginx_backend(folder, port)
    else:
        name, argv = "bench.backend (own, uvloop)", [sys.executable, "-m", "bench.backend", str(port)]
    program = stack.enter_context(Program("backend", argv, folder, core))
    program.wait_for_port(port)
    return Backend(name, port)


def _nginx_backend(folder: Path, port: int) -> list[str]:
    (folder / LARGE_PATH.lstrip("/")).write_bytes(b"x" * LARGE_BYTES)
    config = folder / "backend.conf"
    values: dict[str, Any] = {"user": nginx_user_line(), "folder": folder, "port": port, "large_path": LARGE_PATH}
    config.write_text(_NGINX_BACKEND.format(**values, small="x" * SMALL_BYTES))
    return ["nginx", "-p", str(folder), "-e", "/dev/null", "-c", str(config)]
