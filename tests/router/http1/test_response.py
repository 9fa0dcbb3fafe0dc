"""Response heads without sockets: what is accepted, what it means, and that all else is a bad gateway."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.http1.grammar import BadMessage, Limits
from router.http1.response import ResponseHead, check_partial_head, parse_head

LIMITS = Limits(fields=40)

values = st.lists(st.sampled_from([bytes((c,)) for c in range(256) if c == 9 or (c >= 32 and c != 127)])).map(b"".join)
lines = st.sampled_from(
    [
        b"Content-Length: 5",
        b"content-length:5 ",
        b"Content-Length: 6",
        b"Transfer-Encoding: chunked",
        b"Connection: close, X",
        b"Connection: Keep-Alive",
        b"Set-Cookie: a=b",
        b"Server : x",
        b" folded",
        b"",
    ]
) | values.map(lambda value: b"X: " + value)
status_lines = st.sampled_from(
    [b"HTTP/1.1 200 OK", b"HTTP/1.0 404 Not Found", b"HTTP/1.1 304", b"HTTP/2 200", b"200 OK"]
)
heads = st.builds(
    lambda first, fields: b"".join(text + b"\r\n" for text in (first, *fields)) + b"\r\n", status_lines, st.lists(lines)
)


def parse(head: bytes) -> ResponseHead | None:
    try:
        return parse_head(head, LIMITS)
    except BadMessage as bad:
        if bad.status != 502:
            raise AssertionError(f"{bad.status} for a response") from bad
        return None


def head(*fields: bytes, first: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return b"".join(text + b"\r\n" for text in (first, *fields)) + b"\r\n"


class TestStatusLine:
    """RFC 9112 section 4."""

    @pytest.mark.parametrize(
        ("first", "status", "minor", "reason"),
        [
            (b"HTTP/1.1 200 OK", 200, 1, b"OK"),
            (b"HTTP/1.0 404 Not Found", 404, 0, b"Not Found"),
            (b"HTTP/1.1 204 ", 204, 1, b""),
            (b"HTTP/1.1 500", 500, 1, b""),
            (b"HTTP/1.1 999 d\xe9j\xe0 vu\t", 999, 1, b"d\xe9j\xe0 vu\t"),
        ],
    )
    def test_accepted(self, first: bytes, status: int, minor: int, reason: bytes) -> None:
        parsed = parse_head(head(first=first), LIMITS)
        assert (parsed.status, parsed.minor, parsed.reason) == (status, minor, reason)

    @pytest.mark.parametrize(
        "first",
        [
            b"",
            b"HTTP/1.1",
            b"HTTP/1.1 20 OK",
            b"HTTP/1.1 2000 OK",
            b"HTTP/1.1 099 OK",
            b"HTTP/1.1  200 OK",
            b"HTTP/1.2 200 OK",
            b"HTTP/2.0 200 OK",
            b"http/1.1 200 OK",
            b"HTTP/1.1 200\tOK",
            b"HTTP/1.1 200 O\0K",
            b"HTTP/1.1 +20 OK",
            b"ICY 200 OK",
            b" HTTP/1.1 200 OK",
            b"HTTP/1.1 200 O\nK",
            b"HTTP/1.1 200 O\rK",
        ],
    )
    def test_refused(self, first: bytes) -> None:
        assert parse(head(first=first)) is None

    @pytest.mark.parametrize("status", [100, 101, 103, 199, 204, 304])
    def test_without_body_whatever_the_fields_say(self, status: int) -> None:
        assert parse_head(head(b"Content-Length: 5", first=b"HTTP/1.1 %d X" % status), LIMITS).bodiless

    @pytest.mark.parametrize("status", [200, 205, 206, 302, 404, 500])
    def test_with_body(self, status: int) -> None:
        assert not parse_head(head(first=b"HTTP/1.1 %d X" % status), LIMITS).bodiless


class TestFields:
    """RFC 9112 sections 5 and 6."""

    def test_lines_keep_their_order_and_their_bytes(self) -> None:
        parsed = parse_head(head(b"set-cookie:a", b"X: \xe9 ", b"Set-Cookie: b"), LIMITS)
        assert [line.raw for line in parsed.lines] == [b"set-cookie:a\r\n", b"X: \xe9 \r\n", b"Set-Cookie: b\r\n"]

    @pytest.mark.parametrize(
        "fields",
        [
            (b"X : 1",),
            (b": 1",),
            (b"X",),
            (b"X: a", b" b"),
            (b"X: a\0",),
            (b"X: a\rY: b",),
            (b"X: a\nY: b",),
            (b"Content-Length: -1",),
            (b"Content-Length:",),
            (b"Content-Length: 1, 2",),
            (b"Content-Length: 1", b"Content-Length: 2"),
            (b"Content-Length: 1", b"Transfer-Encoding: chunked"),
            (b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
            (b"Transfer-Encoding: gzip, chunked",),
            (b"Transfer-Encoding: identity",),
            (b"Transfer-Encoding:",),
            (b"X: 1",) * 41,
        ],
    )
    def test_what_cannot_be_framed_beyond_doubt(self, fields: tuple[bytes, ...]) -> None:
        assert parse(head(*fields)) is None

    def test_chunks_need_http_1_1(self) -> None:
        assert parse(head(b"Transfer-Encoding: chunked", first=b"HTTP/1.0 200 OK")) is None
        assert parse_head(head(b"Transfer-Encoding: Chunked"), LIMITS).chunked

    def test_equal_lengths_become_one(self) -> None:
        parsed = parse_head(head(b"Content-Length: 5", b"Content-Length: 5, 5"), LIMITS)
        assert parsed.content_length == 5
        assert [line.raw for line in parsed.lines] == [b"Content-Length: 5\r\n"]

    @given(heads)
    def test_what_is_accepted_passes_byte_for_byte(self, whole: bytes) -> None:
        parsed = parse(whole)
        if parsed is None:
            return
        wire = whole.split(b"\r\n")[1:-2]
        assert [line.raw[:-2] for line in parsed.lines if line.name != b"content-length"] == [
            line for line in wire if not line.lower().startswith(b"content-length:")
        ]
        lengths = {int(line.partition(b":")[2]) for line in wire if line.lower().startswith(b"content-length:")}
        assert lengths == ({parsed.content_length} if parsed.content_length >= 0 else set())
        assert not (parsed.chunked and lengths)

    @given(st.binary(max_size=60), st.booleans())
    def test_arbitrary_bytes_raise_nothing_else(self, noise: bytes, with_status_line: bool) -> None:
        parsed = parse((b"HTTP/1.1 200 OK\r\n" if with_status_line else b"") + noise + b"\r\n\r\n")
        assert parsed is None or parsed.status >= 100


class TestPartialHead:
    @pytest.mark.parametrize(
        "data",
        [
            b"\n",
            b"H ",
            b"HTTP/2",
            b"<html>",
            b"HTTP/1.1 200 OK\nX",
            b"HTTP/1.1 200 OK\rX",
            b"HTTP/1.1 2\r\nX" + b"x" * 70000,
        ],
    )
    def test_what_can_no_longer_become_a_head(self, data: bytes) -> None:
        with pytest.raises(BadMessage) as bad:
            check_partial_head(data, LIMITS)
        assert bad.value.status == 502

    @settings(max_examples=40)
    @given(heads)
    def test_no_beginning_of_a_good_head_is_refused(self, whole: bytes) -> None:
        if parse(whole) is not None:
            for length in range(1, len(whole) - 1):
                check_partial_head(whole[:length], LIMITS)

    @given(st.lists(st.sampled_from([b"HTTP/1.1 200 OK", b"H", b"\r\n", b"\r", b"\n", b"X: 1"])).map(b"".join))
    def test_once_refused_always_refused(self, data: bytes) -> None:
        def accepted(beginning: bytes) -> bool:
            try:
                check_partial_head(beginning, LIMITS)
            except BadMessage:
                return False
            return True

        verdicts = [accepted(data[:length]) for length in range(1, len(data) + 1)]
        assert all(earlier or not later for earlier, later in pairwise(verdicts))
