"""The access log as gorouter reference 8.5 has it, sentence by sentence, by whole routers.

Tests named "ours" are where this router differs on purpose: see docs/compatibility.md.
"""

from __future__ import annotations

import hashlib
import os
import re
import signal
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.router.access_lines import Line, parse
from tests.router.logged import Logged, fresh_host, logged_router
from tests.router.registered import at, backends, head, registered_router, resetting, told
from tests.router.supervised import running_router
from tests.router.tls.authority import CA_PEM, HOST, over_tls
from tests.router.wire import OK, PATIENCE, Backend, Wire, answering, backend, wait_until

FIELDS = ["tls_time", "failed_attempts", "dns_time", "local_address", "backend_time", "dial_time",
          "failed_attempts_time", "dns_time"]  # fmt: skip
"""In an order of no meaning, one of them twice."""
USUAL = ["x_forwarded_for", "x_forwarded_proto", "vcap_request_id", "response_time", "gorouter_time", "app_id",
         "app_index", "instance_id"]  # fmt: skip


@pytest.fixture(scope="module")
def app() -> Iterator[Backend]:
    with backends(1) as (running,):
        yield running


@pytest.fixture(scope="module")
def plain(registry_url: str) -> Iterator[Logged]:
    """With the settings that nobody changed."""
    with logged_router(
        registry_url, "plain", status={"host": "127.0.0.1", "port": 0, "routes": {"port": 0}}
    ) as running:
        yield running


@pytest.fixture(scope="module")
def syslog() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(PATIENCE)
        yield receiver


