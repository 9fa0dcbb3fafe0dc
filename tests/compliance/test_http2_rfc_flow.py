"""The rules of RFC 9113 for flow control, cancelling and ends, through an intermediary; each name says its section."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.compliance.behind import app, ok, scripted
from tests.router.http2.frames import DEFAULT_WINDOW, Code, Kind, Setting, frame
from tests.router.http2.peer import Peer, connect
from tests.router.http2.streams import ConnectionOver
from tests.router.wire import OK, RunningEdge, Wire, answering, backend, running_edge, wait_until


@pytest.fixture(scope="module")
def edge() -> Iterator[RunningEdge]:
    with running_edge() as running:
        yield running


@pytest.fixture
def client(edge: RunningEdge) -> Iterator[Peer]:
    peer = connect(edge.port)
    yield peer
    peer.close()


def refusal(client: Peer, stream: int) -> Code | None:
    """How the stream or its whole connection ended."""
    try:
        return client.reset_of(stream)
    except ConnectionOver as over:
        return over.code


class TestFlowControl:
    BIG = ok(b"Content-Length: 1000000", body=b"x" * 1_000_000)

    def test_5_2_1_no_more_is_sent_than_both_windows_allow(self, edge: RunningEdge) -> None:
        client = connect(edge.port, settings={Setting.INITIAL_WINDOW_SIZE: 1000}, credits=False)
        with app(edge, self.BIG):
            stream = client.request()
            state = client.stream(stream)
            client.until(lambda: len(state.body) == 1000)
            client.answered_ping()
            client.give(stream, 500)
            client.until(lambda: len(state.body) == 1500)
            client.give(stream, 1_000_000)  # now the connection's window is what ends it
            client.until(lambda: client.credit == 0)
            assert client.answered_ping()
            assert len(state.body) == DEFAULT_WINDOW
            client.credits = True
            client.give(0, 1_000_000)
            assert len(client.response(stream).body) == 1_000_000
        client.close()

    def test_6_9_2_a_new_initial_window_changes_open_streams_even_below_zero(self, edge: RunningEdge) -> None:
        client = connect(edge.port, settings={Setting.INITIAL_WINDOW_SIZE: 30000}, credits=False)
        with app(edge, self.BIG):
            stream = client.request()
            state = client.stream(stream)
            client.until(lambda: len(state.body) == 30000)
            client.send(client.settings({Setting.INITIAL_WINDOW_SIZE: 10000}))  # the window is -20000 now
            state.credit -= 20000
            client.give(stream, 20000)
            client.answered_ping()
            assert len(state.body) == 30000
            client.give(stream, 7)
            client.until(lambda: len(state.body) == 30007)
            client.send(client.settings({Setting.INITIAL_WINDOW_SIZE: 10100}))
            state.credit += 100
            client.until(lambda: len(state.body) == 30107)
            assert client.answered_ping()
            assert len(state.body) == 30107
        client.close()

    def test_6_9_1_a_stream_window_beyond_its_bounds_ends_the_stream(self, edge: RunningEdge, client: Peer) -> None:
        client.credits = False
        with app(edge, self.BIG):
            stream = client.request()
            client.until(lambda: client.stream(stream).body)
            client.send(frame(Kind.WINDOW_UPDATE, 0, stream, b"\x7f\xff\xff\xff") * 2)
            assert client.reset_of(stream) == Code.FLOW_CONTROL_ERROR
            assert client.answered_ping()

    def test_6_9_a_window_update_of_nothing_ends_the_stream_only(self, edge: RunningEdge, client: Peer) -> None:
        client.credits = False
        with app(edge, self.BIG):
            stream = client.request()
            client.until(lambda: client.stream(stream).body)
            client.send_frame(Kind.WINDOW_UPDATE, 0, stream, b"\0\0\0\0")
            assert client.reset_of(stream) == Code.PROTOCOL_ERROR
            assert client.answered_ping()

    def test_6_9_data_beyond_the_window_is_an_error(self, edge: RunningEdge, client: Peer) -> None:
        """The backend does not read, so no credit is given; what is sent all the same is refused."""
        over = threading.Event()
        with scripted(edge, lambda _: over.wait(10)):
            stream = client.request(method="PUT", end=False)
            for _ in range(4000):
                if not client.try_send(frame(Kind.DATA, 0, stream, b"x" * 16384)):
                    break
            assert refusal(client, stream) in (Code.FLOW_CONTROL_ERROR, None)
            over.set()

    def test_5_2_a_backend_that_does_not_read_stops_its_client(self, edge: RunningEdge, client: Peer) -> None:
        """Backpressure from end to end: what is under way is bounded, whatever the body's length."""
        go = threading.Event()

        def script(wire: Wire) -> None:
            wire.read_until(b"\r\n\r\n")
            assert go.wait(10)
            while b"0\r\n\r\n" not in wire.pending[-8:]:
                wire.pending = wire.pending[-8:]
                assert wire._more()
            wire.send(OK)

        with scripted(edge, script):
            stream = client.request(method="PUT", end=False)
            state = client.stream(stream)
            client.socket.settimeout(1)
            sent = 0
            with suppress(TimeoutError):
                while sent < 32 << 20:
                    client.body(stream, b"x" * 65536, end=False)
                    sent += 65536
            assert sent < 32 << 20, "no backpressure"
            client.socket.settimeout(10)
            other = client.exchange(authority="no.test", method="PUT", body=b"y" * 30000)
            assert other.status == 404  # another stream is not held up
            go.set()
            client.until(lambda: state.window > 0 and client.window > 0)
            client.body(stream, b"end")
            assert client.response(stream).status == 200


