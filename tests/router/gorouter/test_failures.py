"""What fails on the way to an endpoint, and what comes of it: gorouter reference sections 3.5 to 3.8, by whole routers.

Every class of failure is brought about for real. Tests named "ours" are where this router differs on purpose: see
docs/compatibility.md.
"""

from __future__ import annotations

import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import pytest

from router.registry.records import EndpointRecord
from tests.router.registered import (
    Registered,
    at,
    backends,
    head,
    registered_router,
    resetting,
    silent_end,
    telling,
)
from tests.router.tls.authority import CA, CA_PEM, HOST, OTHER_CA, issue, over_tls, server_context
from tests.router.wire import OK, Backend, Message, Wire, answering, backend, wait_until

Place = dict[str, Any]
"""Where an endpoint is: port or tls_port, and what else its record says of it."""

TLS12, TLS13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
_numbers = count()


@pytest.fixture(scope="module")
def apps() -> Iterator[list[Backend]]:
    with backends(3) as running:
        yield running


@pytest.fixture(scope="module")
def router(registry_url: str) -> Iterator[Registered]:
    with registered_router(
        registry_url,
        "failures",
        ca_certs=[CA_PEM],
        endpoint_dial_timeout="300ms",
        tls_handshake_timeout="500ms",
        max_response_headers=20,
        max_response_header_bytes=4096,
    ) as running:
        yield running


@pytest.fixture(scope="module")
def timed(registry_url: str) -> Iterator[Registered]:
    """Attempts end after 0.6 s, and few connections are kept, for a short time."""
    with registered_router(
        registry_url,
        "timed",
        endpoint_timeout="600ms",
        max_idle_conns_per_host=1,
        millrace={"backend_idle_timeout": "300ms"},
    ) as running:
        yield running


@pytest.fixture(scope="module")
def closing(registry_url: str) -> Iterator[Registered]:
    """Keeps no connections and tries once."""
    with registered_router(registry_url, "closing", disable_keep_alives=True, backends={"max_attempts": 1}) as running:
        yield running


def fresh_host() -> str:
    return f"host-{next(_numbers)}.test"


def error(answer: Message) -> str:
    """What X-Cf-RouterError says inside the brackets."""
    said = (answer.get("X-Cf-RouterError") or b"").decode()
    assert said.startswith("endpoint_failure ("), (answer.first, said)
    return said.removeprefix("endpoint_failure (").removesuffix(")")


# Ways to fail ------------------------------------------------------------------------------------------------------


@contextmanager
def refusing() -> Iterator[Place]:
    with socket.create_server(("127.0.0.1", 0)) as plug:
        port = plug.getsockname()[1]
    yield {"port": port}


@contextmanager
def deaf() -> Iterator[Place]:
    """A listener whose backlog is full: the kernel answers nothing."""
    with socket.socket() as listener, socket.socket() as one, socket.socket() as two:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for filler in (one, two):
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield {"port": listener.getsockname()[1]}


@contextmanager
def nameless() -> Iterator[Place]:
    yield {"host": "a" * 64 + ".test", "port": 80}


@contextmanager
def saying(script: Callable[[Wire], None]) -> Iterator[Place]:
    with backend(script) as app:
        yield {"port": app.port}


@contextmanager
def secured(
    script: Callable[[Wire], None] | None = None, context: ssl.SSLContext | None = None, san: str = HOST
) -> Iterator[Place]:
    with backend(script or over_tls(answering(OK), context)) as app:
        yield {"tls_port": app.port, "server_cert_domain_san": san}


def picky(version: ssl.TLSVersion) -> ssl.SSLContext:
    """Asks for a certificate that the router has not."""
    context = server_context(version=version)
    context.verify_mode = ssl.CERT_REQUIRED
    CA.configure_trust(context)
    return context


def old_fashioned() -> ssl.SSLContext:
    """Has no cipher in common with anybody who shows it an ECDSA certificate."""
    context = server_context(version=TLS12)
    context.set_ciphers("AES256-SHA256")
    return context


def plain(wire: Wire) -> None:
    wire.socket.recv(65536)
    wire.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def unmoved(wire: Wire) -> None:
    wire.read_to_end()


def half_a_head(wire: Wire) -> None:
    wire.head()
    wire.send(b"HTTP/1.1 200 OK\r\nContent-")


