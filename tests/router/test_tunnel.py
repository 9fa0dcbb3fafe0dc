"""Tunnels over real sockets: what passes, how each side ends, what deadlines do, and what is counted and logged."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from router.config.settings import AccessLogSettings, Native, Settings
from router.http1.names import canonical
from router.logs.access_log import AccessLog
from tests.router.wire import (
    OK,
    PATIENCE,
    Backend,
    Message,
    RunningEdge,
    Wire,
    answering,
    backend,
    running_edge,
    wait_until,
)

UPGRADE = b"GET /chat HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
CONNECT = b"CONNECT app.test:80 HTTP/1.1\r\nHost: app.test:80\r\n\r\n"


@pytest.fixture
def edge() -> Iterator[RunningEdge]:
    with running_edge() as running:
        yield running


class Sides:
    """The two ends of one tunnel, both in the test's hands."""

    def __init__(self, edge: RunningEdge, *, connect: bool) -> None:
        self._edge = edge
        self._connect = connect
        self._held = threading.Event()
        self._arrived = threading.Event()
        self.app: Wire

    def script(self, wire: Wire) -> None:
        if not self._connect:
            wire.head()
            wire.send(SWITCHED)
        self.app = wire
        self._arrived.set()
        self._held.wait(4 * PATIENCE)

    def open(self) -> None:
        self.client = self._edge.connect()
        self.client.send(CONNECT if self._connect else UPGRADE)
        assert self.client.head().status == (200 if self._connect else 101)
        assert self._arrived.wait(PATIENCE)

    def release(self) -> None:
        self._held.set()
        self.client.close()


@contextmanager
def tunnel(edge: RunningEdge, *, connect: bool = False) -> Iterator[tuple[Wire, Wire]]:
    sides = Sides(edge, connect=connect)
    with backend(sides.script) as app:
        edge.register("app.test", app.port)
        sides.open()
        try:
            yield sides.client, sides.app
        finally:
            sides.release()


def is_reset(wire: Wire) -> bool:
    """Reads to the end; whether that end was a reset."""
    try:
        while wire.socket.recv(65536):
            pass
    except ConnectionResetError:
        return True
    return False


def reset(wire: Wire) -> None:
    wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wire.close()


@pytest.mark.parametrize("connect", [False, True], ids=["upgrade", "connect"])
class TestBytes:
    def test_pass_both_ways_at_once(self, edge: RunningEdge, connect: bool) -> None:
        size = 3_000_000
        with tunnel(edge, connect=connect) as (client, app):
            senders = [
                threading.Thread(target=wire.send, args=(fill * size,)) for wire, fill in ((client, b"c"), (app, b"a"))
            ]
            for sender in senders:
                sender.start()
            heard: dict[str, bytes] = {}
            reader = threading.Thread(target=lambda: heard.update(app=app.read_exactly(size)))
            reader.start()
            assert client.read_exactly(size) == b"a" * size
            for thread in (*senders, reader):
                thread.join(PATIENCE)
            assert heard["app"] == b"c" * size

    @pytest.mark.parametrize("first", ["client", "app"])
    def test_each_direction_ends_by_itself(self, edge: RunningEdge, connect: bool, first: str) -> None:
        with tunnel(edge, connect=connect) as sides:
            ending, staying = sides if first == "client" else reversed(sides)
            ending.send(b"last words")
            ending.socket.shutdown(socket.SHUT_WR)
            assert staying.read_to_end() == b"last words"
            for word in (b"still", b"here"):
                staying.send(word)
                assert ending.read_exactly(len(word)) == word
            assert edge.metrics.tunnels == 1
            staying.socket.shutdown(socket.SHUT_WR)
            assert ending.is_closed()
            wait_until(lambda: edge.metrics.tunnels == 0)
            assert edge.metrics.tunnels_reset == 0

    @pytest.mark.parametrize("closing", ["client", "app"])
    def test_what_was_sent_before_the_close_is_delivered_to_a_slow_reader(
        self, edge: RunningEdge, connect: bool, closing: str
    ) -> None:
        size = 8_000_000
        with tunnel(edge, connect=connect) as sides:
            sender, reader = sides if closing == "client" else reversed(sides)

            def send_and_close() -> None:
                sender.send(b"x" * size)
                sender.socket.shutdown(socket.SHUT_WR)

            thread = threading.Thread(target=send_and_close)
            thread.start()
            heard = 0
            while data := reader.socket.recv(65536):
                heard += len(data)
                time.sleep(0.0005)
            thread.join(PATIENCE)
            assert heard == size

    @pytest.mark.parametrize("slow", ["client", "app"])
    def test_a_slow_reader_holds_up_the_writer_and_little_memory(
        self, edge: RunningEdge, connect: bool, slow: str
    ) -> None:
        with tunnel(edge, connect=connect) as sides:
            reader, writer = sides if slow == "client" else reversed(sides)
            writer.socket.setblocking(False)
            sent, quiet = 0, time.monotonic() + 0.3
            while time.monotonic() < quiet:
                try:
                    sent += writer.socket.send(b"x" * 65536)
                    quiet = time.monotonic() + 0.3
                except BlockingIOError:
                    time.sleep(0.01)
                assert sent < 64 * 1024 * 1024, "nobody reads, and still it is taken"
            (waiting,) = edge.do(
                lambda: [
                    t._client.side.get_write_buffer_size() + t._backend.side.get_write_buffer_size()
                    for shard in edge.edge._tunnels
                    for t in shard
                ]
            )  # type: ignore[misc]
            assert 0 < waiting <= 256 * 1024
            assert len(reader.read_exactly(sent)) == sent
            writer.socket.settimeout(PATIENCE)
            writer.send(b"and on")
            assert reader.read_exactly(6) == b"and on"

    @pytest.mark.parametrize("breaking", ["client", "app"])
    def test_a_reset_looks_like_one_to_the_other_side(self, edge: RunningEdge, connect: bool, breaking: str) -> None:
        with tunnel(edge, connect=connect) as sides:
            ending, staying = sides if breaking == "client" else reversed(sides)
            reset(ending)
            assert is_reset(staying)
            wait_until(lambda: edge.metrics.tunnels == 0)
            assert edge.metrics.tunnels_reset == 1
            wait_until(lambda: edge.metrics.client_connections == 0)

    def test_the_kernel_asks_whether_a_silent_peer_is_there(self, edge: RunningEdge, connect: bool) -> None:
        with tunnel(edge, connect=connect):
            kept = edge.do(
                lambda: [
                    end.side.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
                    for shard in edge.edge._tunnels
                    for found in shard
                    for end in (found._client, found._backend)
                ]
            )
            assert kept == [1, 1]


