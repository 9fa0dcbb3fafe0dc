"""The client of the platform's APIs against servers that answer in every way, plain and over TLS."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest
import trustme
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from router.http1.grammar import Limits
from router.sources.http_client import MAX_INTERIM, Origin, Request, RequestFailed, asking, parse_origin
from router.tls.contexts import platform_context
from tests.router import wire
from tests.router.wire import Wire, answering

GET = Request("GET", "/routing/v1/routes", {"Accept": "application/json"})
SECONDS = 5.0


def fetch(
    port: int,
    *,
    request: Request = GET,
    limit: int = 1000,
    seconds: float = SECONDS,
    context: ssl.SSLContext | None = None,
    host: str = "127.0.0.1",
) -> tuple[int, bytes]:
    async def ask() -> tuple[int, bytes]:
        async with asking(Origin(host, port, context), request, seconds) as answer:
            return answer.status, await answer.whole(limit, seconds)

    return uvloop.run(ask())


def answer(response: bytes, *, pause: Callable[[], None] = lambda: None) -> Callable[[Wire], None]:
    """A script that sends this, byte by byte where ``pause`` takes its time, and hangs up."""

    def script(wire: Wire) -> None:
        wire.head()
        for byte in response:
            wire.send(bytes((byte,)))
            pause()

    return script


def outcome(response: bytes, limit: int = 1000) -> tuple[int, bytes]:
    """What comes of this answer, after which the server hangs up."""

    def script(wire: Wire) -> None:
        wire.head()
        wire.send(response)

    with wire.backend(script) as server:
        return fetch(server.port, limit=limit)


class TestAnswers:
    @pytest.mark.parametrize(
        ("response", "body"),
        [
            (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", b"[]"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]more", b"[]"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n[\r\n1\r\n]\r\n0\r\n\r\n", b"[]"),
            (b"HTTP/1.1 200 OK\r\n\r\n[]", b"[]"),
            (b"HTTP/1.0 200 OK\r\n\r\n", b""),
            (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
            (b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b""),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 1000, b"x" * 1000),
        ],
    )
    def test_a_body_in_every_framing(self, response: bytes, body: bytes) -> None:
        status, received = outcome(response)
        assert (status in (200, 204), received) == (True, body)

    def test_in_pieces_as_small_as_they_come(self) -> None:
        response = (
            b"HTTP/1.1 100 Go on\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n0\r\n\r\n"
        )
        with wire.backend(answer(response)) as server:
            assert fetch(server.port) == (200, b"[]")

    def test_the_request(self) -> None:
        seen: list[wire.Message] = []
        ok = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
        with wire.backend(answering(ok, seen)) as server:
            fetch(server.port)
            fetch(server.port, request=Request("POST", "/oauth/token", {"A": "b"}, b"grant"))
            host = b"127.0.0.1:%d" % server.port
        assert seen[0].first == b"GET /routing/v1/routes HTTP/1.1"
        assert (seen[0].get("host"), seen[0].get("accept")) == (host, b"application/json")
        assert seen[0].get("connection") == b"close"
        assert seen[0].get("content-length") is None
        assert (seen[1].first, seen[1].get("a"), seen[1].body) == (b"POST /oauth/token HTTP/1.1", b"b", b"grant")

    @given(st.binary(max_size=200))
    def test_bytes_of_any_kind_are_an_answer_or_a_failure(self, response: bytes) -> None:
        with suppress(RequestFailed):
            assert outcome(b"HTTP/1.1 200 OK\r\n" + response)[0] == 200


class TestFailures:
    @pytest.mark.parametrize(
        ("response", "why"),
        [
            (b"", "the connection ended in the middle of the answer"),
            (b"HTTP/1.1 200 OK\r\nContent-Le", "the connection ended in the middle of the answer"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n[]", "the connection ended in the middle of the answer"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n", "the connection ended in the middle"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "malformed chunk"),
            (b"HTTP/1.1 200 OK\nContent-Length: 2\n\n[]", "does not look like HTTP"),
            (b"SSH-2.0-OpenSSH\r\n", "does not look like HTTP"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "both Content-Length and"),
            (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n", "an upgrade"),
            (b"HTTP/1.1 102 Wait\r\n\r\n" * (MAX_INTERIM + 1), "interim responses"),
            (b"HTTP/1.1 200 OK\r\nA: " + b"x" * Limits().head, "response headers exceeded"),
            (b"HTTP/1.1 302 Found\r\nLocation: https://elsewhere/\r\n\r\n", "leads to 'https://elsewhere/'"),
            (b"HTTP/1.1 307 Go\r\n\r\n", "redirects are not followed"),
        ],
    )
    def test_are_told_by_what_is_wrong(self, response: bytes, why: str) -> None:
        with pytest.raises(RequestFailed, match=why):
            outcome(response)

    @pytest.mark.parametrize(
        "head",
        [b"Content-Length: 1001\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n3e9\r\n", b"\r\n"],
    )
    def test_a_body_has_a_longest(self, head: bytes) -> None:
        with pytest.raises(RequestFailed, match="longer than 1000 bytes"):
            outcome(b"HTTP/1.1 200 OK\r\n" + head + b"x" * 1001 + b"\r\n0\r\n\r\n")

    def test_nobody_there(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as found:
            port = found.getsockname()[1]
        with pytest.raises(RequestFailed, match=rf"127\.0\.0\.1:{port}: .*refused"):
            fetch(port)

    @pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 64 + ".example.com", "two..dots"])
    def test_names_that_lead_nowhere(self, host: str) -> None:
        with pytest.raises(RequestFailed, match=host[:20]):
            fetch(80, host=host)

    def test_one_address_of_several_that_does_not_answer(self, monkeypatch: pytest.MonkeyPatch) -> None:
        ok = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]"
        with wire.backend(answering(ok)) as server, deaf(server.port):

            async def addresses(origin: Origin) -> list[str]:
                return ["127.0.0.2", "127.0.0.3", "127.0.0.1"]

            monkeypatch.setattr("router.sources.http_client._addresses", addresses)
            assert fetch(server.port, host="api.example.com", seconds=1.5) == (200, b"[]")

    def test_an_answer_that_never_begins(self) -> None:
        over = threading.Event()
        with wire.backend(lambda _: bool(over.wait(wire.PATIENCE))) as server:  # type: ignore[arg-type, return-value]
            with pytest.raises(RequestFailed, match=r"no answer within 0\.2 s"):
                fetch(server.port, seconds=0.2)
            over.set()

    def test_an_answer_that_never_ends(self) -> None:
        head = b"HTTP/1.1 200 OK\r\n\r\n"
        with wire.backend(answer(head + b"x" * 500, pause=lambda: time.sleep(0.005))) as server:
            began = time.monotonic()
            with pytest.raises(RequestFailed, match=r"not whole within 0\.5 s"):
                fetch(server.port, seconds=0.5)
            assert time.monotonic() - began < 2.0


@contextmanager
def deaf(port: int) -> Iterator[None]:
    """127.0.0.2:port: a listener whose backlog is full, so that connections to it are never answered."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.2", port))
        listener.listen(0)
        for _ in range(3):
            caller = stack.enter_context(socket.socket())
            caller.setblocking(False)
            caller.connect_ex(("127.0.0.2", port))
        yield


