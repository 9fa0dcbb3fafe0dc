"""Autobahn's WebSocket suite through the router and without it: no case may come out worse for the router.

(a) Autobahn's fuzzing client speaks to an echo server, (b) an echo client speaks to Autobahn's fuzzing server. The echo
is `tests.compliance.websocket_echo`, by wsproto, which has its own opinions; the router is judged by the difference.

``wstest`` is a program for Python 2.7: ``virtualenv -p python2.7 DIR && DIR/bin/pip install autobahntestsuite``, then
``WSTEST=DIR/bin/wstest make compliance``. An ordinary test run plays a quick selection of cases.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.router.wire import RunningEdge, running_edge, wait_until

WSTEST = os.environ.get("WSTEST") or shutil.which("wstest")
FULL = os.environ.get("COMPLIANCE") == "full"
QUICK = ["1.*", "2.*", "5.*"]
COMPRESSED = [f"12.{kind}.{size}" for kind in range(1, 6) for size in (1, 2)]
COMPRESSED += [f"13.{kind}.{size}" for kind in range(1, 8) for size in (1, 2)]
"""Of the cases with compression the two shortest of each kind: all 216 take eight minutes."""
CASES = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "9.*", "10.*", *COMPRESSED] if FULL else QUICK
FEWEST = 300 if FULL else 40
"""How many cases must have run: an empty report is no proof."""
RANKS = {"OK": 0, "INFORMATIONAL": 1, "NON-STRICT": 2, "UNIMPLEMENTED": 3, "UNCLEAN": 4, "WRONG CODE": 5, "FAILED": 6}
"""Autobahn's verdicts, from best to worst."""
PATIENCE = 200.0
"""Seconds for one play of all cases."""

pytestmark = pytest.mark.skipif(
    not WSTEST,
    reason="wstest is neither on PATH nor named by the variable WSTEST (it needs Python 2.7: "
    "virtualenv -p python2.7 DIR && DIR/bin/pip install autobahntestsuite)",
)

Verdicts = dict[str, tuple[str, str]]
"""What Autobahn thought of behaviour and of the close, by case."""


@pytest.fixture
def edge() -> Iterator[RunningEdge]:
    with running_edge() as running:
        yield running


def verdicts(report: Path, agent: str) -> Verdicts:
    found = json.loads((report / "index.json").read_text())[agent]
    return {case: (result["behavior"], result["behaviorClose"]) for case, result in found.items()}


def worse(through: Verdicts, direct: Verdicts) -> list[str]:
    """Cases that came out worse through the router, or not at all."""
    lost = (RANKS["FAILED"], RANKS["FAILED"])

    def ranks(verdict: tuple[str, str] | None) -> tuple[int, int]:
        return lost if verdict is None else (RANKS[verdict[0]], RANKS[verdict[1]])

    return [
        case
        for case, verdict in direct.items()
        if any(there > here for there, here in zip(ranks(through.get(case)), ranks(verdict), strict=True))
    ]


def echo_program(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.compliance.websocket_echo", *arguments],
        text=True,
        **options,
    )


def wstest(mode: str, spec: dict[str, Any], folder: Path) -> list[str]:
    """The command that plays ``spec``."""
    file = folder / f"{mode}.json"
    file.write_text(json.dumps({"outdir": str(folder), "exclude-cases": [], "exclude-agent-cases": {}, **spec}))
    return [str(WSTEST), "--mode", mode, "--spec", str(file), "--webport", "0"]


class TestAnEchoServerBehindTheRouter:
    @pytest.fixture
    def port(self) -> Iterator[int]:
        with echo_program("server", stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
            assert running.stdout is not None
            yield int(running.stdout.readline())
            assert running.stdin is not None
            running.stdin.close()

    def play(self, port: int, folder: Path, cases: list[str]) -> Verdicts:
        folder.mkdir()
        spec = {"servers": [{"agent": "echo", "url": f"ws://127.0.0.1:{port}"}], "cases": cases}
        subprocess.run(
            wstest("fuzzingclient", spec, folder), cwd=folder, timeout=PATIENCE, check=True, stdout=subprocess.DEVNULL
        )
        return verdicts(folder, "echo")

    def test_is_as_good_as_without(self, edge: RunningEdge, port: int, tmp_path: Path) -> None:
        edge.register("127.0.0.1", port)
        direct = self.play(port, tmp_path / "direct", CASES)
        through = self.play(edge.port, tmp_path / "through", CASES)
        assert len(direct) >= FEWEST
        assert edge.metrics.tunnels_opened >= FEWEST
        if doubtful := worse(through, direct):  # a case that depends on timing gets another chance
            through = self.play(edge.port, tmp_path / "again", doubtful)
            direct = {case: direct[case] for case in doubtful}
        assert worse(through, direct) == []
        wait_until(lambda: edge.metrics.tunnels == 0)


class TestAFuzzingServerBehindTheRouter:
    @contextmanager
    def serving(self, folder: Path, cases: list[str]) -> Iterator[int]:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port: int = free.getsockname()[1]
        folder.mkdir()
        command = wstest("fuzzingserver", {"url": f"ws://127.0.0.1:{port}", "cases": cases}, folder)
        with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL) as running:
            try:
                wait_until(lambda: is_listening(port), "the fuzzing server")
                yield port
            finally:
                running.terminate()

    def play(self, port: int, name: str, via: int) -> None:
        with echo_program("client", name, f"127.0.0.1:{port}", str(via)) as running:
            try:
                assert running.wait(PATIENCE) == 0
            finally:
                running.kill()

    def compare(self, edge: RunningEdge, folder: Path, cases: list[str]) -> list[str]:
        with self.serving(folder, cases) as port:
            edge.register("127.0.0.1", port)
            self.play(port, "direct", port)
            self.play(port, "through", edge.port)
            edge.unregister("127.0.0.1", port)
        direct = verdicts(folder, "direct")
        assert len(direct) >= (FEWEST if cases is CASES else 1)
        return worse(verdicts(folder, "through"), direct)

    def test_sees_the_client_as_without(self, edge: RunningEdge, tmp_path: Path) -> None:
        doubtful = self.compare(edge, tmp_path / "first", CASES)
        assert edge.metrics.tunnels_opened >= FEWEST
        if doubtful:
            doubtful = self.compare(edge, tmp_path / "again", doubtful)
        assert doubtful == []
        wait_until(lambda: edge.metrics.tunnels == 0)


def is_listening(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False
