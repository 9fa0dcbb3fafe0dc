"""Gorouter reference 4.1, the rows of trace headers and the order in which they decide the request id."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.config.settings import Settings, TracingSettings
from router.heads.tracing import BATCH, ID_LINE, Continued, Ids, Tracing, made_ids, sent_ids
from router.http1.fields import Line, field_lines
from router.http2.translation import fields_block
from tests.router.http2.peer import Peer, connect
from tests.router.wire import OK, Message, Wire, answering, backend, running_edge

HEX = "[0-9a-f]"
UUID = re.compile(f"{HEX}{{8}}-{HEX}{{4}}-4{HEX}{{3}}-[89ab]{HEX}{{3}}-{HEX}{{12}}".encode())
TRACEPARENT = re.compile(rb"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
B3 = re.compile(rb"(?i)([0-9a-f]{16}){1,2}-[0-9a-f]{16}(-[01d](-[0-9a-f]{16})?)?|[01d]")
MEMBER = re.compile(
    rb"([a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13})=[ -+\--<>-~]{0,255}[!-+\--<>-~]"
)

TRACE = b"463ac35c9f6413ad48485a3953bb6124"
"""Looks like a UUID of version 1: 463ac35c-9f64-13ad-4848-5a3953bb6124."""
AS_UUID = b"463ac35c-9f64-13ad-4848-5a3953bb6124"
NO_UUID = b"463ac35c9f6463ad48485a3953bb6124"
"""The same with the version digit 6."""
SPAN = b"a2fb4a1d1a96d312"
PARENT = b"0020000000000001"
B3_SINGLE = b"b3: %b-%b-1-%b" % (TRACE, SPAN, PARENT)
B3_PAIR = [b"X-B3-TraceId: " + TRACE, b"X-B3-SpanId: " + SPAN]
W3C_TRACE = b"0af7651916cd43dd8448eb211c80319c"
W3C_UUID = b"0af76519-16cd-43dd-8448-eb211c80319c"
W3C_PARENT = b"traceparent: 00-%b-b7ad6b7169203331-03" % W3C_TRACE


def settings(*, b3: bool = False, w3c: bool = False, tenant: str = "") -> Settings:
    return Settings(tracing=TracingSettings(enable_zipkin=b3, enable_w3c=w3c, w3c_tenant_id=tenant))


@contextmanager
def asked(given: Settings, *lines: bytes) -> Iterator[tuple[Message, Message]]:
    """What the backend was asked and the client was answered, for a request with these lines."""
    seen: list[Message] = []
    with running_edge(given) as edge, backend(answering(OK, seen)) as app:
        edge.register("app.test", app.port)
        client = edge.connect()
        client.send(b"\r\n".join((b"GET / HTTP/1.1", b"Host: app.test", *lines, b"", b"")))
        response = client.message()
        yield seen[0], response


def request_with(given: Settings, *lines: bytes) -> Message:
    with asked(given, *lines) as (request, response):
        assert response.get("X-Vcap-Request-Id") == request.get("X-Vcap-Request-Id")
    return request


def request_id(request: Message) -> bytes:
    value = request.get("X-Vcap-Request-Id")
    assert value is not None
    return value


def fresh_id(request: Message) -> bytes:
    """The request id, which is a standard UUID of version 4, as a trace id."""
    value = request_id(request)
    assert UUID.fullmatch(value)
    return value.replace(b"-", b"")


def test_switched_off_all_trace_headers_pass_and_none_are_made() -> None:
    lines = [b"b3: whatever", b"traceparent: whatever", b"tracestate: a=1", b"X-B3-Sampled: 1"]
    request = request_with(settings(), *lines)
    fresh_id(request)
    assert [b"%b: %b" % field for field in request.fields if field[0] in (b"B3", b"X-B3-Sampled")] == [
        b"B3: whatever",
        b"X-B3-Sampled: 1",
    ]
    assert request.get("traceparent") == b"whatever"
    assert request.get("X-B3-TraceId") is None


class TestB3:
    def test_without_trace_headers_a_trace_begins(self) -> None:
        request = request_with(settings(b3=True))
        trace = fresh_id(request)
        assert request.get("X-B3-TraceId") == trace
        assert request.get("X-B3-SpanId") == trace[16:]  # the low 64 bits
        assert request.get("b3") == trace + b"-" + trace[16:]
        assert request.get("X-B3-ParentSpanId") is None
        assert request.get("traceparent") is None
        names = {name for name, _ in request.fields}
        assert names > {b"B3", b"X-B3-Traceid", b"X-B3-Spanid"}, "as Go spells them"

    @pytest.mark.parametrize(
        "value",
        [
            TRACE + b"-" + SPAN,
            TRACE + b"-" + SPAN + b"-1",
            TRACE + b"-" + SPAN + b"-0",
            TRACE + b"-" + SPAN + b"-d",
            TRACE + b"-" + SPAN + b"-1-" + PARENT,
            TRACE[16:] + b"-" + SPAN,
            TRACE.upper() + b"-" + SPAN,
            b"0",
            b"d",
        ],
    )
    def test_a_valid_single_header_changes_nothing(self, value: bytes) -> None:
        request = request_with(settings(b3=True), b"b3: " + value, b"X-B3-Sampled: 0")
        assert request.get("b3") == value
        assert request.get("X-B3-Sampled") == b"0"
        assert request.get("X-B3-TraceId") is None

    def test_a_valid_single_header_is_believed_before_a_pair(self) -> None:
        request = request_with(settings(b3=True), B3_SINGLE, b"X-B3-TraceId: 1", b"X-B3-SpanId: 2")
        assert request.get("b3") == B3_SINGLE[4:]
        assert request.get("X-B3-TraceId") == b"1"
        assert request_id(request) == AS_UUID

    @pytest.mark.parametrize(
        ("more", "built"),
        [
            ([], TRACE + b"-" + SPAN),
            ([b"X-B3-Sampled: 1"], TRACE + b"-" + SPAN + b"-1"),
            ([b"X-B3-Sampled: 0"], TRACE + b"-" + SPAN + b"-0"),
            ([b"X-B3-Sampled: true"], TRACE + b"-" + SPAN + b"-1"),
            ([b"X-B3-Sampled: False"], TRACE + b"-" + SPAN + b"-0"),
            ([b"X-B3-Flags: 1"], TRACE + b"-" + SPAN + b"-d"),
            ([b"X-B3-Flags: 1", b"X-B3-Sampled: 0"], TRACE + b"-" + SPAN + b"-d"),
            ([b"X-B3-Flags: 0"], TRACE + b"-" + SPAN),
            ([b"X-B3-Sampled: 1", b"X-B3-ParentSpanId: " + PARENT], TRACE + b"-" + SPAN + b"-1-" + PARENT),
            ([b"X-B3-Sampled: 1", b"X-B3-ParentSpanId: 1"], TRACE + b"-" + SPAN + b"-1-" + PARENT.replace(b"2", b"0")),
            ([b"X-B3-ParentSpanId: " + PARENT], TRACE + b"-" + SPAN),
            ([b"b3: nonsense"], TRACE + b"-" + SPAN),
        ],
    )
    def test_a_valid_pair_is_said_again_as_a_single_header(self, more: list[bytes], built: bytes) -> None:
        request = request_with(settings(b3=True), *B3_PAIR, *more)
        assert request.get("b3") == built
        assert request.get("X-B3-TraceId") == TRACE
        assert request.get("X-B3-SpanId") == SPAN
        assert request_id(request) == AS_UUID

    def test_short_ids_are_filled_up_in_the_single_header(self) -> None:
        request = request_with(settings(b3=True), b"X-B3-TraceId: ABC", b"X-B3-SpanId: d")
        assert request.get("b3") == b"0000000000000abc-000000000000000d"
        assert request.get("X-B3-TraceId") == b"ABC"
        fresh_id(request)

    @pytest.mark.parametrize(
        "lines",
        [
            [b"X-B3-TraceId: xyz", b"X-B3-SpanId: " + SPAN],
            [b"X-B3-TraceId: " + TRACE, b"X-B3-SpanId: -1"],
            [b"X-B3-TraceId: 1" + TRACE, b"X-B3-SpanId: " + SPAN],
            [b"X-B3-TraceId: 0", b"X-B3-SpanId: 0"],
            [*B3_PAIR, b"X-B3-Sampled: perhaps"],
            [*B3_PAIR, b"X-B3-ParentSpanId: nobody"],
        ],
    )
    def test_a_pair_that_cannot_be_understood_is_left_as_it_is(self, lines: list[bytes]) -> None:
        request = request_with(settings(b3=True), *lines)
        sent = [b"%b: %b" % field for field in request.fields if field[0].startswith(b"X-B3")]
        assert sent == [line.canonical[:-2] for line in field_lines(b"".join(line + b"\r\n" for line in lines))]
        assert request.get("b3") is None
        fresh_id(request)

    @pytest.mark.parametrize(
        "lines",
        [
            [b"b3: nonsense"],
            [b"b3:"],
            [b"b3: " + TRACE],
            [b"b3: " + TRACE + b"-" + SPAN + b"-2"],
            [b"b3: " + TRACE + b"-" + SPAN + b"-1-" + PARENT + b"-1"],
            [b"X-B3-TraceId: " + TRACE],
            [b"X-B3-SpanId: " + SPAN],
            [b"b3: nonsense", b"X-B3-SpanId: " + SPAN],
            [b"X-B3-Sampled: 0"],
        ],
    )
    def test_anything_else_is_replaced_by_a_new_trace(self, lines: list[bytes]) -> None:
        request = request_with(settings(b3=True), *lines)
        trace = fresh_id(request)
        assert request.get("X-B3-TraceId") == trace
        assert request.get("X-B3-SpanId") == trace[16:]
        assert request.get("b3") == trace + b"-" + trace[16:]

    def test_w3c_headers_pass_where_only_b3_is_switched_on(self) -> None:
        request = request_with(settings(b3=True), W3C_PARENT, b"tracestate: a=1")
        assert request.get("traceparent") == W3C_PARENT[13:]
        assert request.get("tracestate") == b"a=1"


class TestW3c:
    def test_without_trace_headers_a_trace_begins(self) -> None:
        request = request_with(settings(w3c=True))
        trace = fresh_id(request)
        assert request.get("traceparent") == b"00-%b-%b-01" % (trace, trace[16:])
        assert request.get("tracestate") == b"gorouter=" + trace[16:]
        assert request.get("b3") is None

    def test_a_valid_parent_keeps_trace_and_flags_and_gets_a_new_id(self) -> None:
        request = request_with(settings(w3c=True), W3C_PARENT)
        version, trace, parent, flags = (request.get("traceparent") or b"").split(b"-")
        assert (version, trace, flags) == (b"00", W3C_TRACE, b"03")
        assert re.fullmatch(rb"[0-9a-f]{16}", parent)
        assert parent != b"b7ad6b7169203331"
        assert request.get("tracestate") == b"gorouter=" + parent
        assert request_id(request) == W3C_UUID

    def test_a_version_to_come_goes_on_as_version_00(self) -> None:
        request = request_with(settings(w3c=True), W3C_PARENT.replace(b" 00", b" cc"))
        assert (request.get("traceparent") or b"").startswith(b"00-" + W3C_TRACE)

    @pytest.mark.parametrize(
        "value",
        [
            b"",
            b"nonsense",
            b"00-" + W3C_TRACE + b"-b7ad6b7169203331",
            b"ff-" + W3C_TRACE + b"-b7ad6b7169203331-01",
            b"00-" + bytes(32).replace(b"\0", b"0") + b"-b7ad6b7169203331-01",
            b"00-" + W3C_TRACE + b"-0000000000000000-01",
            b"00-" + W3C_TRACE.upper() + b"-b7ad6b7169203331-01",
            b"01-" + W3C_TRACE + b"-b7ad6b7169203331-01-more",
            b"00-" + W3C_TRACE[:-1] + b"-b7ad6b7169203331-01 ",
        ],
    )
    def test_an_invalid_parent_is_replaced_and_the_state_with_it(self, value: bytes) -> None:
        request = request_with(settings(w3c=True), b"traceparent: " + value, b"tracestate: a=1")
        trace = fresh_id(request)
        assert request.get("traceparent") == b"00-%b-%b-01" % (trace, trace[16:])
        assert request.get("tracestate") == b"gorouter=" + trace[16:]

    @pytest.mark.parametrize(
        ("tenant", "state", "kept"),
        [
            ("", [b"a=1,b=2"], b"gorouter=%b,a=1,b=2"),
            ("", [b"a=1", b"b=2"], b"gorouter=%b,a=1,b=2"),
            ("", [b"a=1, \tgorouter=00f067aa0ba902b7 ,b=2"], b"gorouter=%b,a=1,b=2"),
            ("", [b"t@gorouter=1,a=1"], b"gorouter=%b,t@gorouter=1,a=1"),
            ("t", [b"gorouter=1,a=1,t@gorouter=2"], b"t@gorouter=%b,gorouter=1,a=1"),
            ("t", [], b"t@gorouter=%b"),
            ("", [b""], b"gorouter=%b"),
            ("", [b",,a=1,"], b"gorouter=%b,a=1"),
            ("", [b"a=1,A=2,=3,b,c=,d=\x80,e=f=g,h=1"], b"gorouter=%b,a=1,h=1"),
            ("", [b"a=" + b"1" * 256], b"gorouter=%%b,a=%b" % (b"1" * 256)),
            ("", [b"a=" + b"1" * 257], b"gorouter=%b"),
            ("", [b",".join([b"a=1"] * 40)], b"gorouter=%b" + b",a=1" * 31),
            ("", [b",".join([b"a=" + b"1" * 253] * 8)], b"gorouter=%b" + (b",a=" + b"1" * 253) * 8),
            ("", [b",".join([b"a=" + b"1" * 254] * 8)], b"gorouter=%b"),
        ],
        ids=lambda value: value[0][:40].decode("latin-1") if isinstance(value, list) and value else None,
    )
    def test_our_entry_comes_to_the_front_of_the_state(self, tenant: str, state: list[bytes], kept: bytes) -> None:
        lines = [b"tracestate: " + value for value in state]
        request = request_with(settings(w3c=True, tenant=tenant), W3C_PARENT, *lines)
        parent = (request.get("traceparent") or b"").split(b"-")[2]
        assert request.get("tracestate") == kept % parent

    def test_b3_headers_pass_where_only_w3c_is_switched_on(self) -> None:
        request = request_with(settings(w3c=True), B3_SINGLE, *B3_PAIR)
        assert request.get("b3") == B3_SINGLE[4:]
        assert request.get("X-B3-TraceId") == TRACE
        fresh_id(request)


class TestBoth:
    def test_one_trace_begins_in_both_spellings(self) -> None:
        request = request_with(settings(b3=True, w3c=True))
        trace = fresh_id(request)
        assert request.get("b3") == trace + b"-" + trace[16:]
        assert request.get("traceparent") == b"00-%b-%b-01" % (trace, trace[16:])

    def test_a_trace_of_b3_is_said_in_w3c_too(self) -> None:
        request = request_with(settings(b3=True, w3c=True), B3_SINGLE)
        assert request.get("b3") == B3_SINGLE[4:]
        assert request.get("traceparent") == b"00-%b-%b-01" % (TRACE, SPAN)
        assert request.get("tracestate") == b"gorouter=" + SPAN

    def test_a_short_trace_of_b3_is_filled_up_for_w3c(self) -> None:
        request = request_with(settings(b3=True, w3c=True), b"b3: %b-%b" % (TRACE[16:], SPAN))
        assert request.get("traceparent") == b"00-%b%b-%b-01" % (b"0" * 16, TRACE[16:], SPAN)

    def test_a_trace_of_w3c_goes_on_beside_a_new_one_of_b3(self) -> None:
        request = request_with(settings(b3=True, w3c=True), W3C_PARENT, b"tracestate: a=1")
        trace = fresh_id(request)
        assert request.get("b3") == trace + b"-" + trace[16:]
        assert (request.get("traceparent") or b"").startswith(b"00-" + W3C_TRACE)
        assert (request.get("tracestate") or b"").endswith(b",a=1")


class TestRequestId:
    """B3 first, then W3C, then a generated one; a trace that is no UUID leaves the request id alone."""

    @pytest.mark.parametrize(
        ("lines", "expected"),
        [
            ([B3_SINGLE, W3C_PARENT], AS_UUID),
            ([*B3_PAIR, W3C_PARENT], AS_UUID),
            ([b"X-B3-TraceId: no", b"X-B3-SpanId: no", W3C_PARENT], W3C_UUID),
            ([b"b3: 0", W3C_PARENT], W3C_UUID),
            ([b"b3: %b-%b" % (NO_UUID, SPAN), W3C_PARENT], None),
            ([b"b3: %b-%b" % (TRACE[16:], SPAN)], None),
            ([b"X-Vcap-Request-Id: " + AS_UUID], None),
        ],
    )
    def test_its_order(self, lines: list[bytes], expected: bytes | None) -> None:
        request = request_with(settings(b3=True, w3c=True), *lines)
        if expected is None:
            assert UUID.fullmatch(request_id(request))
            assert AS_UUID not in request_id(request)
        else:
            assert request_id(request) == expected

    @pytest.mark.parametrize("digit", b"0123456789abcdef")
    def test_versions_1_to_5_are_taken_as_uuids(self, digit: int) -> None:
        trace = b"463ac35c9f64%c3ad48485a3953bb6124" % digit
        request = request_with(settings(b3=True), b"b3: %b-%b" % (trace, SPAN))
        assert (request_id(request).replace(b"-", b"") == trace) == (digit in b"12345")
        assert request.get("b3") == trace + b"-" + SPAN

    def test_it_is_on_answers_of_the_routers_own_too(self) -> None:
        with running_edge(settings(b3=True)) as edge:
            client = edge.connect()
            client.send(b"GET / HTTP/1.1\r\nHost: no.test\r\n%b\r\n\r\n" % B3_SINGLE)
            assert client.message().get("X-Vcap-Request-Id") == AS_UUID
            client.send(b"GET / HTTP/1.1\r\nHost: no.test\r\n\r\n")
            response = client.message()
            assert UUID.fullmatch(response.get("X-Vcap-Request-Id") or b"")
            assert response.get("b3") is None


class TestManyRequests:
    def test_each_has_ids_of_its_own_on_one_connection(self) -> None:
        seen: list[Message] = []
        with running_edge(settings(b3=True, w3c=True)) as edge, backend(answering(OK, seen)) as app:
            edge.register("app.test", app.port)
            client = edge.connect()
            for _ in range(2 * BATCH):
                client.send(b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n")
                assert client.message().get("X-Vcap-Request-Id") == seen[-1].get("X-Vcap-Request-Id")
        assert len({request.get("traceparent") for request in seen}) == 2 * BATCH
        assert len({request.get("X-B3-SpanId") for request in seen}) == 2 * BATCH

    def test_each_has_a_parent_id_of_its_own_in_a_trace_that_goes_on(self) -> None:
        seen: list[Message] = []
        with running_edge(settings(w3c=True)) as edge, backend(answering(OK, seen)) as app:
            edge.register("app.test", app.port)
            client = edge.connect()
            for _ in range(20):
                client.send(b"GET / HTTP/1.1\r\nHost: app.test\r\n%b\r\n\r\n" % W3C_PARENT)
                client.message()
        assert len({request.get("traceparent") for request in seen}) == 20
        assert {request_id(request) for request in seen} == {W3C_UUID}


SENT = [(b"", b""), (b"b3", B3_SINGLE[4:]), (b"traceparent", W3C_PARENT[13:])]


class TestHttp2:
    """The same by HTTP/2, from clients and to endpoints."""

    @pytest.mark.parametrize(("name", "value"), SENT)
    def test_from_clients(self, name: bytes, value: bytes) -> None:
        seen: list[Message] = []
        with running_edge(settings(b3=True, w3c=True)) as edge, backend(answering(OK, seen)) as app:
            edge.register("app.test", app.port)
            peer = connect(edge.port)
            fields = [(name.decode(), value.decode())] if name else []
            response = peer.exchange("/", *fields)
            peer.close()
        (request,) = seen
        assert response.get("x-vcap-request-id") == request_id(request)
        check_continued(request.get("b3"), request.get("traceparent"), request.get("tracestate"), name)

    @pytest.mark.parametrize(("name", "value"), SENT)
    def test_to_endpoints(self, name: bytes, value: bytes) -> None:
        heads: list[list[tuple[bytes, bytes]]] = []

        def serve(wire: Wire) -> None:
            peer = Peer(wire.socket, client=False)
            for _ in range(2):
                number = peer.next_request()
                heads.append(peer.streams[number].heads[0])
                peer.respond(number)
            wire.read_to_end()

        with running_edge(settings(b3=True, w3c=True, tenant="t")) as edge, backend(serve) as app:
            edge.register("app.test", app.port, protocol="http2")
            client = edge.connect()
            line = b"%b: %b\r\n" % (name, value) if name else b""
            answers = []
            for _ in range(2):
                client.send(b"GET / HTTP/1.1\r\nHost: app.test\r\n%b\r\n" % line)
                answers.append(client.message())
        for head, answer in zip(heads, answers, strict=True):
            fields = dict(head)
            assert len(fields) == len(head)
            assert fields[b"x-vcap-request-id"] == answer.get("X-Vcap-Request-Id")
            if not name:
                assert fields[b"x-vcap-request-id"].replace(b"-", b"") == fields[b"x-b3-traceid"]
                assert fields[b"b3"] == fields[b"x-b3-traceid"] + b"-" + fields[b"x-b3-spanid"]
            check_continued(fields[b"b3"], fields[b"traceparent"], fields[b"tracestate"], name)
        assert dict(heads[0])[b"traceparent"] != dict(heads[1])[b"traceparent"] or name == b"b3"


def check_continued(b3: bytes | None, traceparent: bytes | None, tracestate: bytes | None, sent: bytes) -> None:
    """What a backend sees of a trace, begun here unless the client ``sent`` one of these headers."""
    assert B3.fullmatch(b3 or b"")
    assert TRACEPARENT.fullmatch(traceparent or b"")
    assert MEMBER.fullmatch(tracestate or b"")
    _, trace, parent, _ = (traceparent or b"").split(b"-")
    assert (tracestate or b"").endswith(b"gorouter=" + parent)
    if sent == b"traceparent":
        assert trace == W3C_TRACE
    else:
        assert (b3 or b"").startswith(trace)
    if sent == b"b3":
        assert (b3, trace) == (B3_SINGLE[4:], TRACE)


B3_AND_W3C = Tracing(settings(b3=True, w3c=True))
TRACINGS = {
    "b3": Tracing(settings(b3=True)),
    "w3c": Tracing(settings(w3c=True)),
    "both": B3_AND_W3C,
    "tenant": Tracing(settings(w3c=True, tenant="t")),
}
NAMES = [
    b"b3",
    b"X-B3-TraceId",
    b"X-B3-SpanId",
    b"X-B3-ParentSpanId",
    b"X-B3-Sampled",
    b"X-B3-Flags",
    b"traceparent",
    b"tracestate",
    b"Accept",
]


@st.composite
def trace_lines(draw: st.DrawFn) -> list[Line]:
    """Field lines with trace headers that are valid, nearly valid, or any bytes that a field value may hold."""
    digits = st.text("0123456789abcdefABCDEFg", min_size=0, max_size=34).map(str.encode)
    nearly = st.lists(
        st.one_of(digits, st.sampled_from([b"00", b"01", b"d", TRACE, SPAN, W3C_TRACE, PARENT])), max_size=5
    ).map(b"-".join)
    members = st.lists(st.binary(max_size=12).map(lambda b: b"a=" + b), max_size=40).map(b",".join)
    anything = st.binary(max_size=60)
    lines = draw(st.lists(st.tuples(st.sampled_from(NAMES), st.one_of(nearly, members, anything)), max_size=8))
    if draw(st.booleans()):
        lines.append((b"traceparent", W3C_PARENT[13:]))
    if draw(st.booleans()):
        lines.append((b"b3", B3_SINGLE[4:]))
    allowed = bytes(c for c in range(256) if c == 9 or (c >= 32 and c != 127))
    cleaned = [(name, bytes(c for c in value if c in allowed)) for name, value in lines]
    return field_lines(b"".join(b"%b: %b\r\n" % line for line in cleaned))


def all_sent(tracing: Tracing, lines: list[Line]) -> tuple[Continued | None, bytes, list[Line]]:
    """What becomes of these lines: the request's own ones, and all that a backend sees."""
    kept, continued = tracing.take(lines)
    block = tracing.more()[0]
    own = block if continued is None else continued.lines(block)[1]
    return continued, own, kept + field_lines(own)


