"""Gorouter reference 4.1, 4.2, 5.1, 5.2 and 6.4 row by row: what a backend sees and a client gets, by whole routers.

Cases are named by section and row. Those named "ours" are where this router differs on purpose: see
docs/compatibility.md.
"""

from __future__ import annotations

import base64
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import trustme

from router.heads.vcap_trace import own_address
from router.registry.embedded import EmbeddedRedis
from router.registry.records import EndpointRecord
from tests.router.http2.peer import Peer
from tests.router.secured import NAME, SecuredRouter, secured_router
from tests.router.wire import PATIENCE, Backend, Message, Wire, answering, backend, wait_until

_numbers = count()
EMPTY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nDate: Sun, 22 Nov 2026 10:00:00 GMT\r\n"


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with EmbeddedRedis(tmp_path_factory.mktemp("redis")) as server:
        yield server.url


@dataclass
class Stage:
    """A router with one worker, and a backend that answers what a test wants and notes what it was asked."""

    secured: SecuredRouter
    app: Backend
    seen: list[Message] = field(default_factory=list)
    answer: bytes = EMPTY

    def plain(self) -> Wire:
        return self.secured.router.connect()

    def tls(self, cert: trustme.LeafCert | None = None, *protocols: str) -> Wire:
        context = self.secured.context(*protocols)
        if cert is not None:
            cert.configure_cert(context)
        return Wire(self.secured_socket(context))

    def secured_socket(self, context: ssl.SSLContext, session: ssl.SSLSession | None = None) -> ssl.SSLSocket:
        connection = socket.create_connection(("127.0.0.1", self.secured.tls_port), PATIENCE)
        return context.wrap_socket(connection, server_hostname=NAME, session=session)

    def asked(
        self,
        *lines: bytes | str,
        first: bytes = b"GET / HTTP/1.1",
        body: bytes = b"",
        over: Callable[[], Wire] | None = None,
    ) -> Message:
        """One request with these lines behind Host; returns it as the backend saw it."""
        self.exchange(*lines, first=first, body=body, over=over)
        return self.seen[-1]

    def exchange(
        self,
        *lines: bytes | str,
        first: bytes = b"GET / HTTP/1.1",
        body: bytes = b"",
        over: Callable[[], Wire] | None = None,
        host: str = NAME,
    ) -> Message:
        """One request on a connection of its own, and its final response."""
        wire = (over or self.plain)()
        try:
            wire.send(request(*lines, first=first, host=host) + body)
            response = wire.message(bodiless=first.startswith(b"HEAD"))
            while response.status < 200 and response.status != 101:
                response = wire.message()
            return response
        finally:
            wire.close()


def request(*lines: bytes | str, first: bytes = b"GET / HTTP/1.1", host: str = NAME) -> bytes:
    encoded = [line.encode("latin-1") if isinstance(line, str) else line for line in lines]
    return b"\r\n".join((first, f"Host: {host}".encode(), *encoded, b"", b""))


@contextmanager
def stage(redis_url: str, **settings: Any) -> Iterator[Stage]:
    held: list[Stage] = []

    def response(message: Message) -> bytes:
        held[0].seen.append(message)
        return held[0].answer + b"\r\n"

    with backend(answering(response)) as app:
        record = EndpointRecord(
            host="127.0.0.1", port=app.port, app="app-guid", private_instance_id="i-1", private_instance_index="3"
        )
        routes = {NAME: record, f"bare.{NAME}": EndpointRecord(host="127.0.0.1", port=app.port)}
        with secured_router(redis_url, routes, namespace=f"headers-{next(_numbers)}", **settings) as secured:
            held.append(Stage(secured, app))
            yield held[0]


@pytest.fixture(scope="module")
def shared(redis_url: str) -> Iterator[Stage]:
    with stage(redis_url) as running:
        yield running


@pytest.fixture
def default(shared: Stage) -> Stage:
    """With default settings."""
    shared.answer = EMPTY
    return shared


CHANGED = {
    "http_rewrite": {
        "responses": {
            "remove_headers": [{"name": "x-secret"}, {"name": "Server"}, {"name": "Content-Length"}],
            "add_headers_if_not_present": [
                {"name": "x-frame-options", "value": "DENY"},
                {"name": "Server", "value": "ours"},
                {"name": "Link", "value": "<a>"},
                {"name": "Link", "value": "<b>"},
            ],
        }
    },
    "trace_key": "22",
    "sanitize_forwarded_proto": True,
    "hop_by_hop_headers_to_filter": ["X-Custom", "accept"],
    "keep_alive_100_continue_requests": True,
    "max_request_header_bytes": 2048,
    "max_request_headers": 20,
    "max_response_header_bytes": 2048,
    "max_response_headers": 20,
}


