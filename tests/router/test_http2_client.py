"""Clients that speak HTTP/2: how their requests begin, what the router answers by itself, and every way to leave."""

from __future__ import annotations

import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from router.config.settings import AccessLogSettings, Native, Settings
from router.logs.access_log import AccessLog
from tests.compliance.behind import app, ok, scripted
from tests.router.http2.frames import ACK, END_HEADERS, END_STREAM, PREFACE, Code, Kind, Setting, frame
from tests.router.http2.leftovers import asked, open_streams, the_client, until_nothing_is_left
from tests.router.http2.peer import Peer, connect
from tests.router.http2.streams import Message
from tests.router.wire import RunningEdge, Wire, running_edge, wait_until


@pytest.fixture(scope="module")
def edge() -> Iterator[RunningEdge]:
    with running_edge() as running:
        yield running


@pytest.fixture
def client(edge: RunningEdge) -> Iterator[Peer]:
    peer = connect(edge.port)
    yield peer
    peer.close()


class TestPriorKnowledge:
    @pytest.mark.parametrize("cut", [1, 2, 3, 4, 14, 18, 23])
    def test_the_preface_may_come_in_two_pieces(self, edge: RunningEdge, cut: int) -> None:
        peer = connect(edge.port, greet=False)
        peer.send(PREFACE[:cut])

        def seen() -> bool:
            return any(getattr(c, "_tail", b"") == PREFACE[:cut] for shard in edge.edge._clients for c in shard)

        wait_until(lambda: asked(edge, seen), "the first piece")
        peer.send(PREFACE[cut:] + peer.settings({}))
        assert peer.exchange(authority="no.test").status == 404
        peer.close()

    def test_behind_a_request_it_is_no_preface(self, edge: RunningEdge) -> None:
        """Behind a proxy it might be part of somebody's body."""
        wire = edge.connect()
        wire.send(b"GET / HTTP/1.1\r\nHost: no.test\r\n\r\n")
        assert wire.message().status == 404
        wire.send(PREFACE + Peer.settings({}))
        assert wire.message().status in (400, 505)
        wire.close()

    def test_nor_behind_one_that_came_in_the_same_piece(self, edge: RunningEdge) -> None:
        wire = edge.connect()
        wire.send(b"GET / HTTP/1.1\r\nHost: no.test\r\n\r\n" + PREFACE + Peer.settings({}))
        assert wire.message().status == 404
        assert wire.message().status in (400, 505)
        wire.close()

    def test_it_can_be_switched_off(self) -> None:
        with running_edge(Settings(enable_http2=False)) as edge:
            wire = edge.connect()
            wire.send(PREFACE + Peer.settings({}))
            assert wire.message().status in (400, 505)
            wire.close()

    def test_a_router_with_too_many_connections_says_so(self) -> None:
        """In HTTP/1.1: who it is that connects is not known yet."""
        with running_edge(Settings(millrace=Native(max_connections=1))) as edge:
            first = connect(edge.port)
            assert first.exchange(authority="no.test").status == 404
            wire = edge.connect()
            assert wire.message().status == 503
            first.close()


