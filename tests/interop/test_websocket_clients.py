"""WebSockets by real implementations through a real router, and CONNECT by real clients."""

from __future__ import annotations

import http.client
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from router.registry.embedded import EmbeddedRedis
from tests.router.supervised import register, running_router
from tests.router.wire import OK, PATIENCE, RunningEdge, answering, backend, running_edge, wait_until

websockets = pytest.importorskip("websockets", reason="the package websockets is not installed: pip install websockets")

from websockets.exceptions import ConnectionClosed, InvalidStatus  # noqa: E402
from websockets.sync.client import ClientConnection, connect  # noqa: E402
from websockets.sync.server import ServerConnection, serve  # noqa: E402

MIB = 1024 * 1024


@pytest.fixture
def edge() -> Iterator[RunningEdge]:
    with running_edge() as running:
        yield running


def echo(link: ServerConnection) -> None:
    for message in link:
        link.send(message)


@contextmanager
def application(handler: Any, **options: Any) -> Iterator[int]:
    """A WebSocket server; gives its port."""
    with serve(handler, "127.0.0.1", 0, max_size=None, **options) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.socket.getsockname()[1]
        finally:
            server.shutdown()
            thread.join(PATIENCE)


@contextmanager
def conversation(edge: RunningEdge, handler: Any, **options: Any) -> Iterator[ClientConnection]:
    with application(handler) as port:
        edge.register("app.test", port)
        with connect(f"ws://app.test:{edge.port}/chat", sock=edge.connect().socket, max_size=None, **options) as link:
            yield link


@pytest.mark.parametrize("compression", ["deflate", None])
def test_texts_bytes_and_fragments_come_back_as_they_were(edge: RunningEdge, compression: str | None) -> None:
    with conversation(edge, echo, compression=compression) as link:
        for message in ("", "grüße", b"", bytes(range(256)), "x" * 200_000, b"\0" * 1_000_000):
            link.send(message)
            assert link.recv(PATIENCE) == message
        link.send(["frag", "men", "ted"])
        assert link.recv(PATIENCE) == "fragmented"


def test_the_agreed_subprotocol_and_extensions_are_those_of_both_ends(edge: RunningEdge) -> None:
    seen: list[Any] = []

    def agree(link: ServerConnection) -> None:
        seen.append((link.subprotocol, link.request.path, link.protocol.extensions))  # type: ignore[union-attr]
        link.send("ready")

    with application(agree, subprotocols=["two", "one"]) as port:
        edge.register("app.test", port)
        with connect(
            f"ws://app.test:{edge.port}/a?b=c", sock=edge.connect().socket, subprotocols=["one", "two"]
        ) as link:  # type: ignore[list-item]
            assert link.recv(PATIENCE) == "ready"
            assert link.subprotocol == "two"
            assert seen[0][:2] == ("two", "/a?b=c")
            assert [e.name for e in link.protocol.extensions] == [e.name for e in seen[0][2]] == ["permessage-deflate"]


def test_pings_are_answered_by_the_other_end(edge: RunningEdge) -> None:
    with conversation(edge, echo) as link:
        assert link.ping(b"are you there?").wait(PATIENCE)


@pytest.mark.parametrize("code", [1000, 1001, 1008, 1011, 3000, 4999])
@pytest.mark.parametrize("closing", ["client", "application"])
def test_close_codes_and_reasons_pass_unchanged(edge: RunningEdge, code: int, closing: str) -> None:
    heard: list[tuple[int, str]] = []
    told = threading.Event()

    def handler(link: ServerConnection) -> None:
        if closing == "application":
            link.close(code, "because")
            return
        try:
            link.recv(PATIENCE)
        except ConnectionClosed as closed:
            if closed.rcvd is not None:
                heard.append((closed.rcvd.code, closed.rcvd.reason))
        told.set()

    with conversation(edge, handler) as link:
        if closing == "client":
            link.close(code, "because")
            assert told.wait(PATIENCE)
        else:
            with pytest.raises(ConnectionClosed) as caught:
                link.recv(PATIENCE)
            assert caught.value.rcvd is not None
            heard.append((caught.value.rcvd.code, caught.value.rcvd.reason))
    assert heard == [(code, "because")]


def test_an_application_that_refuses_is_heard(edge: RunningEdge) -> None:
    def refuse(link: ServerConnection, _request: object) -> object:
        return link.respond(http.HTTPStatus.FORBIDDEN, "not you\n")

    with application(echo, process_request=refuse) as port:
        edge.register("app.test", port)
        address, sock = f"ws://app.test:{edge.port}/", edge.connect().socket
        with pytest.raises(InvalidStatus) as refused, connect(address, sock=sock):
            pass
        assert (refused.value.response.status_code, refused.value.response.body) == (403, b"not you\n")


def test_many_conversations_at_once(edge: RunningEdge) -> None:
    with application(echo) as port, ExitStack() as open_links:
        edge.register("app.test", port)
        address = f"ws://app.test:{edge.port}/"
        links = [open_links.enter_context(connect(address, sock=edge.connect().socket)) for _ in range(40)]
        for number, link in enumerate(links):
            link.send(str(number))
        for number, link in enumerate(links):
            assert link.recv(PATIENCE) == str(number)
        assert edge.metrics.tunnels == 40
    wait_until(lambda: edge.metrics.tunnels == 0)
    assert edge.metrics.tunnels_reset == 0


def test_one_message_of_64_mib_costs_the_router_no_memory() -> None:
    def digest(link: ServerConnection) -> None:
        for message in link:
            link.send(message)

    folder = Path(tempfile.mkdtemp(prefix="mr-", dir="/tmp"))
    try:
        with (
            EmbeddedRedis(folder) as redis,
            application(digest, compression=None) as port,
            running_router(redis.url, millrace={"workers": 1}) as router,
        ):
            register(redis.url, port)
            [worker] = router.until_healthy().workers
            before = peak_memory(worker)
            address = f"ws://app.example.com:{router.port}/"
            with connect(address, sock=router.connect().socket, max_size=None, compression=None) as link:
                message = b"millrace" * (8 * MIB)
                link.send(message)
                assert link.recv(3 * PATIENCE) == message
            assert peak_memory(worker) - before < 4 * MIB
    finally:
        shutil.rmtree(folder)


def peak_memory(pid: int) -> int:
    """The most resident memory that a process ever had, bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    pytest.skip("this system does not tell a process's peak of memory")


def test_python_http_client_through_a_tunnel(edge: RunningEdge) -> None:
    with backend(answering(OK)) as app:
        edge.register("app.test", app.port)
        client = http.client.HTTPConnection("127.0.0.1", edge.port, timeout=PATIENCE)
        client.set_tunnel("app.test", 80)
        for _ in range(3):
            client.request("GET", "/inside")
            response = client.getresponse()
            assert (response.status, response.read()) == (200, b"ok")
        client.close()
        assert app.connections == 1
    assert edge.metrics.tunnels_opened == 1


def test_python_http_client_to_a_host_without_a_route(edge: RunningEdge) -> None:
    client = http.client.HTTPConnection("127.0.0.1", edge.port, timeout=PATIENCE)
    client.set_tunnel("stranger.test", 80)
    with pytest.raises(OSError, match="404"):
        client.request("GET", "/")