@pytest.fixture(scope="module")
def full(registry_url: str, syslog: socket.socket) -> Iterator[Logged]:
    """With everything that [N] can log, streamed by UDP besides, in local time, at the other end of the world."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = "Pacific/Kiritimati"  # UTC+14, without summer time
    try:
        with logged_router(
            registry_url,
            "full",
            access_log={"enable_streaming": True},
            logging={
                "level": "info",
                "syslog": "vcap.gorouter",
                "syslog_addr": f"127.0.0.1:{syslog.getsockname()[1]}",
                "extra_access_log_fields": FIELDS,
                "redact_query_params": "hash",
            },
            extra_headers_to_log=["X-Something-Cool", "Accept", "X-Vcap-Request-Id", "X-B3-SpanId", "Host", "Cookie"],
            tracing={"enable_zipkin": True, "enable_w3c": True},
            ca_certs=[CA_PEM],
            endpoint_dial_timeout="500ms",
            millrace={"access_log_local_time": True},
        ) as running:
            yield running
    finally:
        os.environ.pop("TZ") if before is None else os.environ.update(TZ=before)


@pytest.fixture(scope="module")
def collector() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as receiver:
        receiver.settimeout(PATIENCE)
        yield receiver


@pytest.fixture(scope="module")
def older(registry_url: str, collector: socket.socket) -> Iterator[Logged]:
    """With the spellings of [P], all that can be hidden hidden, streamed by TCP besides, cut there."""
    with logged_router(
        registry_url,
        "older",
        access_log={"enable_streaming": True},
        logging={
            "syslog": "vcap.gorouter",
            "syslog_network": "tcp",
            "syslog_addr": f"127.0.0.1:{collector.getsockname()[1]}",
            "syslog_truncate": 20,
            "enable_attempts_details": True,
            "redact_query_params": "all",
            "disable_log_forwarded_for": True,
            "disable_log_source_ip": True,
        },
        millrace={"syslog_format": "gorouter"},
    ) as running:
        yield running


def send(logged: Logged, raw: bytes) -> bytes:
    """What comes of these bytes until the router closes."""
    wire = logged.registered.router.connect()
    try:
        wire.send(raw)
        return wire.read_to_end()
    finally:
        wire.close()


def routed(logged: Logged, where: Backend, **fields: Any) -> str:
    """A host that leads there."""
    host = fresh_host()
    logged.registered.register((host, at(where, "inst-1", **{"app": "app-1", "private_instance_index": "7", **fields})))
    return host


def seconds(text: bytes) -> float:
    assert re.fullmatch(rb"\d+\.\d{6}", text), text
    return float(text)


class TestTheLine:
    """8.5, first line and its first two bullets"""

    def test_every_field_at_its_place(self, plain: Logged, app: Backend) -> None:
        host = routed(plain, app)
        wire = plain.registered.router.connect()
        client = "{}:{}".format(*wire.socket.getsockname())
        before = time.time()
        wire.send(
            b"POST /a%%20b?x=1 HTTP/1.1\r\nHost: %b\r\nReferer: http://r.test/\r\nUser-Agent: me/1\r\n"
            b"X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: https\r\nContent-Length: 5\r\n\r\nhello" % host.encode()
        )
        seen = told(wire.message())
        (raw,) = plain.raw(host)
        wire.close()
        assert re.fullmatch(
            rf"{host} - \[\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{{9}}Z\] "
            rf'"POST /a%20b\?x=1 HTTP/1\.1" 200 5 {len(seen.answer.body)} "http://r\.test/" "me/1" '
            rf'"{client}" "127\.0\.0\.1:{app.port}" x_forwarded_for:"192\.0\.2\.1, 127\.0\.0\.1" '
            rf'x_forwarded_proto:"https" vcap_request_id:"[-0-9a-f]{{36}}" response_time:0\.\d{{6}} '
            rf'gorouter_time:0\.\d{{6}} app_id:"app-1" app_index:"7" instance_id:"inst-1" x_cf_routererror:"-"\n',
            raw.decode(),
        )
        moment = datetime.fromisoformat(parse(raw).moment.decode()[:26] + "+00:00").timestamp()
        assert before - 1 < moment < time.time() + 1, "ours: in UTC, as the Z says"

    def test_its_time_is_local_with_a_z_if_that_is_wanted(self, full: Logged) -> None:
        host = fresh_host()
        full.registered.ask(host)
        moment = datetime.strptime(full.line(host).moment.decode()[:19], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC)
        assert abs(moment.timestamp() - time.time() - 14 * 3600) < 60

    def test_strings_are_quoted_as_go_does(self, plain: Logged, app: Backend) -> None:
        host = routed(plain, app)
        agent = 'a"b\\c\td\u00e9\u200b'.encode() + b"\xff"
        plain.registered.ask(host, "/", f"User-Agent: {agent.decode('latin-1')}")
        (raw,) = plain.raw(host)
        assert '"a\\"b\\\\c\\td\u00e9\\u200b\\xff"'.encode() in raw
        assert parse(raw).user_agent == agent

    def test_what_is_empty_is_a_quoted_dash(self, plain: Logged) -> None:
        host = fresh_host()
        plain.registered.ask(host)
        (raw,) = plain.raw(host)
        assert b'" 404 0 %d "-" "-" "127.0.0.1:' % parse(raw).sent in raw
        assert b' "-" x_forwarded_for:"-" x_forwarded_proto:"-" vcap_request_id:"' in raw
        assert b'app_id:"-" app_index:"-" instance_id:"-" x_cf_routererror:"unknown_route"\n' in raw

    def test_the_file_is_appended_to_and_everybody_may_read_it(self, plain: Logged) -> None:
        assert plain.file.stat().st_mode & 0o777 == 0o644

    def test_bodies_are_counted_both_ways(self, plain: Logged, app: Backend) -> None:
        host = routed(plain, app)
        chunks = b"3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n"
        request = (
            b"POST / HTTP/1.1\r\nHost: %b\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n" % host.encode()
        )
        answer = send(plain, request + chunks)
        line = plain.line(host)
        assert (line.received, line.sent) == (7, len(answer.partition(b"\r\n\r\n")[2]))

    def test_a_head_has_no_body(self, plain: Logged, app: Backend) -> None:
        host = routed(plain, app)
        plain.registered.ask(host, method="HEAD")
        assert plain.line(host).sent == 0


class TestTheTarget:
    """8.5: path and query of the parsed URL, after redaction"""

    @pytest.mark.parametrize(
        ("sent", "shown"),
        [
            ("/x?", "/x?"),
            ("//x//y?z", "//x//y?z"),
            ("/%2f/..%2F?%20", "/%2f/..%2F?%20"),
            ("http://{host}/x?y=1", "/x?y=1"),
            ("http://{host}?y=1", "/?y=1"),
            ("/a|b", "/a%7Cb"),
        ],
    )
    def test_as_go_writes_it(self, plain: Logged, sent: str, shown: str) -> None:
        host = fresh_host()
        plain.registered.ask(host, sent.format(host=host))
        assert plain.line(host).request == f"GET {shown} HTTP/1.1".encode()

    def test_none_leaves_queries_as_they_are(self, plain: Logged) -> None:
        host = fresh_host()
        plain.registered.ask(host, "/x?key=secret")
        assert plain.line(host).request == b"GET /x?key=secret HTTP/1.1"

    def test_hash_shows_their_sha1(self, full: Logged) -> None:
        host = fresh_host()
        full.registered.ask(host, "/x?key=secret")
        digest = hashlib.sha1(b"key=secret", usedforsecurity=False).hexdigest()
        assert full.line(host).request == f"GET /x?hash={digest} HTTP/1.1".encode()

    def test_all_leaves_them_out(self, older: Logged) -> None:
        host = fresh_host()
        older.registered.ask(host, "/x?key=secret")
        assert older.line(host).request == b"GET /x HTTP/1.1"

    @pytest.mark.parametrize("method", ["POST", "HEAD", "DELETE"])
    def test_but_only_those_of_get(self, older: Logged, method: str) -> None:
        host = fresh_host()
        older.registered.ask(host, "/x?key=1", method=method)
        assert older.line(host).request == f"{method} /x?key=1 HTTP/1.1".encode()

    def test_the_protocol_is_the_clients(self, plain: Logged) -> None:
        host = fresh_host()
        send(plain, b"GET / HTTP/1.0\r\nHost: %b\r\n\r\n" % host.encode())
        assert plain.line(host).request == b"GET / HTTP/1.0"


class TestWhatWasSent:
    """8.5: Referer, User-Agent, X-Forwarded-*, the request id are those that the backend got"""

    def test_they_are_the_backends(self, plain: Logged, app: Backend) -> None:
        host = routed(plain, app)
        seen = plain.registered.see(host, "/", "Referer: http://r/", "User-Agent: ua", "X-Forwarded-For: 192.0.2.7",
                                    "X-Vcap-Request-Id: of the client")  # fmt: skip
        line = plain.line(host)
        for name in ("x_forwarded_for", "x_forwarded_proto", "vcap_request_id"):
            assert [line[name].decode()] == seen.all(name.replace("_", "-").replace("vcap", "X-Vcap"))
        assert [line.referer.decode(), line.user_agent.decode()] == [*seen.all("Referer"), *seen.all("User-Agent")]

    def test_where_nothing_was_sent_they_are_what_the_client_said(self, plain: Logged) -> None:
        host = fresh_host()
        plain.registered.ask(host, "/", "X-Forwarded-For: 192.0.2.7", "X-Forwarded-Proto: https")
        line = plain.line(host)
        assert (line["x_forwarded_for"], line["x_forwarded_proto"]) == (b"192.0.2.7", b"https")

    def test_addresses_are_hidden_where_the_settings_say_so(self, older: Logged, app: Backend) -> None:
        host = routed(older, app)
        seen = older.registered.see(host, "/", "X-Forwarded-For: 192.0.2.7")
        assert seen.all("X-Forwarded-For") == ["192.0.2.7, 127.0.0.1"]
        line = older.line(host)
        assert (line.client, line["x_forwarded_for"]) == (b"-", b"-")
        assert line.backend == b"127.0.0.1:%d" % app.port
        assert b"192.0.2.7" not in older.raw(host)[0]


class TestFurtherHeaders:
    """8.5: extra_headers_to_log, then those of B3, then those of W3C, behind everything else"""

    def test_their_names_order_and_values(self, full: Logged, app: Backend) -> None:
        host = routed(full, app)
        seen = full.registered.see(host, "/", "x-something-cool: one", "X-Something-Cool: two", 'Accept: a"b')
        (raw,) = full.raw(host)
        b3, w3c = ["x_b3_traceid", "x_b3_parentspanid", "b3"], ["traceparent", "tracestate"]
        asked = ["x_something_cool", "accept", "x_vcap_request_id", "x_b3_spanid", "host", "cookie"]
        tail = raw.decode().partition(' x_cf_routererror:"-" ')[2]
        assert re.findall(r"([a-z0-9_]+):", re.sub(r'"(?:[^"\\]|\\.)*"', "", tail)) == [
            *asked, "x_b3_traceid", "x_b3_spanid", "x_b3_parentspanid", "b3", *w3c
        ]  # fmt: skip
        assert tail.startswith('x_something_cool:"one" accept:"a\\"b" x_vcap_request_id:"')
        assert re.search(r'"\n\Z', tail), "nothing trails"
        span = seen.all("X-B3-SpanId")[0]
        assert tail.count(f'x_b3_spanid:"{span}"') == 2, "asked for, and because of B3: what was made, both times"
        assert ' host:"-" cookie:"-" x_b3_traceid:' in tail
        made = dict(re.findall(r'([a-z0-9_]+):"((?:[^"\\]|\\.)*)"', tail))
        assert made["x_vcap_request_id"] == seen.all("X-Vcap-Request-Id")[0]
        for name in (*b3, *w3c):
            assert [made[name]] == (seen.all(name.replace("_", "-")) or ["-"])

    def test_they_are_those_of_the_original_request(self, full: Logged, app: Backend) -> None:
        host = routed(full, app)
        seen = full.registered.see(host, "/", "Connection: X-Something-Cool", "X-Something-Cool: dropped on the way")
        assert seen.all("X-Something-Cool") == []
        assert b' x_something_cool:"dropped on the way" ' in full.raw(host)[0]

    def test_trace_headers_of_the_clients_are_shown_as_they_went_on(self, full: Logged, app: Backend) -> None:
        host = routed(full, app)
        b3 = "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1"
        parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        seen = full.registered.see(host, "/", f"b3: {b3}", f"traceparent: {parent}", 'tracestate: other=a"b')
        (raw,) = full.raw(host)
        assert f' b3:"{b3}" '.encode() in raw
        assert f' traceparent:"{seen.all("traceparent")[0]}" '.encode() in raw
        assert raw.endswith(b'"\n')
        shown = raw.rpartition(b' tracestate:"')[2].removesuffix(b'"\n').replace(b'\\"', b'"').decode()
        assert [shown] == seen.all("tracestate")

    def test_they_are_logged_of_requests_without_a_route_too(self, full: Logged) -> None:
        host = fresh_host()
        full.registered.ask(host, "/", "X-Something-Cool: yes")
        assert re.search(rb' x_something_cool:"yes" .* b3:"[0-9a-f]{32}-[0-9a-f]{16}" ', full.raw(host)[0])


def extra(line: Line) -> dict[str, bytes]:
    return {name: line[name] for name in dict.fromkeys(FIELDS)}


class TestExtraFields:
    """8.5, third bullet"""

    def test_come_in_the_order_of_the_settings_each_once(self, full: Logged, app: Backend) -> None:
        host = routed(full, app)
        full.registered.ask(host)
        names = list(full.line(host).named)
        assert names[: len(USUAL) + 8] == [*USUAL, *dict.fromkeys(FIELDS), "x_cf_routererror"]

    def test_or_of_the_older_spelling_six_in_their_own(self, older: Logged, app: Backend) -> None:
        host = routed(older, app)
        older.registered.ask(host)
        assert list(older.line(host).named) == [
            *USUAL, "failed_attempts", "failed_attempts_time", "dns_time", "dial_time", "tls_time", "backend_time",
            "x_cf_routererror",
        ]  # fmt: skip

    def test_a_new_connection_and_one_that_is_there_already(self, full: Logged) -> None:
        ports: list[str] = []

        def script(wire: Wire) -> None:
            ports.append("{}:{}".format(*wire.socket.getpeername()))
            answering(OK)(wire)

        with backend(script) as app:
            host = routed(full, app)
            full.registered.ask(host)
            opened = extra(full.line(host))
            full.registered.ask(host)
            reused = extra(full.lines(host, 2)[1])
        assert len(ports) == 1
        for fields in (opened, reused):
            assert fields["local_address"] == ports[0].encode()
            assert (fields["failed_attempts"], fields["failed_attempts_time"]) == (b"0", b"-")
            assert (fields["dns_time"], fields["tls_time"]) == (b"0.000000", b"0.000000"), "no such phase"
            assert seconds(fields["backend_time"]) > 0
        assert 0 < seconds(opened["dial_time"]) <= seconds(opened["backend_time"])
        assert reused["dial_time"] == b"0.000000"

    def test_a_name_and_tls_take_their_time(self, full: Logged) -> None:
        with backend(over_tls(answering(OK))) as app:
            host = fresh_host()
            record = at(app, tls_port=app.port, server_cert_domain_san=HOST)
            record = type(record)(host="localhost", tls_port=app.port, server_cert_domain_san=HOST)
            full.registered.register((host, record))
            assert full.registered.ask(host).status == 200
        fields = extra(full.line(host))
        assert min(seconds(fields[name]) for name in ("dns_time", "dial_time", "tls_time")) > 0
        assert seconds(fields["tls_time"]) < seconds(fields["backend_time"])

    def test_of_a_request_that_was_tried_again(self, full: Logged) -> None:
        def slow_to_fail(wire: Wire) -> None:
            wire.head()
            time.sleep(0.1)

        with backend(slow_to_fail) as bad, backend(answering(OK)) as good:
            host = fresh_host()
            full.registered.register((host, at(bad, "bad")), (host, at(good, "good")))
            for _ in range(2):  # whoever is asked first
                assert full.registered.ask(host).status == 200
        line = next(line for line in full.lines(host, 2) if line["failed_attempts"] == b"1")
        assert 0.1 < seconds(line["failed_attempts_time"]) < seconds(line["response_time"])
        assert seconds(line["backend_time"]) < 0.1, "of the attempt that succeeded"
        assert line.backend == b"127.0.0.1:%d" % good.port

    def test_of_a_request_that_no_endpoint_answered(self, full: Logged) -> None:
        with backend(resetting) as one, backend(resetting) as two:
            host = fresh_host()
            full.registered.register((host, at(one, "1")), (host, at(two, "2")))
            assert full.registered.ask(host).status == 502
        fields = extra(full.line(host))
        assert (fields["failed_attempts"], seconds(fields["failed_attempts_time"]) > 0) == (b"2", True)
        for name in ("backend_time", "dns_time", "dial_time", "tls_time"):
            assert fields[name] == b"-"

    def test_of_a_request_that_turned_out_malformed(self, full: Logged) -> None:
        def listening(wire: Wire) -> None:
            wire.head()
            wire.send(head("103 Early Hints"))
            wire.read_to_end()

        with backend(listening) as app:
            host = routed(full, app)
            with full.registered.waiting(host, "/", "Transfer-Encoding: chunked") as wire:
                assert wire.head().status == 103
                wire.send(b"what is no chunk")
                assert wire.message().status == 400
        fields = extra(full.line(host))
        assert (fields["backend_time"], fields["dial_time"]) == (b"-", b"-")

    def test_of_a_request_that_was_sent_nowhere(self, full: Logged) -> None:
        host = fresh_host()
        full.registered.ask(host)
        assert extra(full.line(host)) == {
            "tls_time": b"-", "failed_attempts": b"0", "dns_time": b"-", "local_address": b"-", "backend_time": b"-",
            "dial_time": b"-", "failed_attempts_time": b"-",
        }  # fmt: skip

    def test_there_are_none_where_none_are_asked_for(self, plain: Logged, app: Backend) -> None:
        host = routed(plain, app)
        plain.registered.ask(host)
        assert list(plain.line(host).named) == [*USUAL, "x_cf_routererror"]


class TestTimes:
    """8.5: response_time, gorouter_time"""

    def test_the_bodys_time_is_the_responses_and_not_the_routers(self, plain: Logged) -> None:
        def slow(wire: Wire) -> None:
            wire.message()
            wire.send(head("200 OK", "Content-Length: 2") + b"o")
            time.sleep(0.2)
            wire.send(b"k")

        with backend(slow) as app:
            host = routed(plain, app)
            assert plain.registered.ask(host).body == b"ok"
        line = plain.line(host)
        assert seconds(line["response_time"]) >= 0.2
        assert seconds(line["gorouter_time"]) < 0.1

    def test_no_endpoint_no_time_of_the_routers(self, plain: Logged) -> None:
        host = fresh_host()
        plain.registered.ask(host)
        assert plain.line(host)["gorouter_time"] == b"0.000000"


class TestWhatIsLogged:
    """8.5, sixth bullet"""

    def test_answers_of_the_routers_own_with_their_error(self, plain: Logged) -> None:
        host = fresh_host()
        plain.registered.ask(host)
        line = plain.line(host)
        assert (line.status, line["x_cf_routererror"]) == (b"404", b"unknown_route")

    def test_failures_of_endpoints_with_theirs(self, plain: Logged) -> None:
        with backend(resetting) as bad:
            host = routed(plain, bad)
            plain.registered.ask(host)
        line = plain.line(host)
        assert (line.status, line["app_id"]) == (b"502", b"app-1")
        assert line["x_cf_routererror"].startswith(b"endpoint_failure (read tcp ")

    def test_a_client_that_left_as_499(self, plain: Logged, app: Backend) -> None:
        host = routed(plain, app)
        with plain.registered.held(host):
            pass
        line = plain.line(host)
        assert line.status == b"499"
        assert line["x_cf_routererror"] == b"endpoint_failure (context canceled)"

    def test_health_checks_by_user_agent(self, plain: Logged) -> None:
        host = fresh_host()
        assert plain.registered.ask(host, "/", "User-Agent: HTTP-Monitor/1.1").status == 200
        assert (plain.line(host).status, plain.line(host).user_agent) == (b"200", b"HTTP-Monitor/1.1")

    def test_ours_a_response_that_broke_off(self, plain: Logged) -> None:
        def half(wire: Wire) -> None:
            wire.message()
            wire.send(head("200 OK", "Content-Length: 10") + b"half")
            wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        with backend(half) as app:
            host = routed(plain, app)
            with plain.registered.waiting(host) as wire, suppress(ConnectionResetError, AssertionError):
                wire.message()
        assert (plain.line(host).status, plain.line(host).sent) == (b"200", 4)

    def test_ours_what_was_no_request(self, plain: Logged) -> None:
        before = len(plain.file.read_bytes().splitlines())
        assert send(plain, b"GARBAGE\x01\r\n\r\n").startswith(b"HTTP/1.1 400 ")
        wait_until(lambda: len(plain.file.read_bytes().splitlines()) > before, "a line")
        line = parse(plain.file.read_bytes().splitlines(keepends=True)[-1])
        assert (line.host, line.request, line.status) == (b'"-"', b"  ", b"400")
        assert line["x_cf_routererror"].startswith(b"malformed_request (")

    @pytest.mark.parametrize("target", ["/a;b", "/?a=1;b=2"])
    def test_semicolons_in_the_target(self, plain: Logged, app: Backend, target: str) -> None:
        """4.3, last row: in the logs only, and behind every other error."""
        host, unknown = routed(plain, app), fresh_host()
        answer = plain.registered.ask(host, target)
        assert (answer.status, answer.get("X-Cf-RouterError")) == (200, None)
        assert plain.line(host)["x_cf_routererror"] == b"deprecated-semicolon-params"
        plain.registered.ask(unknown, target)
        assert plain.line(unknown)["x_cf_routererror"] == b"unknown_route"

    def test_a_websocket_when_it_ends(self, plain: Logged) -> None:
        def switch(wire: Wire) -> None:
            wire.head()
            wire.send(head("101 Switching Protocols", "Connection: Upgrade", "Upgrade: websocket"))
            wire.read_to_end()

        with backend(switch) as app:
            host = routed(plain, app)
            with plain.registered.waiting(host, "/", "Connection: Upgrade", "Upgrade: websocket") as wire:
                assert wire.head().status == 101
                wire.send(b"123")
                time.sleep(0.15)
                assert plain.file.read_bytes().count(host.encode()) == 0, "not before"
        line = plain.line(host)
        assert (line.status, line.received) == (b"101", 3), "ours: the tunnel's bytes are counted"


class TestSyslog:
    """8.5, last bullet"""

    def test_by_udp_each_line_is_a_datagram(self, full: Logged, syslog: socket.socket) -> None:
        host = fresh_host()
        full.registered.ask(host)
        (raw,) = full.raw(host)
        while f"\ufeff{host} - [".encode() not in (message := syslog.recv(1 << 16)):
            pass
        before, _, line = message.partition(b"\xef\xbb\xbf")
        assert line + b"\n" == raw
        moment = rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
        host_name = re.escape(socket.gethostname().encode())
        started = re.fullmatch(rb"<14>1 " + moment + rb" " + host_name + rb" vcap\.gorouter (\d+) - - ", before)
        assert started is not None, "ours: with the field for structured data that RFC 5424 asks for"
        assert int(started[1]) in full.registered.router.workers

    def test_by_tcp_each_is_a_line_cut_where_that_is_wanted(self, older: Logged, collector: socket.socket) -> None:
        host = fresh_host()
        older.registered.ask(host)
        sock, _ = collector.accept()
        sock.settimeout(PATIENCE)
        with sock, sock.makefile("rb") as file:
            line = next(line for line in file if host.encode() in line)
        moment = rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:Z|[+-]\d\d:\d\d)"
        host_name = re.escape(socket.gethostname().encode())
        said = re.fullmatch(
            rb"<14>1 " + moment + rb" " + host_name + rb" vcap\.gorouter \d+ - \xef\xbb\xbf(.*)\n", line
        )
        assert said is not None
        assert said[1] == older.raw(host)[0][:20]

    def test_ours_without_a_file_or_a_receiver_too(self, registry_url: str) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
            receiver.bind(("127.0.0.1", 0))
            receiver.settimeout(PATIENCE)
            port = receiver.getsockname()[1]
            with registered_router(
                registry_url,
                "streamed",
                access_log={"enable_streaming": True},
                logging={"syslog_addr": f"127.0.0.1:{port}"},
            ) as registered:
                receiver.close()
                for _ in range(3):
                    assert registered.ask("one.test").status == 404
                registered.router.until_said("access-log-not-streamed")
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as later:
                    later.bind(("127.0.0.1", port))
                    later.settimeout(PATIENCE)
                    registered.ask("two.test")
                    assert b" gorouter.stdout " in later.recv(1 << 16)
                assert registered.router.metrics()["millrace_access_log_dropped_total"] > 0


class TestTheFile:
    """8.5, its heading: and where ours needs no copytruncate"""

    def test_ours_one_that_was_moved_away_is_opened_anew(self, plain: Logged) -> None:
        before, after, moved = fresh_host(), fresh_host(), Path(f"{plain.file}.1")
        plain.registered.ask(before)
        plain.raw(before)
        plain.file.rename(moved)
        plain.registered.ask(after)
        plain.raw(after)
        assert before.encode() in moved.read_bytes()
        assert after.encode() not in moved.read_bytes()

    def test_one_that_was_copied_and_truncated_is_written_from_its_start(self, plain: Logged) -> None:
        before, after = fresh_host(), fresh_host()
        plain.registered.ask(before)
        plain.raw(before)
        os.truncate(plain.file, 0)
        plain.registered.ask(after)
        plain.raw(after)
        assert b"\0" not in plain.file.read_bytes()

    def test_standard_output_takes_lines_too(self, registry_url: str) -> None:
        with running_router(registry_url, access_log={"file": "-"}, millrace={"namespace": "stdout"}) as router:
            router.until_healthy()
            router.get()
            log = router.config.parent / "router.log"
            wait_until(lambda: b"app.example.com - [" in log.read_bytes(), "a line on standard output")

    def test_the_last_lines_before_the_end_are_written(self, registry_url: str) -> None:
        with logged_router(registry_url, "ending", millrace={"workers": 1}) as logged:
            host = fresh_host()
            logged.registered.ask(host)
            logged.registered.router.signal(signal.SIGTERM)
            assert logged.registered.router.exit_code() == 0
            assert len(logged.raw(host)) == 1
