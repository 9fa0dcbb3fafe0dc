"""The rules of RFC 9113 (and 9110) for an intermediary, checked over real sockets; each name says its section.

What h2spec checks frame by frame is repeated here only where an intermediary can get it wrong in its own way.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator

import pytest

from tests.compliance.behind import app, ok, scripted
from tests.router.http2.frames import (
    ACK,
    DEFAULT_WINDOW,
    END_HEADERS,
    END_STREAM,
    PADDED,
    PREFACE,
    Code,
    Kind,
    Setting,
    frame,
)
from tests.router.http2.peer import Peer, connect
from tests.router.wire import OK, RunningEdge, Wire, running_edge


@pytest.fixture(scope="module")
def edge() -> Iterator[RunningEdge]:
    with running_edge() as running:
        yield running


@pytest.fixture
def client(edge: RunningEdge) -> Iterator[Peer]:
    peer = connect(edge.port)
    yield peer
    peer.close()


HEAD = [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"app.test"), (b":path", b"/")]


def silent(wire: Wire) -> None:
    wire.read_to_end()


class TestConnections:
    def test_3_4_the_server_speaks_first_of_settings(self, client: Peer) -> None:
        client.read_frame()
        assert client.frames[0].kind == Kind.SETTINGS

    def test_3_4_a_request_may_come_with_the_preface(self, edge: RunningEdge) -> None:
        with app(edge):
            peer = connect(edge.port, greet=False)
            block = peer.encode(HEAD)
            head = frame(Kind.HEADERS, END_HEADERS | END_STREAM, 1, block)
            peer.send(PREFACE + peer.settings({}) + head)
            assert peer.response(1).status == 200
            peer.close()

    @pytest.mark.parametrize("first", [1, 2, 3, 4, 14, 16, 23, 24, 25])
    def test_3_4_the_preface_may_come_in_pieces(self, edge: RunningEdge, first: int) -> None:
        """Also cut where it could still become a POST."""
        peer = connect(edge.port, greet=False)
        data = PREFACE + peer.settings({})
        peer.send(data[:first])
        time.sleep(0.01)  # nothing can be seen of a piece that says nothing yet
        for byte in data[first:]:
            peer.send(bytes([byte]))
        assert peer.answered_ping()
        peer.close()

    def test_3_4_what_begins_like_a_preface_may_be_http_1_1(self, edge: RunningEdge) -> None:
        wire = edge.connect()
        wire.send(b"P")
        time.sleep(0.01)
        wire.send(b"OST / HTTP/1.1\r\nHost: no.test\r\nContent-Length: 0\r\n\r\n")
        assert wire.message().status == 404
        wire.close()

    @pytest.mark.parametrize("wrong", [PREFACE[:-1] + b"X", PREFACE[:18] + b"XX\r\n\r\n"])
    def test_3_4_a_wrong_preface_ends_the_connection(self, edge: RunningEdge, wrong: bytes) -> None:
        wire = edge.connect()
        wire.send(wrong + Peer.settings({}))
        wire.read_to_end()
        wire.close()

    def test_3_4_the_client_begins_with_settings(self, edge: RunningEdge) -> None:
        peer = connect(edge.port, greet=False)
        peer.send(PREFACE + frame(Kind.PING, 0, 0, b"12345678"))
        assert peer.end_of_connection() == Code.PROTOCOL_ERROR

    def test_4_1_unknown_frames_flags_and_reserved_bits_are_ignored(self, edge: RunningEdge, client: Peer) -> None:
        client.send_frame(0xBE, 0xFF, 0, b"what")
        client.send_frame(Kind.PING, 0xFE, 0, b"12345678")
        client.send_frame(0xBE, 0xFF, 1 << 31 | 7, b"what")
        client.until(lambda: client.pongs)
        with app(edge):
            assert client.exchange().status == 200

    def test_5_1_1_streams_may_be_left_out(self, edge: RunningEdge, client: Peer) -> None:
        with app(edge):
            assert client.exchange().status == 200
            client._next = 1001
            assert client.exchange().status == 200

    def test_5_1_2_more_streams_than_allowed_are_refused(self, edge: RunningEdge, client: Peer) -> None:
        client.until(lambda: client.frames)
        most = client.theirs[Setting.MAX_CONCURRENT_STREAMS]
        assert 100 <= most <= 1000
        with scripted(edge, silent):
            streams = [client.request() for _ in range(most + 1)]
            assert client.reset_of(streams[-1]) in (Code.REFUSED_STREAM, Code.PROTOCOL_ERROR)
            assert all(client.stream(number).reset is None for number in streams[:-1])
            client.reset(streams[0])
            assert client.exchange("/", authority="no.test").status == 404

    def test_6_5_settings_are_acknowledged_in_order(self, client: Peer) -> None:
        for _ in range(3):
            client.send(client.settings({Setting.INITIAL_WINDOW_SIZE: 70000, 0xF00D: 1}))
        client.until(lambda: client.settings_acks == 4)

    def test_6_7_pings_are_echoed_even_while_streams_stall(self, edge: RunningEdge, client: Peer) -> None:
        client.credits = False
        with app(edge, ok(b"Content-Length: 1000000", body=b"x" * 1000000)):
            stream = client.request()
            client.until(lambda: client.credit == 0)
            assert client.answered_ping()
            assert len(client.stream(stream).body) == DEFAULT_WINDOW

    def test_6_8_streams_go_on_after_the_clients_goaway(self, edge: RunningEdge, client: Peer) -> None:
        with app(edge, ok(b"Content-Length: 5", body=b"hello")):
            stream = client.request(method="POST", end=False)
            client.send_frame(Kind.GOAWAY, 0, 0, struct.pack(">II", 0, 0))
            client.body(stream, b"body")
            assert client.response(stream).body == b"hello"


CONNECTION_ERRORS: dict[str, tuple[bytes, Code]] = {
    "4.2 a frame too large": (frame(Kind.DATA, 0, 1, b"x" * 16385), Code.FRAME_SIZE_ERROR),
    "4.3 a block that cannot be decoded": (
        frame(Kind.HEADERS, 5, 1, b"\xff" * 6),
        Code.COMPRESSION_ERROR,
    ),
    "4.3 an index beyond the table": (frame(Kind.HEADERS, 5, 1, b"\xbf"), Code.COMPRESSION_ERROR),
    "4.3 a table larger than allowed": (frame(Kind.HEADERS, 5, 1, b"\x3f\xe2\x1f\x82"), Code.COMPRESSION_ERROR),
    "4.3 a frame within a block": (
        frame(Kind.HEADERS, 1, 1, b"\x82") + frame(Kind.PING, 0, 0, b"12345678"),
        Code.PROTOCOL_ERROR,
    ),
    "4.3 another stream's CONTINUATION": (
        frame(Kind.HEADERS, 1, 1, b"\x82") + frame(Kind.CONTINUATION, 4, 3, b"\x84"),
        Code.PROTOCOL_ERROR,
    ),
    "5.1 DATA on an idle stream": (frame(Kind.DATA, 0, 1, b"x"), Code.PROTOCOL_ERROR),
    "5.1 WINDOW_UPDATE on an idle stream": (frame(Kind.WINDOW_UPDATE, 0, 1, b"\0\0\0\1"), Code.PROTOCOL_ERROR),
    "5.1.1 an even stream": (frame(Kind.HEADERS, 5, 2, b"\x82\x84\x86"), Code.PROTOCOL_ERROR),
    "6.1 DATA on stream 0": (frame(Kind.DATA, 0, 0, b"x"), Code.PROTOCOL_ERROR),
    "6.2 HEADERS on stream 0": (frame(Kind.HEADERS, 5, 0, b"\x82"), Code.PROTOCOL_ERROR),
    "6.2 more padding than frame": (frame(Kind.HEADERS, 5 | PADDED, 1, b"\x09\x82"), Code.PROTOCOL_ERROR),
    "6.4 RST_STREAM on an idle stream": (frame(Kind.RST_STREAM, 0, 1, b"\0\0\0\0"), Code.PROTOCOL_ERROR),
    "6.4 RST_STREAM of five bytes": (frame(Kind.RST_STREAM, 0, 1, b"\0\0\0\0\0"), Code.FRAME_SIZE_ERROR),
    "6.5 SETTINGS on a stream": (frame(Kind.SETTINGS, 0, 1), Code.PROTOCOL_ERROR),
    "6.5 SETTINGS of five bytes": (frame(Kind.SETTINGS, 0, 0, b"\0\0\0\0\0"), Code.FRAME_SIZE_ERROR),
    "6.5 an acknowledgement with settings": (frame(Kind.SETTINGS, ACK, 0, b"\0\1\0\0\0\0"), Code.FRAME_SIZE_ERROR),
    "6.5.2 ENABLE_PUSH of 2": (Peer.settings({Setting.ENABLE_PUSH: 2}), Code.PROTOCOL_ERROR),
    "6.5.2 a window of 2^31": (Peer.settings({Setting.INITIAL_WINDOW_SIZE: 1 << 31}), Code.FLOW_CONTROL_ERROR),
    "6.5.2 frames below the least": (Peer.settings({Setting.MAX_FRAME_SIZE: 16383}), Code.PROTOCOL_ERROR),
    "6.5.2 frames beyond the most": (Peer.settings({Setting.MAX_FRAME_SIZE: 1 << 24}), Code.PROTOCOL_ERROR),
    "6.6 a push by the client": (frame(Kind.PUSH_PROMISE, 4, 1, b"\0\0\0\2\x82"), Code.PROTOCOL_ERROR),
    "6.7 PING on a stream": (frame(Kind.PING, 0, 1, b"12345678"), Code.PROTOCOL_ERROR),
    "6.7 PING of seven bytes": (frame(Kind.PING, 0, 0, b"1234567"), Code.FRAME_SIZE_ERROR),
    "6.8 GOAWAY on a stream": (frame(Kind.GOAWAY, 0, 1, b"\0" * 8), Code.PROTOCOL_ERROR),
    "6.9 WINDOW_UPDATE of nothing": (frame(Kind.WINDOW_UPDATE, 0, 0, b"\0\0\0\0"), Code.PROTOCOL_ERROR),
    "6.9 WINDOW_UPDATE of three bytes": (frame(Kind.WINDOW_UPDATE, 0, 0, b"\0\0\1"), Code.FRAME_SIZE_ERROR),
    "6.9.1 a window beyond 2^31": (frame(Kind.WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff"), Code.FLOW_CONTROL_ERROR),
    "6.10 CONTINUATION of nothing": (frame(Kind.CONTINUATION, 4, 1, b"\x82"), Code.PROTOCOL_ERROR),
}


@pytest.mark.parametrize("name", CONNECTION_ERRORS)
def test_connection_errors(client: Peer, name: str) -> None:
    sent, code = CONNECTION_ERRORS[name]
    client.send(sent)
    assert client.end_of_connection() == code


class TestRequests:
    def test_8_3_1_authority_becomes_host(self, edge: RunningEdge, client: Peer) -> None:
        with app(edge) as requests:
            client.exchange("/A/%2e?b=%20&c")
            assert requests[0].first == b"GET /A/%2e?b=%20&c HTTP/1.1"
            assert requests[0].all("host") == [b"app.test"]

    @pytest.mark.parametrize("path", ["/a/../b", "//a", "/?", "/;a=b", "/a?b?c/d", "/[x]|{y}^`"])
    def test_8_3_1_the_path_passes_byte_for_byte(self, edge: RunningEdge, client: Peer, path: str) -> None:
        with app(edge) as requests:
            assert client.exchange(path).status == 200
            assert requests[0].first == b"GET %b HTTP/1.1" % path.encode()

    def test_8_3_1_authority_is_compared_without_case_and_passes_with_its_port(
        self, edge: RunningEdge, client: Peer
    ) -> None:
        with app(edge) as requests:
            assert client.exchange(authority="APP.test:8080").status == 200
            assert requests[0].get("host") == b"APP.test:8080"

    def test_8_1_methods_unknown_to_the_router_pass(self, edge: RunningEdge, client: Peer) -> None:
        with app(edge) as requests:
            assert client.exchange("/pot", method="BREW").status == 200
            assert requests[0].first == b"BREW /pot HTTP/1.1"

    def test_8_2_3_cookies_are_joined_with_semicolons(self, edge: RunningEdge, client: Peer) -> None:
        with app(edge) as requests:
            client.exchange("/", ("cookie", "a=1"), ("x", "1"), ("cookie", "b=2; c=3"), ("cookie", "d=4"))
            assert requests[0].all("cookie") == [b"a=1; b=2; c=3; d=4"]

    def test_9110_5_3_other_repeated_fields_keep_their_order(self, edge: RunningEdge, client: Peer) -> None:
        with app(edge) as requests:
            client.exchange("/", ("a", "1"), ("b", "2"), ("a", "3"))
            assert requests[0].all("a") == [b"1", b"3"]

    def test_8_1_a_request_without_body_has_no_framing(self, edge: RunningEdge, client: Peer) -> None:
        with app(edge) as requests:
            client.exchange(method="POST")
            assert requests[0].get("transfer-encoding") is None
            assert requests[0].get("content-length") in (None, b"0")

    def test_8_1_an_empty_data_frame_may_end_a_request(self, edge: RunningEdge, client: Peer) -> None:
        with app(edge) as requests:
            assert client.exchange(body=b"").status == 200
            assert requests[0].body == b""

    def test_8_1_a_body_with_a_length_keeps_it(self, edge: RunningEdge, client: Peer) -> None:
        with app(edge) as requests:
            assert client.exchange("/", ("content-length", "5"), method="PUT", body=b"hello").status == 200
            assert requests[0].get("content-length") == b"5"
            assert requests[0].get("transfer-encoding") is None
            assert requests[0].body == b"hello"

    def test_8_1_a_body_without_a_length_is_chunked(self, edge: RunningEdge, client: Peer) -> None:
        with app(edge) as requests:
            assert client.exchange(method="PUT", body=b"hello" * 20000).status == 200
            assert requests[0].get("transfer-encoding") == b"chunked"
            assert requests[0].body == b"hello" * 20000

    def test_8_1_trailers_of_a_request_pass(self, edge: RunningEdge, client: Peer) -> None:
        with app(edge) as requests:
            stream = client.request("/", ("trailer", "x-sum"), method="PUT", end=False)
            client.data(stream, b"hello")
            client.headers(stream, [(b"x-sum", b"1"), (b"x-sum", b"2")], end=True)
            assert client.response(stream).status == 200
            raw = requests[0].raw_body
            assert raw.lower().endswith(b"0\r\nx-sum: 1\r\nx-sum: 2\r\n\r\n")

    def test_8_1_trailers_without_an_end_are_an_error(self, edge: RunningEdge, client: Peer) -> None:
        with app(edge):
            stream = client.request(method="PUT", end=False)
            client.data(stream, b"hello")
            client.headers(stream, [(b"x-sum", b"1")])
            assert client.outcome(stream) in (Code.PROTOCOL_ERROR, 400)
            assert client.answered_ping()

    def test_6_1_padding_is_no_part_of_the_body_and_counts_for_the_windows(
        self, edge: RunningEdge, client: Peer
    ) -> None:
        with app(edge) as requests:
            stream = client.request(method="PUT", end=False)
            state = client.stream(stream)
            for _ in range(3000):  # 750 kB of padding: without credit for it the connection stands still
                client.until(lambda: min(state.window, client.window) >= 252)
                client.send_frame(Kind.DATA, PADDED, stream, b"\xfa" + b"x" + b"\0" * 250)
                state.window -= 252
                client.window -= 252
            client.data(stream, b"", end=True)
            assert client.response(stream).status == 200
            assert requests[0].body == b"x" * 3000

    def test_6_2_head_with_padding_and_priority(self, edge: RunningEdge, client: Peer) -> None:
        with app(edge):
            stream = client.next_stream()
            block = client.encode(HEAD)
            client.send_frame(Kind.HEADERS, 0x2D, stream, b"\x05" + b"\0\0\0\0\x10" + block + b"\0" * 5)
            assert client.response(stream).status == 200

    def test_5_3_1_a_stream_that_depends_on_itself_harms_no_other(self, edge: RunningEdge, client: Peer) -> None:
        with app(edge):
            client.send_frame(Kind.PRIORITY, 0, 9, b"\0\0\0\x0b\x10")
            assert client.exchange().status == 200

    def test_6_10_a_head_in_many_frames(self, edge: RunningEdge, client: Peer) -> None:
        with app(edge) as requests:
            stream = client.next_stream()
            block = client.encode([*HEAD, (b"x-long", b"y" * 20000)])
            client.send_frame(Kind.HEADERS, END_STREAM, stream, block[:1])
            client.send_frame(Kind.CONTINUATION, 0, stream, b"")
            client.send_frame(Kind.CONTINUATION, 0, stream, block[1:16000])
            client.send_frame(Kind.CONTINUATION, END_HEADERS, stream, block[16000:])
            assert client.response(stream).status == 200
            assert requests[0].get("x-long") == b"y" * 20000

    def test_10_5_1_a_head_beyond_the_limit_is_answered_431_on_its_stream(
        self, edge: RunningEdge, client: Peer
    ) -> None:
        stream = client.request("/", *[(f"x-{n}", "y" * 1000) for n in range(100)])
        assert client.outcome(stream) in (431, Code.PROTOCOL_ERROR, Code.ENHANCE_YOUR_CALM)
        assert client.answered_ping()

    def test_10_5_1_the_state_of_hpack_outlives_a_refused_head(self, edge: RunningEdge, client: Peer) -> None:
        """RFC 9113 section 4.3: a block has to be decoded even where its stream is refused."""
        with app(edge) as requests:
            client.outcome(client.request("/", ("x-known", "v"), ("X-Bad", "1")))
            assert client.exchange("/", ("x-known", "v")).status == 200
            assert requests[0].get("x-known") == b"v"

    def test_8_1_expect_goes_to_the_backend_and_100_comes_back(self, edge: RunningEdge, client: Peer) -> None:
        def willing(wire: Wire) -> None:
            assert wire.head().get("expect") == b"100-continue"
            wire.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            assert wire.read_exactly(5) == b"hello"
            wire.send(OK)
            wire.read_to_end()

        with scripted(edge, willing):
            stream = client.request("/", ("expect", "100-continue"), ("content-length", "5"), method="PUT", end=False)
            state = client.stream(stream)
            client.until(lambda: state.heads)
            assert dict(state.heads[0])[b":status"] == b"100"
            client.body(stream, b"hello")
            assert client.response(stream).body == b"ok"
