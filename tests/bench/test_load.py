"""The load side: both generators print figures of one shape, count truly, and name what went wrong."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.generator import Run, request_bytes
from bench.load import Generator, LoadResult, OwnGenerator, Wrk, start_backend
from bench.machine import BenchError
from bench.programs import Program, free_port
from bench.scenarios import (
    HOST,
    LARGE_BYTES,
    LARGE_PATH,
    SCENARIOS,
    SMALL_BYTES,
    STEADY,
    Scenario,
    numbered_host,
)

CORE = min(os.sched_getaffinity(0))
FEW = {name: replace(scenario, connections=8) for name, scenario in SCENARIOS.items()}

counts = st.integers(0, 10**12)
figures = st.builds(
    LoadResult,
    requests=counts,
    seconds=st.floats(0, 1e6),
    bytes=counts,
    p50_us=st.floats(0, 1e9),
    p99_us=st.floats(0, 1e9),
    errors=st.fixed_dictionaries(dict.fromkeys(("connect", "broken", "timeout", "status"), counts)),
)


@given(figures, st.text(st.characters(exclude_characters="{")))
def test_figures_are_found_behind_whatever_was_printed_before(told: LoadResult, chatter: str) -> None:
    line = orjson.dumps(
        {name: getattr(told, name) for name in ("requests", "seconds", "bytes", "p50_us", "p99_us", "errors")}
    ).decode()
    assert LoadResult.from_output(f"{chatter}\n{line}\n") == told
    assert told.failed == sum(told.errors.values())


@pytest.mark.parametrize(
    ("output", "why"),
    [
        ("", "no figures"),
        ("unable to connect to 127.0.0.1:1 Connection refused\n", "Connection refused"),
        ('{"requests": 1', "damaged"),
        ('{"requests": 1}', "damaged"),
    ],
)
def test_output_without_figures_is_an_error_that_says_why(output: str, why: str) -> None:
    with pytest.raises(BenchError, match=why):
        LoadResult.from_output(output)


def test_requests_of_the_unique_scenario_differ_in_path_query_and_cookie() -> None:
    first, second = (request_bytes(SCENARIOS["unique"], number).split(b"\r\n") for number in (1, 2))
    assert first[0] == b"GET /small/1?request=1 HTTP/1.1"
    assert second[0] == b"GET /small/2?request=2 HTTP/1.1"
    assert (b"Cookie: session=s1" in first, b"Cookie: session=s2" in second) == (True, True)


def test_requests_to_many_hosts_name_all_of_them() -> None:
    scenario = replace(SCENARIOS["small"], hosts=3)
    heads = {request_bytes(scenario, number) for number in range(200)}
    assert heads == {b"GET /small HTTP/1.1\r\nHost: %b\r\n\r\n" % numbered_host(n).encode() for n in range(3)}


def test_a_post_carries_its_body_and_length() -> None:
    head, _, body = request_bytes(SCENARIOS["post"], 1).partition(b"\r\n\r\n")
    assert len(body) == SCENARIOS["post"].body_bytes
    assert b"Content-Length: %d" % len(body) in head.split(b"\r\n")
    assert b"Host: %b" % HOST.encode() in head.split(b"\r\n")


@contextmanager
def served(answer: bytes) -> Iterator[int]:
    """A server that reads once per connection, answers ``answer`` and closes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        source = (
            "import socket, sys\n"
            f"listener = socket.socket(fileno={listener.fileno()})\n"
            "while True:\n"
            "    connection = listener.accept()[0]\n"
            "    connection.recv(65536)\n"
            f"    connection.sendall({answer!r})\n"
            "    connection.close()\n"
        )
        server = subprocess.Popen([sys.executable, "-c", source], pass_fds=[listener.fileno()])
        try:
            yield port
        finally:
            server.kill()
            server.wait()


async def run_briefly(port: int, seconds: float = 0.3) -> dict[str, object]:
    return await Run(replace(SCENARIOS["small"], connections=2), port).last(seconds)


@pytest.mark.parametrize(
    ("answer", "counted", "kind"),
    [
        (b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", True, "status"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhal", False, "broken"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nlong", False, "broken"),
        (b"HTTP/1.1 200 OK\r\n\r\n", False, "broken"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000, False, "broken"),
        (b"", False, "broken"),
    ],
)
def test_the_own_generator_counts_only_whole_responses_and_names_errors(
    answer: bytes, counted: bool, kind: str
) -> None:
    with served(answer) as port:
        told = asyncio.run(run_briefly(port))
    assert bool(told["requests"]) is counted
    assert isinstance(told["errors"], dict)
    assert told["errors"][kind] > 0


def test_the_own_generator_counts_refused_connections() -> None:
    told = asyncio.run(run_briefly(free_port()))
    assert told["requests"] == 0
    assert isinstance(told["errors"], dict)
    assert told["errors"]["connect"] > 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("load")


@pytest.fixture(scope="module")
def own_port(folder: Path) -> Iterator[int]:
    port = free_port()
    with Program("own-backend", [sys.executable, "-m", "bench.backend", str(port)], folder, CORE) as own:
        own.wait_for_port(port)
        yield port


@pytest.fixture(scope="module")
def nginx_port(folder: Path) -> Iterator[int]:
    if not shutil.which("nginx"):
        pytest.skip("no nginx on PATH")
    with ExitStack() as stack:
        yield start_backend(folder, CORE, stack).port


@pytest.fixture(params=["own", "nginx"])
def backend_port(request: pytest.FixtureRequest) -> int:
    port: int = request.getfixturevalue(f"{request.param}_port")
    return port


def exchange(port: int, request: bytes, until: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), 5) as connection:
        connection.settimeout(5)
        connection.sendall(request)
        received = b""
        while not received.endswith(until):
            chunk = connection.recv(1 << 20)
            assert chunk, f"closed after {received[:200]!r}"
            received += chunk
        return received