class TestAnswers:
    """What the router says itself arrives as whole responses with everything that an operator looks for."""

    CASES: ClassVar[dict[str, tuple[int, str, dict[str, str]]]] = {
        "unknown route": (404, "unknown_route", {"authority": "no.test"}),
        "long target": (414, r"malformed_request \(.*", {"path": "/" + "x" * 17_000}),
        "fragment": (400, r"malformed_request \(.*", {"path": "/#x"}),
        "asterisk": (200, "", {"path": "*", "method": "OPTIONS"}),
        "no host": (400, "empty_host|malformed_request .*", {"authority": ""}),
    }

    @pytest.mark.parametrize("name", CASES)
    def test_answers(self, edge: RunningEdge, client: Peer, name: str) -> None:
        status, error, request = self.CASES[name]
        response = client.exchange(**request)
        assert response.status == status
        assert re.fullmatch(error, (response.get("x-cf-routererror") or b"").decode())
        assert response.get("date")
        assert response.get("content-length") == b"%d" % len(response.body)
        assert client.answered_ping()
        until_nothing_is_left(edge)

    def test_a_dead_endpoint_is_502(self, edge: RunningEdge, client: Peer) -> None:
        with socket.create_server(("127.0.0.1", 0)) as plug:
            port = plug.getsockname()[1]
        edge.register("dead.test", port)
        response = client.exchange(authority="dead.test")
        assert response.status == 502
        assert (response.get("x-cf-routererror") or b"").startswith(b"endpoint_failure")
        assert re.fullmatch(rb"[0-9a-f-]{36}", response.get("x-vcap-request-id") or b"")
        until_nothing_is_left(edge)

    def test_a_route_without_endpoints_is_503(self, edge: RunningEdge, client: Peer) -> None:
        edge.register("gone.test", 1)
        edge.unregister("gone.test", 1)
        assert client.exchange(authority="gone.test").status == 503

    @pytest.mark.parametrize("announced", [True, False])
    def test_a_body_over_the_limit_is_413_and_its_rest_is_not_wanted(self, announced: bool) -> None:
        def unread(wire: Wire) -> None:
            wire.read_to_end()

        with running_edge(Settings(millrace=Native(max_request_body_bytes=1000))) as edge, scripted(edge, unread):
            client = connect(edge.port)
            length = [("content-length", "2000")] if announced else []
            stream = client.request("/", *length, method="POST", end=False)
            client.body(stream, b"x" * 2000, end=False)
            assert client.response(stream).status == 413
            assert client.reset_of(stream) == Code.NO_ERROR
            until_nothing_is_left(edge)
            client.close()

    def test_a_refused_request_counts_against_the_streams_of_its_connection(self) -> None:
        """A client that opens no window keeps each answer waiting: it may not have any number of them."""
        with running_edge(Settings(millrace=Native(max_http2_streams=5))) as edge:
            client = connect(edge.port, settings={Setting.INITIAL_WINDOW_SIZE: 0})
            streams = [client.request("/#x") for _ in range(20)]
            client.answered_ping()
            assert open_streams(edge) == 5
            resets = [client.stream(number).reset for number in streams]
            assert resets == [None] * 5 + [Code.REFUSED_STREAM] * 15
            client.close()

    def test_each_is_in_the_access_log_as_http_2(self, tmp_path: Path) -> None:
        file = tmp_path / "access.log"
        settings = Settings(access_log=AccessLogSettings(file=str(file)))
        log = AccessLog.from_settings(settings)
        assert log is not None
        with running_edge(settings, log) as edge, app(edge):
            client = connect(edge.port)
            assert client.exchange("/x?y", ("user-agent", "t"), method="POST", body=b"hello").status == 200
            assert client.exchange(authority="no.test").status == 404
            client.close()
        log.close()
        lines = file.read_text().splitlines()
        assert '"POST /x?y HTTP/2.0" 200 5 2 "-" "t" "127.0.0.1:' in lines[0]
        assert '"GET / HTTP/2.0" 404 0 ' in lines[1]


