"""The controller's scenarios, small, on a whole system; and the client that its figures rest on."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import repeat

import pytest
from rich.console import Console

from bench import controller_report
from bench.api_client import Caller, ask, read
from bench.api_load import load
from bench.control_plane import SQLITE
from bench.controller import CALLS, CONNECTIONS, Amounts, run
from bench.machine import BenchError
from bench.rounds import Effort
from bench.session import session

FEW = Amounts(apps=300, seconds=0.2, page_rounds=2, changes=5, jobs=3, warm_requests=40, more_requests=40)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Kind: good\r\n\r\n{}"


@contextmanager
def answering(*answers: bytes) -> Iterator[int]:
    """The port of a server that gives these answers on one connection, each to one request, and closes it."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                for answer in answers:
                    if not connection.recv(65536):
                        return
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        thread.join(10)


def test_a_small_go_measures_everything(capsys: pytest.CaptureFixture[str]) -> None:
    told: list[str] = []
    with session(Effort(1, 1, 0)) as running:
        result = run(running, FEW, [SQLITE], told.append)
    (database,) = result.databases
    assert [(rate.name, rate.connections) for rate in database.rates] == [
        (name, connections) for name, *_ in CALLS for connections in CONNECTIONS
    ]
    for rate in database.rates:
        assert (rate.failed, rate.first_failure) == (0, "")
        assert rate.per_second > 1
        assert 0 < rate.p50_ms <= rate.p99_ms
        assert 0.01 < rate.cpu_ms < 1000
    assert {page.number for page in database.pages} == {1, 4, 6}
    assert all(page.ms > 0 for page in database.pages)
    assert database.shown.count == FEW.changes
    assert database.jobs.count == FEW.jobs
    assert 1 << 24 < database.memory.start <= database.memory.later
    controller_report.show(result, Console(width=140))
    shown = capsys.readouterr().out
    assert "POST /v3/routes/:guid/destinations" in shown
    assert "goal: a destination is served at most 20 ms" in shown


def test_an_answer_is_read_when_it_is_whole() -> None:
    assert all(read(OK[:length]) is None for length in range(len(OK)))
    answer = read(OK)
    assert answer is not None
    assert (answer.status, answer.json, answer.field("x-kind"), answer.field("x")) == (200, {}, "good", "")


def test_a_caller_says_what_was_wrong() -> None:
    wrong = b"HTTP/1.1 422 No\r\nContent-Length: 3\r\n\r\nbad"
    with answering(OK, wrong) as port:
        caller = Caller(port)
        assert caller.call(ask("GET", "api", "/right", 200)).json == {}
        with pytest.raises(BenchError, match="GET /wrong: 422 bad"):
            caller.call(ask("GET", "api", "/wrong", 200))
        with pytest.raises(BenchError, match="GET /closed: the connection was closed"):
            caller.call(ask("GET", "api", "/closed", 200))
        caller.close()


def test_load_counts_right_answers_and_names_the_first_wrong_one() -> None:
    wrong = b"HTTP/1.1 503 No\r\nContent-Length: 3\r\n\r\nbad"
    with answering(OK, wrong, OK) as port:
        figures = load(port, repeat(ask("GET", "api", "/", 200)), connections=1, seconds=5)
    assert (figures.answers, figures.first_failure) == (2, "503 bad")
    assert figures.failed == 2, "the wrong answer, and the request on the connection that was closed then"
    assert figures.seconds < 5


def test_load_sends_no_more_than_it_may() -> None:
    with answering(OK, OK) as port:
        figures = load(port, repeat(ask("GET", "api", "/", 200)), connections=1, seconds=5, most=2)
    assert (figures.answers, figures.failed) == (2, 0)


def test_an_api_that_gives_no_right_answer_is_an_error() -> None:
    with answering(b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n") as port, pytest.raises(BenchError, match="401"):
        load(port, iter([ask("GET", "api", "/", 200)]), connections=1, seconds=5)