@dataclass
class Failure:
    """A row of the table in 3.5, and what 4.3 says of its answer. ``get`` and ``post``: whether these are retried."""

    name: str
    place: Callable[[], AbstractContextManager[Place]]
    status: int
    text: str
    get: bool
    post: bool
    marks: bool


def before(name: str, place: Callable[[], AbstractContextManager[Place]], status: int, text: str) -> Failure:
    """One of the classes in which no request was sent: always retried, always marked."""
    return Failure(name, place, status, text, get=True, post=True, marks=True)


FAILURES = [
    before("dial: refused", refusing, 502, r"dial tcp 127\.0\.0\.1:\d+: connect: connection refused"),
    before("dial: timeout", deaf, 502, r"dial tcp 127\.0\.0\.1:\d+: i/o timeout"),
    before("dial: a name that cannot be", nameless, 502, r"dial tcp: lookup a{64}\.test: no such host"),
    before("plaintext backend", lambda: secured(plain), 525, "tls: first record does not look like a TLS handshake"),
    before("SAN mismatch", lambda: secured(san="other-guid"), 503, r"x509: .*other-guid.*"),
    before("certificate required", lambda: secured(context=picky(TLS13)), 496,
           "remote error: tls: certificate required"),
    before("handshake_failure", lambda: secured(context=old_fashioned()), 525, "remote error: tls: handshake failure"),
    before("ours: 525 where TLS 1.2 asks in vain for our certificate", lambda: secured(context=picky(TLS12)), 525,
           "remote error: tls: handshake failure"),
    before("handshake timeout", lambda: secured(unmoved), 502, "net/http: TLS handshake timeout"),
    before("untrusted", lambda: secured(context=server_context(issue(HOST, ca=OTHER_CA))), 526,
           "x509: certificate signed by unknown authority"),
    before("expired", lambda: secured(context=server_context(issue(HOST, days=-1))), 526,
           "x509: certificate has expired or is not yet valid.*"),
    before("not yet valid", lambda: secured(context=server_context(issue(HOST, days=90))), 526,
           "x509: certificate has expired or is not yet valid.*"),
    Failure("ours: a reset is retried where that is safe", lambda: saying(resetting), 502,
            r"read tcp .*127\.0\.0\.1:\d+: read: connection reset by peer", get=True, post=False, marks=True),
    Failure("EOF before the response", lambda: saying(silent_end), 502, "EOF", get=True, post=False, marks=False),
    Failure("EOF in the response's head", lambda: saying(half_a_head), 502, "unexpected EOF",
            get=False, post=False, marks=False),
    Failure("malformed response", lambda: saying(answering(b"hello there\r\n\r\n")), 502, r".*malformed.*",
            get=False, post=False, marks=False),
    Failure("too many response headers", lambda: saying(answering(head("200 OK", *["X: 1"] * 21))), 502,
            "Too many response headers|.+", get=False, post=False, marks=False),
    Failure("response headers too long", lambda: saying(answering(head("200 OK", "X: " + "x" * 5000))), 502,
            ".*4096.*", get=False, post=False, marks=False),
]  # fmt: skip

BODIES = {
    496: "496 SSL Certificate Required\n",
    502: "502 Bad Gateway: Registered endpoint failed to handle the request.\n",
    503: "503 Service Unavailable\n",
    525: "525 SSL Handshake Failed\n",
    526: "526 Invalid SSL Certificate\n",
}


def record(place: Place, instance: str, host: str) -> EndpointRecord:
    return EndpointRecord(**{"host": "127.0.0.1", "private_instance_id": instance, "app": host, **place})