class TestForwarding:
    def test_who_asked_by_what_and_when(self, edge: RunningEdge, client: Peer) -> None:
        with app(edge) as requests:
            client.exchange()
            client.exchange("/", ("x-forwarded-for", "1.2.3.4"), ("x-forwarded-proto", "https"))
        first, second = requests
        assert first.get("x-forwarded-for") == b"127.0.0.1"
        assert first.get("x-forwarded-proto") == b"http"
        assert second.get("x-forwarded-for") == b"1.2.3.4, 127.0.0.1"
        assert second.get("x-forwarded-proto") == b"https"
        for request in requests:
            assert request.get("x-vcap-request-id")
            assert request.get("x-request-start")

    def test_remembered_heads_are_told_apart_from_others(self, edge: RunningEdge, client: Peer) -> None:
        """The third time around nothing is parsed: everything must still be the request's own."""
        with app(edge, lambda m: ok(b"Content-Length: %d" % len(m.first), body=m.first)) as requests:
            for _ in range(4):
                for path in ("/a", "/b"):
                    for kind in ("one", "two"):
                        expected = f"GET {path} HTTP/1.1".encode()
                        assert client.exchange(path, ("x-kind", kind)).body == expected
                        assert requests[-1].get("x-kind") == kind.encode()
        ids = [request.get("x-vcap-request-id") for request in requests]
        assert len(set(ids)) == len(ids)

    def test_a_head_that_unfolds_to_much_is_not_remembered_by_its_few_bytes(self, edge: RunningEdge) -> None:
        """Fifty octets may stand for fifty fields of a kilobyte each; a thousand such heads must not be kept."""
        client = connect(edge.port)
        filler = ("x-filler", "y" * 1000)
        client.exchange("/", filler, authority="no.test")
        for count in range(20, 50):
            client.exchange("/", *[filler] * count, authority="no.test")

        def kept() -> int:
            connection = the_client(edge)
            heads = (*connection._heads.values(), *connection._open_heads.values())
            return sum(len(plan.fields) for _, plan, _ in heads)

        assert asked(edge, kept) < 64 * 1024
        client.close()


class Gated:
    """A backend's script that waits where the test says."""

    def __init__(self, before: bytes) -> None:
        self.before = before
        self.go = threading.Event()
        self.closed = threading.Event()

    def __call__(self, wire: Wire) -> None:
        wire.head()
        if self.before:
            wire.send(self.before)
        wire.read_to_end()
        self.closed.set()


LEAVE: dict[str, Callable[[Peer, int], None]] = {
    "resets its stream": lambda client, stream: client.reset(stream),
    "hangs up": lambda client, _: client.close(),
    "breaks the rules": lambda client, _: client.send_frame(Kind.PING, 0, 0, b"short"),
}


class TestLeaving:
    """However and whenever a client leaves: its backend hears of it, and nothing is left of the exchange."""

    @pytest.mark.parametrize("how", LEAVE)
    @pytest.mark.parametrize(
        ("before", "body"),
        [
            (b"", None),
            (b"", b"part"),
            (b"HTTP/1.1 100 Continue\r\n\r\n", b"part"),
            (ok(b"Content-Length: 10", body=b"half"), None),
            (ok(b"Transfer-Encoding: chunked", body=b"4\r\nhalf\r\n"), b"part"),
            (ok(b"Content-Length: 10000000", body=b"x" * 900_000), None),
        ],
        ids=["waiting", "uploading", "continuing", "downloading", "both", "stalled"],
    )
    def test_while(self, edge: RunningEdge, how: str, before: bytes, body: bytes | None) -> None:
        client = connect(edge.port, credits=False)
        script = Gated(before)
        with scripted(edge, script) as behind:
            stream = client.request(method="GET" if body is None else "POST", end=body is None)
            if body is not None:
                client.body(stream, body, end=False)
            if b"200" in before:
                client.until(lambda: client.stream(stream).body)
            elif before:
                client.until(lambda: client.stream(stream).heads)
            wait_until(lambda: behind.connections == 1)
            LEAVE[how](client, stream)
            assert script.closed.wait(10), "the backend was not told"
            until_nothing_is_left(edge)
        client.close()

    def test_while_the_endpoint_is_still_being_dialed(self) -> None:
        """A full backlog: the kernel does not answer, and nothing waits for it once the client is gone."""
        with running_edge() as edge, socket.socket() as plug:
            plug.bind(("127.0.0.1", 0))
            plug.listen(0)
            fillers = [socket.socket() for _ in range(4)]
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(plug.getsockname())
            edge.register("app.test", plug.getsockname()[1])
            client = connect(edge.port)
            stream = client.request()
            client.answered_ping()
            assert open_streams(edge) == 1
            client.reset(stream)
            client.answered_ping()
            until_nothing_is_left(edge)
            for filler in fillers:
                filler.close()
            client.close()

    def test_a_backend_that_breaks_off_is_an_error_of_its_stream_only(self, edge: RunningEdge, client: Peer) -> None:
        def script(wire: Wire) -> None:
            wire.head()
            wire.send(ok(b"Content-Length: 10", body=b"half"))
            wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        with scripted(edge, script):
            stream = client.request()
            assert client.reset_of(stream) == Code.INTERNAL_ERROR
            assert client.answered_ping()
            until_nothing_is_left(edge)


