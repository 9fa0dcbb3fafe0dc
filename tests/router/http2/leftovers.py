"""What an edge still holds: after the end of everything, nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from router.http2_client import Http2Client
from tests.router.wire import RunningEdge, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def http2_clients(edge: RunningEdge) -> list[Http2Client]:
    """Connections from clients that speak HTTP/2; to be asked on the edge's loop only."""
    return [client for shard in edge.edge._clients for client in shard if isinstance(client, Http2Client)]


def the_client(edge: RunningEdge) -> Http2Client:
    (client,) = http2_clients(edge)
    return client


def asked(edge: RunningEdge, question: Callable[[], Any]) -> Any:
    """The answer, found on the edge's own loop."""
    return edge.do(question)


def in_flight(edge: RunningEdge) -> int:
    """Exchanges that some endpoint is said to be busy with."""
    count = edge.do(lambda: sum(endpoint.in_flight for endpoint in edge.table._endpoints.values()))
    assert isinstance(count, int)
    return count


def open_streams(edge: RunningEdge) -> int:
    """Streams of clients."""
    count = edge.do(lambda: sum(len(client.streams) for client in http2_clients(edge)))
    assert isinstance(count, int)
    return count


def streams_to_backends(edge: RunningEdge) -> int:
    count = edge.do(lambda: sum(len(b.streams) for endpoint in edge.table._endpoints.values() for b in endpoint.http2))
    assert isinstance(count, int)
    return count


def until_nothing_is_left(edge: RunningEdge) -> None:
    """No stream, no exchange, no tunnel; connections may stay."""
    wait_until(lambda: not open_streams(edge), "the end of the client's streams")
    wait_until(lambda: not in_flight(edge), "endpoints without exchanges")
    wait_until(lambda: not streams_to_backends(edge), "the end of the streams to backends")
    wait_until(lambda: not edge.metrics.tunnels, "the end of the tunnels")
