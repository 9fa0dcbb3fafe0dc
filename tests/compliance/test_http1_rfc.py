"""The rules of RFC 9110 and RFC 9112 for an intermediary, checked over real sockets; each name says its section."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime

import pytest

from tests.router.wire import OK, Message, RunningEdge, Wire, answering, backend, running_edge, wait_until

GET = b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n"
NOWHERE = b"GET / HTTP/1.1\r\nHost: no.test\r\n\r\n"
Script = bytes | Callable[[Message], bytes]


@pytest.fixture(scope="module")
def edge() -> Iterator[RunningEdge]:
    with running_edge() as running:
        yield running


class Exchanged:
    """A client, what it sends, and the requests that the backend saw."""

    def __init__(self, edge: RunningEdge, sent: bytes, response: Script = OK) -> None:
        self.requests: list[Message] = []
        with backend(answering(response, self.requests)) as app:
            edge.register("app.test", app.port)
            try:
                self.client = edge.connect()
                self.client.send(sent)
                bodiless = sent.startswith(b"HEAD")
                self.response = self.client.message(bodiless=bodiless)
                if self.response.get("Connection") == b"close":
                    assert self.client.is_closed()
                else:
                    assert not self.client.pending
            finally:
                edge.unregister("app.test", app.port)

    @property
    def request(self) -> Message:
        (request,) = self.requests
        return request

    @property
    def closes(self) -> bool:
        return self.response.get("Connection") == b"close"


def request(*lines: bytes, first: bytes = b"GET / HTTP/1.1", body: bytes = b"") -> bytes:
    return first + b"\r\nHost: app.test\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


def ok(*lines: bytes, first: bytes = b"HTTP/1.1 200 OK", body: bytes = b"") -> bytes:
    return first + b"\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


class TestMessages:
    def test_9112_2_2_an_empty_line_before_the_request_line_is_ignored(self, edge: RunningEdge) -> None:
        assert Exchanged(edge, b"\r\n" + GET).request.first == b"GET / HTTP/1.1"

    def test_9112_2_2_also_between_two_requests(self, edge: RunningEdge) -> None:
        client = edge.connect()
        client.send(NOWHERE + b"\r\n" + NOWHERE)
        assert [client.message().status, client.message().status] == [404, 404]

    def test_9112_2_3_an_intermediary_sends_its_own_version(self, edge: RunningEdge) -> None:
        exchanged = Exchanged(
            edge, request(first=b"GET / HTTP/1.0"), ok(b"Content-Length: 0", first=b"HTTP/1.0 200 OK")
        )
        assert exchanged.request.first == b"GET / HTTP/1.1"
        assert exchanged.response.first == b"HTTP/1.1 200 OK"

    def test_9112_3_methods_unknown_to_the_router_pass(self, edge: RunningEdge) -> None:
        assert Exchanged(edge, request(first=b"BREW /pot HTTP/1.1")).request.first == b"BREW /pot HTTP/1.1"

    def test_9110_9_1_methods_are_case_sensitive(self, edge: RunningEdge) -> None:
        assert Exchanged(edge, request(first=b"get / HTTP/1.1")).request.first == b"get / HTTP/1.1"

    @pytest.mark.parametrize(
        "target", [b"/a/../b", b"/%2e%2E/%zz", b"//a", b"/?", b"/;a=b", b"/a?b?c/d", b"/[x]|{y}^`"]
    )
    def test_9112_3_2_an_intermediary_does_not_rewrite_the_target(self, edge: RunningEdge, target: bytes) -> None:
        assert Exchanged(edge, request(first=b"GET " + target + b" HTTP/1.1")).request.first.split(b" ")[1] == target

    def test_9112_4_the_reason_may_be_empty(self, edge: RunningEdge) -> None:
        assert Exchanged(edge, GET, ok(b"Content-Length: 0", first=b"HTTP/1.1 200 ")).response.first == b"HTTP/1.1 200 "

    @pytest.mark.parametrize("status", [299, 418, 599, 999])
    def test_9110_15_statuses_unknown_to_the_router_pass(self, edge: RunningEdge, status: int) -> None:
        answer = ok(b"Content-Length: 0", first=b"HTTP/1.1 %d Odd" % status)
        assert Exchanged(edge, GET, answer).response.status == status

    def test_9110_5_3_repeated_fields_keep_their_order(self, edge: RunningEdge) -> None:
        exchanged = Exchanged(edge, request(b"A: 1", b"B: 2", b"a: 3"), ok(b"C: 1", b"c: 2", b"Content-Length: 0"))
        assert exchanged.request.all("a") == [b"1", b"3"]
        assert exchanged.response.all("c") == [b"1", b"2"]

    def test_9110_5_3_set_cookie_lines_stay_apart(self, edge: RunningEdge) -> None:
        answer = ok(b"Set-Cookie: a=1", b"Set-Cookie: b=2", b"Content-Length: 0")
        assert Exchanged(edge, GET, answer).response.all("Set-Cookie") == [b"a=1", b"b=2"]

    def test_9110_5_1_fields_unknown_to_the_router_pass(self, edge: RunningEdge) -> None:
        exchanged = Exchanged(edge, request(b"!#$%&'*+-.^_`|~09: \xe9\t,"), ok(b"x-!: \xfe", b"Content-Length: 0"))
        assert exchanged.request.get("!#$%&'*+-.^_`|~09") == b"\xe9\t,"
        assert exchanged.response.get("x-!") == b"\xfe"


class TestHost:
    def test_9112_3_2_a_request_without_host_is_refused(self, edge: RunningEdge) -> None:
        client = edge.connect()
        client.send(b"GET / HTTP/1.1\r\n\r\n")
        assert client.message().status == 400
        assert client.is_closed()

    def test_9112_3_2_an_http_1_0_request_to_an_absolute_target_needs_none(self, edge: RunningEdge) -> None:
        exchanged = Exchanged(edge, b"GET http://app.test/ HTTP/1.0\r\n\r\n")
        assert exchanged.request.all("Host") == [b"app.test"]

    def test_9112_3_2_2_the_absolute_target_replaces_host(self, edge: RunningEdge) -> None:
        sent = b"GET http://APP.test:8080/x HTTP/1.1\r\nhost: other.test\r\n\r\n"
        assert Exchanged(edge, sent).request.all("Host") == [b"APP.test:8080"]

    def test_9112_3_2_2_also_where_host_is_empty(self, edge: RunningEdge) -> None:
        assert Exchanged(edge, b"GET http://app.test/ HTTP/1.1\r\nHost:\r\n\r\n").response.status == 200

    def test_9110_7_2_the_port_of_host_is_passed_on(self, edge: RunningEdge) -> None:
        sent = b"GET / HTTP/1.1\r\nHost: app.test:81\r\n\r\n"
        assert Exchanged(edge, sent).request.get("Host") == b"app.test:81"

    def test_9110_4_2_3_hosts_are_compared_without_case(self, edge: RunningEdge) -> None:
        assert Exchanged(edge, b"GET / HTTP/1.1\r\nHost: APP.TEST\r\n\r\n").response.status == 200


class TestBodies:
    def test_9112_6_3_no_length_and_no_chunks_is_no_body(self, edge: RunningEdge) -> None:
        exchanged = Exchanged(edge, request(first=b"POST / HTTP/1.1"))
        assert exchanged.request.get("Content-Length") == b"0"  # RFC 9110 section 8.6: who sends no body may say so
        assert exchanged.request.get("Transfer-Encoding") is None
        assert exchanged.request.body == b""

    @pytest.mark.parametrize("method", [b"GET", b"DELETE", b"OPTIONS", b"X"])
    def test_9110_8_6_where_no_body_is_expected_nothing_says_that_there_is_none(
        self, edge: RunningEdge, method: bytes
    ) -> None:
        exchanged = Exchanged(edge, request(first=method + b" / HTTP/1.1"))
        assert exchanged.request.get("Content-Length") is None
        assert exchanged.request.get("Transfer-Encoding") is None

    def test_9112_6_3_equal_lengths_count_once(self, edge: RunningEdge) -> None:
        sent = request(b"Content-Length: 2", b"content-length: 2, 2", first=b"POST / HTTP/1.1", body=b"hi")
        exchanged = Exchanged(edge, sent)
        assert exchanged.request.all("Content-Length") == [b"2"]
        assert exchanged.request.body == b"hi"

    @pytest.mark.parametrize("method", [b"GET", b"DELETE", b"TRACE", b"OPTIONS", b"X"])
    def test_9110_9_3_a_body_is_framed_whatever_the_method(self, edge: RunningEdge, method: bytes) -> None:
        sent = request(b"Content-Length: 2", first=method + b" / HTTP/1.1", body=b"hi")
        assert Exchanged(edge, sent).request.body == b"hi"

    def test_9112_6_1_codings_are_compared_without_case(self, edge: RunningEdge) -> None:
        sent = request(b"transfer-encoding: ChunKed", first=b"PUT / HTTP/1.1", body=b"1\r\na\r\n0\r\n\r\n")
        assert Exchanged(edge, sent).request.body == b"a"

    def test_9112_7_1_1_chunk_extensions_are_no_fault(self, edge: RunningEdge) -> None:
        sent = request(
            b"Transfer-Encoding: chunked", first=b"PUT / HTTP/1.1", body=b'1 ; a="\\"x";b\r\na\r\n0;c\r\n\r\n'
        )
        assert Exchanged(edge, sent).request.body == b"a"

    def test_9112_7_1_2_trailers_pass_both_ways(self, edge: RunningEdge) -> None:
        chunks = b"1\r\na\r\n0\r\nX-Sum: 1\r\nx-sum: 2\r\n\r\n"
        exchanged = Exchanged(
            edge,
            request(b"Transfer-Encoding: chunked", b"Trailer: X-Sum", first=b"PUT / HTTP/1.1", body=chunks),
            ok(b"Transfer-Encoding: chunked", b"Trailer: X-Sum", body=chunks),
        )
        assert exchanged.request.raw_body == exchanged.response.raw_body == chunks
        assert exchanged.request.get("Trailer") == exchanged.response.get("Trailer") == b"X-Sum"

    @pytest.mark.parametrize("status", [204, 304])
    def test_9110_15_3_5_and_15_4_5_no_body_follows(self, edge: RunningEdge, status: int) -> None:
        """Not even one that the backend sends: the next response begins where this head ends."""
        answer = ok(b"Content-Length: 5", b"Date: now", first=b"HTTP/1.1 %d X" % status, body=b"hello")
        for _ in range(3):
            exchanged = Exchanged(edge, GET, answer)
            assert exchanged.response.status == status
            exchanged.client.send(NOWHERE)
            assert exchanged.client.message().status == 404

    def test_9110_8_6_a_204_has_no_length(self, edge: RunningEdge) -> None:
        exchanged = Exchanged(edge, GET, ok(b"Content-Length: 0", first=b"HTTP/1.1 204 No Content"))
        assert exchanged.response.get("Content-Length") is None

    def test_9110_15_4_5_a_304_may_have_one(self, edge: RunningEdge) -> None:
        exchanged = Exchanged(edge, GET, ok(b"Content-Length: 5", first=b"HTTP/1.1 304 Not Modified"))
        assert exchanged.response.get("Content-Length") == b"5"

    @pytest.mark.parametrize("framing", [b"Content-Length: 5", b"Transfer-Encoding: chunked"])
    def test_9110_9_3_2_head_is_answered_without_a_body(self, edge: RunningEdge, framing: bytes) -> None:
        for _ in range(3):
            exchanged = Exchanged(edge, request(first=b"HEAD / HTTP/1.1"), ok(framing, b"Date: now"))
            assert exchanged.response.get(framing.split(b":")[0].decode()) is not None
            exchanged.client.send(NOWHERE)
            assert exchanged.client.message().status == 404

    def test_9110_9_3_2_also_where_the_router_answers_itself(self, edge: RunningEdge) -> None:
        client = edge.connect()
        client.send(NOWHERE.replace(b"GET", b"HEAD") + NOWHERE)
        assert int(client.message(bodiless=True).get("Content-Length") or 0) > 0
        assert client.message().status == 404

    def test_9112_8_a_body_cut_short_is_not_passed_for_whole(self, edge: RunningEdge) -> None:
        def short(wire: Wire) -> None:
            wire.message()
            wire.send(ok(b"Transfer-Encoding: chunked", body=b"5\r\nhello\r\n"))

        with backend(short) as app:
            edge.register("app.test", app.port)
            client = edge.connect()
            client.send(GET)
            assert not client.read_to_end().endswith(b"0\r\n\r\n")
            edge.unregister("app.test", app.port)


class TestConnections:
    @pytest.mark.parametrize(
        ("version", "option", "stays"),
        [
            (b"1.1", b"", True),
            (b"1.1", b"keep-alive", True),
            (b"1.1", b"close", False),
            (b"1.1", b"CLOSE", False),
            (b"1.1", b"x, close", False),
            (b"1.1", b"keep-alive, close", False),
            (b"1.0", b"", False),
            (b"1.0", b"keep-alive", True),
            (b"1.0", b"close", False),
        ],
    )
    def test_9112_9_3_persistence(self, edge: RunningEdge, version: bytes, option: bytes, stays: bool) -> None:
        sent = request(*[b"Connection: " + option] if option else [], first=b"GET / HTTP/" + version)
        for _ in range(2):
            assert Exchanged(edge, sent).closes is not stays

    def test_9112_9_3_2_nothing_after_a_closing_request_is_answered(self, edge: RunningEdge) -> None:
        client = edge.connect()
        client.send(b"GET / HTTP/1.1\r\nHost: no.test\r\nConnection: close\r\n\r\n" + NOWHERE)
        assert client.message().status == 404
        assert client.is_closed()

    def test_9112_9_6_a_backend_that_closes_does_not_close_the_client(self, edge: RunningEdge) -> None:
        exchanged = Exchanged(edge, GET, ok(b"Connection: close", b"Content-Length: 0"))
        assert not exchanged.closes

    def test_9110_7_6_1_connection_options_and_their_fields_end_here(self, edge: RunningEdge) -> None:
        exchanged = Exchanged(
            edge,
            request(b"Connection: a, B", b"A: 1", b"b: 2", b"C: 3"),
            ok(b"Connection: d", b"D: 1", b"E: 2", b"Content-Length: 0"),
        )
        assert [exchanged.request.get(name) for name in ("Connection", "A", "B", "C")] == [None, None, None, b"3"]
        assert [exchanged.response.get(name) for name in ("Connection", "D", "E")] == [None, None, b"2"]

    @pytest.mark.parametrize("name", ["Keep-Alive", "Proxy-Connection", "Proxy-Authorization", "TE", "Upgrade"])
    def test_9110_7_6_1_so_do_the_well_known_ones(self, edge: RunningEdge, name: str) -> None:
        assert Exchanged(edge, request(name.encode() + b": x")).request.get(name) is None

    def test_9112_9_3_2_a_backend_gets_one_request_at_a_time(self, edge: RunningEdge) -> None:
        def script(wire: Wire) -> None:
            while True:
                wire.message()
                assert wire.pending == b""
                wire.send(OK)

        with backend(script) as app:
            edge.register("app.test", app.port)
            client = edge.connect()
            client.send(GET * 10)
            assert [client.message().body for _ in range(10)] == [b"ok"] * 10
            assert app.connections == 1
            edge.unregister("app.test", app.port)


class TestInformational:
    def test_9110_15_2_all_1xx_are_forwarded_and_are_not_the_answer(self, edge: RunningEdge) -> None:
        hints = ok(b"Link: </a>", b"Content-Length: 0", first=b"HTTP/1.1 103 Early Hints")

        def script(wire: Wire) -> None:
            for _ in range(3):
                wire.message()
                wire.send(hints)
                wire.send(hints + OK)

        with backend(script) as app:
            edge.register("app.test", app.port)
            client = edge.connect()
            for _ in range(3):
                client.send(GET)
                assert [client.head().status for _ in range(2)] == [103, 103]
                assert client.message().body == b"ok"
            edge.unregister("app.test", app.port)

    def test_9110_10_1_1_expect_is_forwarded_and_the_backend_decides(self, edge: RunningEdge) -> None:
        def unwilling(wire: Wire) -> None:
            assert wire.head().get("Expect") == b"100-continue"
            wire.send(ok(b"Content-Length: 0", first=b"HTTP/1.1 401 No"))
            wire.read_to_end()

        with backend(unwilling) as app:
            edge.register("app.test", app.port)
            client = edge.connect()
            client.send(request(b"Expect: 100-continue", b"Content-Length: 5", first=b"PUT / HTTP/1.1"))
            response = client.message()
            assert (response.status, response.get("Connection")) == (401, b"close")
            assert client.is_closed()
            edge.unregister("app.test", app.port)

    def test_9110_10_1_1_an_unknown_expectation_fails(self, edge: RunningEdge) -> None:
        client = edge.connect()
        client.send(request(b"Expect: the-unexpected"))
        assert client.message().status == 417


class TestUpgrade:
    UPGRADE = request(b"Connection: upgrade", b"Upgrade: echo, other")

    def test_9110_7_8_upgrade_is_passed_on_with_its_connection_option(self, edge: RunningEdge) -> None:
        seen = Exchanged(edge, self.UPGRADE).request
        assert (seen.get("Connection"), seen.get("Upgrade")) == (b"Upgrade", b"echo, other")

    def test_9110_7_8_after_101_bytes_pass_as_they_are(self, edge: RunningEdge) -> None:
        def echo(wire: Wire) -> None:
            wire.head()
            wire.send(ok(b"Connection: Upgrade", b"Upgrade: echo", first=b"HTTP/1.1 101 Switching Protocols"))
            wire.send(wire.read_exactly(8))
            wire.read_to_end()

        with backend(echo) as app:
            edge.register("app.test", app.port)
            client = edge.connect()
            client.send(self.UPGRADE)
            head = client.head()
            assert (head.status, head.get("Upgrade"), head.get("Connection")) == (101, b"echo", b"Upgrade")
            client.send(b"\0\r\n\r\n\xffab")
            assert client.read_exactly(8) == b"\0\r\n\r\n\xffab"
            client.close()
            wait_until(lambda: edge.metrics.tunnels == 0)
            edge.unregister("app.test", app.port)

    def test_9110_7_8_a_101_that_nobody_asked_for_is_no_response(self, edge: RunningEdge) -> None:
        answer = ok(b"Content-Length: 0", b"Upgrade: x", b"Connection: upgrade", first=b"HTTP/1.1 101 X")
        for _ in range(3):
            assert Exchanged(edge, GET, answer).response.status == 502


class TestMethodsAndFields:
    def test_9110_9_3_8_trace_is_the_backends_to_answer(self, edge: RunningEdge) -> None:
        assert Exchanged(edge, request(first=b"TRACE /x HTTP/1.1")).request.first == b"TRACE /x HTTP/1.1"

    @pytest.mark.parametrize("method", [b"TRACE", b"OPTIONS", b"GET"])
    def test_9110_7_6_2_max_forwards_is_for_proxies_and_passes(self, edge: RunningEdge, method: bytes) -> None:
        """A reverse proxy is the origin server for its clients."""
        seen = Exchanged(edge, request(b"Max-Forwards: 0", first=method + b" / HTTP/1.1")).request
        assert seen.get("Max-Forwards") == b"0"

    def test_9110_9_3_7_options_asterisk_asks_about_the_router(self, edge: RunningEdge) -> None:
        client = edge.connect()
        client.send(request(first=b"OPTIONS * HTTP/1.1") + NOWHERE)
        response = client.message()
        assert (response.status, response.get("Content-Length")) == (200, b"0")
        assert client.message().status == 404

    def test_9110_6_6_1_date_is_added_where_the_backend_sent_none(self, edge: RunningEdge) -> None:
        date = Exchanged(edge, GET, ok(b"Content-Length: 0")).response.get("Date")
        assert date is not None
        assert re.fullmatch(rb"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT", date)
        assert parsedate_to_datetime(date.decode()).tzinfo is not None

    def test_9110_6_6_1_and_kept_where_it_sent_one(self, edge: RunningEdge) -> None:
        assert Exchanged(edge, GET, ok(b"date: then", b"Content-Length: 0")).response.all("Date") == [b"then"]

    def test_9110_6_6_1_the_routers_own_answers_are_dated(self, edge: RunningEdge) -> None:
        client = edge.connect()
        client.send(NOWHERE)
        assert client.message().get("Date") is not None

    @pytest.mark.parametrize("name", ["Via", "Forwarded", "Accept-Encoding", "Range", "If-None-Match", "Authorization"])
    def test_9110_5_1_end_to_end_fields_pass(self, edge: RunningEdge, name: str) -> None:
        assert Exchanged(edge, request(name.encode() + b": x")).request.get(name) == b"x"

    def test_9110_10_1_4_te_trailers_is_said_again(self, edge: RunningEdge) -> None:
        assert Exchanged(edge, request(b"TE: gzip;q=0, trailers", b"Connection: TE")).request.get("TE") == b"trailers"
