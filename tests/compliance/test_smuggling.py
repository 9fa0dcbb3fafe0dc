"""Requests that two readers could understand differently: each is refused, and not one byte of it reaches a backend.

Every case is sent at once, in small pieces, and glued behind a good request, which is answered first.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import pytest

from router.config.settings import Settings
from tests.router.wire import OK, Backend, Message, RunningEdge, Wire, answering, backend, running_edge, wait_until

GOOD = b"GET /good HTTP/1.1\r\nHost: good.test\r\n\r\n"
HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: app.test\r\n\r\n"


def get(*lines: bytes, first: bytes = b"GET / HTTP/1.1", host: bytes = b"Host: app.test\r\n") -> bytes:
    return first + b"\r\n" + host + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


def line(first: bytes) -> bytes:
    return get(first=first)


def post(*lines: bytes, body: bytes = b"") -> bytes:
    return get(*lines, first=b"POST / HTTP/1.1") + body


HEADS: dict[str, tuple[int, bytes]] = {
    # Line ends and white space (RFC 9112 sections 2.2, 3 and 5)
    "bare LF after the request line": (400, b"GET / HTTP/1.1\nHost: app.test\r\n\r\n"),
    "bare LF after a field": (400, b"GET / HTTP/1.1\r\nHost: app.test\nX: 1\r\n\r\n"),
    "bare LF everywhere": (400, b"GET / HTTP/1.1\nHost: app.test\n\n"),
    "bare LF instead of the empty line": (400, b"GET / HTTP/1.1\r\nHost: app.test\r\n\nX: 1\r\n\r\n"),
    "bare LF before the request": (400, b"\nGET / HTTP/1.1\r\nHost: app.test\r\n\r\n"),
    "bare CR after the request line": (400, b"GET / HTTP/1.1\rHost: app.test\r\n\r\n"),
    "bare CR in a value": (400, get(b"X: a\rTransfer-Encoding: chunked")),
    "bare CR before the empty line": (400, b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\r\n\r\n"),
    "CR CR LF": (400, b"GET / HTTP/1.1\r\r\nHost: app.test\r\n\r\n"),
    "CR before the request": (400, b"\rGET / HTTP/1.1\r\nHost: app.test\r\n\r\n"),
    "folded value": (400, get(b"X: a", b" b")),
    "folded with a tab": (400, get(b"X: a", b"\tb")),
    "folded Transfer-Encoding": (400, post(b"Transfer-Encoding:", b" chunked")),
    "first field folded": (400, b"GET / HTTP/1.1\r\n Host: app.test\r\n\r\n"),
    "white space line before the fields": (400, b"GET / HTTP/1.1\r\n \r\nHost: app.test\r\n\r\n"),
    "space before the colon": (400, get(b"X : a")),
    "tab before the colon": (400, get(b"X\t: a")),
    "space before the colon of Content-Length": (400, post(b"Content-Length : 5", body=b"12345")),
    "space before the colon of Transfer-Encoding": (400, post(b"Transfer-Encoding : chunked", body=b"0\r\n\r\n")),
    "vertical tab before the colon": (400, post(b"Transfer-Encoding\x0b: chunked")),
    # Names and values (RFC 9110 sections 5.1 and 5.5)
    "empty name": (400, get(b": a")),
    "line without a colon": (400, get(b"Transfer-Encoding chunked")),
    "space in a name": (400, get(b"X Y: a")),
    "parenthesis in a name": (400, get(b"X(: a")),
    "quoted name": (400, get(b'"Content-Length": 5')),
    "byte over 127 in a name": (400, get(b"X\xe9: a")),
    "NUL in a name": (400, get(b"X\0: a")),
    "NUL in a value": (400, get(b"X: a\0b")),
    "control byte in a value": (400, get(b"X: a\x01b")),
    "vertical tab in a value": (400, get(b"X: a\x0bb")),
    "form feed in a value": (400, get(b"X: a\x0cb")),
    "escape in a value": (400, get(b"X: \x1b[31m")),
    "DEL in a value": (400, get(b"X: a\x7f")),
    "byte order mark before the first name": (400, b"GET / HTTP/1.1\r\n\xef\xbb\xbfHost: app.test\r\n\r\n"),
    # Content-Length (RFC 9110 section 8.6)
    "Content-Length with a plus": (400, post(b"Content-Length: +5", body=b"12345")),
    "Content-Length with a minus": (400, post(b"Content-Length: -5", body=b"12345")),
    "Content-Length in hexadecimal": (400, post(b"Content-Length: 0x5", body=b"12345")),
    "Content-Length with a space inside": (400, post(b"Content-Length: 5 5", body=b"12345")),
    "Content-Length with a dot": (400, post(b"Content-Length: 5.0", body=b"12345")),
    "Content-Length with an underscore": (400, post(b"Content-Length: 1_0", body=b"1234567890")),
    "Content-Length in letters": (400, post(b"Content-Length: five", body=b"12345")),
    "Content-Length in quotes": (400, post(b'Content-Length: "5"', body=b"12345")),
    "Content-Length empty": (400, post(b"Content-Length:")),
    "Content-Length of 19 digits": (400, post(b"Content-Length: 9999999999999999999")),
    "Content-Length beyond 64 bits": (400, post(b"Content-Length: 18446744073709551621", body=b"12345")),
    "Content-Length in Arabic digits": (400, post("Content-Length: \u0665".encode(), body=b"12345")),
    "Content-Length in full width digits": (400, post("Content-Length: \uff15".encode(), body=b"12345")),
    "Content-Length with a parameter": (400, post(b"Content-Length: 5;a=b", body=b"12345")),
    "Content-Length list of two numbers": (400, post(b"Content-Length: 5, 6", body=b"123456")),
    "Content-Length list with an empty member": (400, post(b"Content-Length: 5,", body=b"12345")),
    "Content-Length list of two spellings": (400, post(b"Content-Length: 5, 05", body=b"12345")),
    "two Content-Length fields that differ": (400, post(b"Content-Length: 5", b"Content-Length: 6", body=b"123456")),
    "the second Content-Length malformed": (400, post(b"Content-Length: 5", b"content-length: x", body=b"12345")),
    "Content-Length zero, then hidden request": (400, post(b"Content-Length: 0", b"Content-Length: 40", body=HIDDEN)),
    # Content-Length with Transfer-Encoding (RFC 9112 section 6.3)
    "Content-Length, then Transfer-Encoding": (
        400,
        post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n" + HIDDEN),
    ),
    "Transfer-Encoding, then Content-Length": (
        400,
        post(b"Transfer-Encoding: chunked", b"Content-Length: 5", body=b"0\r\n\r\n" + HIDDEN),
    ),
    "both, far apart": (
        400,
        post(b"Content-Length: 5", *[b"X-%d: 1" % n for n in range(50)], b"Transfer-Encoding: chunked"),
    ),
    "both, in odd case": (400, post(b"cOnTeNt-LeNgTh: 5", b"TRANSFER-ENCODING: CHUNKED", body=b"0\r\n\r\n")),
    "both, with Content-Length zero": (400, post(b"Content-Length: 0", b"Transfer-Encoding: chunked", body=HIDDEN)),
    "both, with Transfer-Encoding named by Connection": (
        400,
        post(b"Connection: transfer-encoding", b"Transfer-Encoding: chunked", b"Content-Length: 5", body=b"0\r\n\r\n"),
    ),
    "both on GET": (400, get(b"Content-Length: 5", b"Transfer-Encoding: chunked")),
    # Transfer-Encoding (RFC 9112 sections 6.1 and 7)
    "xchunked": (501, post(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n")),
    "chunkedx": (501, post(b"Transfer-Encoding: chunkedx")),
    "chunked with a vertical tab": (400, post(b"Transfer-Encoding: chunked\x0b")),
    "chunked after a vertical tab": (400, post(b"Transfer-Encoding: \x0bchunked")),
    "chunked with a no-break space": (501, post(b"Transfer-Encoding: chunked\xa0")),
    "chunked, identity": (400, post(b"Transfer-Encoding: chunked, identity")),
    "identity, chunked": (400, post(b"Transfer-Encoding: identity, chunked", body=b"0\r\n\r\n")),
    "gzip, chunked": (400, post(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n")),
    "chunked twice": (400, post(b"Transfer-Encoding: chunked, chunked", body=b"0\r\n\r\n")),
    "chunked with a comma": (400, post(b"Transfer-Encoding: chunked,", body=b"0\r\n\r\n")),
    "two Transfer-Encoding fields": (400, post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked")),
    "chunked, then a field of identity": (400, post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity")),
    "identity, then a field of chunked": (501, post(b"Transfer-Encoding: identity", b"Transfer-Encoding: chunked")),
    "an empty field, then chunked": (400, post(b"Transfer-Encoding:", b"Transfer-Encoding: chunked")),
    "identity": (501, post(b"Transfer-Encoding: identity", b"Content-Length: 5", body=b"12345")),
    "quoted chunked": (501, post(b'Transfer-Encoding: "chunked"', body=b"0\r\n\r\n")),
    "chunked with a parameter": (501, post(b"Transfer-Encoding: chunked;q=0.5", body=b"0\r\n\r\n")),
    "gzip alone": (501, post(b"Transfer-Encoding: gzip")),
    "empty Transfer-Encoding": (400, post(b"Transfer-Encoding:", b"Content-Length: 5", body=b"12345")),
    "Transfer-Encoding in HTTP/1.0": (
        400,
        get(b"Transfer-Encoding: chunked", first=b"POST / HTTP/1.0") + b"0\r\n\r\n" + HIDDEN,
    ),
    # Host and targets (RFC 9112 section 3.2)
    "no Host": (400, get(host=b"")),
    "two Hosts": (400, get(b"Host: other.test")),
    "the same Host twice": (400, get(b"Host: app.test")),
    "an empty second Host": (400, get(b"host:")),
    "two names in Host": (400, get(host=b"Host: app.test other.test\r\n")),
    "Host with a path": (400, get(host=b"Host: app.test/x\r\n")),
    "Host with userinfo": (400, get(host=b"Host: u@app.test\r\n")),
    "Host with a scheme": (400, get(host=b"Host: http://app.test\r\n")),
    "Host with a port in letters": (400, get(host=b"Host: app.test:http\r\n")),
    "Host with two ports": (400, get(host=b"Host: app.test:80:80\r\n")),
    "Host with a port alone": (400, get(host=b"Host: :80\r\n")),
    "Host with a fragment": (400, get(host=b"Host: app.test#x\r\n")),
    "Host with a backslash": (400, get(host=b"Host: app.test\\x\r\n")),
    "Host with an open bracket": (400, get(host=b"Host: [::1\r\n")),
    "Host with bytes over 127": (400, get(host="Host: \u0430pp.test\r\n".encode())),
    "Host longer than a name": (400, get(host=b"Host: " + b"a." * 200 + b"test\r\n")),
    "absolute form without Host": (400, get(first=b"GET http://app.test/ HTTP/1.1", host=b"")),
    "absolute form with two Hosts": (400, get(b"Host: b.test", first=b"GET http://app.test/ HTTP/1.1")),
    "absolute form with userinfo": (400, line(b"GET http://good.test@app.test/ HTTP/1.1")),
    "absolute form without a host": (400, line(b"GET http:///x HTTP/1.1")),
    "absolute form with a backslash": (400, line(b"GET http://app.test\\@good.test/ HTTP/1.1")),
    "absolute form with a fragment": (400, line(b"GET http://app.test/#x HTTP/1.1")),
    "absolute form with one slash": (400, line(b"GET http:/app.test/ HTTP/1.1")),
    "absolute form of another scheme": (421, line(b"GET ftp://app.test/ HTTP/1.1")),
    "absolute form of a file": (421, line(b"GET file:///etc/passwd HTTP/1.1")),
    "a fragment": (400, line(b"GET /a#b HTTP/1.1")),
    "a space in the target": (400, line(b"GET /a b HTTP/1.1")),
    "a version in the target": (400, line(b"GET / HTTP/1.1 HTTP/1.1")),
    "a tab in the target": (400, line(b"GET /a\tb HTTP/1.1")),
    "NUL in the target": (400, line(b"GET /a\0b HTTP/1.1")),
    "DEL in the target": (400, line(b"GET /a\x7fb HTTP/1.1")),
    "a target without a slash": (400, line(b"GET a HTTP/1.1")),
    "no target": (400, line(b"GET HTTP/1.1")),
    "an asterisk for GET": (400, line(b"GET * HTTP/1.1")),
    "authority form for GET": (400, line(b"GET app.test:80 HTTP/1.1")),
    "CONNECT without a port": (400, line(b"CONNECT app.test HTTP/1.1")),
    "CONNECT with a path": (400, line(b"CONNECT app.test:80/x HTTP/1.1")),
    "CONNECT with a URL": (400, line(b"CONNECT http://app.test:80 HTTP/1.1")),
    "CONNECT with userinfo": (400, line(b"CONNECT u@app.test:80 HTTP/1.1")),
    "CONNECT with a body": (400, get(b"Content-Length: 5", first=b"CONNECT app.test:80 HTTP/1.1") + b"12345"),
    "CONNECT with a chunked body": (
        400,
        get(b"Transfer-Encoding: chunked", first=b"CONNECT app.test:80 HTTP/1.1") + b"0\r\n\r\n",
    ),
    # The request line (RFC 9112 sections 2.3 and 3)
    "two spaces after the method": (400, line(b"GET  / HTTP/1.1")),
    "two spaces after the target": (400, line(b"GET /  HTTP/1.1")),
    "tabs in the request line": (400, line(b"GET\t/\tHTTP/1.1")),
    "space before the method": (400, line(b" GET / HTTP/1.1")),
    "space after the version": (400, line(b"GET / HTTP/1.1 ")),
    "method with a colon": (400, line(b"GET: / HTTP/1.1")),
    "method of other bytes": (400, line(b"G\xc3\x89T / HTTP/1.1")),
    "no method": (400, line(b"/ HTTP/1.1")),
    "lower-case http": (400, line(b"GET / http/1.1")),
    "two digits of minor version": (400, line(b"GET / HTTP/1.10")),
    "two digits of major version": (400, line(b"GET / HTTP/01.1")),
    "version without a dot": (400, line(b"GET / HTTP/11")),
    "a comma in the version": (400, line(b"GET / HTTP/1,1")),
    "HTTP/0.9": (400, b"GET /\r\n"),
    "HTTP/0.9 with a version": (505, line(b"GET / HTTP/0.9")),
    "HTTP/1.9": (505, line(b"GET / HTTP/1.9")),
    "HTTP/2.0": (505, line(b"GET / HTTP/2.0")),
    "a TLS hello": (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 40),
    "a response": (400, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    # Limits and expectations
    "a target over the limit": (414, line(b"GET /" + b"a" * 16384 + b" HTTP/1.1")),
    "a request line without an end": (414, b"GET /" + b"a" * 20000),
    "a head over the limit": (431, get(b"X: " + b"a" * 70000)),
    "a field without an end": (431, b"GET / HTTP/1.1\r\nX: " + b"a" * 70000),
    "far more fields than allowed": (431, get(*[b"X: 1"] * 512)),
    "an unknown expectation": (417, post(b"Expect: 200-ok", b"Content-Length: 5", body=b"12345")),
    "an expectation list": (417, post(b"Expect: 100-continue, x", b"Content-Length: 5", body=b"12345")),
}

BODIES: dict[str, bytes] = {
    "negative chunk size": b"-1\r\nA\r\n0\r\n\r\n",
    "chunk size with a plus": b"+1\r\nA\r\n0\r\n\r\n",
    "chunk size with 0x": b"0x1\r\nA\r\n0\r\n\r\n",
    "chunk size with an underscore": b"1_0\r\n0123456789abcdef\r\n0\r\n\r\n",
    "chunk size after a space": b" 1\r\nA\r\n0\r\n\r\n",
    "chunk size before a space": b"1 \r\nA\r\n0\r\n\r\n",
    "chunk size before a tab": b"1\t\r\nA\r\n0\r\n\r\n",
    "space in a chunk size": b"1 0\r\n0123456789abcdef\r\n0\r\n\r\n",
    "chunk size of 16 digits": b"0000000000000001\r\nA\r\n0\r\n\r\n",
    "chunk size of 17 digits": b"10000000000000001\r\nA\r\n0\r\n\r\n",
    "chunk size that is no number": b"g\r\nA\r\n0\r\n\r\n",
    "chunk size in full width digits": "\uff11\r\nA\r\n0\r\n\r\n".encode(),
    "empty chunk size": b"\r\nA\r\n0\r\n\r\n",
    "extension without a size": b";a=b\r\nA\r\n0\r\n\r\n",
    "chunk size with NUL": b"1\0\r\nA\r\n0\r\n\r\n",
    "size line ended by LF": b"1\nA\r\n0\r\n\r\n",
    "size line ended by CR": b"1\rA\r\n0\r\n\r\n",
    "size line ended by CR CR LF": b"1\r\r\nA\r\n0\r\n\r\n",
    "data ended by LF": b"1\r\nA\n0\r\n\r\n",
    "data ended by CR": b"1\r\nA\r0\r\n\r\n",
    "data without an end": b"1\r\nA0\r\n\r\n",
    "data longer than its size": b"1\r\nAB\r\n0\r\n\r\n",
    "data shorter than its size": b"5\r\nA\r\n0\r\n\r\n" + HIDDEN,
    "CR in an extension": b"1;a=\rb\r\nA\r\n0\r\n\r\n",
    "LF in an extension": b"1;a=\nb\r\nA\r\n0\r\n\r\n",
    "NUL in an extension": b"1;a=\0\r\nA\r\n0\r\n\r\n",
    "extension over the limit": b"1;a=" + b"b" * 300 + b"\r\nA\r\n0\r\n\r\n",
    "many extensions": b"1;" + b"a" * 200 + b"\r\nA\r\n" + (b"1;" + b"a" * 200 + b"\r\nA\r\n") * 120 + b"0\r\n\r\n",
    "last chunk ended by LF": b"0\n\r\n",
    "trailer section ended by LF": b"0\r\n\n",
    "trailer ended by LF": b"0\r\nX: 1\n\r\n",
    "trailer with a bare CR": b"0\r\nX: 1\r2\r\n\r\n",
    "folded trailer": b"0\r\nX: 1\r\n 2\r\n\r\n",
    "trailer with a space before the colon": b"0\r\nX : 1\r\n\r\n",
    "trailer without a colon": b"0\r\nX\r\n\r\n",
    "trailer Content-Length": b"0\r\nContent-Length: 5\r\n\r\n",
    "trailer Transfer-Encoding": b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "trailer Host": b"0\r\nHost: other.test\r\n\r\n",
    "trailer TE": b"0\r\nte: trailers\r\n\r\n",
    "trailer Authorization": b"0\r\nAuthorization: x\r\n\r\n",
    "a request instead of trailers": b"0\r\nGET /hidden HTTP/1.1\r\nHost: app.test\r\n\r\n",
    "trailers over the limit": b"0\r\n" + b"X: " + b"a" * 9000 + b"\r\n\r\n",
    "trailers over the limit in sum": b"0\r\n" + (b"X: " + b"a" * 90 + b"\r\n") * 100 + b"\r\n",
}


@dataclass
class Range:
    """An edge with a route that answers, and one whose backend notes every connection and byte."""

    edge: RunningEdge
    trap: Backend

    def send(self, data: bytes, way: str) -> Wire:
        client = self.edge.connect()
        if way == "at once":
            client.send(data)
        elif way == "in pieces":
            size = max(1, len(data) // 400)
            with suppress(ConnectionResetError, BrokenPipeError):  # refused before its end
                for start in range(0, len(data), size):
                    client.send(data[start : start + size])
        else:
            client.send(GOOD + data)
            assert client.message().body == b"ok"
        return client

    def refused(self, client: Wire) -> Message:
        """The refusal, after which the connection ends."""
        answer = client.message()
        assert answer.get("X-Cf-RouterError"), answer
        assert client.is_closed()
        return answer


def reading(wire: Wire) -> None:
    """A backend that takes all and answers nothing."""
    wire.read_to_end()


@pytest.fixture(scope="module")
def shooting() -> Iterator[Range]:
    with (
        running_edge(Settings()) as edge,
        backend(answering(OK)) as good,
        backend(reading) as trap,
    ):
        edge.register("good.test", good.port)
        edge.register("app.test", trap.port)
        yield Range(edge, trap)


WAYS = ("at once", "in pieces", "behind a good request")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", HEADS)
def test_heads(shooting: Range, case: str, way: str) -> None:
    status, data = HEADS[case]
    before = shooting.trap.connections
    answer = shooting.refused(shooting.send(data, way))
    assert answer.status == status
    assert shooting.trap.connections == before


def test_the_http_2_preface_behind_a_request(shooting: Range) -> None:
    """It means HTTP/2 only where a connection begins with it: later, it might be somebody's body."""
    before = shooting.trap.connections
    answer = shooting.refused(shooting.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "behind a good request"))
    assert answer.status == 505
    assert shooting.trap.connections == before


