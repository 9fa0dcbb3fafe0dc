"""The kernel asks silent endpoints whether they are there, as often as endpoint_keep_alive_probe_interval says."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from router.config.settings import Settings
from router.keep_alive import Probes
from tests.router.wire import OK, RunningEdge, answering, backend, running_edge

GET = b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n"


def options(edge: RunningEdge) -> list[tuple[int, int, int]]:
    """Of each connection to an endpoint: whether the kernel asks, after how many seconds, and how often then."""

    def read() -> list[tuple[int, int, int]]:
        socks: list[Any] = [
            connection.transport.get_extra_info("socket")  # type: ignore[attr-defined]
            for shard in edge.edge._backends
            for connection in shard
        ]
        return [
            (
                sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
                sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
                sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
            )
            for sock in socks
        ]

    found = edge.do(read)
    assert isinstance(found, list)
    return found


@pytest.mark.parametrize(("interval", "seconds"), [(1.0, 1), (7.0, 7), (0.2, 1), (2.5, 3), (0.0, 15)])
def test_every_connection_to_an_endpoint(interval: float, seconds: int) -> None:
    wanted = Settings(endpoint_keep_alive_probe_interval=interval)
    with running_edge(wanted) as edge, backend(answering(OK)) as app:
        edge.register("app.test", app.port)
        client = edge.connect()
        client.send(GET)
        assert client.message().status == 200
        assert options(edge) == [(1, seconds, seconds)]
        client.close()


def test_there_is_nothing_to_ask_where_there_is_no_network() -> None:
    class InMemory:
        def get_extra_info(self, _name: str, /) -> None:
            return None

    Probes(1, 1).watch(InMemory())
    ours, theirs = socket.socketpair()
    with ours, theirs:

        class Local:
            def get_extra_info(self, _name: str, /) -> socket.socket:
                return ours

        Probes(1, 1).watch(Local())
        assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 0