@pytest.fixture(scope="module")
def shared_changed(redis_url: str) -> Iterator[Stage]:
    with stage(redis_url, **CHANGED) as running:
        yield running


@pytest.fixture
def changed(shared_changed: Stage) -> Stage:
    """With the settings of ``CHANGED``."""
    shared_changed.answer = EMPTY
    return shared_changed


@pytest.fixture(scope="module")
def as_go(redis_url: str) -> Iterator[Stage]:
    """With fields in Go's order, and X-Forwarded-Proto forced."""
    native = {"header_order": "sorted"}
    with stage(redis_url, millrace=native, force_forwarded_proto_https=True, sanitize_forwarded_proto=True) as running:
        yield running


class Test41Names:
    """4.1 names/order."""

    def test_http_1_names_are_canonical_in_the_clients_order(self, default: Stage) -> None:
        seen = default.asked("x-foo: 1", "ACCEPT:*/*", "X-CF-Custom-ID: 2", "b3: 0", "x-foo:  3 ", "x.y_z-w: 4")
        assert seen.fields[:7] == [
            (b"Host", NAME.encode()),
            (b"X-Foo", b"1"),
            (b"Accept", b"*/*"),
            (b"X-Cf-Custom-Id", b"2"),
            (b"B3", b"0"),
            (b"X-Foo", b"3"),
            (b"X.y_z-W", b"4"),
        ]

    def test_so_are_those_that_the_router_adds(self, default: Stage) -> None:
        names = [name for name, _ in default.asked().fields]
        assert names == [
            b"Host",
            b"X-Forwarded-For",
            b"X-Forwarded-Proto",
            b"X-Request-Start",
            b"X-Vcap-Request-Id",
            b"X-Cf-Applicationid",
            b"X-Cf-Instanceid",
            b"X-Cf-Instanceindex",
        ]

    def test_responses_too(self, default: Stage) -> None:
        default.answer = EMPTY + b"etag: x\r\nX-UA-Compatible: y\r\nset-cookie: a=b\r\nSet-Cookie: c=d\r\n"
        assert default.exchange().fields == [
            (b"Content-Length", b"0"),
            (b"Date", b"Sun, 22 Nov 2026 10:00:00 GMT"),
            (b"Etag", b"x"),
            (b"X-Ua-Compatible", b"y"),
            (b"Set-Cookie", b"a=b"),
            (b"Set-Cookie", b"c=d"),
            (b"X-Vcap-Request-Id", default.seen[-1].get("X-Vcap-Request-Id")),
        ]

    def test_error_answers_too(self, default: Stage) -> None:
        names = [name for name, _ in default.exchange(host="nobody.test").fields]
        assert names[:4] == [b"Cache-Control", b"Content-Type", b"X-Cf-Routererror", b"X-Content-Type-Options"]

    def test_http_2_clients_get_lower_case_and_their_names_become_canonical(self, default: Stage) -> None:
        default.answer = EMPTY + b"X-Up: 1\r\n"
        wire = default.tls(None, "h2")
        peer = Peer(wire.socket)
        response = peer.exchange("/", ("x-foo-bar", "1"), authority=NAME, scheme="https")
        assert response.get("x-up") == b"1"
        assert all(name == name.lower() for name, _ in response.fields)
        assert (b"X-Foo-Bar", b"1") in default.seen[-1].fields
        wire.close()

    def test_names_can_be_left_as_they_come(self, redis_url: str) -> None:
        with stage(redis_url, millrace={"header_names": "as_received"}) as running:
            running.answer = EMPTY + b"etag: x\r\n"
            response = running.exchange("x-foo:1", "ACCEPT: */*")
            assert running.seen[-1].fields[1:3] == [(b"x-foo", b"1"), (b"ACCEPT", b"*/*")]
            assert (b"etag", b"x") in response.fields

    def test_go_sorts_requests(self, as_go: Stage) -> None:
        seen = as_go.asked("x-z: 1", "Accept: b", "User-Agent: u", "Content-Length: 0", "accept: a", "b3: 0")
        assert [name for name, _ in seen.fields] == [
            b"Host",
            b"User-Agent",
            b"Content-Length",
            b"Accept",
            b"Accept",
            b"B3",
            b"X-Cf-Applicationid",
            b"X-Cf-Instanceid",
            b"X-Cf-Instanceindex",
            b"X-Forwarded-For",
            b"X-Forwarded-Proto",
            b"X-Request-Start",
            b"X-Vcap-Request-Id",
            b"X-Z",
        ]
        assert seen.all("Accept") == [b"b", b"a"]

    def test_go_sorts_responses(self, as_go: Stage) -> None:
        as_go.answer = b"HTTP/1.1 200 OK\r\nX-B: 1\r\ncontent-length: 0\r\nage: 1\r\n"
        names = [name for name, _ in as_go.exchange("Connection: close").fields]
        assert names == [b"Age", b"Content-Length", b"X-B", b"X-Vcap-Request-Id", b"Date", b"Connection"]
        names = [name for name, _ in as_go.exchange(host="nobody.test").fields]
        assert names[:2] == [b"Cache-Control", b"Content-Length"]