@pytest.mark.parametrize("way", ["at once", "behind a good request"])
@pytest.mark.parametrize("case", BODIES)
def test_chunked_bodies(shooting: Range, case: str, way: str) -> None:
    before = shooting.trap.connections
    answer = shooting.refused(shooting.send(post(b"Transfer-Encoding: chunked", body=BODIES[case]), way))
    assert answer.status == 400
    assert shooting.trap.connections == before


@pytest.mark.parametrize("case", BODIES)
def test_chunked_bodies_that_turn_bad_on_their_way_never_end_at_the_backend(shooting: Range, case: str) -> None:
    """What came before the fault may have been passed on already; the fault and the end of the message are not."""
    body = BODIES[case]
    before = shooting.trap.connections
    client = shooting.edge.connect()
    client.send(post(b"Transfer-Encoding: chunked"))
    wait_until(lambda: shooting.trap.connections > before and b"\r\n\r\n" in shooting.trap.wires[before].seen)
    with suppress(ConnectionResetError, BrokenPipeError):
        for start in range(0, len(body), max(1, len(body) // 400)):
            client.send(body[start : start + max(1, len(body) // 400)])
    assert shooting.refused(client).status == 400
    trapped = shooting.trap.wires[before]
    wait_until(lambda: trapped.socket.fileno() == -1, "the connection to the backend ends")
    passed = trapped.seen.partition(b"\r\n\r\n")[2]
    assert len(passed) < len(body)
    assert body.startswith(passed)
    assert not passed.endswith(b"0\r\n\r\n")


def test_after_all_of_this_the_good_route_still_works(shooting: Range) -> None:
    client = shooting.edge.connect()
    client.send(GOOD * 3)
    assert [client.message().status for _ in range(3)] == [200] * 3
    wait_until(lambda: all(wire.socket.fileno() == -1 for wire in shooting.trap.wires))
    assert not any(b"hidden" in wire.seen for wire in shooting.trap.wires)
