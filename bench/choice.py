"""Which generator loads a scenario, and which backend stands behind it.

It must never give two proxies of one scenario different ones.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path

from bench.h2load import H2Load
from bench.load import Backend, Generator
from bench.programs import Program, free_port
from bench.scenarios import Scenario


class EpollGenerator(Generator):
    name = "bench.epoll_load (own, epoll)"

    def argv(self, scenario: Scenario, port: int, seconds: float) -> list[str]:
        kind = "websocket" if scenario.websocket else "handshakes"
        return [sys.executable, "-m", "bench.epoll_load", kind, str(scenario.connections), str(port), str(seconds)]


def lacking(scenario: Scenario) -> str:
    """Why a scenario cannot be run on this machine at all; empty when it can."""
    return H2Load.missing() if scenario.http2 else ""


def generator_for(scenario: Scenario, folder: Path) -> Generator:
    """The generator of a special scenario."""
    return H2Load(folder) if scenario.http2 else EpollGenerator()


def start_echo(folder: Path, core: int, stack: ExitStack) -> Backend:
    """The backend of the WebSocket scenario, for ``stack`` to end. Raises BenchError when it does not start."""
    port = free_port()
    command = [sys.executable, "-m", "bench.websocket", str(port)]
    stack.enter_context(Program("echo", command, folder, core)).wait_for_port(port)
    return Backend("bench.websocket (own, epoll)", port)