class Test41Forwarding:
    """4.1 Host, X-Forwarded-*, X-Request-Start."""

    @pytest.mark.parametrize("host", [NAME, NAME.upper(), f"{NAME}:8080", f"{NAME}:"])
    def test_host_is_unchanged_port_included(self, default: Stage, host: str) -> None:
        default.exchange(host=host)
        assert default.seen[-1].get("Host") == host.encode()

    @pytest.mark.parametrize(
        ("lines", "expected"),
        [
            ((), b"127.0.0.1"),
            (("X-Forwarded-For: 1.1.1.1",), b"1.1.1.1, 127.0.0.1"),
            (
                ("X-Forwarded-For: 1.1.1.1, 2.2.2.2", "x-forwarded-for: 3.3.3.3"),
                b"1.1.1.1, 2.2.2.2, 3.3.3.3, 127.0.0.1",
            ),
            (("X-Forwarded-For: unknown",), b"unknown, 127.0.0.1"),
            (("X-Forwarded-For:",), b"127.0.0.1"),
        ],
    )
    def test_forwarded_for_is_folded_and_extended(
        self, default: Stage, lines: tuple[str, ...], expected: bytes
    ) -> None:
        assert default.asked(*lines).get("X-Forwarded-For") == expected

    @pytest.mark.parametrize(
        ("lines", "expected"),
        [
            ((), [b"http"]),
            (("X-Forwarded-Proto: https",), [b"https"]),
            (("X-Forwarded-Proto: anything",), [b"anything"]),
            (("X-Forwarded-Proto:",), [b"http"]),
            (("X-Forwarded-Proto: a", "X-Forwarded-Proto: b"), [b"a", b"b"]),
            (("X-Forwarded-Proto: a", "X-Forwarded-Proto:"), [b"a", b""]),
            (("X-Forwarded-Proto:", "X-Forwarded-Proto: b"), [b"http"]),
        ],
    )
    def test_forwarded_proto_is_set_only_if_its_first_value_is_empty(
        self, default: Stage, lines: tuple[str, ...], expected: list[bytes]
    ) -> None:
        assert default.asked(*lines).all("X-Forwarded-Proto") == expected

    def test_forwarded_proto_of_a_tls_connection(self, default: Stage) -> None:
        assert default.asked(over=default.tls).get("X-Forwarded-Proto") == b"https"

    @pytest.mark.parametrize(
        "lines", [(), ("X-Forwarded-Proto: https",), ("X-Forwarded-Proto: a", "X-Forwarded-Proto: b")]
    )
    def test_forwarded_proto_sanitized(self, changed: Stage, lines: tuple[str, ...]) -> None:
        assert changed.asked(*lines).all("X-Forwarded-Proto") == [b"http"]
        assert changed.asked(*lines, over=changed.tls).all("X-Forwarded-Proto") == [b"https"]

    @pytest.mark.parametrize(
        "lines", [(), ("X-Forwarded-Proto: http",), ("X-Forwarded-Proto: a", "X-Forwarded-Proto: b")]
    )
    def test_forwarded_proto_forced_which_is_stronger_than_sanitized(
        self, as_go: Stage, lines: tuple[str, ...]
    ) -> None:
        assert as_go.asked(*lines).all("X-Forwarded-Proto") == [b"https"]

    @pytest.mark.parametrize(
        "line", ["X-Forwarded-Host: o", "Forwarded: for=1.1.1.1", "X-Real-Ip: 1", "Via: 1.1 x", "Accept-Encoding: br"]
    )
    def test_untouched_and_never_added(self, default: Stage, line: str) -> None:
        name, _, value = line.partition(": ")
        assert default.asked(line, line).all(name) == [value.encode()] * 2
        assert default.asked().all(name) == []

    def test_request_start_is_epoch_milliseconds_if_absent(self, default: Stage) -> None:
        before = int(time.time() * 1000)
        start = default.asked().get("X-Request-Start")
        assert start is not None
        assert re.fullmatch(rb"\d{13}", start)
        assert before <= int(start) <= time.time() * 1000

    @pytest.mark.parametrize("value", [b"", b"5", b"t=1.5"])
    def test_request_start_is_left_if_present_even_if_empty(self, default: Stage, value: bytes) -> None:
        assert default.asked(b"X-Request-Start: " + value).all("X-Request-Start") == [value]

    def test_request_id_is_always_overwritten(self, default: Stage) -> None:
        ids = default.asked("X-Vcap-Request-Id: mine", "x-vcap-request-id: too").all("X-Vcap-Request-Id")
        assert len(ids) == 1
        assert re.fullmatch(rb"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", ids[0])

    def test_user_agent_absent_stays_absent(self, default: Stage) -> None:
        assert default.asked().get("User-Agent") is None
        assert default.asked("User-Agent: x").get("User-Agent") == b"x"