@pytest.mark.parametrize("tracing", TRACINGS.values(), ids=list(TRACINGS))
@given(lines=trace_lines())
def test_whatever_comes_what_is_sent_is_valid(tracing: Tracing, lines: list[Line]) -> None:
    continued, own, sent = all_sent(tracing, lines)
    values: dict[bytes, list[bytes]] = {}
    for line in sent:
        values.setdefault(line.name, []).append(line.value)
    assert len(values[b"x-vcap-request-id"]) == 1
    if tracing.w3c:
        (parent,), (state,) = values[b"traceparent"], values[b"tracestate"]
        assert TRACEPARENT.fullmatch(parent)
        members = state.split(b",")
        assert len(members) <= 32
        assert all(MEMBER.fullmatch(member) for member in members)
        assert members[0].split(b"=")[0] in (b"gorouter", b"t@gorouter")
        assert not any(member.startswith(members[0].split(b"=")[0] + b"=") for member in members[1:])
    if tracing.zipkin:
        left_alone = b"x-b3-traceid" in values and values.get(b"b3") == [
            line.value for line in lines if line.name == b"b3"
        ]
        if b"b3" in values and not left_alone:
            assert B3.fullmatch(values[b"b3"][0])
    others = [line.raw for line in lines if line.name == b"accept"]
    assert [line.raw for line in sent if line.name == b"accept"] == others
    ids = sent_ids(continued, own)
    assert re.fullmatch(rb"([0-9a-f]{16}){1,2}", ids.trace)
    assert re.fullmatch(rb"[0-9a-f]{16}", ids.span)