class TestRefusals:
    @pytest.mark.parametrize(
        ("body", "said"),
        [
            (b'{"name":"UnauthorizedError","message":"no"}', ': {"name":"UnauthorizedError","message":"no"}'),
            (b"", ""),
            (b"two\nlines\x1b[31m", ": two lines [31m"),
            (b"x" * 300, ": " + "x" * 200 + "..."),
        ],
    )
    def test_say_what_the_answer_says(self, body: bytes, said: str) -> None:
        async def ask(port: int) -> str:
            async with asking(Origin("127.0.0.1", port, None), GET, SECONDS) as refused:
                return str(await refused.refusal())

        with wire.backend(answering(b"HTTP/1.1 401 No\r\nContent-Length: %d\r\n\r\n" % len(body) + body)) as server:
            assert uvloop.run(ask(server.port)) == f"127.0.0.1:{server.port}: answered 401{said}"


class TestTls:
    """Both sides show certificates (gorouter reference 6.3)."""

    authority = trustme.CA()

    def ask(self, context: ssl.SSLContext, server_context: ssl.SSLContext) -> tuple[int, bytes]:
        """One request to a server with this context."""
        failures: list[Exception] = []

        def serve(listener: socket.socket) -> None:
            try:
                accepted, _ = listener.accept()
                with server_context.wrap_socket(accepted, server_side=True) as secured:
                    Wire(secured).head()
                    secured.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]")
            except OSError as error:
                failures.append(error)

        with socket.create_server(("127.0.0.1", 0)) as listener:
            thread = threading.Thread(target=serve, args=(listener,))
            thread.start()
            try:
                return fetch(listener.getsockname()[1], context=context)
            finally:
                thread.join(wire.PATIENCE)

    def serving(self, name: str = "127.0.0.1", version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert(name).configure_cert(context)
        self.authority.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
        if version is not None:
            context.maximum_version = version
        return context

    def ours(self, signer: trustme.CA | None = None, trusted: trustme.CA | None = None) -> ssl.SSLContext:
        pair = (signer or self.authority).issue_cert("gorouter.example.com")
        return platform_context(
            (trusted or self.authority).cert_pem.bytes().decode(),
            "".join(pem.bytes().decode() for pem in pair.cert_chain_pems),
            pair.private_key_pem.bytes().decode(),
        )

    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    def test_both_sides_are_known(self, version: ssl.TLSVersion) -> None:
        assert self.ask(self.ours(), self.serving(version=version)) == (200, b"[]")

    def test_a_server_that_we_do_not_trust(self) -> None:
        with pytest.raises(RequestFailed, match="certificate verify failed"):
            self.ask(self.ours(trusted=trustme.CA()), self.serving())

    def test_a_server_with_another_name(self) -> None:
        with pytest.raises(RequestFailed, match="certificate"):
            self.ask(self.ours(), self.serving("elsewhere.example.com"))

    def test_a_server_that_does_not_trust_us(self) -> None:
        with pytest.raises(RequestFailed):
            self.ask(self.ours(signer=trustme.CA()), self.serving())


class TestOrigins:
    @pytest.mark.parametrize(
        ("url", "host", "path", "secure"),
        [
            ("https://routing-api.service.cf.internal", "routing-api.service.cf.internal", "", True),
            ("https://api.example.com/prefix/", "api.example.com", "/prefix", True),
            ("http://127.0.0.1", "127.0.0.1", "", False),
            ("https://[::1]", "::1", "", True),
        ],
    )
    def test_of_urls(self, url: str, host: str, path: str, secure: bool) -> None:
        context = platform_context("", "", "")
        assert parse_origin(url, 3001, context) == (Origin(host, 3001, context if secure else None), path)

    @pytest.mark.parametrize(
        "url",
        ["", "u", "routing-api:3001", "ftp://host", "https://", "https://u:p@host", "https://h/?q", "https://h/ x"],
    )
    def test_are_nowhere_else(self, url: str) -> None:
        with pytest.raises(ValueError, match="URL"):
            parse_origin(url, 3001, platform_context("", "", ""))
