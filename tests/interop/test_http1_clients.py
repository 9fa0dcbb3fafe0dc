"""Real clients through a real edge: curl, Python's own, and a WebSocket by wsproto."""

from __future__ import annotations

import http.client
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Message, Ping, Pong, Request, TextMessage

from tests.router.wire import OK, RunningEdge, Wire, answering, backend, running_edge, wait_until

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not on PATH")


@pytest.fixture
def edge() -> Iterator[RunningEdge]:
    with running_edge() as running:
        yield running


def curl(edge: RunningEdge, *arguments: str, path: str = "/") -> subprocess.CompletedProcess[bytes]:
    url = f"http://app.test:{edge.port}{path}"
    resolve = f"app.test:{edge.port}:127.0.0.1"
    return subprocess.run(
        ["curl", "-sS", "--resolve", resolve, *arguments, url], capture_output=True, timeout=30, check=False
    )


@needs_curl
class TestCurl:
    def test_several_requests_on_one_connection(self, edge: RunningEdge) -> None:
        with backend(answering(OK)) as app:
            edge.register("app.test", app.port)
            done = curl(edge, "-w", "%{num_connects} ", *[f"http://app.test:{edge.port}/{n}" for n in range(9)])
        assert done.returncode == 0, done.stderr
        assert done.stdout == b"ok1 " + b"ok0 " * 9

    def test_upload_that_waits_for_100_continue(self, edge: RunningEdge, tmp_path: Path) -> None:
        def willing(wire: Wire) -> None:
            wire.read_until(b"\r\n\r\n")
            wire.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            wire.read_exactly(2_000_000)
            wire.send(OK)

        upload = tmp_path / "upload"
        upload.write_bytes(b"x" * 2_000_000)
        with backend(willing) as app:
            edge.register("app.test", app.port)
            done = curl(edge, "-H", "Expect: 100-continue", "-T", str(upload), path="/upload")
        assert (done.returncode, done.stdout) == (0, b"ok"), done.stderr

    def test_upload_in_chunks(self, edge: RunningEdge) -> None:
        with backend(
            answering(lambda r: b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(r.body), r.body))
        ) as app:
            edge.register("app.test", app.port)
            done = curl(edge, "-H", "Transfer-Encoding: chunked", "-H", "Expect:", "-d", "some=thing")
        assert (done.returncode, done.stdout) == (0, b"some=thing"), done.stderr

    def test_http_1_0(self, edge: RunningEdge) -> None:
        chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
        with backend(answering(chunked)) as app:
            edge.register("app.test", app.port)
            done = curl(edge, "--http1.0")
        assert (done.returncode, done.stdout) == (0, b"ok"), done.stderr

    def test_proxytunnel(self, edge: RunningEdge) -> None:
        with backend(answering(OK)) as app:
            edge.register("app.test", app.port)
            done = curl(edge, "--proxytunnel", "--proxy", f"http://127.0.0.1:{edge.port}", path="/through")
        assert (done.returncode, done.stdout) == (0, b"ok"), done.stderr

    def test_proxytunnel_to_a_stranger(self, edge: RunningEdge) -> None:
        with backend(answering(OK)) as stranger:
            tunnel = ["--proxytunnel", "--proxy", f"http://127.0.0.1:{edge.port}"]
            url = f"http://127.0.0.1:{stranger.port}/"
            done = subprocess.run(["curl", "-sS", *tunnel, url], capture_output=True, timeout=30, check=False)
            assert done.returncode == 56
            assert stranger.connections == 0

    def test_a_truncated_response_is_noticed(self, edge: RunningEdge) -> None:
        def half(wire: Wire) -> None:
            wire.message()
            wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")

        with backend(half) as app:
            edge.register("app.test", app.port)
            assert curl(edge).returncode in (18, 56)


def test_python_http_client(edge: RunningEdge) -> None:
    with backend(answering(OK)) as app:
        edge.register("app.test", app.port)
        client = http.client.HTTPConnection("127.0.0.1", edge.port, timeout=10)
        for method, body in [("GET", None), ("POST", b"x" * 1000), ("PUT", iter([b"a", b"b"])), ("DELETE", None)]:
            client.request(method, "/", body=body, headers={"Host": "app.test"}, encode_chunked=body is not None)
            response = client.getresponse()
            assert (response.status, response.read()) == (200, b"ok")
        assert app.connections == 1


def test_a_websocket_conversation(edge: RunningEdge) -> None:
    def echo(wire: Wire) -> None:
        server = WSConnection(ConnectionType.SERVER)
        while True:
            data = wire.socket.recv(65536)
            if not data:
                return
            server.receive_data(data)
            for event in server.events():
                if isinstance(event, Request):
                    wire.send(server.send(AcceptConnection()))
                elif isinstance(event, TextMessage):
                    wire.send(server.send(Message(data=event.data.upper(), message_finished=event.message_finished)))
                elif isinstance(event, (Ping, CloseConnection)):
                    wire.send(server.send(event.response()))

    with backend(echo) as app:
        edge.register("app.test", app.port)
        client = WSConnection(ConnectionType.CLIENT)
        link = socket.create_connection(("127.0.0.1", edge.port), 10)
        link.sendall(client.send(Request(host="app.test", target="/chat")))
        heard: list[str] = []
        answered: list[object] = []
        sent = False
        while not any(isinstance(event, CloseConnection) for event in answered):
            client.receive_data(link.recv(65536))
            for event in client.events():
                answered.append(event)
                if isinstance(event, TextMessage):
                    heard.append(event.data)
            if not sent:
                sent = True
                link.sendall(client.send(Ping(payload=b"?")) + client.send(Message(data="hello " * 20_000)))
            if sum(map(len, heard)) == 120_000 and client.state.name == "OPEN":
                link.sendall(client.send(CloseConnection(code=1000, reason="done")))
        assert isinstance(answered[0], AcceptConnection)
        assert any(isinstance(event, Pong) for event in answered)
        assert "".join(heard) == "HELLO " * 20_000
        assert next(event for event in answered if isinstance(event, CloseConnection)).code == 1000
        link.close()
    wait_until(lambda: edge.metrics.statuses[101] == 1)
