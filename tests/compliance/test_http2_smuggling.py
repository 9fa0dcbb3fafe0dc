"""HTTP/2 requests that would say something else in HTTP/1.1: each is refused on its stream, and no backend hears of it.

RFC 9113 section 8.1.1: a malformed request is a stream error of type PROTOCOL_ERROR; the server may say 400 first. The
connection goes on, because other people's requests may be on it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.router.http2.frames import Code, Fields
from tests.router.http2.peer import Peer, connect
from tests.router.wire import OK, Backend, Message, RunningEdge, answering, backend, running_edge, wait_until

HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: app.test\r\n\r\n"
METHOD, SCHEME, AUTHORITY, PATH = b":method", b":scheme", b":authority", b":path"


def get(*fields: tuple[bytes, bytes], **pseudo: bytes | None) -> Fields:
    """A GET; a pseudo field may be replaced, or left out with None."""
    head = {"method": b"GET", "scheme": b"http", "authority": b"app.test", "path": b"/", **pseudo}
    return [(b":" + name.encode(), value) for name, value in head.items() if value is not None] + list(fields)


HEADS: dict[str, Fields] = {
    # Field names (RFC 9113 section 8.2.1)
    "upper case in a name": get((b"X-Upper", b"1")),
    "one upper case letter": get((b"content-Length", b"0")),
    "space in a name": get((b"x y", b"1")),
    "space at the end of a name": get((b"transfer-encoding ", b"chunked")),
    "space before a name": get((b" x", b"1")),
    "tab in a name": get((b"x\ty", b"1")),
    "CR in a name": get((b"x\ry", b"1")),
    "LF in a name": get((b"x\ny", b"1")),
    "NUL in a name": get((b"x\0y", b"1")),
    "DEL in a name": get((b"x\x7f", b"1")),
    "byte over 127 in a name": get((b"x\xe9", b"1")),
    "colon in a name": get((b"x:y", b"1")),
    "colon at the end of a name": get((b"transfer-encoding:", b"chunked")),
    "a line in a name": get((b"x: 1\r\ntransfer-encoding", b"chunked")),
    "a whole request in a name": get((b"x: 1\r\n\r\n" + HIDDEN + b"x", b"1")),
    "an empty name": get((b"", b"1")),
    "a quote in a name": get((b'x"', b"1")),
    # Field values (RFC 9113 section 8.2.1)
    "CR in a value": get((b"x", b"a\rb")),
    "LF in a value": get((b"x", b"a\nb")),
    "NUL in a value": get((b"x", b"a\0b")),
    "a line in a value": get((b"x", b"a\r\ntransfer-encoding: chunked")),
    "a whole request in a value": get((b"x", b"a\r\n\r\n" + HIDDEN)),
    "LF at the end of a value": get((b"x", b"a\n")),
    "CR alone": get((b"x", b"\r")),
    "space before a value": get((b"x", b" a")),
    "space after a value": get((b"x", b"a ")),
    "tab before a value": get((b"x", b"\ta")),
    "tab after a value": get((b"x", b"a\t")),
    "control byte in a value": get((b"x", b"a\x01b")),
    "DEL in a value": get((b"x", b"a\x7f")),
    "a line in a cookie": get((b"cookie", b"a=1\r\nx: 2")),
    # Fields that belong to one connection (RFC 9113 section 8.2.2)
    "transfer-encoding": get((b"transfer-encoding", b"chunked")),
    "transfer-encoding, identity": get((b"transfer-encoding", b"identity")),
    "connection": get((b"connection", b"close")),
    "connection that names a field": get((b"connection", b"x-forwarded-for")),
    "keep-alive": get((b"keep-alive", b"timeout=5")),
    "proxy-connection": get((b"proxy-connection", b"keep-alive")),
    "upgrade": get((b"upgrade", b"websocket")),
    "te with a coding": get((b"te", b"gzip")),
    "te with trailers and a coding": get((b"te", b"trailers, deflate")),
    "te, empty": get((b"te", b"")),
    # Pseudo fields (RFC 9113 section 8.3)
    "a pseudo field after a field": [*get(path=None), (b"x", b"1"), (PATH, b"/")],
    "a second :path": get((PATH, b"/hidden")),
    "a second :method": [(METHOD, b"POST"), *get()],
    "a second :scheme": [(SCHEME, b"https"), *get()],
    "a second :authority": [(AUTHORITY, b"other.test"), *get()],
    "the same :authority twice": [(AUTHORITY, b"app.test"), *get()],
    "an unknown pseudo field": [(b":x", b"1"), *get()],
    "a pseudo field of responses": [(b":status", b"200"), *get()],
    "a pseudo field in upper case": [(b":Path", b"/"), *get(path=None)],
    "an empty pseudo field name": [(b":", b"1"), *get()],
    ":protocol without CONNECT": [(b":protocol", b"websocket"), *get()],
    "no :method": get(method=None),
    "no :scheme": get(scheme=None),
    "no :path": get(path=None),
    "no pseudo field at all": [(b"host", b"app.test")],
    "no fields at all": [],
    "an empty :method": get(method=b""),
    "an empty :path": get(path=b""),
    "an empty :scheme": get(scheme=b""),
    # Methods
    "space in :method": get(method=b"GET /hidden"),
    "a whole request line in :method": get(method=b"GET /hidden HTTP/1.1\r\nx: y\r\n\r\nGET"),
    "LF in :method": get(method=b"GET\n"),
    "NUL in :method": get(method=b"GET\0"),
    # Paths (RFC 9113 section 8.3.1)
    "space in :path": get(path=b"/a b"),
    "a version in :path": get(path=b"/hidden HTTP/1.1"),
    "a line in :path": get(path=b"/ HTTP/1.1\r\nx: y"),
    "a whole request in :path": get(path=b"/ HTTP/1.1\r\nhost: app.test\r\n\r\n" + HIDDEN),
    "LF in :path": get(path=b"/\n"),
    "CR in :path": get(path=b"/\r"),
    "NUL in :path": get(path=b"/\0"),
    "tab in :path": get(path=b"/\t"),
    "DEL in :path": get(path=b"/\x7f"),
    "a fragment in :path": get(path=b"/#x"),
    "a :path without a slash": get(path=b"x"),
    "a :path that is a query": get(path=b"?x"),
    "a :path that is a URL": get(path=b"http://other.test/"),
    "a :path that is an authority": get(path=b"@other.test/"),
    "* for another method than OPTIONS": get(path=b"*"),
    # Schemes
    "space in :scheme": get(scheme=b"http x"),
    "a line in :scheme": get(scheme=b"http\r\nx: y"),
    "a URL in :scheme": get(scheme=b"http://other.test/?"),
    # Authorities (RFC 9113 section 8.3.1)
    "userinfo in :authority": get(authority=b"user@app.test"),
    "space in :authority": get(authority=b"app.test x"),
    "a line in :authority": get(authority=b"app.test\r\nx: y"),
    "a path in :authority": get(authority=b"app.test/x"),
    "a query in :authority": get(authority=b"app.test?x"),
    "a fragment in :authority": get(authority=b"app.test#x"),
    "a backslash in :authority": get(authority=b"app.test\\x"),
    "NUL in :authority": get(authority=b"app.test\0"),
    "two ports in :authority": get(authority=b"app.test:80:80"),
    "a port in letters": get(authority=b"app.test:http"),
    "neither :authority nor host": get(authority=None),
    "a host that differs": get((b"host", b"other.test")),
    "a host that differs by a port": get((b"host", b"app.test:81")),
    "a host that differs by a dot": get((b"host", b"app.test.")),
    "two hosts": get((b"host", b"app.test"), (b"host", b"other.test"), authority=None),
    "two hosts beside :authority": get((b"host", b"app.test"), (b"host", b"other.test")),
    "an empty host beside :authority": get((b"host", b"")),
    "a line in host": get((b"host", b"app.test\r\nx: y"), authority=None),
    # Content-Length (RFC 9113 section 8.1.1)
    "a length, and no body": get((b"content-length", b"5"), method=b"POST"),
    "a length that is no number": get((b"content-length", b"five"), method=b"POST"),
    "an empty length": get((b"content-length", b""), method=b"POST"),
    "a negative length": get((b"content-length", b"-1"), method=b"POST"),
    "two lengths": get((b"content-length", b"0"), (b"content-length", b"5"), method=b"POST"),
    "a length of 19 digits": get((b"content-length", b"9999999999999999999"), method=b"POST"),
    # CONNECT (RFC 9113 section 8.5)
    "CONNECT with :path": get(method=b"CONNECT", scheme=None, authority=b"app.test:80"),
    "CONNECT with :scheme": get(method=b"CONNECT", path=None, authority=b"app.test:80"),
    "CONNECT without :authority": get(method=b"CONNECT", path=None, scheme=None, authority=None),
    "CONNECT without a port": get(method=b"CONNECT", path=None, scheme=None),
    "CONNECT to a line": get(method=b"CONNECT", path=None, scheme=None, authority=b"app.test:80\r\nx: y"),
}

TRAILERS: dict[str, Fields] = {
    # RFC 9113 section 8.1: no pseudo fields in trailers; section 8.2: names and values as in heads
    "a pseudo field": [(PATH, b"/hidden")],
    "a status": [(b":status", b"200")],
    "upper case": [(b"X-Sum", b"1")],
    "a line in a value": [(b"x", b"1\r\ny: 2")],
    "a whole request in a value": [(b"x", b"1\r\n\r\n" + HIDDEN)],
    "LF in a name": [(b"x\ny", b"1")],
    "colon in a name": [(b"x:y", b"1")],
    "connection": [(b"connection", b"close")],
    "transfer-encoding": [(b"transfer-encoding", b"chunked")],
}


@pytest.fixture(scope="module")
def edge() -> Iterator[RunningEdge]:
    with running_edge() as running:
        yield running


@pytest.fixture
def seen() -> list[Message]:
    """The requests that the backend got whole."""
    return []


@pytest.fixture
def app(edge: RunningEdge, seen: list[Message]) -> Iterator[Backend]:
    with backend(answering(OK, seen)) as running:
        edge.register("app.test", running.port)
        yield running
        edge.unregister("app.test", running.port)


@pytest.fixture
def client(edge: RunningEdge) -> Iterator[Peer]:
    peer = connect(edge.port)
    yield peer
    peer.close()


REFUSED = (Code.PROTOCOL_ERROR, 400, 421, 431, 501)
CUT = (Code.PROTOCOL_ERROR, Code.CANCEL, Code.INTERNAL_ERROR, 200, 400, 502)
"""A request whose head had gone to the backend already: whatever was said, its rest is not passed for whole."""


def assert_others_go_on(client: Peer, seen: list[Message]) -> None:
    """The connection works, and the backend has seen nothing but this."""
    assert client.exchange("/after").status == 200
    assert [message.first for message in seen] == [b"GET /after HTTP/1.1"]


@pytest.mark.parametrize("name", HEADS)
def test_a_malformed_head_is_refused(app: Backend, client: Peer, seen: list[Message], name: str) -> None:
    stream = client.next_stream()
    client.headers(stream, HEADS[name], end=True)
    assert client.outcome(stream) in REFUSED
    assert_others_go_on(client, seen)


@pytest.mark.parametrize("name", [name for name in HEADS if "length" not in name and "CONNECT" not in name])
def test_also_where_a_body_is_to_follow(app: Backend, client: Peer, seen: list[Message], name: str) -> None:
    stream = client.next_stream()
    client.headers(stream, [(n, b"POST" if v == b"GET" else v) for n, v in HEADS[name]])
    client.data(stream, HIDDEN)
    assert client.outcome(stream) in REFUSED
    assert_others_go_on(client, seen)


@pytest.mark.parametrize("name", TRAILERS)
@pytest.mark.parametrize("length", [None, "5"])
def test_malformed_trailers_never_end_a_request(
    app: Backend, client: Peer, seen: list[Message], name: str, length: str | None
) -> None:
    stream = client.request("/", *[("content-length", length)] if length else [], method="POST", end=False)
    client.data(stream, b"hello")
    client.headers(stream, TRAILERS[name], end=True)
    # Refused; or, where its length made the request whole before its trailers came, answered without them.
    assert client.outcome(stream) in ((200, *REFUSED) if length else REFUSED)
    assert client.exchange("/after").status == 200
    assert [m.first for m in seen if m.first != b"POST / HTTP/1.1"] == [b"GET /after HTTP/1.1"]
    assert length or len(seen) == 1
    assert all(b"\r\nx" not in m.raw_body.lower() for m in seen)


class TestBodies:
    @pytest.mark.parametrize("extra", [b"!", HIDDEN, b"0\r\n\r\n" + HIDDEN])
    def test_more_than_its_length(self, app: Backend, client: Peer, seen: list[Message], extra: bytes) -> None:
        """RFC 9113 section 8.1.1."""
        stream = client.request("/long", ("content-length", "5"), method="POST", end=False)
        client.data(stream, b"hello" + extra, end=True)
        assert client.outcome(stream) in CUT
        assert client.exchange("/after").status == 200
        assert seen[-1].first == b"GET /after HTTP/1.1"
        assert all(m.body == b"hello" for m in seen[:-1])
        assert not any(HIDDEN in wire.seen for wire in app.wires)

    def test_more_than_its_length_in_a_frame_of_its_own(self, app: Backend, client: Peer, seen: list[Message]) -> None:
        stream = client.request("/long", ("content-length", "5"), method="POST", end=False)
        client.data(stream, b"hello")
        client.data(stream, HIDDEN, end=True)
        assert client.outcome(stream) in CUT
        assert client.exchange("/after").status == 200
        assert not any(b"/hidden" in wire.seen for wire in app.wires)

    def test_less_than_its_length(self, app: Backend, client: Peer, seen: list[Message]) -> None:
        """The backend must not take what comes next on the connection for the rest."""
        stream = client.request("/short", ("content-length", "500"), method="POST", end=False)
        client.data(stream, b"hello", end=True)
        assert client.outcome(stream) in CUT
        assert client.exchange("/after").status == 200
        assert [m.first for m in seen] == [b"GET /after HTTP/1.1"]

    def test_less_than_its_length_before_trailers(self, app: Backend, client: Peer, seen: list[Message]) -> None:
        stream = client.request("/short", ("content-length", "500"), method="POST", end=False)
        client.data(stream, b"hello")
        client.headers(stream, [(b"x", b"1")], end=True)
        assert client.outcome(stream) in CUT
        assert client.exchange("/after").status == 200
        assert [m.first for m in seen] == [b"GET /after HTTP/1.1"]

    def test_a_body_that_looks_like_chunks_is_a_body(self, app: Backend, client: Peer, seen: list[Message]) -> None:
        text = b"0\r\n\r\n" + HIDDEN
        assert client.exchange("/", method="POST", body=text).status == 200
        assert client.exchange("/", ("content-length", str(len(text))), method="POST", body=text).status == 200
        assert [m.body for m in seen] == [text, text]

    def test_a_get_with_a_body_of_unknown_length(self, app: Backend, client: Peer, seen: list[Message]) -> None:
        assert client.exchange("/", body=HIDDEN).status == 200
        assert [m.body for m in seen] == [HIDDEN]

    def test_trailers_that_frame_are_not_passed_on(self, app: Backend, client: Peer, seen: list[Message]) -> None:
        """RFC 9110 section 6.5.1."""
        for name in (b"content-length", b"host", b"authorization", b"cookie"):
            stream = client.request("/t", method="POST", end=False)
            client.data(stream, b"hello")
            client.headers(stream, [(name, b"5")], end=True)
            assert client.outcome(stream) in (200, *REFUSED)
            assert client.exchange("/after").status == 200
        assert not any(m.raw_body.split(b"0\r\n", 1)[1].strip() for m in seen if m.raw_body)

    def test_a_reset_upload_is_never_whole(self, app: Backend, client: Peer, seen: list[Message]) -> None:
        for fields in ([], [("content-length", "10")]):
            stream = client.request("/cut", *fields, method="POST", end=False)
            client.data(stream, b"hello")
            client.reset(stream)
        assert client.exchange("/after").status == 200
        assert [m.first for m in seen] == [b"GET /after HTTP/1.1"]
        wait_until(lambda: sum(wire.socket.fileno() >= 0 for wire in app.wires) <= 1, "the end of cut uploads")


FIELDS_THAT_ARE_FINE: dict[str, tuple[Fields, bytes]] = {
    "host instead of :authority": (get((b"host", b"app.test"), authority=None), b"Host: app.test"),
    "host that says the same": (get((b"host", b"app.test")), b"Host: app.test"),
    "an empty value": (get((b"x", b"")), b"x:"),
    "a value with bytes over 127": (get((b"x", b"\xe9\xff")), b"x: \xe9\xff"),
    "white space inside a value": (get((b"x", b"a \t b")), b"x: a \t b"),
    "a colon in a value": (get((b"x", b"a: b")), b"x: a: b"),
    "te: trailers": (get((b"te", b"trailers")), b"TE: trailers"),
}


@pytest.mark.parametrize("name", FIELDS_THAT_ARE_FINE)
def test_what_is_valid_passes(app: Backend, client: Peer, seen: list[Message], name: str) -> None:
    fields, line = FIELDS_THAT_ARE_FINE[name]
    stream = client.next_stream()
    client.headers(stream, fields, end=True)
    assert client.response(stream).status == 200
    wanted, _, value = line.partition(b":")
    assert seen[0].all(wanted.decode()) == [value.strip()]
    assert len(seen[0].all("host")) == 1
