"""The chunked coding, RFC 9112 section 7.1: what a body is, however its bytes arrive."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.http1.chunked import MAX_SIZE_LINE, MAX_TRAILER, ChunkScanner
from router.http1.grammar import BadMessage

EXTENSIONS = [b"", b";a", b";a=b", b' ; a="b;c"', b"\t;", b";\xe9"]
TRAILERS = [b"X: 1\r\n", b"x-sum:\r\n", b"ETag: \xe9\t\r\n"]

chunks = st.lists(st.tuples(st.binary(min_size=1, max_size=40), st.sampled_from(EXTENSIONS), st.booleans()), max_size=6)
trailers = st.lists(st.sampled_from(TRAILERS), max_size=3).map(b"".join)
cuts = st.lists(st.integers(1, 7), min_size=1, max_size=20)
hostile = st.lists(
    st.sampled_from([b"\r\n", b"\r", b"\n", b"0", b"1", b"a", b"G", b";", b" ", b"X: 1", b"Host: a", b"\0"])
).map(b"".join)


def encode(parts: Iterable[tuple[bytes, bytes, bool]], trailer: bytes) -> bytes:
    sizes = [(b"%X" if upper else b"0%x") % len(data) + extension for data, extension, upper in parts]
    framed = [size + b"\r\n" + part[0] + b"\r\n" for size, part in zip(sizes, parts, strict=True)]
    return b"".join(framed) + b"0\r\n" + trailer + b"\r\n"


def split(data: bytes, sizes: list[int]) -> list[bytes]:
    """Pieces of these sizes, repeated as often as needed."""
    pieces: list[bytes] = []
    while data:
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(data[:size])
        data = data[size:]
    return pieces


def scan(pieces: Iterable[bytes]) -> tuple[bytes, bytes, bool]:
    """The bytes that belonged to the body, its data, and whether it is complete. Raises BadMessage."""
    scanner = ChunkScanner()
    consumed = b""
    out: list[bytes] = []
    for piece in pieces:
        consumed += piece[: scanner.feed(piece, out)]
    assert scanner.payload == len(b"".join(out))
    return consumed, b"".join(out), scanner.done


@given(chunks, trailers, cuts, st.binary(max_size=20))
def test_a_body_is_the_same_however_it_is_cut(
    parts: list[tuple[bytes, bytes, bool]], trailer: bytes, sizes: list[int], behind: bytes
) -> None:
    body = encode(parts, trailer)
    expected = (body, b"".join(data for data, _, _ in parts), True)
    assert scan([body + behind]) == expected
    assert scan(split(body + behind, sizes)) == expected


@given(chunks, trailers)
def test_only_the_last_byte_completes_it(parts: list[tuple[bytes, bytes, bool]], trailer: bytes) -> None:
    body = encode(parts, trailer)
    scanner = ChunkScanner()
    for position in range(len(body)):
        assert not scanner.done
        assert scanner.feed(body[position : position + 1]) == 1
    assert scanner.done
    assert scanner.feed(b"GET / HTTP/1.1") == 0


@given(hostile | st.binary(max_size=40), cuts)
def test_arbitrary_bytes_are_judged_alike_however_they_are_cut(data: bytes, sizes: list[int]) -> None:
    def verdict(pieces: list[bytes]) -> tuple[bytes, bytes, bool] | None:
        try:
            return scan(pieces)
        except BadMessage:
            return None

    assert verdict([data]) == verdict(split(data, sizes))


@pytest.mark.parametrize("size", [b"5", b"05", b"000000000000005"])
def test_sizes_may_have_leading_zeros(size: bytes) -> None:
    body = size + b"\r\nhello\r\n0\r\n\r\n"
    assert scan([body]) == (body, b"hello", True)


@pytest.mark.parametrize("size", [b"f", b"F"])
def test_sizes_are_hexadecimal_in_any_case(size: bytes) -> None:
    body = size + b"\r\n" + b"x" * 15 + b"\r\n000\r\n\r\n"
    assert scan([body]) == (body, b"x" * 15, True)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b" 5",
        b"5 ",
        b"+5",
        b"-5",
        b"0x5",
        b"5\t",
        b"5 5",
        b"G",
        b"5,a",
        b"5:a",
        b"\xb5",
        b"5_0",
        b"5\x0b;a",
        b"5;\0",
        b"0" * 16 + b"5",
        b"5;" + b"a" * MAX_SIZE_LINE,
    ],
)
def test_malformed_size_lines(line: bytes) -> None:
    for pieces in ([line + b"\r\n"], split(line + b"\r\n", [1])):
        with pytest.raises(BadMessage):
            scan(pieces)


@pytest.mark.parametrize(
    "beginning", [b"x", b"5;a\0", b"5\ra", b"5 a", b"1\r\nax", b"1\r\na\rx", b"0\r\nX ", b"0\r\nX\r"]
)
def test_a_line_is_refused_at_the_first_byte_that_spoils_it(beginning: bytes) -> None:
    scanner = ChunkScanner()
    scanner.feed(beginning[:-1])
    with pytest.raises(BadMessage):
        scanner.feed(beginning[-1:])


@pytest.mark.parametrize("name", [b"Content-Length", b"host", b"TRANSFER-ENCODING", b"te", b"Cookie", b"Set-Cookie"])
def test_trailers_do_not_frame_or_route(name: bytes) -> None:
    with pytest.raises(BadMessage):
        scan([b"0\r\n" + name + b": 1\r\n\r\n"])
    with pytest.raises(BadMessage):
        scan([b"0\r\n" + name + b":"])


@settings(max_examples=20)
@given(st.integers(0, 40))
def test_trailers_are_bounded_in_sum(more: int) -> None:
    line = b"X: " + b"a" * 125 + b"\r\n"
    fitting = MAX_TRAILER // (len(line) - 2)
    assert scan([b"0\r\n" + line * fitting + b"\r\n"])[2]
    with pytest.raises(BadMessage):
        scan([b"0\r\n" + line * (fitting + 1 + more) + b"\r\n"])


def test_a_line_that_never_ends_is_not_kept_for_long() -> None:
    with pytest.raises(BadMessage):
        scan(split(b"5;" + b"a" * MAX_SIZE_LINE, [1]))


def test_more_framing_than_data_is_an_attack() -> None:
    chunk = b"1;" + b"a" * 200 + b"\r\nx\r\n"
    with pytest.raises(BadMessage, match="more framing than data"):
        scan([chunk] * 1000)


def test_one_byte_chunks_are_not() -> None:
    assert scan([b"1\r\nx\r\n" * 50_000 + b"0\r\n\r\n"])[1] == b"x" * 50_000


def test_the_status_is_the_one_asked_for() -> None:
    with pytest.raises(BadMessage) as bad:
        ChunkScanner(502).feed(b"x\r\n")
    assert bad.value.status == 502