@pytest.mark.parametrize("failure", FAILURES, ids=[failure.name for failure in FAILURES])
class TestClasses:
    """3.5, 4.3"""

    def test_answer(self, router: Registered, failure: Failure) -> None:
        host = fresh_host()
        with failure.place() as place:
            router.register((host, record(place, "bad", host)))
            answer = router.ask(host)
            assert answer.status == failure.status
            assert re.fullmatch(failure.text, error(answer)), error(answer)
            assert answer.body.decode() == BODIES[failure.status]
            assert answer.get("Content-Type") == b"text/plain; charset=utf-8"
            assert router.ask(host).status == failure.status  # ours: nothing is pruned, TLS or not

    @pytest.mark.parametrize("method", ["GET", "POST"])
    def test_columns(self, router: Registered, apps: list[Backend], failure: Failure, method: str) -> None:
        """Six requests to a route with this endpoint and a sound one: what is retried never shows, what is marked is
        tried once."""
        host = fresh_host()
        retriable = failure.get if method == "GET" else failure.post
        with failure.place() as place:
            router.register((host, record(place, "bad", host)), (host, at(apps[0], "good", app=host)))
            before = retries(router)
            statuses = [router.ask(host, method=method, body="x" if method == "POST" else "").status for _ in range(6)]
            failed = [status for status in statuses if status != 200]
            assert set(failed) <= {failure.status}
            tried = len(failed) + retries(router) - before
            assert bool(failed) == (not retriable)
            assert tried == 1 if failure.marks else tried >= 3


def retries(router: Registered) -> int:
    return int(router.router.metrics()["millrace_retries_total"])


class TestIdempotence:
    """3.5: what may be repeated after an attempt that has been sent and got no byte of a response."""

    @pytest.mark.parametrize(
        ("method", "lines", "body", "repeated"),
        [
            ("GET", [], "", True),
            ("HEAD", [], "", True),
            ("OPTIONS", [], "", True),
            ("TRACE", [], "", True),
            ("POST", ["Idempotency-Key: 1"], "", True),
            ("POST", ["X-Idempotency-Key: 1"], "", True),
            ("PATCH", ["Idempotency-Key: 1"], "", True),
            ("POST", [], "", False),
            ("PATCH", [], "", False),
            ("PROPFIND", [], "", False),
            pytest.param("PUT", [], "", True, id="ours: PUT is idempotent"),
            pytest.param("DELETE", [], "", True, id="ours: DELETE is idempotent"),
            pytest.param("GET", [], "body", True, id="ours: a body is no obstacle"),
            pytest.param("PUT", [], "body", True, id="ours: nor that of a PUT"),
            pytest.param("POST", ["Idempotency-Key: 1"], "body", True, id="ours: nor that of a POST with a key"),
            pytest.param("POST", [], "body", False, id="POST with a body"),
            pytest.param("PUT", [], "x" * 70_000, False, id="ours: unless it is too long to be held"),
        ],
    )
    def test_repeated(
        self, router: Registered, apps: list[Backend], method: str, lines: list[str], body: str, repeated: bool
    ) -> None:
        host = fresh_host()

        def reading(wire: Wire) -> None:
            wire.message()

        with backend(reading) as bad:
            router.register((host, at(bad, "bad", app=host)), (host, at(apps[0], "good", app=host)))
            statuses = [router.ask(host, "/", *lines, method=method, body=body).status for _ in range(4)]
            assert statuses.count(200) == (4 if repeated else 2), statuses
            assert bad.connections >= 2