@pytest.mark.parametrize(
    ("path", "size"), [("/small", SMALL_BYTES), ("/else?where", SMALL_BYTES), (LARGE_PATH, LARGE_BYTES)]
)
def test_a_backend_answers_the_agreed_size(backend_port: int, path: str, size: int) -> None:
    received = exchange(backend_port, f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode(), b"x" * size)
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert body == b"x" * size


def test_a_backend_keeps_the_connection_and_reads_bodies(backend_port: int) -> None:
    request = request_bytes(SCENARIOS["post"], 1) + b"GET /small HTTP/1.1\r\nHost: a\r\n\r\n"
    with socket.create_connection(("127.0.0.1", backend_port), 5) as connection:
        connection.settimeout(5)
        for half in (request[:5000], request[5000:]):
            connection.sendall(half)
        received = b""
        while received.count(b"x" * SMALL_BYTES) < 2:
            chunk = connection.recv(65536)
            assert chunk, f"closed after {received[:200]!r}"
            received += chunk
    assert received.count(b"HTTP/1.1 200 OK") == 2


@pytest.mark.parametrize("name", [each.name for each in SCENARIOS.values() if not (each.tls or each.special)])
def test_the_own_generator_loads_every_plain_scenario(backend_port: int, name: str) -> None:
    async def load() -> dict[str, object]:
        return await Run(FEW[name], backend_port).last(0.2)

    told = asyncio.run(load())
    assert isinstance(told["requests"], int)
    assert isinstance(told["bytes"], int)
    assert told["requests"] > 10
    assert told["bytes"] >= told["requests"] * FEW[name].response_bytes
    assert told["errors"] == {"connect": 0, "broken": 0, "timeout": 0, "status": 0}
    assert isinstance(told["p50_us"], int)
    assert isinstance(told["p99_us"], int)
    assert 0 < told["p50_us"] <= told["p99_us"] < 1_000_000


def one_second(generator: Generator, scenario: Scenario, port: int) -> LoadResult:
    told = generator.run(scenario, port, 1.0, CORE)
    assert told.failed == 0
    assert told.requests > 100
    assert 0.9 < told.seconds < 5
    assert 0 < told.p50_us <= told.p99_us
    return told


def test_one_second_end_to_end_with_the_own_generator(own_port: int) -> None:
    one_second(OwnGenerator(), SCENARIOS["small"], own_port)


@pytest.mark.parametrize("name", ["unique", "post"])
def test_one_second_end_to_end_with_wrk(own_port: int, folder: Path, name: str) -> None:
    if not shutil.which("wrk"):
        pytest.skip("no wrk on PATH")
    one_second(Wrk(folder), FEW[name], own_port)


@pytest.fixture(params=["own", "wrk"])
def generator(request: pytest.FixtureRequest, folder: Path) -> Generator:
    if request.param == "own":
        return OwnGenerator()
    if not shutil.which("wrk"):
        pytest.skip("no wrk on PATH")
    return Wrk(folder)


def test_a_generator_that_is_stopped_tells_the_figures_so_far(generator: Generator, own_port: int) -> None:
    began = time.monotonic()
    with generator.start(STEADY, own_port, 60, CORE) as generation:
        assert generation.running(0.7)
        generation.stop()
    told = generation.result()
    assert time.monotonic() - began < 10
    assert told.failed == 0
    assert 0 < told.seconds < 10
    assert 0 < told.requests / told.seconds < 1.2 * 1000 / STEADY.pause_ms * STEADY.connections


def test_a_generator_asks_for_many_hosts(generator: Generator, own_port: int) -> None:
    one_second(generator, replace(FEW["small"], hosts=5), own_port)


def test_a_generator_that_fails_is_ended_and_says_why(folder: Path, own_port: int) -> None:
    class Broken(Generator):
        def argv(self, scenario: Scenario, port: int, seconds: float) -> list[str]:
            return ["sh", "-c", "echo no luck today"]

    with pytest.raises(BenchError, match="no luck today"):
        Broken().run(SCENARIOS["small"], own_port, 1, CORE)


def test_wrk_counts_what_is_not_200(folder: Path) -> None:
    if not shutil.which("wrk"):
        pytest.skip("no wrk on PATH")
    with served(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n") as port:
        told = Wrk(folder).run(FEW["small"], port, 1.0, CORE)
    assert told.errors["status"] == told.requests > 0
