"""What features cost: the tool runs, and what it counts is served and sent."""

from __future__ import annotations

import socket
from contextlib import suppress

import pytest
import uvloop

from bench import request_cost

ROWS = list(request_cost.configured("127.0.0.1:3457"))
EVENT, LINE, VALUE = 4, 5, 6


@pytest.mark.parametrize(
    ("row", "sent"),
    [
        (0, set()),
        (1, set()),
        (2, set()),
        (3, {VALUE}),
        (4, {VALUE, EVENT}),
        (5, {VALUE, EVENT}),
        (6, {VALUE, EVENT, LINE}),
    ],
)
def test_every_row_is_a_router_that_serves(monkeypatch: pytest.MonkeyPatch, row: int, sent: set[int]) -> None:
    monkeypatch.setattr(request_cost, "REQUESTS", 250)
    monkeypatch.setattr(request_cost, "ROUNDS", 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as agent:
        agent.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * 1024 * 1024)
        agent.bind(("127.0.0.1", 0))
        agent.setblocking(False)
        settings = request_cost.configured(f"127.0.0.1:{agent.getsockname()[1]}")[ROWS[row]]
        assert 0 < uvloop.run(request_cost.cost(settings, lines="log line" in ROWS[row])) < 10_000
        kinds = set()
        with suppress(BlockingIOError):
            while datagram := agent.recv(65_536):
                kinds.add(datagram[11])  # the kind of event, behind the origin
        assert kinds == sent
