"""What stands behind the edge in the HTTP/2 tests: one backend at app.test, for as long as a test needs it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.router.wire import OK, Backend, Message, RunningEdge, Wire, answering, backend

Script = bytes | Callable[[Message], bytes]


@contextmanager
def scripted(edge: RunningEdge, script: Callable[[Wire], object]) -> Iterator[Backend]:
    def run(wire: Wire) -> None:
        script(wire)

    with backend(run) as running:
        edge.register("app.test", running.port)
        try:
            yield running
        finally:
            edge.unregister("app.test", running.port)


@contextmanager
def app(edge: RunningEdge, response: Script = OK) -> Iterator[list[Message]]:
    """Answers every request; gives the requests that came."""
    requests: list[Message] = []
    with scripted(edge, answering(response, requests)):
        yield requests


def ok(*lines: bytes, first: bytes = b"HTTP/1.1 200 OK", body: bytes = b"") -> bytes:
    return first + b"\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body