class TestDeadlines:
    def settings(self, **native: float) -> Settings:
        return Settings(millrace=Native(**native))  # type: ignore[arg-type]

    def test_a_tunnel_without_a_byte_either_way_is_cut(self) -> None:
        with running_edge(self.settings(tunnel_idle_timeout=0.4)) as edge, tunnel(edge) as (client, app):
            began = time.monotonic()
            assert is_reset(client)
            assert is_reset(app)
            assert 0.35 <= time.monotonic() - began < 3
            wait_until(lambda: edge.metrics.tunnels == 0)
            assert (edge.metrics.tunnels_idle_too_long, edge.metrics.tunnels_reset) == (1, 0)

    @pytest.mark.parametrize("talking", ["client", "app"])
    def test_a_byte_now_and_then_keeps_it(self, talking: str) -> None:
        with running_edge(self.settings(tunnel_idle_timeout=1.0)) as edge, tunnel(edge) as sides:
            sender, reader = sides if talking == "client" else reversed(sides)
            for _ in range(20):
                time.sleep(0.1)
                sender.send(b".")
                assert reader.read_exactly(1) == b"."

    def test_so_does_a_reader_that_takes_what_is_there_slowly(self) -> None:
        with running_edge(self.settings(tunnel_idle_timeout=1.0)) as edge, tunnel(edge) as (client, app):
            app.socket.setblocking(False)
            sent = 0
            full = time.monotonic() + 0.2
            while time.monotonic() < full:
                try:
                    sent += app.socket.send(b"x" * 65536)
                except BlockingIOError:
                    time.sleep(0.01)
            app.socket.settimeout(PATIENCE)
            taken = 0
            for _ in range(20):
                taken += len(client.socket.recv(sent // 25))
                time.sleep(0.1)
            assert edge.metrics.tunnels_idle_too_long == 0
            client.read_exactly(sent - taken)

    def test_a_busy_tunnel_lasts_no_longer_than_it_may(self) -> None:
        with running_edge(self.settings(tunnel_max_lifetime=0.6)) as edge, tunnel(edge) as (client, app):
            began = time.monotonic()
            with suppress(OSError):  # a reset, seen while sending or while reading
                while time.monotonic() - began < PATIENCE:
                    client.send(b".")
                    app.read_exactly(1)
            assert 0.55 <= time.monotonic() - began < 3
            wait_until(lambda: edge.metrics.tunnels == 0)
            assert edge.metrics.tunnels_outlived == 1

    def test_neither_holds_where_it_is_not_set(self) -> None:
        with running_edge(self.settings(tunnel_idle_timeout=0.0)) as edge, tunnel(edge) as (client, app):
            time.sleep(0.6)
            client.send(b".")
            assert app.read_exactly(1) == b"."

    def test_the_handshake_itself_has_the_deadline_of_a_response(self) -> None:
        silent = threading.Event()
        with (
            running_edge(self.settings(response_header_timeout=0.2)) as edge,
            backend(lambda wire: bool(silent.wait(PATIENCE)) and None) as app,
        ):
            edge.register("app.test", app.port)
            client = edge.connect()
            client.send(UPGRADE)
            answer = client.message()
            silent.set()
        assert answer.status == 504
        assert edge.metrics.tunnels_opened == 0


class TestOpening:
    def test_bytes_that_came_with_either_head_go_first(self, edge: RunningEdge) -> None:
        def app(wire: Wire) -> None:
            wire.head()
            wire.send(SWITCHED + b"from the app")
            wire.send(b"<" + wire.read_exactly(15) + b">")

        with backend(app) as running:
            edge.register("app.test", running.port)
            client = edge.connect()
            client.send(UPGRADE + b"from the client")
            assert client.head().status == 101
            assert client.read_to_end() == b"from the app<from the client>"

    @pytest.mark.parametrize("status", [b"403 Forbidden", b"426 Upgrade Required", b"500 Oh"])
    def test_an_upgrade_that_is_refused_is_an_ordinary_response(self, edge: RunningEdge, status: bytes) -> None:
        answer = b"HTTP/1.1 %b\r\nContent-Length: 2\r\nSec-WebSocket-Version: 13\r\n\r\nno" % status
        with backend(answering(answer)) as app:
            edge.register("app.test", app.port)
            client = edge.connect()
            for _ in range(3):
                client.send(UPGRADE)
                response = client.message()
                assert response.first == b"HTTP/1.1 " + status
                assert (response.body, response.get("Sec-WebSocket-Version")) == (b"no", b"13")
            assert app.connections == 1
        assert edge.metrics.tunnels_opened == 0

    def test_a_101_that_nobody_asked_for_is_a_bad_gateway(self, edge: RunningEdge) -> None:
        with backend(answering(SWITCHED)) as app:
            edge.register("app.test", app.port)
            client = edge.connect()
            client.send(b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n")
            assert client.message().status == 502
        assert edge.metrics.tunnels_opened == 0

    def test_the_values_of_the_handshake_pass_byte_for_byte(self, edge: RunningEdge) -> None:
        asking = [
            (b"sec-websocket-KEY", b"dGhlIHNhbXBsZSBub25jZQ=="),
            (b"Sec-WebSocket-Version", b"13"),
            (b"Sec-WebSocket-Extensions", b'permessage-deflate; client_max_window_bits,  x-two; a="b,c"'),
            (b"Sec-WebSocket-Protocol", b"chat,  superchat"),
            (b"Sec-WebSocket-Protocol", b"third"),
        ]
        agreeing = [
            (b"Sec-WebSocket-Accept", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
            (b"SEC-WebSocket-Protocol", b"chat"),
            (b"Sec-WebSocket-Extensions", b"permessage-deflate;  server_no_context_takeover"),
        ]

        def lines(fields: list[tuple[bytes, bytes]]) -> bytes:
            return b"".join(b"%b: %b\r\n" % field for field in fields)

        def respelt(fields: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
            return [(canonical(name), value) for name, value in fields]

        def only(message: Message) -> list[tuple[bytes, bytes]]:
            return [field for field in message.fields if field[0].lower().startswith(b"sec-websocket")]

        seen: list[Message] = []

        def app(wire: Wire) -> None:
            seen.append(wire.head())
            wire.send(SWITCHED[:-2] + lines(agreeing) + b"\r\n")

        with backend(app) as running:
            edge.register("app.test", running.port)
            client = edge.connect()
            client.send(UPGRADE[:-2] + lines(asking) + b"\r\n")
            answer = client.head()
        assert only(seen[0]) == respelt(asking)
        assert only(answer) == respelt(agreeing)
        assert (answer.get("Connection"), answer.get("Upgrade")) == (b"Upgrade", b"websocket")


class TestConnect:
    def test_to_an_unknown_host_is_404(self, edge: RunningEdge) -> None:
        client = edge.connect()
        client.send(CONNECT)
        assert client.message().status == 404

    @pytest.mark.parametrize("framing", [b"Content-Length: 5", b"Transfer-Encoding: chunked"])
    def test_with_a_body_is_refused(self, edge: RunningEdge, framing: bytes) -> None:
        with backend(answering(OK)) as app:
            edge.register("app.test", app.port)
            client = edge.connect()
            client.send(CONNECT[:-2] + framing + b"\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
            assert client.message().status == 400
            assert app.connections == 0

    def test_bytes_that_follow_the_head_belong_to_the_tunnel(self, edge: RunningEdge) -> None:
        with backend(lambda wire: wire.send(wire.read_exactly(200_018))) as app:
            edge.register("app.test", app.port)
            client = edge.connect()
            early = b"GET / HTTP/1.1\r\n\r\n" + b"x" * 200_000
            threading.Thread(target=client.send, args=(CONNECT + early,)).start()
            assert client.head().status == 200
            assert client.read_to_end() == early

    def test_an_endpoint_that_refuses_is_passed_over(self, edge: RunningEdge) -> None:
        with backend(lambda wire: wire.send(b"hello")) as app, socket.create_server(("127.0.0.1", 0)) as closed:
            dead = closed.getsockname()[1]
            closed.close()
            edge.register("app.test", dead)
            edge.register("app.test", app.port)
            for _ in range(2):
                client = edge.connect()
                client.send(CONNECT)
                assert client.head().status == 200
                assert client.read_to_end() == b"hello"
        assert edge.metrics.retries >= 1

    def test_where_all_refuse_it_is_a_bad_gateway(self, edge: RunningEdge) -> None:
        with socket.create_server(("127.0.0.1", 0)) as closed:
            dead = closed.getsockname()[1]
        edge.register("app.test", dead)
        client = edge.connect()
        client.send(CONNECT)
        answer = client.message()
        assert answer.status == 502
        assert b"connection refused" in (answer.get("X-Cf-RouterError") or b"")


class TestLog:
    def line(self, tmp_path: Path, during: Callable[[Wire, Wire], object], **native: float) -> str:
        """What the access log says of a tunnel in which ``during`` has happened."""
        file = tmp_path / "access.log"
        settings = Settings(access_log=AccessLogSettings(file=str(file)), millrace=Native(**native))  # type: ignore[arg-type]
        log = AccessLog.from_settings(settings)
        assert log is not None
        with running_edge(settings, log) as edge, tunnel(edge) as (client, app):
            during(client, app)
        log.close()
        (line,) = file.read_text().splitlines()
        return line

    def test_one_line_at_the_end_counts_the_bytes_of_both_sides(self, tmp_path: Path) -> None:
        def talk(client: Wire, app: Wire) -> None:
            client.send(b"12345")
            app.read_exactly(5)
            app.send(b"1234567")
            client.read_exactly(7)
            for wire in (client, app):
                wire.socket.shutdown(socket.SHUT_WR)
            assert client.is_closed()

        line = self.line(tmp_path, talk)
        assert '"GET /chat HTTP/1.1" 101 5 7 ' in line
        assert line.endswith('x_cf_routererror:"-"')

    def test_a_broken_tunnel_says_who_broke_it(self, tmp_path: Path) -> None:
        line = self.line(tmp_path, lambda client, app: (reset(app), is_reset(client)))
        assert line.endswith('x_cf_routererror:"tunnel_reset (endpoint)"')

    def test_an_idle_one_says_so(self, tmp_path: Path) -> None:
        line = self.line(tmp_path, lambda client, _: is_reset(client), tunnel_idle_timeout=0.2)
        assert line.endswith('x_cf_routererror:"tunnel_idle_timeout"')


def test_the_endpoint_counts_a_tunnel_as_in_flight_until_it_is_over(edge: RunningEdge) -> None:
    with tunnel(edge) as (client, app):
        (endpoint,) = edge.do(lambda: list(edge.table.lookup("app.test", "/").endpoints))  # type: ignore[union-attr]
        assert endpoint.in_flight == 1
        client.socket.shutdown(socket.SHUT_WR)
        app.socket.shutdown(socket.SHUT_WR)
        wait_until(lambda: endpoint.in_flight == 0)


def test_many_at_once(edge: RunningEdge) -> None:
    def echo(wire: Wire) -> None:
        wire.head()
        wire.send(SWITCHED)
        while wire._more():
            wire.send(wire.pending)
            wire.pending = b""

    app: Backend
    with backend(echo) as app:
        edge.register("app.test", app.port)
        clients = [edge.connect() for _ in range(60)]
        for client in clients:
            client.send(UPGRADE)
        for client in clients:
            assert client.head().status == 101
        for turn in range(3):
            for number, client in enumerate(clients):
                client.send(b"%03d:%d" % (number, turn))
            for number, client in enumerate(clients):
                assert client.read_exactly(5) == b"%03d:%d" % (number, turn)
        assert edge.metrics.tunnels == 60
        for client in clients:
            client.close()
        wait_until(lambda: edge.metrics.tunnels == 0)
        assert edge.metrics.client_connections == 0