class TestAttempts:
    """3.6"""

    def test_as_many_as_max_attempts(self, router: Registered, closing: Registered) -> None:
        for asked, expected in ((router, 3), (closing, 1)):
            host = fresh_host()
            apps = [Backend(silent_end) for _ in range(5)]
            asked.register(*[(host, at(app, str(app.port))) for app in apps])
            answer = asked.ask(host)
            assert (answer.status, error(answer)) == (502, "EOF")
            assert sum(app.connections for app in apps) == expected
            assert max(app.connections for app in apps) == 1
            for app in apps:
                app.close()

    def test_no_more_than_there_are_endpoints(self, router: Registered) -> None:
        host = fresh_host()
        with backend(silent_end) as app:
            router.register((host, at(app, "only")))
            assert error(router.ask(host)) == "EOF"
            assert app.connections == 1

    def test_unless_one_joins_meanwhile(self, router: Registered, apps: list[Backend]) -> None:
        host = fresh_host()
        with secured(unmoved) as place:
            router.register((host, record(place, "bad", host)))
            with router.waiting(host) as wire:
                router.register((host, at(apps[0], "new", app=host)))
                assert wire.message().get("X-Instance") == b"new"

    def test_running_out_of_endpoints_keeps_the_previous_error(self, router: Registered) -> None:
        host = fresh_host()
        with backend(silent_end) as one, refusing() as place:
            router.register((host, at(one, "one", app=host)), (host, record(place, "two", host)))
            answers = [router.ask(host) for _ in range(2)]
            assert [answer.status for answer in answers] == [502, 502]
            assert all(re.search(r"EOF|connection refused", error(answer)) for answer in answers)

    def test_there_is_no_back_off(self, router: Registered) -> None:
        host = fresh_host()
        apps = [Backend(silent_end) for _ in range(3)]
        router.register(*[(host, at(app, str(app.port))) for app in apps])
        began = time.monotonic()
        assert router.ask(host).status == 502
        assert time.monotonic() - began < 1.0
        for app in apps:
            app.close()

    def test_a_client_that_has_left_gets_no_other_attempt(self, router: Registered, apps: list[Backend]) -> None:
        """3.5: if the request is cancelled already, never retry."""
        host = fresh_host()
        with backend(unmoved) as slow, backend(telling()) as other:
            router.register((host, record({"tls_port": slow.port}, "slow", host)))
            with router.waiting(host):
                wait_until(lambda: slow.wires and slow.wires[0].seen, "an attempt")
                router.register((host, at(other, "other", app=host)))
            wait_until(lambda: slow.wires[0].socket.fileno() == -1, "the end of the attempt")
            assert router.see(host).instance == "other"
            assert other.connections == 1

    def test_a_reused_connection_that_was_closed_meanwhile_costs_no_attempt(self, router: Registered) -> None:
        """Go's transport does so out of sight: the same endpoint on a new connection, whatever balancing would say."""
        host = fresh_host()

        def once(wire: Wire) -> None:
            wire.head()
            wire.send(head("200 OK", "Content-Length: 0"))
            wire.head()

        with backend(once) as app, backend(once) as other:
            router.register((host, at(app, "a", app=host)), (host, at(other, "b", app=host)))
            for number in range(1, 9):
                assert router.ask(host).status == 200
                assert app.connections + other.connections == number
                assert abs(app.connections - other.connections) <= 1


class TestTimeouts:
    """3.7; the dial's and the handshake's are among the classes."""

    def test_ours_a_response_that_does_not_begin_in_time_is_504(self, timed: Registered, apps: list[Backend]) -> None:
        """And, as in the original: not retried, not marked, in Go's words."""
        host = fresh_host()
        with backend(unmoved) as slow:
            timed.register((host, at(slow, "slow", app=host)), (host, at(apps[0], "good", app=host)))
            began = time.monotonic()
            answers = [timed.ask(host) for _ in range(4)]
            assert time.monotonic() - began > 1.0
            late = [answer for answer in answers if answer.status != 200]
            assert len(late) == 2
            for answer in late:
                assert (answer.status, error(answer)) == (504, "context deadline exceeded")

    def test_a_body_that_is_not_whole_in_time_is_cut(self, timed: Registered) -> None:
        """However steadily it moves."""
        host = fresh_host()

        def endless(wire: Wire) -> None:
            wire.head()
            wire.send(head("200 OK", "Transfer-Encoding: chunked"))
            for _ in range(500):
                wire.send(b"1\r\nx\r\n")
                time.sleep(0.02)

        with backend(endless) as app:
            timed.register((host, at(app, "a")))
            with timed.waiting(host) as wire:
                assert wire.head().status == 200
                began = time.monotonic()
                assert not wire.read_to_end().endswith(b"0\r\n\r\n")
                assert time.monotonic() - began < 3

    def test_each_attempt_has_its_own(self, timed: Registered) -> None:
        """Three of 0.37 s, where 0.6 s are allowed."""
        host = fresh_host()
        attempts = count(1)

        def slow(wire: Wire) -> None:
            wire.head()
            number = next(attempts)
            time.sleep(0.37)
            if number == 3:
                wire.send(OK)

        apps = [Backend(slow) for _ in range(3)]
        timed.register(*[(host, at(app, str(app.port))) for app in apps])
        assert timed.ask(host).status == 200
        for app in apps:
            app.close()

    def test_upgrades(self, timed: Registered) -> None:
        """Not for a websocket upgrade, however late it is accepted; other upgrades have to be accepted in time. Ours:
        nor for what follows an upgrade of another kind. Side by side, since each has to outlast the timeout."""
        late, other, never = (fresh_host() for _ in range(3))

        def accepting(wire: Wire) -> None:
            protocol = (wire.head().get("Upgrade") or b"").decode()
            if protocol == "WebSocket":
                time.sleep(1.1)
            wire.send(head("101 Switching Protocols", "Connection: Upgrade", f"Upgrade: {protocol}"))
            wire.send(wire.read_exactly(5).upper())
            wire.read_to_end()

        def upgrading(host: str, protocol: str) -> AbstractContextManager[Wire]:
            return timed.waiting(host, "/", "Connection: Upgrade", f"Upgrade: {protocol}")

        with backend(accepting) as app, backend(unmoved) as silent:
            timed.register((late, at(app, "a")), (other, at(app, "a")), (never, at(silent, "a")))
            with (
                upgrading(late, "WebSocket") as websocket,
                upgrading(other, "other") as tunnel,
                upgrading(never, "other") as refused,
            ):
                assert tunnel.head().status == 101
                assert refused.head().status == 504
                assert websocket.head().status == 101
                for wire in (websocket, tunnel):
                    wire.send(b"hello")
                    assert wire.read_exactly(5) == b"HELLO"

    def test_ours_there_is_no_wait_for_100_continue(self, router: Registered) -> None:
        """The backend's own 100 is waited for; the original makes one itself after a second."""
        host = fresh_host()

        def expecting(wire: Wire) -> None:
            wire.head()
            wire.send(head("100 Continue"))
            assert wire.read_exactly(2) == b"hi"
            wire.send(OK)
            wire.read_to_end()

        with backend(expecting) as app:
            router.register((host, at(app, "a")))
            with router.waiting(host, "/", "Expect: 100-continue", "Content-Length: 2") as wire:
                assert wire.head().status == 100
                wire.send(b"hi")
                assert wire.head().status == 200


