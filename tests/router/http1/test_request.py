"""Request heads without sockets: what is accepted, what it means, and what is refused with which status."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import TypeVar
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.http1.grammar import BadMessage, Limits
from router.http1.request import ABSOLUTE, ASTERISK, AUTHORITY, ORIGIN, check_partial_head, parse_fields, parse_line

LIMITS = Limits()
TOKEN_CHARACTERS = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
FRAMING = {b"content-length", b"transfer-encoding", b"host", b"connection", b"expect"}

tokens = st.text(st.sampled_from(TOKEN_CHARACTERS.decode()), min_size=1, max_size=12).map(str.encode)
values = st.lists(st.sampled_from([bytes((c,)) for c in range(256) if c == 9 or (c >= 32 and c != 127)])).map(b"".join)
plain_names = tokens.filter(lambda name: name.lower() not in FRAMING)
plain_lines = st.builds(lambda name, value: name + b":" + value, plain_names, values)
framing_lines = st.sampled_from(
    [
        b"Host: app.test",
        b"Host:app.test:80 ",
        b"Content-Length: 5",
        b"content-length:\t5, 5",
        b"Content-Length: 6",
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: gzip, chunked",
        b"Connection: close",
        b"Connection: keep-alive, X-Hop",
        b"Expect: 100-continue",
        b"Expect: miracles",
    ]
)
blocks = st.lists(plain_lines | framing_lines, max_size=8).map(lambda lines: b"".join(line + b"\r\n" for line in lines))
hostile = st.lists(
    st.sampled_from([b"\r", b"\n", b"\r\n", b":", b" ", b"\t", b"\0", b"a", b"Content-Length", b"5", b",", b"\xff"])
    | framing_lines
).map(b"".join)


Parsed = TypeVar("Parsed")


def verdict(parse: Callable[[bytes, Limits], Parsed], data: bytes) -> Parsed | int:
    """What it means, or the status with which it is refused."""
    try:
        return parse(data, LIMITS)
    except BadMessage as bad:
        return bad.status


def refused(status: int, line: bytes) -> None:
    with pytest.raises(BadMessage) as bad:
        parse_line(line, LIMITS)
    assert bad.value.status == status


class TestRequestLine:
    """RFC 9112 section 3."""

    @pytest.mark.parametrize(
        ("line", "method", "target", "minor", "form", "authority", "path"),
        [
            (b"GET / HTTP/1.1", b"GET", b"/", 1, ORIGIN, b"", ""),
            (b"get /A/b/ HTTP/1.0", b"get", b"/A/b/", 0, ORIGIN, b"", "/a/b"),
            (b"PURGE /a?b=/c?#x".replace(b"#x", b"") + b" HTTP/1.1", b"PURGE", b"/a?b=/c?", 1, ORIGIN, b"", "/a"),
            (b"GET //x//y HTTP/1.1", b"GET", b"//x//y", 1, ORIGIN, b"", "//x//y"),
            (b"GET /%2E%2e/../x HTTP/1.1", b"GET", b"/%2E%2e/../x", 1, ORIGIN, b"", "/%2e%2e/../x"),
            (b"GET /\xc3\xa9 HTTP/1.1", b"GET", b"/\xc3\xa9", 1, ORIGIN, b"", "/%c3%a9"),
            (b"GET http://A.test:80/X?y HTTP/1.1", b"GET", b"http://A.test:80/X?y", 1, ABSOLUTE, b"A.test:80", "/x"),
            (b"GET HTTP://a.test HTTP/1.1", b"GET", b"HTTP://a.test", 1, ABSOLUTE, b"a.test", ""),
            (b"GET http://a.test?x HTTP/1.1", b"GET", b"http://a.test?x", 1, ABSOLUTE, b"a.test", ""),
            (b"OPTIONS * HTTP/1.1", b"OPTIONS", b"*", 1, ASTERISK, b"", ""),
            (b"CONNECT a.test:443 HTTP/1.1", b"CONNECT", b"a.test:443", 1, AUTHORITY, b"a.test:443", ""),
            (b"CONNECT [::1]:443 HTTP/1.1", b"CONNECT", b"[::1]:443", 1, AUTHORITY, b"[::1]:443", ""),
        ],
    )
    def test_forms_of_target(
        self, line: bytes, method: bytes, target: bytes, minor: int, form: int, authority: bytes, path: str
    ) -> None:
        parsed = parse_line(line, LIMITS)
        assert (parsed.method, parsed.target, parsed.minor) == (method, target, minor)
        assert (parsed.form, parsed.authority, parsed.path) == (form, authority, path)
        assert parsed.wire == method + b" " + target + b" HTTP/1.1\r\n"

    def test_a_whole_host_asked_for_options_is_passed_on_as_asterisk(self) -> None:
        parsed = parse_line(b"OPTIONS http://a.test HTTP/1.1", LIMITS)
        assert (parsed.form, parsed.authority, parsed.target) == (ABSOLUTE, b"a.test", b"http://a.test")
        assert parsed.wire == b"OPTIONS * HTTP/1.1\r\n"

    @pytest.mark.parametrize(
        "line",
        [
            b"",
            b"GET",
            b"GET /",
            b"GET  / HTTP/1.1",
            b"GET /  HTTP/1.1",
            b"GET / HTTP/1.1 ",
            b" GET / HTTP/1.1",
            b"GET\t/\tHTTP/1.1",
            b"G@T / HTTP/1.1",
            b"GET /a b HTTP/1.1",
            b"GET /\x00 HTTP/1.1",
            b"GET /\x7f HTTP/1.1",
            b"GET /\r HTTP/1.1",
            b"GET /\n HTTP/1.1",
            b"GET / http/1.1",
            b"GET / HTTP/1.10",
            b"GET / HTTP/11",
            b"GET / HTTP/1",
            b"GET / HTTP/\xb2.\xb9",
            b"GET /a#b HTTP/1.1",
            b"GET http://a.test/#b HTTP/1.1",
            b"GET a HTTP/1.1",
            b"GET a.test/ HTTP/1.1",
            b"GET * HTTP/1.1",
            b"GET http:/a.test/ HTTP/1.1",
            b"GET http:///x HTTP/1.1",
            b"GET http://u@a.test/ HTTP/1.1",
            b"GET http://a.test:x/ HTTP/1.1",
            b"GET http://a.test\\@b.test/ HTTP/1.1",
            b"CONNECT / HTTP/1.1",
            b"CONNECT a.test HTTP/1.1",
            b"CONNECT a.test: HTTP/1.1",
            b"CONNECT :443 HTTP/1.1",
            b"CONNECT a.test:+443 HTTP/1.1",
            b"CONNECT u@a.test:443 HTTP/1.1",
            b"CONNECT http://a.test:443 HTTP/1.1",
        ],
    )
    def test_malformed(self, line: bytes) -> None:
        refused(400, line)

    @pytest.mark.parametrize("version", [b"0.9", b"1.2", b"1.9", b"2.0", b"3.0", b"9.9"])
    def test_versions_that_are_not_spoken(self, version: bytes) -> None:
        refused(505, b"GET / HTTP/" + version)

    def test_a_target_may_be_as_long_as_the_limit_and_no_longer(self) -> None:
        assert parse_line(b"GET /" + b"a" * (LIMITS.target - 1) + b" HTTP/1.1", LIMITS).target
        refused(414, b"GET /" + b"a" * LIMITS.target + b" HTTP/1.1")

    @pytest.mark.parametrize("scheme", [b"http", b"https", b"HTTPS"])
    def test_schemes_of_absolute_targets(self, scheme: bytes) -> None:
        line = parse_line(b"GET " + scheme + b"://a.test:1/x?y HTTP/1.1", LIMITS)
        assert (line.form, line.authority, line.path) == (ABSOLUTE, b"a.test:1", "/x")

    @pytest.mark.parametrize("scheme", [b"ftp", b"ws", b"x+y"])
    def test_schemes_that_are_served_elsewhere(self, scheme: bytes) -> None:
        refused(421, b"GET " + scheme + b"://a.test/ HTTP/1.1")

    @pytest.mark.parametrize(
        ("method", "idempotent"), [(b"GET", True), (b"PUT", True), (b"POST", False), (b"x", False)]
    )
    def test_what_may_be_repeated(self, method: bytes, idempotent: bool) -> None:
        assert parse_line(method + b" / HTTP/1.1", LIMITS).idempotent is idempotent

    @given(st.binary(max_size=80) | hostile)
    def test_arbitrary_bytes_are_refused_or_pass_unchanged(self, text: bytes) -> None:
        line = verdict(parse_line, text)
        if isinstance(line, int):
            assert line in (400, 414, 421, 505)
        else:
            assert b"%b %b HTTP/1.%d" % (line.method, line.target, line.minor) == text

    @given(tokens, st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=60).map(str.encode))
    def test_an_accepted_line_means_what_a_naive_reader_reads(self, method: bytes, rest: bytes) -> None:
        text = method + b" /" + rest + b" HTTP/1.1"
        naive_method, naive_target, naive_version = text.split(b" ")
        line = verdict(parse_line, text)
        if isinstance(line, int):
            assert b"#" in rest or method == b"CONNECT"
            return
        assert (line.method, line.target, naive_version) == (naive_method, naive_target, b"HTTP/1.1")
        path = quote(naive_target.split(b"?")[0], safe="%/:@[]!$&'()*+,;=").lower()
        assert line.path == (path[:-1] if path.endswith("/") else path)


def naive_fields(block: bytes) -> list[tuple[bytes, bytes]] | None:
    """An independent reader of field lines, one byte at a time (RFC 9112 section 5); None for a malformed block."""
    fields: list[tuple[bytes, bytes]] = []
    name = bytearray()
    value = bytearray()
    place = "name"
    for byte in block:
        if place == "name":
            if byte == ord(":") and name:
                place = "value"
            elif byte in TOKEN_CHARACTERS:
                name.append(byte)
            else:
                return None
        elif place == "value":
            if byte == 13:
                place = "lf"
            elif byte == 9 or (byte >= 32 and byte != 127):
                value.append(byte)
            else:
                return None
        elif byte == 10:
            fields.append((bytes(name).lower(), bytes(value).strip(b" \t")))
            name.clear()
            value.clear()
            place = "name"
        else:
            return None
    return fields if place == "name" and not name else None


class TestFields:
    """RFC 9112 sections 5 and 6."""

    def test_lines_keep_their_order_their_case_and_their_bytes(self) -> None:
        fields = parse_fields(b"HOST: a.test\r\nX-b:  1 \t\r\nx-B:\r\nA:\xe9\r\n", LIMITS)
        assert [line.raw for line in fields.lines] == [
            b"HOST: a.test\r\n",
            b"X-b:  1 \t\r\n",
            b"x-B:\r\n",
            b"A:\xe9\r\n",
        ]
        assert [(line.name, line.value) for line in fields.lines] == [
            (b"host", b"a.test"),
            (b"x-b", b"1"),
            (b"x-b", b""),
            (b"a", b"\xe9"),
        ]
        assert fields.host == b"a.test"
        assert (fields.content_length, fields.chunked, fields.connection) == (-1, False, frozenset())

    def test_nothing_at_all(self) -> None:
        fields = parse_fields(b"", LIMITS)
        assert (fields.lines, fields.host) == ([], None)

    @pytest.mark.parametrize(
        "block",
        [
            b"A",
            b"A: b",
            b"A: b\n",
            b"A: b\r",
            b"A: b\r\r\n",
            b"A : b\r\n",
            b"A\t: b\r\n",
            b" A: b\r\n",
            b": b\r\n",
            b"A\r\n",
            b"A: b\r\n c\r\n",
            b"A: b\r\n\tc\r\n",
            b"A: b\r\n\r\n",
            b"A: \0\r\n",
            b"A: \x0b\r\n",
            b"A: \x7f\r\n",
            b"A: b\nC: d\r\n",
            b"A: b\rC: d\r\n",
            b"A(: b\r\n",
            b"\xe9: b\r\n",
            b"\xef\xbb\xbfHost: a\r\n",
            b"\r\n",
        ],
    )
    def test_malformed_lines(self, block: bytes) -> None:
        with pytest.raises(BadMessage) as bad:
            parse_fields(block, LIMITS)
        assert bad.value.status == 400

    @pytest.mark.parametrize("value", [b"0", b"5", b"005", b" 5 ", b"5,5", b"5 ,\t5", b"9" * 18])
    def test_content_length_is_one_number(self, value: bytes) -> None:
        fields = parse_fields(b"content-length:" + value + b"\r\n", LIMITS)
        expected = int(value.split(b",")[0])
        assert fields.content_length == expected
        assert [int(line.value) for line in fields.lines] == [expected]

    def test_equal_repetitions_become_one_line(self) -> None:
        fields = parse_fields(b"Content-Length: 5\r\nA: b\r\ncontent-length: 5\r\n", LIMITS)
        assert sorted(line.raw for line in fields.lines) == [b"A: b\r\n", b"Content-Length: 5\r\n"]

    @pytest.mark.parametrize(
        "value",
        [
            b"",
            b"+5",
            b"-5",
            b"0x5",
            b"5 5",
            b"5,6",
            b"5,",
            b",5",
            b"5,,5",
            b"5.0",
            b"5e1",
            b"5_0",
            b"1" * 19,
            "\u0665".encode(),
            "\uff15".encode(),
            b"\xb5",
            b"five",
            b'"5"',
            b"5;q=1",
            b"5, 05",
        ],
    )
    def test_and_nothing_else(self, value: bytes) -> None:
        with pytest.raises(BadMessage) as bad:
            parse_fields(b"Content-Length: " + value + b"\r\n", LIMITS)
        assert bad.value.status == 400

    @pytest.mark.parametrize(
        ("value", "status"),
        [
            (b"", 400),
            (b"chunked, chunked", 400),
            (b"gzip, chunked", 400),
            (b"chunked, identity", 400),
            (b"chunked,", 400),
            (b"chunked;q=1", 501),
            (b"xchunked", 501),
            (b"chunkedx", 501),
            (b"identity", 501),
            (b'"chunked"', 501),
            (b"chu nked", 501),
            (b"gzip", 501),
            (b"chunked\xa0", 501),
        ],
    )
    def test_codings_other_than_chunked(self, value: bytes, status: int) -> None:
        with pytest.raises(BadMessage) as bad:
            parse_fields(b"Transfer-Encoding: " + value + b"\r\n", LIMITS)
        assert bad.value.status == status

    @pytest.mark.parametrize("value", [b"chunked", b"CHUNKED", b"\tChunked "])
    def test_chunked_in_any_case(self, value: bytes) -> None:
        assert parse_fields(b"transfer-ENCODING:" + value + b"\r\n", LIMITS).chunked

    @pytest.mark.parametrize(
        "block",
        [
            b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            b"Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
            b"Content-Length: 5\r\nContent-Length: 6\r\n",
            b"Host: a.test\r\nHost: a.test\r\n",
            b"Host: a.test\r\nhost:\r\n",
        ],
    )
    def test_fields_that_contradict_each_other(self, block: bytes) -> None:
        with pytest.raises(BadMessage) as bad:
            parse_fields(block, LIMITS)
        assert bad.value.status == 400

    @pytest.mark.parametrize("host", [b"", b"a", b"a.test:", b"a.test:80", b"[::1]", b"[::1]:80", b"a_b.test", b"%41"])
    def test_hosts(self, host: bytes) -> None:
        assert parse_fields(b"Host: " + host + b"\r\n", LIMITS).host == host

    def test_a_host_as_long_as_names_can_be_and_no_longer(self) -> None:
        assert parse_fields(b"Host: " + b"a" * 255 + b":65535\r\n", LIMITS).host
        with pytest.raises(BadMessage) as bad:
            parse_fields(b"Host: " + b"a." * 200 + b"\r\n", LIMITS)
        assert bad.value.status == 400

    @pytest.mark.parametrize(
        "host",
        [
            b"a b",
            b"a/b",
            b"a@b",
            b"a?b",
            b"a#b",
            b"a\\b",
            b"a:b",
            b"a:1:2",
            b":80",
            b"[::1",
            b"::1",
            b"a:123456",
            b"\xe9",
            b"[::1]x",
            b"<a>",
            b'"a"',
            b"a\tb",
        ],
    )
    def test_what_is_no_host(self, host: bytes) -> None:
        with pytest.raises(BadMessage) as bad:
            parse_fields(b"Host: " + host + b"\r\n", LIMITS)
        assert bad.value.status == 400

    def test_connection_options_of_all_lines_count(self) -> None:
        fields = parse_fields(b"Connection: Close,, x\r\nA: b\r\nconnection: KEEP-ALIVE ,\r\n", LIMITS)
        assert fields.connection == {b"close", b"x", b"keep-alive"}

    def test_expectations(self) -> None:
        assert parse_fields(b"Expect: 100-Continue\r\n", LIMITS).expect_continue
        with pytest.raises(BadMessage) as bad:
            parse_fields(b"Expect: 100-continue, more\r\n", LIMITS)
        assert bad.value.status == 417

    def test_as_many_fields_as_the_limit_and_no_more(self) -> None:
        assert len(parse_fields(b"A: b\r\n" * LIMITS.fields, LIMITS).lines) == LIMITS.fields
        with pytest.raises(BadMessage) as bad:
            parse_fields(b"A: b\r\n" * (LIMITS.fields + 1), LIMITS)
        assert bad.value.status == 431

    @given(blocks)
    def test_what_is_accepted_passes_byte_for_byte(self, block: bytes) -> None:
        fields = verdict(parse_fields, block)
        if isinstance(fields, int):
            assert fields in (400, 417, 501)
            return
        kept = b"".join(line.raw for line in fields.lines if line.name != b"content-length")
        lines = [line + b"\r\n" for line in block.split(b"\r\n")[:-1]]
        assert kept == b"".join(line for line in lines if not line.lower().startswith(b"content-length:"))

    @given(blocks | st.binary(max_size=60) | hostile)
    def test_what_is_accepted_means_what_a_naive_reader_reads(self, block: bytes) -> None:
        expected = naive_fields(block)
        fields = verdict(parse_fields, block)
        if isinstance(fields, int):
            return
        assert expected is not None
        by_name = {name: [value for key, value in expected if key == name] for name in FRAMING}
        assert [(line.name, line.value) for line in fields.lines if line.name != b"content-length"] == [
            pair for pair in expected if pair[0] != b"content-length"
        ]
        assert fields.host == (by_name[b"host"][0] if by_name[b"host"] else None)
        assert fields.chunked == bool(by_name[b"transfer-encoding"])
        lengths = {int(v) for value in by_name[b"content-length"] for v in value.split(b",")}
        assert fields.content_length == (lengths.pop() if lengths else -1)
        assert not lengths

    @given(blocks | hostile)
    def test_a_naive_readers_refusal_is_ours_too(self, block: bytes) -> None:
        if naive_fields(block) is None:
            with pytest.raises(BadMessage) as bad:
                parse_fields(block, LIMITS)
            assert bad.value.status == 400

    @given(blocks)
    def test_no_two_readings_of_where_the_body_ends(self, block: bytes) -> None:
        fields = verdict(parse_fields, block)
        if isinstance(fields, int):
            return
        framing = [line.name for line in fields.lines if line.name in (b"content-length", b"transfer-encoding")]
        assert len(framing) == (fields.chunked or fields.content_length >= 0)


class TestPartialHead:
    """What is refused before the head is whole."""

    @pytest.mark.parametrize(
        "data",
        [
            b"\n",
            b"\r\r",
            b"GET / HTTP/1.1\n",
            b"GET / HTTP/1.1\r\nA: b\n",
            b"GET / HTTP/1.1\rA",
            b"\0",
            b" GET",
            b"{}",
            b"\x16\x03\x01\x02",
            b"GET\t/",
            b"GET / HTTP/1.1\r\nA: b\rc",
        ],
    )
    def test_bytes_that_no_head_begins_with(self, data: bytes) -> None:
        with pytest.raises(BadMessage) as bad:
            check_partial_head(data, LIMITS)
        assert bad.value.status == 400

    @pytest.mark.parametrize("line", [b"GET /", b"GET / HTTP/1.1 x", b"GET / /", b"EHLO", b"\x80"])
    def test_a_whole_request_line_is_judged_before_its_fields_come(self, line: bytes) -> None:
        with pytest.raises(BadMessage) as bad:
            check_partial_head(line + b"\r\n", LIMITS)
        assert bad.value.status == 400

    def test_a_line_without_end(self) -> None:
        with pytest.raises(BadMessage) as bad:
            check_partial_head(b"GET /" + b"a" * (LIMITS.target + 100), LIMITS)
        assert bad.value.status == 414

    def test_fields_without_end(self) -> None:
        with pytest.raises(BadMessage) as bad:
            check_partial_head(b"GET / HTTP/1.1\r\nA: " + b"a" * LIMITS.head, LIMITS)
        assert bad.value.status == 431

    @settings(max_examples=40)
    @given(tokens, blocks)
    def test_no_beginning_of_a_good_head_is_refused(self, method: bytes, block: bytes) -> None:
        head = method + b" / HTTP/1.1\r\n" + block + b"\r"
        for length in range(1, len(head) + 1):
            check_partial_head(head[:length], LIMITS)

    @settings(max_examples=60)
    @given(st.binary(max_size=20) | hostile | blocks.map(lambda block: b"GET / HTTP/1.1\r\n" + block), st.data())
    def test_what_is_checked_need_not_be_checked_again(self, data: bytes, draw: st.DataObject) -> None:
        checked = draw.draw(st.integers(0, len(data)))
        if verdict(check_partial_head, data[:checked]) is None:
            anew = verdict(check_partial_head, data)
            assert verdict(lambda rest, limits: check_partial_head(rest, limits, checked), data) == anew

    @settings(max_examples=60)
    @given(st.binary(max_size=20) | hostile)
    def test_once_refused_always_refused(self, data: bytes) -> None:
        verdicts = [verdict(check_partial_head, data[:length]) is None for length in range(1, len(data) + 1)]
        assert all(earlier or not later for earlier, later in pairwise(verdicts))