class TestCrowds:
    """More than a MiB of responses waits for one client's windows: no backend is read for it until it takes some."""

    COUNT = 40
    BIG = ok(b"Content-Length: 300000", body=b"x" * 300_000)

    def crowd(self, client: Peer) -> list[int]:
        client.send(client.settings({Setting.INITIAL_WINDOW_SIZE: 0}))
        client.ours[Setting.INITIAL_WINDOW_SIZE] = 0
        streams = [client.request("/big") for _ in range(self.COUNT)]
        client.until(lambda: sum(bool(client.stream(number).heads) for number in streams) >= 5)
        client.answered_ping()
        return streams

    def test_5_2_2_what_begins_in_a_crowd_is_served_after_it(self, edge: RunningEdge, client: Peer) -> None:
        """Also on a connection to its backend that was there already, which could have been read at once."""
        with backend(answering(OK)) as other, app(edge, self.BIG):
            edge.register("late.test", other.port)
            assert client.exchange(authority="late.test").status == 200
            streams = self.crowd(client)
            late = client.request(authority="late.test")
            client.answered_ping()
            client.give(0, 1 << 28)
            client.give(late, 1000)
            for number in streams:
                client.give(number, 1 << 20)
            assert {len(client.response(number).body) for number in streams} == {300_000}
            assert client.response(late).body == b"ok"
            edge.unregister("late.test", other.port)

    def test_5_2_2_or_when_the_crowd_is_cancelled(self, edge: RunningEdge, client: Peer) -> None:
        with app(edge, self.BIG):
            streams = self.crowd(client)
            late = client.request("/big")
            for number in streams:
                client.reset(number)
            client.give(late, 1 << 20)
            client.give(0, 1 << 28)
            assert len(client.response(late).body) == 300_000


