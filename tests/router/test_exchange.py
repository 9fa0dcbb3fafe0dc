"""Requests through a real edge to real backends: what each side sees on the wire."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from router.config.settings import AccessLogSettings, Native, Settings
from router.logs.access_log import AccessLog
from tests.router.wire import OK, Message, RunningEdge, Wire, answering, backend, running_edge, wait_until

GET = b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n"


@pytest.fixture
def edge() -> Iterator[RunningEdge]:
    with running_edge() as running:
        yield running


def test_a_request_reaches_the_backend_and_its_answer_the_client(edge: RunningEdge) -> None:
    seen: list[Message] = []
    with backend(answering(OK, seen)) as app:
        edge.register("app.test", app.port, app="guid-1", private_instance_id="i-1", private_instance_index="0")
        client = edge.connect()
        client.send(b"GET /a%20b?x=1&y HTTP/1.1\r\nHost: App.Test:8080\r\nX-One: 1\r\naccept: */*\r\nX-One: 2\r\n\r\n")
        response = client.message()
    assert response.status == 200
    assert response.body == b"ok"
    (request,) = seen
    assert request.first == b"GET /a%20b?x=1&y HTTP/1.1"
    assert request.fields[:4] == [(b"Host", b"App.Test:8080"), (b"X-One", b"1"), (b"Accept", b"*/*"), (b"X-One", b"2")]
    assert request.get("X-Forwarded-For") == b"127.0.0.1"
    assert request.get("X-Forwarded-Proto") == b"http"
    assert re.fullmatch(rb"\d{13}", request.get("X-Request-Start") or b"")
    assert re.fullmatch(rb"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", request.get("X-Vcap-Request-Id") or b"")
    assert request.get("X-Vcap-Request-Id") == response.get("X-Vcap-Request-Id")
    assert request.get("X-CF-ApplicationID") == b"guid-1"
    assert request.get("X-CF-InstanceID") == b"i-1"
    assert request.get("X-CF-InstanceIndex") == b"0"
    assert request.get("Connection") is None


def test_connections_are_reused_on_both_sides(edge: RunningEdge) -> None:
    with backend(answering(OK)) as app:
        edge.register("app.test", app.port)
        client = edge.connect()
        for _ in range(20):
            client.send(GET)
            assert client.message().body == b"ok"
        assert app.connections == 1
    assert edge.metrics.client_connections_accepted == 1


def test_pipelined_requests_are_answered_in_order(edge: RunningEdge) -> None:
    with backend(answering(lambda r: OK.replace(b"ok", r.first.split(b" ")[1][1:3]))) as app:
        edge.register("app.test", app.port)
        client = edge.connect()
        client.send(b"".join(b"GET /%02d HTTP/1.1\r\nHost: app.test\r\n\r\n" % n for n in range(30)))
        assert [client.message().body for _ in range(30)] == [b"%02d" % n for n in range(30)]


def test_pipelined_requests_to_nowhere_and_somewhere_keep_their_order(edge: RunningEdge) -> None:
    with backend(answering(OK)) as app:
        edge.register("app.test", app.port)
        client = edge.connect()
        client.send((b"GET / HTTP/1.1\r\nHost: no.test\r\n\r\n" + GET) * 5)
        assert [client.message().status for _ in range(10)] == [404, 200] * 5


@pytest.mark.parametrize("cut", [1, 5, 16, 40])
def test_a_head_may_arrive_in_pieces(edge: RunningEdge, cut: int) -> None:
    with backend(answering(OK)) as app:
        edge.register("app.test", app.port)
        client = edge.connect()
        accepted = edge.metrics.client_connections_accepted
        client.send(GET[:cut])
        wait_until(lambda: edge.metrics.client_connections_accepted > accepted - 1)
        client.send(GET[cut:])
        assert client.message().status == 200


class TestBodies:
    def test_a_body_with_a_length_passes_both_ways(self, edge: RunningEdge) -> None:
        seen: list[Message] = []
        body = bytes(range(256)) * 2000
        with backend(
            answering(lambda r: b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(r.body) + r.body, seen)
        ) as app:
            edge.register("app.test", app.port)
            client = edge.connect()
            client.send(b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            assert client.message().body == body
        assert seen[0].get("Content-Length") == b"%d" % len(body)

    def test_chunks_extensions_and_trailers_pass_unchanged_both_ways(self, edge: RunningEdge) -> None:
        chunks = b"3;name=value\r\nabc\r\n0010\r\n0123456789abcdef\r\n0\r\nX-Sum: 1\r\n\r\n"
        seen: list[Message] = []
        with backend(answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks, seen)) as app:
            edge.register("app.test", app.port)
            client = edge.connect()
            for _ in range(2):
                client.send(
                    b"POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
                    + chunks
                )
                assert client.message().raw_body == chunks
        assert [request.raw_body for request in seen] == [chunks, chunks]
        assert seen[0].get("Trailer") == b"X-Sum"

    def test_a_response_that_ends_with_its_connection_is_chunked_for_a_client_that_stays(
        self, edge: RunningEdge
    ) -> None:
        def until_close(wire: Wire) -> None:
            wire.message()
            wire.send(b"HTTP/1.1 200 OK\r\n\r\nall of ")
            wire.send(b"it")

        with backend(until_close) as app:
            edge.register("app.test", app.port)
            client = edge.connect()
            for _ in range(2):
                client.send(GET)
                response = client.message()
                assert response.body == b"all of it"
                assert response.get("Transfer-Encoding") == b"chunked"

    @pytest.mark.parametrize("status", [204, 304])
    def test_statuses_without_a_body_end_with_their_head(self, edge: RunningEdge, status: int) -> None:
        with backend(answering(b"HTTP/1.1 %d X\r\nETag: a\r\n\r\n" % status)) as app:
            edge.register("app.test", app.port)
            client = edge.connect()
            for _ in range(2):
                client.send(GET)
                assert client.message().status == status

    def test_the_answer_to_head_keeps_its_length_and_has_no_body(self, edge: RunningEdge) -> None:
        with backend(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")) as app:
            edge.register("app.test", app.port)
            client = edge.connect()
            for _ in range(2):
                client.send(b"HEAD / HTTP/1.1\r\nHost: app.test\r\n\r\n")
                assert client.message(bodiless=True).get("Content-Length") == b"1000"

    def test_a_response_may_begin_while_the_request_goes_on(self, edge: RunningEdge) -> None:
        def talking(wire: Wire) -> None:
            wire.head()
            wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
            wire.read_exactly(15)
            wire.send(b"1\r\nb\r\n0\r\n\r\n")

        with backend(talking) as app:
            edge.register("app.test", app.port)
            client = edge.connect()
            client.send(b"POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n")
            assert client.head().status == 200
            assert client.read_exactly(6) == b"1\r\na\r\n"
            client.send(b"5\r\nhello\r\n0\r\n\r\n")
            assert client.read_exactly(11) == b"1\r\nb\r\n0\r\n\r\n"

    def test_a_response_before_the_end_of_the_request_ends_the_connection(self, edge: RunningEdge) -> None:
        def too_large(wire: Wire) -> None:
            wire.head()
            wire.send(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")
            wire.read_to_end()

        with backend(too_large) as app:
            edge.register("app.test", app.port)
            client = edge.connect()
            client.send(b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 100000\r\n\r\nabc")
            response = client.message()
            assert response.status == 413
            assert response.get("Connection") == b"close"
            assert client.is_closed()


class TestInformational:
    def test_every_1xx_passes(self, edge: RunningEdge) -> None:
        def hints(wire: Wire) -> None:
            wire.message()
            wire.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" + OK)

        with backend(hints) as app:
            edge.register("app.test", app.port)
            client = edge.connect()
            client.send(GET)
            assert client.head().first == b"HTTP/1.1 103 Early Hints"
            assert client.head().first == b"HTTP/1.1 102 Processing"
            assert client.message().body == b"ok"

    def test_the_backend_decides_whether_an_expected_body_is_sent(self, edge: RunningEdge) -> None:
        def willing(wire: Wire) -> None:
            request = wire.head()
            assert request.get("Expect") == b"100-continue"
            wire.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            assert wire.read_exactly(5) == b"hello"
            wire.send(OK)

        with backend(willing) as app:
            edge.register("app.test", app.port)
            client = edge.connect()
            client.send(b"PUT / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
            assert client.head().status == 100
            client.send(b"hello")
            assert client.message().status == 200
            assert app.errors == []

    def test_an_http_1_0_client_sees_no_1xx(self, edge: RunningEdge) -> None:
        def hints(wire: Wire) -> None:
            wire.message()
            wire.send(b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK)

        with backend(hints) as app:
            edge.register("app.test", app.port)
            client = edge.connect()
            client.send(b"GET / HTTP/1.0\r\nHost: app.test\r\n\r\n")
            assert client.message().status == 200


class TestHttp10:
    def test_it_closes_unless_asked_to_stay(self, edge: RunningEdge) -> None:
        with backend(answering(OK)) as app:
            edge.register("app.test", app.port)
            client = edge.connect()
            for _ in range(2):
                client.send(b"GET / HTTP/1.0\r\nHost: app.test\r\nConnection: keep-alive\r\n\r\n")
                assert client.message().get("Connection") == b"keep-alive"
            client.send(b"GET / HTTP/1.0\r\nHost: app.test\r\n\r\n")
            assert client.message().get("Connection") == b"close"
            assert client.is_closed()

    def test_chunks_are_taken_apart_for_it(self, edge: RunningEdge) -> None:
        with backend(
            answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
        ) as app:
            edge.register("app.test", app.port)
            client = edge.connect()
            client.send(b"GET / HTTP/1.0\r\nHost: app.test\r\n\r\n")
            response = client.message()
            assert response.body == b"abcde"
            assert response.get("Transfer-Encoding") is None


class TestTargets:
    def test_an_absolute_target_names_the_host(self, edge: RunningEdge) -> None:
        seen: list[Message] = []
        with backend(answering(OK, seen)) as app:
            edge.register("app.test", app.port)
            client = edge.connect()
            client.send(b"GET http://app.test/x?y HTTP/1.1\r\nHost: other.test\r\n\r\n")
            assert client.message().status == 200
        assert seen[0].first == b"GET http://app.test/x?y HTTP/1.1"
        assert seen[0].all("Host") == [b"app.test"]

    def test_options_asterisk_is_answered_by_the_router(self, edge: RunningEdge) -> None:
        client = edge.connect()
        for _ in range(2):
            client.send(b"OPTIONS * HTTP/1.1\r\nHost: app.test\r\n\r\n")
            assert client.message().status == 200

    def test_options_for_a_whole_host_becomes_the_asterisk(self, edge: RunningEdge) -> None:
        seen: list[Message] = []
        with backend(answering(OK, seen)) as app:
            edge.register("app.test", app.port)
            client = edge.connect()
            client.send(b"OPTIONS http://app.test HTTP/1.1\r\nHost: app.test\r\n\r\n")
            assert client.message().status == 200
        assert seen[0].first == b"OPTIONS * HTTP/1.1"

    def test_the_longest_path_and_the_nearest_wildcard_win(self, edge: RunningEdge) -> None:
        with (
            backend(answering(lambda r: OK)) as root,
            backend(answering(OK.replace(b"ok", b"v1"))) as v1,
            backend(answering(OK.replace(b"ok", b"*."))) as wild,
        ):
            edge.register("app.test", root.port)
            edge.register("app.test/api/v1", v1.port)
            edge.register("*.app.test", wild.port)
            client = edge.connect()
            for target, host, body in [
                (b"/", b"app.test", b"ok"),
                (b"/api/v1", b"app.test", b"v1"),
                (b"/API/v1/x?q", b"app.test", b"v1"),
                (b"/api/v10", b"app.test", b"ok"),
                (b"/", b"a.b.app.test", b"*."),
            ]:
                client.send(b"GET %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (target, host))
                assert client.message().body == body, (target, host)


class TestForwarding:
    def send(self, edge: RunningEdge, lines: bytes, response: bytes = OK) -> tuple[Message, Message]:
        seen: list[Message] = []
        with backend(answering(response, seen)) as app:
            edge.register("app.test", app.port)
            client = edge.connect()
            client.send(b"GET / HTTP/1.1\r\nHost: app.test\r\n" + lines + b"\r\n")
            answer = client.message()
        return seen[0], answer

    def test_forwarded_for_is_folded_and_extended(self, edge: RunningEdge) -> None:
        request, _ = self.send(edge, b"X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 2.2.2.2\r\n")
        assert request.all("X-Forwarded-For") == [b"1.1.1.1, 2.2.2.2, 127.0.0.1"]

    def test_forwarded_proto_and_start_are_kept_if_there(self, edge: RunningEdge) -> None:
        request, _ = self.send(edge, b"X-Forwarded-Proto: https\r\nX-Request-Start: 5\r\nX-Forwarded-Host: h\r\n")
        assert request.all("X-Forwarded-Proto") == [b"https"]
        assert request.all("X-Request-Start") == [b"5"]
        assert request.all("X-Forwarded-Host") == [b"h"]

    def test_the_router_alone_says_who_the_application_is_and_what_the_request_id(self, edge: RunningEdge) -> None:
        request, _ = self.send(
            edge, b"X-Vcap-Request-Id: mine\r\nX-CF-ApplicationID: mine\r\nX-Cf-Instanceid: mine\r\n"
        )
        assert b"mine" not in b"".join(value for _, value in request.fields)

    def test_hop_by_hop_fields_end_here(self, edge: RunningEdge) -> None:
        request, answer = self.send(
            edge,
            b"Connection: X-Hop, keep-alive\r\nX-Hop: 1\r\nKeep-Alive: 5\r\n"
            b"Proxy-Authorization: x\r\nTE: trailers, gzip\r\n",
            OK.replace(b"\r\n\r\n", b"\r\nConnection: X-Back\r\nX-Back: 1\r\nKeep-Alive: timeout=5\r\n\r\n"),
        )
        names = {name.lower() for name, _ in request.fields}
        assert not names & {b"x-hop", b"keep-alive", b"proxy-authorization", b"connection"}
        assert request.all("TE") == [b"trailers"]
        assert not {name.lower() for name, _ in answer.fields} & {b"x-back", b"keep-alive", b"connection"}

    def test_a_connection_option_cannot_remove_what_the_router_vouches_for(self, edge: RunningEdge) -> None:
        request, _ = self.send(
            edge, b"X-Forwarded-For: 1.1.1.1\r\nConnection: X-Forwarded-For, Host, Cookie\r\nCookie: a\r\n"
        )
        assert request.all("X-Forwarded-For") == [b"1.1.1.1, 127.0.0.1"]
        assert request.all("Host") == [b"app.test"]
        assert request.all("Cookie") == [b"a"]

    def test_forwarded_proto_can_be_forced_or_sanitised(self) -> None:
        for settings, expected in [
            (Settings(force_forwarded_proto_https=True), b"https"),
            (Settings(sanitize_forwarded_proto=True), b"http"),
        ]:
            with running_edge(settings) as edge:
                request, _ = self.send(edge, b"X-Forwarded-Proto: spdy\r\n")
            assert request.all("X-Forwarded-Proto") == [expected]

    def test_forwarded_host_can_be_set_or_removed(self) -> None:
        for rule, expected in [("set", [b"app.test"]), ("remove", [])]:
            with running_edge(Settings(millrace=Native(forwarded_host=rule))) as edge:
                request, _ = self.send(edge, b"X-Forwarded-Host: spoofed\r\n")
            assert request.all("X-Forwarded-Host") == expected


class TestHealthChecks:
    """By User-Agent, on the traffic ports (gorouter reference 8.2)."""

    ASK = b"GET /any HTTP/1.1\r\nHost: any.test\r\nUser-Agent: HTTP-Monitor/1.1\r\n\r\n"

    def ask(self, edge: RunningEdge, request: bytes = ASK) -> Message:
        client = edge.connect()
        client.send(request)
        return client.message()

    def test_are_answered_as_health_is(self, edge: RunningEdge) -> None:
        message = self.ask(edge)
        assert (message.status, message.body) == (200, b"ok\n")
        assert message.get("Cache-Control") == b"private, max-age=0"
        assert message.get("Expires") == b"0"
        assert message.get("X-Cf-RouterError") is None

    def test_and_503_without_a_word_when_the_router_is_not_well(self) -> None:
        with running_edge() as edge:
            edge.edge.healthy = False
            message = self.ask(edge)
            assert (message.status, message.body) == (503, b"")
            assert edge.metrics.rejected_requests == 0

    def test_whether_or_not_there_is_such_a_route(self, edge: RunningEdge) -> None:
        with backend(answering(OK)) as app:
            edge.register("any.test", app.port)
            assert self.ask(edge).body == b"ok\n"

    @pytest.mark.parametrize("start", [b"GET / HTTP/1.0\r\n", b"GET / HTTP/1.1\r\nHost:\r\n", b"POST / HTTP/1.0\r\n"])
    def test_need_no_host(self, edge: RunningEdge, start: bytes) -> None:
        assert self.ask(edge, start + b"User-Agent: HTTP-Monitor/1.1\r\n\r\n").status == 200

    @pytest.mark.parametrize(
        "agent", [b"HTTP-Monitor/1.10", b"http-monitor/1.1", b"HTTP-Monitor", b"x HTTP-Monitor/1.1"]
    )
    def test_are_those_of_exactly_this_agent(self, edge: RunningEdge, agent: bytes) -> None:
        assert self.ask(edge, self.ASK.replace(b"HTTP-Monitor/1.1", agent)).status == 404

    def test_of_another_agent_where_the_settings_say_so(self) -> None:
        with running_edge(Settings(healthcheck_user_agent="other")) as edge:
            assert self.ask(edge, self.ASK.replace(b"HTTP-Monitor/1.1", b"other")).status == 200
            assert self.ask(edge).status == 404

    @pytest.mark.parametrize("line", [b"", b"User-Agent:\r\n"])
    def test_no_agent_in_the_settings_means_no_health_checks(self, line: bytes) -> None:
        with running_edge(Settings(healthcheck_user_agent="")) as edge:
            assert self.ask(edge, b"GET / HTTP/1.1\r\nHost: any.test\r\n" + line + b"\r\n").status == 404


class TestAnswers:
    def test_an_unknown_route(self, edge: RunningEdge) -> None:
        client = edge.connect()
        client.send(b"GET / HTTP/1.1\r\nHost: no.test\r\n\r\n")
        response = client.message()
        assert response.status == 404
        assert response.get("X-Cf-RouterError") == b"unknown_route"
        assert response.get("Cache-Control") == b"no-cache, no-store"
        assert response.body == b"404 Not Found: Requested route ('no.test') does not exist.\n"
        client.send(GET)
        assert client.message().status == 404

    def test_a_route_whose_endpoints_left(self, edge: RunningEdge) -> None:
        edge.register("app.test", 1)
        edge.unregister("app.test", 1)
        client = edge.connect()
        client.send(GET)
        response = client.message()
        assert (response.status, response.get("X-Cf-RouterError")) == (503, b"no_endpoints")

    def test_and_is_forgotten_after_a_while(self) -> None:
        with running_edge(Settings(empty_pool_timeout=0.05)) as edge:
            edge.register("app.test", 1)
            edge.unregister("app.test", 1)
            wait_until(lambda: not len(edge.table))
            client = edge.connect()
            client.send(GET)
            assert client.message().status == 404

    def test_no_host_at_all(self, edge: RunningEdge) -> None:
        client = edge.connect()
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        response = client.message()
        assert (response.status, response.get("X-Cf-RouterError")) == (400, b"empty_host")

    def test_an_endpoint_that_refuses_connections(self, edge: RunningEdge) -> None:
        with backend(answering(OK)) as app:
            port = app.port
        edge.register("app.test", port)
        client = edge.connect()
        client.send(GET)
        response = client.message()
        assert response.status == 502
        assert response.get("X-Cf-RouterError") == (
            b"endpoint_failure (dial tcp 127.0.0.1:%d: connect: connection refused)" % port
        )
        assert response.body == b"502 Bad Gateway: Registered endpoint failed to handle the request.\n"

    def test_an_endpoint_that_does_not_answer_in_time(self) -> None:
        def silent(wire: Wire) -> None:
            wire.read_to_end()

        with running_edge(Settings(endpoint_timeout=0.1)) as edge, backend(silent) as app:
            edge.register("app.test", app.port)
            client = edge.connect()
            client.send(GET)
            assert client.message().status == 504

    def test_a_response_that_takes_longer_than_an_attempt_may_is_cut(self) -> None:
        def endless(wire: Wire) -> None:
            wire.message()
            wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            while True:
                wire.send(b"1\r\nx\r\n")
                time.sleep(0.01)

        with running_edge(Settings(endpoint_timeout=0.3)) as edge, backend(endless) as app:
            edge.register("app.test", app.port)
            client = edge.connect()
            client.send(GET)
            assert client.head().status == 200
            assert not client.read_to_end().endswith(b"0\r\n\r\n")

    @pytest.mark.parametrize(
        "garbage",
        [
            b"not http at all\r\n\r\n",
            b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nBad Name: 2\r\n\r\n",
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70000 + b"\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n" + b"X: 1\r\n" * 300 + b"\r\n",
        ],
    )
    def test_a_backend_that_does_not_speak_http(self, edge: RunningEdge, garbage: bytes) -> None:
        with backend(answering(garbage)) as app:
            edge.register("app.test", app.port)
            client = edge.connect()
            client.send(GET)
            assert client.message().status == 502


class TestRetries:
    def closing(self, wire: Wire) -> None:
        wire.message()

    def test_a_get_is_repeated_elsewhere_when_no_byte_of_a_response_came(self, edge: RunningEdge) -> None:
        with backend(self.closing) as bad, backend(answering(OK)) as good:
            edge.register("app.test", bad.port)
            edge.register("app.test", good.port)
            client = edge.connect()
            for _ in range(6):
                client.send(GET)
                assert client.message().status == 200
            assert bad.connections

    def test_a_put_is_repeated_with_its_body(self, edge: RunningEdge) -> None:
        seen: list[Message] = []
        with backend(self.closing) as bad, backend(answering(OK, seen)) as good:
            edge.register("app.test", bad.port)
            edge.register("app.test", good.port)
            client = edge.connect()
            for _ in range(4):
                client.send(b"PUT / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 5\r\n\r\nhello")
                assert client.message().status == 200
            assert {request.body for request in seen} == {b"hello"}
            assert bad.connections

    def test_a_post_is_not_repeated(self, edge: RunningEdge) -> None:
        with backend(self.closing) as bad:
            edge.register("app.test", bad.port)
            client = edge.connect()
            client.send(b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 5\r\n\r\nhello")
            response = client.message()
            assert (response.status, response.get("X-Cf-RouterError")) == (502, b"endpoint_failure (EOF)")
            assert bad.connections == 1

    def test_unless_it_never_left(self, edge: RunningEdge) -> None:
        seen: list[Message] = []
        with backend(answering(OK)) as gone:
            refusing = gone.port
        with backend(answering(OK, seen)) as good:
            edge.register("app.test", refusing)
            edge.register("app.test", good.port)
            client = edge.connect()
            for _ in range(4):
                client.send(b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 5\r\n\r\nhello")
                assert client.message().status == 200
        assert [request.body for request in seen] == [b"hello"] * 4

    def test_or_has_an_idempotency_key(self, edge: RunningEdge) -> None:
        with backend(self.closing) as bad, backend(answering(OK)) as good:
            edge.register("app.test", bad.port)
            edge.register("app.test", good.port)
            client = edge.connect()
            for _ in range(4):
                client.send(b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 2\r\nIdempotency-Key: 1\r\n\r\nhi")
                assert client.message().status == 200
            assert bad.connections

    def test_a_connection_that_its_backend_closed_meanwhile_costs_nothing(self, edge: RunningEdge) -> None:
        def once(wire: Wire) -> None:
            wire.message()
            wire.send(OK)

        with backend(once) as app:
            edge.register("app.test", app.port)
            client = edge.connect()
            for _ in range(10):
                client.send(GET)
                assert client.message().status == 200

    def test_a_failed_endpoint_is_passed_over(self, edge: RunningEdge) -> None:
        with backend(answering(OK)) as gone:
            refusing = gone.port
        with backend(answering(OK)) as good:
            edge.register("app.test", refusing)
            edge.register("app.test", good.port)
            client = edge.connect()
            for _ in range(20):
                client.send(GET)
                assert client.message().status == 200
        assert edge.metrics.retries == 1


class TestBalancing:
    def test_round_robin_takes_turns(self, edge: RunningEdge) -> None:
        seen: list[list[Message]] = [[], [], []]
        with (
            backend(answering(OK, seen[0])) as a,
            backend(answering(OK, seen[1])) as b,
            backend(answering(OK, seen[2])) as c,
        ):
            for app in (a, b, c):
                edge.register("app.test", app.port)
            client = edge.connect()
            for _ in range(30):
                client.send(GET)
                client.message()
        assert [len(part) for part in seen] == [10, 10, 10]

    def test_least_connection_avoids_the_busy(self) -> None:
        with running_edge(Settings(balancing_algorithm="least-connection")) as edge:
            held: list[Wire] = []

            def slow(wire: Wire) -> None:
                wire.message()
                held.append(wire)
                wire.read_to_end()

            seen: list[Message] = []
            with backend(slow) as busy, backend(answering(OK, seen)) as free:
                edge.register("app.test", busy.port)
                waiting = edge.connect()
                waiting.send(GET)
                wait_until(lambda: held)
                edge.register("app.test", free.port)
                client = edge.connect()
                for _ in range(10):
                    client.send(GET)
                    assert client.message().status == 200
                assert len(seen) == 10


class TestDisconnects:
    def test_a_client_that_leaves_stops_its_backend(self, edge: RunningEdge) -> None:
        ended: list[bool] = []

        def waiting(wire: Wire) -> None:
            wire.message()
            ended.append(wire.is_closed())

        with backend(waiting) as app:
            edge.register("app.test", app.port)
            client = edge.connect()
            client.send(GET)
            wait_until(lambda: app.connections)
            client.close()
            wait_until(lambda: ended)
        assert edge.metrics.statuses[499] == 1

    def test_a_backend_that_breaks_off_in_a_body_cuts_the_client(self, edge: RunningEdge) -> None:
        def half(wire: Wire) -> None:
            wire.message()
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")

        with backend(half) as app:
            edge.register("app.test", app.port)
            client = edge.connect()
            client.send(GET)
            assert client.head().status == 200
            assert len(client.read_to_end()) <= 4


class TestTunnels:
    def echo(self, wire: Wire) -> None:
        while wire._more():
            wire.send(wire.pending)
            wire.pending = b""
        wire.send(b"bye")

    def test_an_upgrade_becomes_a_tunnel(self, edge: RunningEdge) -> None:
        def upgrade(wire: Wire) -> None:
            request = wire.head()
            assert (request.get("Connection"), request.get("Upgrade")) == (b"Upgrade", b"websocket")
            wire.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nfirst")
            self.echo(wire)

        with backend(upgrade) as app:
            edge.register("app.test", app.port)
            client = edge.connect()
            client.send(
                b"GET / HTTP/1.1\r\nHost: app.test\r\nConnection: keep-alive, Upgrade\r\n"
                b"Upgrade: websocket\r\n\r\nearly"
            )
            answer = client.head()
            assert answer.status == 101
            assert answer.get("Upgrade") == b"websocket"
            assert client.read_exactly(10) == b"firstearly"
            client.send(b"x" * 100_000)
            assert client.read_exactly(100_000) == b"x" * 100_000
            client.socket.shutdown(1)
            assert client.read_to_end() == b"bye"
            assert app.errors == []
        wait_until(lambda: edge.metrics.tunnels == 0)

    def test_an_upgrade_may_be_declined(self, edge: RunningEdge) -> None:
        with backend(answering(OK)) as app:
            edge.register("app.test", app.port)
            client = edge.connect()
            for _ in range(2):
                client.send(b"GET / HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
                assert client.message().status == 200

    def test_h2c_is_no_way_around_the_router(self, edge: RunningEdge) -> None:
        seen: list[Message] = []
        with backend(answering(OK, seen)) as app:
            edge.register("app.test", app.port)
            client = edge.connect()
            client.send(
                b"GET / HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade, HTTP2-Settings\r\n"
                b"Upgrade: h2c\r\nHTTP2-Settings: A\r\n\r\n"
            )
            assert client.message().status == 200
        assert seen[0].get("Upgrade") is None
        assert seen[0].get("HTTP2-Settings") is None

    def test_connect_reaches_a_registered_route(self, edge: RunningEdge) -> None:
        with backend(self.echo) as app:
            edge.register("app.test", app.port)
            client = edge.connect()
            client.send(b"CONNECT app.test:443 HTTP/1.1\r\nHost: app.test:443\r\n\r\nearly")
            assert client.head().status == 200
            assert client.read_exactly(5) == b"early"
            client.socket.shutdown(1)
            assert client.read_to_end() == b"bye"

    def test_and_nothing_else(self, edge: RunningEdge) -> None:
        with backend(self.echo) as app:
            client = edge.connect()
            client.send(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" % app.port)
            assert client.message().status == 404
            assert app.connections == 0

    def test_connect_can_be_switched_off(self) -> None:
        with running_edge(Settings(millrace=Native(connect=False))) as edge, backend(self.echo) as app:
            edge.register("app.test", app.port)
            client = edge.connect()
            client.send(b"CONNECT app.test:80 HTTP/1.1\r\nHost: app.test:80\r\n\r\n")
            assert client.message().status == 405


class TestLimitsAndDeadlines:
    def test_a_head_that_does_not_come_to_its_end(self) -> None:
        with running_edge(Settings(read_header_timeout=0.1)) as edge:
            client = edge.connect()
            client.send(b"GET / HTTP/1.1\r\n")
            assert client.message().status == 408
            assert client.is_closed()

    def test_nor_does_one_that_drips_get_more_time(self) -> None:
        with running_edge(Settings(read_header_timeout=0.2)) as edge:
            client = edge.connect()
            client.socket.settimeout(0.02)
            for byte in b"GET /" + b"x" * 200:
                client.send(bytes((byte,)))
                with suppress(TimeoutError):
                    client._more()
                if client.seen:
                    break
            assert client.message().status == 408

    def test_an_idle_connection_is_closed_without_a_word(self) -> None:
        with running_edge(Settings(frontend_idle_timeout=0.1)) as edge:
            client = edge.connect()
            client.send(GET)
            assert client.message().status == 404
            assert client.is_closed()

    def test_a_body_that_stands_still(self) -> None:
        with (
            running_edge(Settings(millrace=Native(body_progress_timeout=0.1))) as edge,
            backend(Wire.read_to_end) as app,
        ):  # type: ignore[arg-type]
            edge.register("app.test", app.port)
            client = edge.connect()
            client.send(b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 10\r\n\r\nabc")
            assert client.message().status == 408
            assert client.is_closed()

    def test_a_body_over_the_limit(self) -> None:
        with running_edge(Settings(millrace=Native(max_request_body_bytes=10))) as edge, backend(answering(OK)) as app:
            edge.register("app.test", app.port)
            for framing in (b"Content-Length: 11\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\nb\r\n01234567890\r\n"):
                client = edge.connect()
                client.send(b"POST / HTTP/1.1\r\nHost: app.test\r\n" + framing)
                assert client.message().status == 413
                assert client.is_closed()
            assert app.connections == 0

    def test_more_exchanges_than_an_endpoint_may_have(self) -> None:
        from router.config.settings import Backends

        with running_edge(Settings(backends=Backends(max_conns=1))) as edge, backend(Wire.read_to_end) as app:  # type: ignore[arg-type]
            edge.register("app.test", app.port)
            first = edge.connect()
            first.send(GET)
            wait_until(lambda: app.connections)
            second = edge.connect()
            second.send(GET)
            response = second.message()
            assert (response.status, response.get("X-Cf-RouterError")) == (503, b"Connection Limit Reached")

    def test_more_clients_than_allowed(self) -> None:
        with running_edge(Settings(millrace=Native(max_connections=2))) as edge:
            kept = [edge.connect() for _ in range(2)]
            for client in kept:
                client.send(GET)
                assert client.message().status == 404
            refused = edge.connect()
            assert refused.message().status == 503
            assert refused.is_closed()


class TestDrain:
    def test_each_connection_ends_with_its_next_response(self, edge: RunningEdge) -> None:
        with backend(answering(OK)) as app:
            edge.register("app.test", app.port)
            client = edge.connect()
            client.send(GET)
            assert client.message().get("Connection") is None
            edge.do(edge.edge.drain)
            client.send(GET)
            response = client.message()
            assert response.status == 200
            assert response.get("Connection") == b"close"
            assert client.is_closed()
        wait_until(lambda: edge.edge.connections == 0)


def test_idle_connections_make_room_when_there_are_too_many(edge: RunningEdge) -> None:
    with backend(answering(OK)) as app:
        for number in range(30):
            edge.register(f"app-{number}.test", app.port, app=str(number))
        edge.edge.max_backends = 10
        client = edge.connect()
        for number in [*range(30), *range(30)]:
            client.send(b"GET / HTTP/1.1\r\nHost: app-%d.test\r\n\r\n" % number)
            assert client.message().status == 200
            assert edge.do(lambda: sum(map(len, edge.edge._backends))) <= 12  # type: ignore[operator]
    assert edge.metrics.statuses[200] == 60


def test_a_slow_reader_holds_up_its_backend_and_little_memory(edge: RunningEdge) -> None:
    sent: list[int] = []
    size = 64 * 1024 * 1024

    def flood(wire: Wire) -> None:
        wire.message()
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        wire.socket.settimeout(0.5)
        try:
            while True:
                sent.append(wire.socket.send(b"x" * 65536))
        except TimeoutError:
            pass

    with backend(flood) as app:
        edge.register("app.test", app.port)
        client = edge.connect()
        client.send(GET)
        client.head()
        wait_until(lambda: app.wires[0].socket.fileno() == -1)
    assert sum(sent) < size / 2


class TestAccessLog:
    def lines(self, tmp_path: Path, send: Callable[[RunningEdge], None]) -> list[str]:
        file = tmp_path / "access.log"
        settings = Settings(access_log=AccessLogSettings(file=str(file)))
        log = AccessLog.from_settings(settings)
        assert log is not None
        with running_edge(settings, log) as edge:
            send(edge)
        log.close()
        return file.read_text().splitlines()

    def test_an_exchange_is_one_line(self, tmp_path: Path) -> None:
        def send(edge: RunningEdge) -> None:
            with backend(answering(OK)) as app:
                edge.register("app.test", app.port, app="guid", private_instance_id="i-1", private_instance_index="2")
                client = edge.connect()
                client.send(
                    b"POST /x?y HTTP/1.1\r\nHost: app.test\r\nUser-Agent: test\r\nReferer: here\r\n"
                    b"X-Forwarded-For: 1.1.1.1\r\nContent-Length: 5\r\n\r\nhello"
                )
                assert client.message().status == 200

        (line,) = self.lines(tmp_path, send)
        assert re.fullmatch(
            r'app\.test - \[[\d:.TZ-]+\] "POST /x\?y HTTP/1\.1" 200 5 2 "here" "test" "127\.0\.0\.1:\d+" '
            r'"127\.0\.0\.1:\d+" x_forwarded_for:"1\.1\.1\.1, 127\.0\.0\.1" x_forwarded_proto:"http" '
            r'vcap_request_id:"[0-9a-f-]{36}" response_time:0\.\d{6} gorouter_time:0\.\d{6} app_id:"guid" '
            r'app_index:"2" instance_id:"i-1" x_cf_routererror:"-"',
            line,
        )

    def test_and_so_is_a_refusal_an_unknown_route_and_a_client_that_left(self, tmp_path: Path) -> None:
        def send(edge: RunningEdge) -> None:
            with backend(Wire.read_to_end) as app:  # type: ignore[arg-type]
                edge.register("app.test", app.port)
                client = edge.connect()
                client.send(b"GET / HTTP/1.1\r\nHost: no.test\r\n\r\n")
                assert client.message().status == 404
                client.send(b"GARBAGE\r\n\r\n")
                assert client.message().status == 400
                client = edge.connect()
                client.send(GET)
                wait_until(lambda: app.connections)
                client.close()
                wait_until(lambda: edge.metrics.statuses[499])

        unknown, refused, left = self.lines(tmp_path, send)
        assert '" 404 0 59 ' in unknown
        assert "gorouter_time:0.000000" in unknown
        assert "gorouter_time:0.000000" not in left
        assert unknown.endswith('x_cf_routererror:"unknown_route"')
        assert " 400 0 " in refused
        assert refused.endswith('x_cf_routererror:"malformed_request (malformed request line)"')
        assert " 499 0 0 " in left