class Test41Identity:
    """4.1 X-CF-*."""

    def test_identity_is_the_routers_to_say(self, default: Stage) -> None:
        forged = ("X-CF-ApplicationID: a", "X-CF-InstanceID: b", "X-CF-InstanceIndex: c")
        seen = default.asked(*forged, *forged)
        names = ("X-Cf-Applicationid", "X-Cf-Instanceid", "X-Cf-Instanceindex")
        assert [seen.all(name) for name in names] == [[b"app-guid"], [b"i-1"], [b"3"]]

    def test_instance_id_falls_back_to_the_address_and_values_may_be_empty(self, default: Stage) -> None:
        default.exchange(host=f"bare.{NAME}")
        seen = default.seen[-1]
        assert seen.get("X-Cf-Applicationid") == b""
        assert seen.get("X-Cf-Instanceid") == f"127.0.0.1:{default.app.port}".encode()
        assert seen.get("X-Cf-Instanceindex") == b""

    def test_app_instance_is_deleted(self, default: Stage) -> None:
        refused = default.exchange("X-CF-App-Instance: nonsense")
        assert refused.get("X-Cf-RouterError") == b"invalid_cf_app_instance_header"
        assert default.asked("X-CF-App-Instance:").get("X-CF-App-Instance") is None

    def test_signatures_pass_where_a_route_has_no_service(self, default: Stage) -> None:
        seen = default.asked("X-CF-Proxy-Signature: s", "X-CF-Proxy-Metadata: m", "X-CF-Forwarded-Url: u")
        assert seen.get("X-CF-Proxy-Signature") == b"s"
        assert seen.get("X-CF-Proxy-Metadata") == b"m"
        assert seen.get("X-CF-Forwarded-Url") == b"u"