class TestManners:
    """RFC 9113 section 10.5: who is busy is not to be taken for who is harmful."""

    def test_10_5_a_client_may_update_its_windows_for_every_frame(self, edge: RunningEdge, client: Peer) -> None:
        """Two WINDOW_UPDATEs for each of 4,000 frames, as simple clients send them."""
        with app(edge, ok(b"Content-Length: 4000000", body=b"x" * 4_000_000)):
            for _ in range(16):
                assert len(client.exchange().body) == 4_000_000

    def test_10_5_also_for_messages_of_a_few_bytes(self, edge: RunningEdge, client: Peer) -> None:
        count = 5000

        def script(wire: Wire) -> None:
            wire.message()
            wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            wire.send(ok(b"Transfer-Encoding: chunked"))
            for _ in range(count):
                wire.send(b"5\r\nhello\r\n")
            wire.send(b"0\r\n\r\n")

        with scripted(edge, script):
            assert client.exchange().body == b"hello" * count

    def test_10_5_many_requests_and_pings_between_them(self, edge: RunningEdge, client: Peer) -> None:
        with app(edge):
            for _ in range(1000):
                assert client.exchange().status == 200
                assert client.answered_ping()

    def test_10_5_some_streams_may_be_cancelled(self, edge: RunningEdge, client: Peer) -> None:
        with app(edge):
            for number in range(400):
                stream = client.request()
                if number % 4:
                    client.response(stream)
                else:
                    client.reset(stream)
            assert client.answered_ping()


class TestEnds:
    def test_5_4_2_a_cancelled_stream_cancels_its_backend_and_nothing_else(
        self, edge: RunningEdge, client: Peer
    ) -> None:
        ended: list[bytes] = []

        def script(wire: Wire) -> None:
            first = wire.message().first
            if b"/slow" in first:
                wire.send(ok(b"Content-Length: 100", body=b"x"))
                assert wire.read_to_end() == b""
                ended.append(first)
            else:
                wire.send(OK)
                wire.read_to_end()

        with scripted(edge, script):
            slow = [client.request("/slow") for _ in range(3)]
            client.until(lambda: all(client.stream(number).body for number in slow))
            client.reset(slow[0])
            wait_until(lambda: len(ended) == 1, "the end of the cancelled request")
            assert client.exchange("/quick").body == b"ok"
            client.reset(slow[1])
            wait_until(lambda: len(ended) == 2, "the end of the other")
            assert client.stream(slow[2]).reset is None

    def test_5_4_1_a_client_that_goes_takes_its_streams_along(self, edge: RunningEdge) -> None:
        ended = threading.Semaphore(0)

        def script(wire: Wire) -> None:
            wire.message()
            assert wire.read_to_end() == b""
            ended.release()

        client = connect(edge.port)
        with scripted(edge, script) as behind:
            for _ in range(5):
                client.request("/slow")
            client.answered_ping()
            wait_until(lambda: behind.connections == 5)
            client.close()
            assert all(ended.acquire(timeout=10) for _ in range(5))

    def test_6_8_a_drain_says_goaway_and_finishes_what_is_under_way(self) -> None:
        go = threading.Event()

        def script(wire: Wire) -> None:
            wire.message()
            assert go.wait(10)
            wire.send(OK)
            wire.read_to_end()

        with running_edge() as edge, scripted(edge, script):
            client = connect(edge.port)
            idle = connect(edge.port)
            idle.answered_ping()
            stream = client.request()
            client.answered_ping()
            edge.do(edge.edge.drain)
            edge.do(edge.edge.close_idle)
            assert idle.end_of_connection() == Code.NO_ERROR
            go.set()
            assert client.response(stream).body == b"ok"
            assert client.end_of_connection() == Code.NO_ERROR
            assert client.goaway is not None
            assert client.goaway[0] >= stream
            client.close()
            idle.close()
            wait_until(lambda: edge.metrics.client_connections == 0, "the end of the connections")

    def test_6_8_the_end_by_error_names_the_last_stream(self, edge: RunningEdge, client: Peer) -> None:
        client.exchange(authority="no.test")
        client.exchange(authority="no.test")
        client.send_frame(Kind.PING, 0, 0, b"short")
        assert client.end_of_connection() == Code.FRAME_SIZE_ERROR
        assert client.goaway is not None
        assert client.goaway[0] == 3