@pytest.mark.parametrize("tracing", TRACINGS.values(), ids=list(TRACINGS))
@given(lines=trace_lines())
def test_what_logs_show_is_what_was_sent(tracing: Tracing, lines: list[Line]) -> None:
    continued, own, sent = all_sent(tracing, lines)
    first: dict[str, bytes] = {}
    for line in sent:
        first.setdefault(line.name.decode().replace("-", "_"), line.value)
    shown = dict(zip(tracing.names, tracing.values(continued, own), strict=True))
    assert shown == {name: first.get(name, b"") for name in tracing.names}


class TestBlocks:
    def test_a_batch_repeats_nothing_and_shares_nothing_with_the_next(self) -> None:
        first, second = B3_AND_W3C.more(), B3_AND_W3C.more()
        assert len(set(first)) == len(set(second)) == BATCH
        assert not {block[19:43] for block in first} & {block[19:43] for block in second}

    def test_ids_are_spread_over_all_their_digits(self) -> None:
        """Samplers look at the last digits: serial numbers would give them the same answer over and over."""
        spans = [made_ids(block).span for _ in range(8) for block in B3_AND_W3C.more()]
        for position in range(4, 16):
            assert len({span[position] for span in spans}) == 16

    def test_the_first_line_alone_names_the_ids(self) -> None:
        block = B3_AND_W3C.more()[0]
        assert made_ids(block[:ID_LINE]) == made_ids(block)
        assert b"\r\nX-B3-Spanid: %b\r\n" % made_ids(block).span in block

    @pytest.mark.parametrize("tracing", TRACINGS.values(), ids=list(TRACINGS))
    def test_the_quick_way_to_an_http2_block_says_the_same(self, tracing: Tracing) -> None:
        for block in tracing.more():
            assert tracing.shape.block(block) == fields_block(block)

    def test_without_tracing_too(self) -> None:
        assert sent_ids(None, b"X-Vcap-Request-Id: 463ac35c-9f64-43ad-8848-5a3953bb6124\r\n") == Ids(
            b"463ac35c9f6443ad88485a3953bb6124", b"88485a3953bb6124"
        )