class Test41HopByHop:
    """4.1 Connection + hop-by-hop, Expect."""

    def test_fields_of_the_connection_end_here(self, default: Stage) -> None:
        seen = default.asked(
            "Connection: keep-alive, X-Named",
            "X-Named: 1",
            "Keep-Alive: 5",
            "Proxy-Connection: close",
            "Proxy-Authenticate: a",
            "Proxy-Authorization: b",
            "TE: gzip",
            "Upgrade: websocket",
            "X-Other: 1",
        )
        assert [name for name, _ in seen.fields[1:]][:1] == [b"X-Other"]
        gone = ("Connection", "X-Named", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authorization")
        assert not any(seen.all(name) for name in (*gone, "TE", "Upgrade"))

    @pytest.mark.parametrize("value", ["trailers", "gzip, Trailers"])
    def test_te_trailers_is_kept(self, default: Stage, value: str) -> None:
        assert default.asked(f"TE: {value}").fields[1] == (b"Te", b"trailers")

    @pytest.mark.parametrize("name", ["X-Custom", "Accept"])
    def test_filtered_names_survive_the_connection_field(self, changed: Stage, default: Stage, name: str) -> None:
        lines = (f"Connection: {name.lower()}, x-listed", f"{name}: 1", "X-Listed: 2")
        assert changed.asked(*lines).get(name) == b"1"
        assert changed.seen[-1].get("X-Listed") is None
        assert default.asked(*lines).get(name) is None

    @pytest.mark.parametrize(
        "name",
        ["X-Forwarded-For", "X-Forwarded-Proto", "B3", "X-B3-TraceId", "X-Request-Start", "Cookie", "Traceparent"],
    )
    def test_ours_some_need_no_filter(self, default: Stage, name: str) -> None:
        seen = default.asked(f"Connection: {name}", f"{name}: 1")
        assert b"1" in (seen.get(name) or b"")

    def test_an_upgrade_is_asked_for_again(self, default: Stage) -> None:
        default.exchange("Connection: x, Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: k")
        seen = default.seen[-1]
        assert seen.all("Connection") == [b"Upgrade"]
        assert seen.all("Upgrade") == [b"websocket"]
        assert seen.get("Sec-Websocket-Key") == b"k"

    def test_expect_is_forwarded_and_that_connection_closes(self, default: Stage) -> None:
        for _ in range(2):
            connections = default.app.connections
            lines = ("Expect: 100-continue", "Content-Length: 2")
            seen = default.asked(*lines, first=b"POST / HTTP/1.1", body=b"hi")
            assert seen.get("Expect") == b"100-continue"
            assert seen.all("Connection") == [b"close"]
            default.asked()
            default.asked()
            assert default.app.connections == connections + 1 + (not connections)

    def test_unless_it_is_to_be_kept(self, changed: Stage) -> None:
        seen = changed.asked("Expect: 100-continue", "Content-Length: 2", first=b"POST / HTTP/1.1", body=b"hi")
        assert seen.get("Expect") == b"100-continue"
        assert seen.get("Connection") is None
        connections = changed.app.connections
        changed.asked()
        assert changed.app.connections == connections

    def test_without_keep_alive_every_request_says_close_once(self, redis_url: str) -> None:
        with stage(redis_url, disable_keep_alives=True) as running:
            assert running.asked().all("Connection") == [b"close"]
            expecting = running.asked("Expect: 100-continue", "Content-Length: 0")
            assert expecting.all("Connection") == [b"close"]
            running.exchange("Connection: Upgrade", "Upgrade: websocket")
            assert running.seen[-1].all("Connection") == [b"Upgrade"]


class Test42Responses:
    """4.2."""

    def test_copied_without_fields_of_the_connection_and_with_nothing_added_but_date_and_id(
        self, default: Stage
    ) -> None:
        default.answer = (
            b"HTTP/1.1 203 Fine\r\nContent-Length: 0\r\nX-A: 1\r\nx-a: 2\r\nConnection: x-named\r\nX-Named: 1\r\n"
            b"Keep-Alive: 5\r\nProxy-Authenticate: a\r\nX-Empty:\r\n"
        )
        response = default.exchange()
        assert response.first == b"HTTP/1.1 203 Fine"
        assert [name for name, _ in response.fields] == [
            b"Content-Length",
            b"X-A",
            b"X-A",
            b"X-Empty",
            b"Date",
            b"X-Vcap-Request-Id",
        ]

    def test_request_id_is_added_if_absent(self, default: Stage) -> None:
        assert default.exchange().get("X-Vcap-Request-Id") == default.seen[-1].get("X-Vcap-Request-Id")
        default.answer = EMPTY + b"X-Vcap-Request-Id: theirs\r\n"
        assert default.exchange().all("X-Vcap-Request-Id") == [b"theirs"]

    def test_ours_request_id_on_errors_of_the_router_as_well(self, default: Stage) -> None:
        assert default.exchange(host="nobody.test").get("X-Vcap-Request-Id")

    def test_proxy_signature_is_always_removed(self, default: Stage) -> None:
        default.answer = EMPTY + b"X-CF-Proxy-Signature: s\r\nX-CF-Proxy-Metadata: m\r\n"
        response = default.exchange()
        assert response.get("X-CF-Proxy-Signature") is None
        assert response.get("X-CF-Proxy-Metadata") == b"m"

    def test_rewriting_of_backends_responses(self, changed: Stage) -> None:
        changed.answer = EMPTY + b"Server: theirs\r\nX-Secret: 1\r\nX-SECRET: 2\r\nX-Frame-Options: SAMEORIGIN\r\n"
        response = changed.exchange()
        assert response.all("X-Secret") == []
        assert response.all("Server") == [b"ours"]
        assert response.all("X-Frame-Options") == [b"SAMEORIGIN"]
        assert response.all("Link") == [b"<a>", b"<b>"]
        assert response.all("Content-Length") == [b"0"]
        changed.answer = EMPTY
        assert (b"X-Frame-Options", b"DENY") in changed.exchange().fields

    def test_rewriting_of_errors_of_the_router(self, changed: Stage) -> None:
        response = changed.exchange(host="nobody.test")
        assert response.status == 404
        assert response.get("Server") == b"ours"
        assert response.get("X-Frame-Options") == b"DENY"
        assert response.get("X-Cf-RouterError") == b"unknown_route"

    def test_rewriting_reaches_http_2_clients(self, changed: Stage) -> None:
        changed.answer = EMPTY + b"X-Secret: 1\r\n"
        wire = changed.tls(None, "h2")
        peer = Peer(wire.socket)
        for authority, status in ((NAME, 200), ("nobody.test", 404)):
            response = peer.exchange("/", authority=authority, scheme="https")
            assert response.status == status
            assert response.get("server") == b"ours"
            assert response.get("x-secret") is None
        wire.close()

    def test_101_is_not_rewritten(self, changed: Stage) -> None:
        changed.answer = (
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Secret: 1\r\n"
        )
        wire = changed.plain()
        wire.send(request("Connection: Upgrade", "Upgrade: websocket"))
        response = wire.head()
        wire.close()
        assert response.status == 101
        assert response.get("X-Secret") == b"1"
        assert response.get("Server") is None
        assert response.get("Connection") == b"Upgrade"
        assert response.get("X-Vcap-Request-Id")

    def test_the_request_id_can_be_removed(self, redis_url: str) -> None:
        rules = {"responses": {"remove_headers": [{"name": "X-Vcap-Request-Id"}]}}
        with stage(redis_url, http_rewrite=rules) as running:
            assert running.exchange().get("X-Vcap-Request-Id") is None
            assert running.exchange(host="nobody.test").get("X-Vcap-Request-Id") is None
            wire = running.tls(None, "h2")
            assert Peer(wire.socket).exchange("/", authority=NAME, scheme="https").get("x-vcap-request-id") is None
            wire.close()

    def test_trace_key(self, changed: Stage) -> None:
        changed.answer = EMPTY + b"X-Vcap-Backend: forged\r\n"
        response = changed.exchange("X-Vcap-Trace: 22")
        address = f"127.0.0.1:{changed.app.port}".encode()
        assert response.all("X-Vcap-Router") == [own_address().encode()]
        assert response.all("X-Vcap-Backend") == [address]
        assert response.all("X-Cf-RouteEndpoint") == [address]
        assert response.get("Server") == b"ours"
        assert changed.seen[-1].get("X-Vcap-Trace") == b"22"

    @pytest.mark.parametrize("lines", [(), ("X-Vcap-Trace: 2",), ("X-Vcap-Trace: 222",), ("X-Vcap-Trace:",)])
    def test_without_the_key_nobody_is_told(self, changed: Stage, default: Stage, lines: tuple[str, ...]) -> None:
        for running in (changed, default):
            response = running.exchange(*lines)
            assert not any(response.all(name) for name in ("X-Vcap-Router", "X-Vcap-Backend", "X-Cf-RouteEndpoint"))


class Test51Limits:
    """5.1 limits, targets, lengths."""

    @staticmethod
    def head_of(size: int) -> tuple[bytes, ...]:
        """Lines so that a GET of / has this size as the limit counts it."""
        rest = size - len(b"GET / HTTP/1.1\r\n") - len(f"Host: {NAME}\r\n") - len(b"X: \r\n")
        return (b"X: " + b"a" * rest,)

    def test_a_head_of_the_limit_is_too_long_and_one_byte_less_is_not(self, changed: Stage) -> None:
        assert changed.exchange(*self.head_of(2047)).status == 200
        response = changed.exchange(*self.head_of(2048))
        assert response.status == 431
        assert response.get("X-Cf-RouterError") == b"max-request-size-exceeded"
        assert response.body == b""

    def test_white_space_around_values_does_not_count(self, changed: Stage) -> None:
        (line,) = self.head_of(2047)
        assert changed.exchange(line.replace(b": ", b":   \t") + b"  ").status == 200

    def test_it_is_logged_with_an_endpoint_that_it_never_saw(self, redis_url: str, tmp_path: Path) -> None:
        log = tmp_path / "access.log"
        with stage(redis_url, max_request_header_bytes=2048, access_log={"file": str(log)}) as running:
            assert running.exchange(*self.head_of(2048)).status == 431
            wait_until(lambda: log.exists() and log.read_text().endswith("\n"), "the line")
            line = log.read_text()
        assert " 431 0 0 " in line
        assert f'"127.0.0.1:{running.app.port}"' in line
        assert 'x_cf_routererror:"max-request-size-exceeded"' in line
        assert not running.seen

    def test_only_after_a_successful_lookup(self, changed: Stage) -> None:
        assert changed.exchange(*self.head_of(2048), host="nobody.test").status == 404

    def test_the_connection_goes_on(self, changed: Stage) -> None:
        wire = changed.plain()
        wire.send(request(*self.head_of(2048)) + request())
        assert [wire.message().status for _ in range(2)] == [431, 200]
        wire.close()

    def test_ours_far_beyond_the_limit_it_is_refused_whatever_the_route(self, changed: Stage) -> None:
        wire = changed.plain()
        wire.send(request(*self.head_of(7000), host="nobody.test"))
        response = wire.message()
        assert (response.status, response.get("X-Cf-RouterError")) == (431, b"max-request-size-exceeded")
        assert wire.is_closed()

    def test_lines_are_counted_without_host(self, changed: Stage) -> None:
        assert changed.exchange(*["X: 1"] * 20).status == 200
        response = changed.exchange(*["X: 1"] * 21)
        assert (response.status, response.get("X-Cf-RouterError")) == (431, b"max-request-size-exceeded")
        assert changed.exchange(*["X: 1"] * 21, host="nobody.test").status == 404

    def test_of_http_2_clients_as_well(self, changed: Stage) -> None:
        wire = changed.tls(None, "h2")
        peer = Peer(wire.socket)
        many = [("x", "1")] * 21
        assert peer.exchange("/", *many[:20], authority=NAME, scheme="https").status == 200
        assert peer.exchange("/", *many, authority=NAME, scheme="https").status == 431
        assert peer.exchange("/", ("x", "a" * 2020), authority=NAME, scheme="https").status == 431
        wire.close()

    def test_the_older_name_of_the_limit(self, redis_url: str) -> None:
        with stage(redis_url, max_header_bytes=2048) as running:
            assert running.exchange(*self.head_of(2047)).status == 200
            assert running.exchange(*self.head_of(2048)).status == 431

    def test_a_response_head_that_is_too_long(self, changed: Stage) -> None:
        changed.answer = EMPTY + b"X: " + b"a" * 2048 + b"\r\n"
        response = changed.exchange()
        assert response.status == 502
        assert response.get("X-Cf-RouterError") == (
            b"endpoint_failure (net/http: HTTP/1.x transport connection broken: net/http: server response headers "
            b"exceeded 2048 bytes; aborted)"
        )

    def test_a_response_with_too_many_fields(self, changed: Stage) -> None:
        changed.answer = EMPTY + b"X: 1\r\n" * 18
        assert changed.exchange().status == 200
        changed.answer = EMPTY + b"X: 1\r\n" * 19
        response = changed.exchange()
        assert response.status == 502
        assert response.get("X-Cf-RouterError") == b"endpoint_failure (Too many response headers)"

    @pytest.mark.parametrize(
        "target",
        ["/a%20b?x=%zz&&", "/?", "//x//y?b=1&a=%2f", "/a/../b", "/%2e%2E/%zz", "http://HOST/x?", "https://HOST:1/"],
    )
    def test_targets_pass_byte_for_byte(self, default: Stage, target: str) -> None:
        target = target.replace("HOST", NAME)
        seen = default.asked(first=f"GET {target} HTTP/1.1".encode())
        assert seen.first == f"GET {target} HTTP/1.1".encode()

    def test_the_host_of_an_absolute_target_counts(self, default: Stage) -> None:
        first = f"GET http://{NAME}/x HTTP/1.1".encode()
        assert default.exchange(first=first, host="nobody.test").status == 200
        assert default.seen[-1].get("Host") == NAME.encode()  # ours: it replaces Host

    @pytest.mark.parametrize(
        ("first", "status"),
        [
            (b"GET /#x HTTP/1.1", 400),
            (b"GET http://user@app.test/ HTTP/1.1", 400),
            (b"GET ftp://app.test/ HTTP/1.1", 421),
            (b"GET * HTTP/1.1", 400),
            (b"CONNECT app.test HTTP/1.1", 400),
            (b"GET / HTTP/1.2", 505),
            (b"GET / HTTP/2.0", 505),
        ],
    )
    def test_ours_targets_and_versions_that_are_refused(self, default: Stage, first: bytes, status: int) -> None:
        assert default.exchange(first=first).status == status

    def test_options_asterisk_is_answered(self, default: Stage) -> None:
        before = len(default.seen)
        response = default.exchange(first=b"OPTIONS * HTTP/1.1")
        assert (response.status, response.body, len(default.seen)) == (200, b"", before)

    @pytest.mark.parametrize(
        ("lines", "length"),
        [
            (("Content-Length: 2", "Content-Length: 2"), [b"2"]),
            (("Content-Length: 2",), [b"2"]),
        ],
    )
    def test_equal_lengths_are_merged(self, default: Stage, lines: tuple[str, ...], length: list[bytes]) -> None:
        seen = default.asked(*lines, first=b"POST / HTTP/1.1", body=b"hi")
        assert (seen.all("Content-Length"), seen.body) == (length, b"hi")

    @pytest.mark.parametrize(
        ("lines", "status"),
        [
            (("Content-Length: 2", "Content-Length: 3"), 400),
            (("Content-Length:",), 400),
            (("Content-Length: 2", "Transfer-Encoding: chunked"), 400),  # ours: Gorouter drops the length
            (("Transfer-Encoding: gzip",), 501),
            (("Expect: something",), 417),
        ],
    )
    def test_framing_in_doubt_is_refused(self, default: Stage, lines: tuple[str, ...], status: int) -> None:
        assert default.exchange(*lines, first=b"POST / HTTP/1.1").status == status

    @pytest.mark.parametrize("method", [b"POST", b"PUT", b"PATCH"])
    def test_a_method_with_a_body_says_that_it_has_none(self, default: Stage, method: bytes) -> None:
        assert default.asked(first=method + b" / HTTP/1.1").all("Content-Length") == [b"0"]
        wire = default.tls(None, "h2")
        Peer(wire.socket).exchange("/", method=method.decode(), authority=NAME, scheme="https")
        assert default.seen[-1].all("Content-Length") == [b"0"]
        wire.close()

    def test_others_say_nothing(self, default: Stage) -> None:
        assert default.asked(first=b"DELETE / HTTP/1.1").all("Content-Length") == []


class Test52Informational:
    """5.2 1xx."""

    HINTS = b"HTTP/1.1 103 Early Hints\r\nlink: </s.css>\r\nX-Secret: 1\r\n\r\n"
    PROCESSING = b"HTTP/1.1 102 Processing\r\n\r\n"

    def test_all_pass_with_their_fields(self, default: Stage) -> None:
        default.answer = self.HINTS + self.PROCESSING + EMPTY
        wire = default.plain()
        wire.send(request())
        hints, processing, final = wire.message(), wire.message(), wire.message()
        wire.close()
        assert (hints.status, processing.status, final.status) == (103, 102, 200)
        assert hints.fields == [(b"Link", b"</s.css>"), (b"X-Secret", b"1")]

    def test_rewritten(self, changed: Stage) -> None:
        changed.answer = self.HINTS + EMPTY
        wire = changed.plain()
        wire.send(request())
        hints = wire.message()
        assert hints.fields == [(b"Link", b"</s.css>"), (b"X-Frame-Options", b"DENY"), (b"Server", b"ours")]
        assert wire.message().status == 200
        wire.close()

    def test_to_http_2_clients_too(self, changed: Stage) -> None:
        changed.answer = self.HINTS + EMPTY
        wire = changed.tls(None, "h2")
        peer = Peer(wire.socket)
        response = peer.exchange("/", authority=NAME, scheme="https")
        (hints,) = response.informational
        fields = dict(hints)
        assert (fields[b":status"], fields[b"link"], fields[b"server"]) == (b"103", b"</s.css>", b"ours")
        assert b"x-secret" not in fields
        assert response.status == 200
        wire.close()


class Test64ClientCert:
    """6.4: the table, by plain connections, TLS ones, and mutual TLS, in both versions of HTTP."""

    CA = trustme.CA()
    LEAF = CA.issue_cert("client.test", key_type=trustme.KeyType.ECDSA)
    SENT = ("X-Forwarded-Client-Cert: one", "x-forwarded-client-cert: two")
    OWN = base64.b64encode(ssl.PEM_cert_to_DER_cert(LEAF.cert_chain_pems[0].bytes().decode()))

    @pytest.fixture(scope="class", params=["always_forward", "forward", "sanitize_set"])
    @classmethod
    def mode(cls, request: pytest.FixtureRequest, redis_url: str) -> Iterator[tuple[str, Stage]]:
        settings = {
            "forwarded_client_cert": request.param,
            "client_cert_validation": "request",
            "client_ca_certs": cls.CA.cert_pem.bytes().decode(),
        }
        with stage(redis_url, **settings) as running:
            yield request.param, running

    @staticmethod
    def expected(mode: str, sent: bool, mutual: bool) -> list[bytes]:
        kept = [b"one", b"two"] if sent else []
        table = {
            ("always_forward", False): kept,
            ("always_forward", True): kept,
            ("forward", False): [],
            ("forward", True): kept,
            ("sanitize_set", False): [],
            ("sanitize_set", True): [Test64ClientCert.OWN],
        }
        return table[mode, mutual]

    @pytest.mark.parametrize("sent", [False, True])
    @pytest.mark.parametrize("connection", ["plain", "tls", "mutual"])
    def test_http_1(self, mode: tuple[str, Stage], connection: str, sent: bool) -> None:
        name, running = mode
        over = {"plain": running.plain, "tls": running.tls, "mutual": lambda: running.tls(self.LEAF)}[connection]
        for more in ((), ("X-Request-Start: 1",)):  # the second is no request of the common kind
            seen = running.asked(*(self.SENT if sent else ()), *more, over=over)
            assert seen.all("X-Forwarded-Client-Cert") == self.expected(name, sent, connection == "mutual")

    @pytest.mark.parametrize("sent", [False, True])
    @pytest.mark.parametrize("mutual", [False, True])
    def test_http_2(self, mode: tuple[str, Stage], mutual: bool, sent: bool) -> None:
        name, running = mode
        wire = running.tls(self.LEAF if mutual else None, "h2")
        peer = Peer(wire.socket)
        fields = [("x-forwarded-client-cert", value) for value in ("one", "two")] if sent else []
        for _ in range(2):
            peer.exchange("/", *fields, authority=NAME, scheme="https")
            assert running.seen[-1].all("X-Forwarded-Client-Cert") == self.expected(name, sent, mutual)
        wire.close()

    def test_a_resumed_session_shows_the_same_certificate(self, mode: tuple[str, Stage]) -> None:
        name, running = mode
        context = running.secured.context()
        self.LEAF.configure_cert(context)
        session = None
        for resumed in (False, True):
            connection = running.secured_socket(context, session)
            wire = Wire(connection)
            wire.send(request())
            assert wire.message().status == 200
            assert running.seen[-1].all("X-Forwarded-Client-Cert") == self.expected(name, False, True)
            assert connection.session_reused is resumed
            session = connection.session
            wire.close()
