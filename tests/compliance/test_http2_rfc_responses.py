"""The rules of RFC 9113 for responses, flow control and ends, through an intermediary; each name says its section."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from functools import partial

import pytest

from tests.compliance.behind import app, ok, scripted
from tests.router.http2.frames import DEFAULT_WINDOW, Code, Kind, Setting, frame
from tests.router.http2.peer import Peer, connect
from tests.router.http2.streams import ConnectionOver, Message, Stream
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


def through(edge: RunningEdge, client: Peer, response: bytes, method: str = "GET") -> Message:
    with app(edge, response):
        return client.exchange(method=method)


def names(message: Message) -> set[bytes]:
    return {name for name, _ in message.fields}


def has_length(stream: Stream, length: int) -> bool:
    return len(stream.body) == length


class TestHeads:
    def test_8_3_2_the_status_comes_first_and_alone(self, edge: RunningEdge, client: Peer) -> None:
        response = through(edge, client, ok(b"Content-Length: 0", first=b"HTTP/1.1 418 I am a teapot"))
        assert response.fields[0] == (b":status", b"418")
        assert [name for name, _ in response.fields if name.startswith(b":")] == [b":status"]

    def test_8_2_1_names_are_in_lower_case(self, edge: RunningEdge, client: Peer) -> None:
        response = through(edge, client, ok(b"Content-LENGTH: 0", b"X-Mixed-Case: As-It-Is", b"ETag: x"))
        assert all(name == name.lower() for name in names(response))
        assert response.get("x-mixed-case") == b"As-It-Is"

    def test_8_2_1_values_lose_the_space_around_them(self, edge: RunningEdge, client: Peer) -> None:
        response = through(edge, client, ok(b"Content-Length: 0", b"X: \t a b \t", b"Y:"))
        assert (response.get("x"), response.get("y")) == (b"a b", b"")

    def test_8_2_2_fields_of_the_connection_end_here(self, edge: RunningEdge, client: Peer) -> None:
        response = through(
            edge,
            client,
            ok(
                b"Connection: keep-alive, X-Hop",
                b"Keep-Alive: timeout=5",
                b"Proxy-Connection: keep-alive",
                b"Upgrade: websocket",
                b"X-Hop: 1",
                b"X-End: 2",
                b"Transfer-Encoding: chunked",
                body=b"2\r\nok\r\n0\r\n\r\n",
            ),
        )
        hops = {b"connection", b"keep-alive", b"proxy-connection", b"upgrade", b"x-hop", b"transfer-encoding"}
        assert not names(response) & hops
        assert response.get("x-end") == b"2"
        assert response.body == b"ok"

    def test_9110_5_3_set_cookie_lines_stay_apart(self, edge: RunningEdge, client: Peer) -> None:
        response = through(edge, client, ok(b"Set-Cookie: a=1", b"Content-Length: 0", b"Set-Cookie: b=2"))
        assert response.all("set-cookie") == [b"a=1", b"b=2"]

    def test_9110_6_6_1_a_date_is_added_where_there_is_none(self, edge: RunningEdge, client: Peer) -> None:
        assert through(edge, client, ok(b"Content-Length: 0")).get("date")
        assert through(edge, client, ok(b"Content-Length: 0", b"Date: now")).get("date") == b"now"

    def test_the_request_id_is_told(self, edge: RunningEdge, client: Peer) -> None:
        first = through(edge, client, OK).get("x-vcap-request-id")
        second = through(edge, client, OK).get("x-vcap-request-id")
        assert first
        assert second
        assert first != second

    @pytest.mark.parametrize("status", [204, 304])
    def test_8_1_statuses_without_a_body(self, edge: RunningEdge, client: Peer, status: int) -> None:
        for _ in range(3):
            response = through(edge, client, ok(b"Date: now", first=b"HTTP/1.1 %d X" % status))
            assert (response.status, response.body, response.trailers) == (status, b"", [])

    def test_9110_9_3_2_head(self, edge: RunningEdge, client: Peer) -> None:
        for framing in (b"Content-Length: 500", b"Transfer-Encoding: chunked"):
            for _ in range(3):
                response = through(edge, client, ok(framing, b"Date: now"), method="HEAD")
                assert (response.status, response.body) == (200, b"")
                assert response.get("content-length") == (b"500" if b"500" in framing else None)

    def test_9110_9_3_2_also_where_the_router_answers_itself(self, client: Peer) -> None:
        response = client.exchange(authority="no.test", method="HEAD")
        assert (response.status, response.body) == (404, b"")
        assert int(response.get("content-length") or 0) > 0

    def test_8_1_1xx_are_passed_on_and_are_not_the_answer(self, edge: RunningEdge, client: Peer) -> None:
        hints = ok(b"Link: </a>", first=b"HTTP/1.1 103 Early Hints")
        for _ in range(3):
            response = through(edge, client, hints + hints + OK)
            assert [dict(head)[b":status"] for head in response.informational] == [b"103", b"103"]
            assert dict(response.informational[0])[b"link"] == b"</a>"
            assert (response.status, response.body) == (200, b"ok")

    def test_8_6_101_does_not_exist(self, edge: RunningEdge, client: Peer) -> None:
        response = ok(b"Connection: Upgrade", b"Upgrade: x", first=b"HTTP/1.1 101 Switching Protocols")
        assert through(edge, client, response).status == 502

    def test_9110_8_6_the_length_is_kept(self, edge: RunningEdge, client: Peer) -> None:
        assert through(edge, client, ok(b"Content-Length: 5", body=b"hello")).get("content-length") == b"5"

    def test_a_head_larger_than_a_frame(self, edge: RunningEdge, client: Peer) -> None:
        lines = [b"X-%d: %b" % (n, b"y" * 1000) for n in range(50)]
        response = through(edge, client, ok(b"Content-Length: 0", *lines))
        assert response.get("x-49") == b"y" * 1000
        assert any(received.kind == Kind.CONTINUATION for received in client.frames)


class TestBodies:
    def test_8_1_trailers_of_a_response_pass(self, edge: RunningEdge, client: Peer) -> None:
        chunked = ok(
            b"Transfer-Encoding: chunked",
            b"Trailer: X-Sum",
            body=b"5;ext=1\r\nhello\r\n3\r\n!!!\r\n0\r\nX-Sum: 1\r\nx-sum: 2\r\n\r\n",
        )
        response = through(edge, client, chunked)
        assert response.body == b"hello!!!"
        assert response.trailers == [(b"x-sum", b"1"), (b"x-sum", b"2")]

    def test_8_1_a_body_until_the_end_of_the_connection(self, edge: RunningEdge, client: Peer) -> None:
        def script(wire: Wire) -> None:
            wire.message()
            wire.send(ok(body=b"hello"))
            wire.send(b" world" * 10000)

        with scripted(edge, script):
            assert client.exchange().body == b"hello" + b" world" * 10000

    @pytest.mark.parametrize(
        "cut",
        [
            ok(b"Content-Length: 10", body=b"hello"),
            ok(b"Transfer-Encoding: chunked", body=b"5\r\nhello\r\n"),
            ok(b"Transfer-Encoding: chunked", body=b"5\r\nhel"),
            ok(b"Transfer-Encoding: chunked", body=b"5\r\nhello\r\nzz\r\n"),
            ok(b"Transfer-Encoding: chunked", body=b"5\r\nhello\r\n0\r\nX: 1\r\n"),
        ],
    )
    def test_8_1_a_body_cut_short_is_not_passed_for_whole(self, edge: RunningEdge, client: Peer, cut: bytes) -> None:
        """A stream error, or 502 where the fault came with the head; what else is on the connection goes on."""

        def script(wire: Wire) -> None:
            wire.message()
            wire.send(cut)

        with scripted(edge, script):
            assert client.outcome(client.request()) in (Code.INTERNAL_ERROR, Code.PROTOCOL_ERROR, Code.CANCEL, 502)
            assert client.answered_ping()

    def test_8_1_a_backend_that_dies_before_it_answers_is_502(self, edge: RunningEdge, client: Peer) -> None:
        with scripted(edge, lambda wire: wire.close() if wire.message() else None):
            assert client.exchange(method="POST").status == 502
            assert client.answered_ping()

    def test_8_1_an_answer_before_the_request_is_whole(self, edge: RunningEdge, client: Peer) -> None:
        """The response is complete and is read; then the client is told not to go on, by no error at all."""

        def script(wire: Wire) -> None:
            wire.head()
            wire.send(ok(b"Content-Length: 2", first=b"HTTP/1.1 413 Too much", body=b"no"))
            wire.read_to_end()

        with scripted(edge, script):
            stream = client.request(method="PUT", end=False)
            client.data(stream, b"some")
            response = client.response(stream)
            assert (response.status, response.body) == (413, b"no")
            assert client.reset_of(stream) == Code.NO_ERROR
            assert client.answered_ping()

    def test_8_1_data_flows_while_the_request_still_does(self, edge: RunningEdge, client: Peer) -> None:
        """Both bodies at once, as gRPC needs it."""

        def echo(wire: Wire) -> None:
            wire.head()
            wire.send(ok(b"Transfer-Encoding: chunked"))
            while True:
                size = int(wire.read_until(b"\r\n"), 16)
                data = wire.read_exactly(size + 2)
                wire.send(b"%x\r\n" % size + data)
                if not size:
                    return

        with scripted(edge, echo):
            stream = client.request(method="POST", end=False)
            state = client.stream(stream)
            for number in range(1, 20):
                client.data(stream, b"%02d" % number)
                client.until(partial(has_length, state, 2 * number))
            client.data(stream, b"", end=True)
            assert client.response(stream).body == b"".join(b"%02d" % n for n in range(1, 20))

    def test_5_1_a_slow_stream_holds_up_no_other(self, edge: RunningEdge, client: Peer) -> None:
        go = threading.Event()

        def script(wire: Wire) -> None:
            while True:
                if wire.message().first.startswith(b"GET /slow"):
                    assert go.wait(10)
                wire.send(OK)

        with scripted(edge, script):
            slow = client.request("/slow")
            for _ in range(10):
                assert client.exchange("/fast").body == b"ok"
            assert not client.stream(slow).heads
            go.set()
            assert client.response(slow).body == b"ok"


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