class TestKeptConnections:
    """3.8"""

    def test_they_are_reused(self, router: Registered) -> None:
        host = fresh_host()
        with backend(telling()) as app:
            router.register((host, at(app, "a")))
            seen = [router.see(host) for _ in range(5)]
            assert app.connections == 1
            assert all(one.all("Connection") == [] for one in seen)

    def test_by_all_routes_of_an_endpoint(self, router: Registered) -> None:
        hosts = [fresh_host() for _ in range(2)]
        with backend(telling()) as app:
            router.register(*[(host, at(app, "a")) for host in hosts])
            for host in hosts:
                router.see(host)
            assert app.connections == 1

    def test_but_not_by_another_endpoint_with_the_same_address(self, router: Registered) -> None:
        hosts = [fresh_host() for _ in range(2)]
        with backend(telling()) as app:
            router.register(*[(host, at(app, host)) for host in hosts])
            for host in hosts:
                assert router.see(host).instance == host
            assert app.connections == 2

    def test_they_end_with_their_endpoint(self, router: Registered) -> None:
        host = fresh_host()
        with backend(telling()) as app:
            router.register((host, at(app, "a")))
            router.see(host)
            router.unregister((host, at(app, "a")))
            wait_until(lambda: app.wires[0].socket.fileno() == -1, "the end of the idle connection")

    def test_no_more_than_max_idle_conns_per_host_and_not_for_ever(self, timed: Registered) -> None:
        host = fresh_host()
        all_here = threading.Barrier(3)

        def together(wire: Wire) -> None:
            wire.head()
            all_here.wait(5)
            wire.send(OK)
            wire.read_to_end()

        with backend(together) as app:
            timed.register((host, at(app, "a")))
            with timed.waiting(host) as one, timed.waiting(host) as two, timed.waiting(host) as three:
                assert [wire.message().status for wire in (one, two, three)] == [200] * 3

            def closed() -> int:
                return sum(wire.socket.fileno() == -1 for wire in app.wires)

            wait_until(lambda: closed() >= 2, "the end of those that are too many")
            wait_until(lambda: closed() == 3, "the end of the one that idled for too long")

    def test_disable_keep_alives(self, closing: Registered) -> None:
        host = fresh_host()
        with backend(telling()) as app:
            closing.register((host, at(app, "a")))
            seen = [closing.see(host) for _ in range(3)]
            assert app.connections == 3
            assert all(one.all("Connection") == ["close"] for one in seen)
            assert all(one.answer.get("Connection") is None for one in seen)