class TestMemory:
    def test_refused_streams_are_not_remembered_for_ever(self, edge: RunningEdge, client: Peer) -> None:
        """Malformed requests, each paid for by good ones: a connection may go on like this for days."""
        for _ in range(400):
            good = [client.request(authority="no.test") for _ in range(5)]
            bad = client.request(path="")
            for number in good:
                client.response(number)
            assert client.reset_of(bad) == Code.PROTOCOL_ERROR
        assert asked(edge, lambda: len(the_client(edge)._closed)) <= 257

    def test_what_a_leaving_client_still_sends_is_not_begun(self, edge: RunningEdge, client: Peer) -> None:
        with app(edge) as requests:
            client.answered_ping()
            goaway = frame(Kind.GOAWAY, 0, 0, bytes(8))
            block = client.encode(
                [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"app.test"), (b":path", b"/late")]
            )
            client.send(goaway + frame(Kind.HEADERS, END_HEADERS | END_STREAM, 1, block))
            client.end_of_connection()
            until_nothing_is_left(edge)
            assert not requests


class Counting:
    """A transport that counts what is written to it."""

    def __init__(self, transport: object) -> None:
        self._transport = transport
        self.writes: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.writes.append(data)
        self._transport.write(data)  # type: ignore[attr-defined]

    def __getattr__(self, name: str) -> object:
        return getattr(self._transport, name)


def test_what_is_answered_together_leaves_together(edge: RunningEdge, client: Peer) -> None:
    client.exchange(authority="no.test")
    connection = asked(edge, lambda: the_client(edge))
    counting = Counting(connection.transport)
    connection.transport = counting
    block = client.encode([(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"no.test"), (b":path", b"/")])
    numbers = [client.next_stream() for _ in range(20)]
    client.send(b"".join(frame(Kind.HEADERS, END_HEADERS | END_STREAM, number, block) for number in numbers))
    for number in numbers:
        assert client.response(number).status == 404
    assert len(counting.writes) <= 3


def test_answers_of_backends_in_the_same_round_leave_together(edge: RunningEdge, client: Peer) -> None:
    """Responses that come while nothing is read from the client collect until the end of the loop's round."""
    with app(edge):
        client.exchange()
        connection = the_client(edge)
        counting = Counting(connection.transport)
        connection.transport = counting

        def two_pings_answered() -> None:
            for payload in (b"11111111", b"22222222"):
                connection.put(frame(Kind.PING, ACK, 0, payload))

        edge.do(two_pings_answered)
        client.until(lambda: b"22222222" in client.pongs)
        assert len(counting.writes) == 1


def test_more_responses_than_may_wait_are_read_later_and_none_is_forgotten() -> None:
    """Past a mebibyte of unread responses, backends wait; once the client reads on, each of them is read to its end."""
    size = 300_000
    with running_edge() as edge, app(edge, ok(b"Content-Length: %d" % size, b"Date: x", body=b"x" * size)) as requests:
        warm = connect(edge.port)
        for _ in range(2):  # idle connections to the backend, enough for all that follow
            streams = [warm.request() for _ in range(40)]
            for stream in streams:
                assert len(warm.response(stream).body) == size
        warm.close()
        client = connect(edge.port, credits=False)
        streams = [client.request() for _ in range(40)]
        client.until(lambda: client.credit == 0)
        client.answered_ping()
        wait_until(lambda: len(requests) == 120, "all requests at the backend")

        def unsent() -> int:
            return sum(len(stream.unsent) for stream in the_client(edge).streams.values())

        assert asked(edge, unsent) > 0
        client.credits = True
        for number in streams:
            client.give(number, size)
        client.give(0, 40 * size)
        bodies: list[Message] = [client.response(number) for number in streams]
        assert [len(message.body) for message in bodies] == [size] * 40
        until_nothing_is_left(edge)
        client.close()
