"""The frames that the router sends, read by the hyperframe package; the words of RFC 9113 against its tables."""

from __future__ import annotations

from hyperframe.frame import (
    ContinuationFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from hypothesis import example, given
from hypothesis import strategies as st

from router.http2 import frames

streams = st.integers(1, 2**31 - 1)
words = st.integers(0, 2**32 - 1)


def read(data: bytes) -> list[Frame]:
    """All frames that ``data`` holds, and nothing behind them."""
    found = []
    while data:
        frame, length = Frame.parse_frame_header(memoryview(data[:9]), strict=True)
        frame.parse_body(memoryview(data[9 : 9 + length]))
        assert frame.body_len == length == len(data[9 : 9 + length])
        found.append(frame)
        data = data[9 + length :]
    return found


@given(streams, st.binary(max_size=70_000), st.booleans(), st.sampled_from([16384, 16385, 60000]))
@example(1, b"", True, 16384)
@example(1, b"x" * 16384, True, 16384)
@example(1, b"x" * 16385, False, 16384)
@example(1, b"x" * 32768, False, 16384)
def test_a_header_block_in_as_many_frames_as_it_takes(stream: int, block: bytes, end: bool, most: int) -> None:
    first, *rest = read(frames.header_frames(stream, block, frames.END_STREAM if end else 0, most))
    assert isinstance(first, HeadersFrame)
    assert ("END_STREAM" in first.flags) is end
    following = [frame for frame in rest if isinstance(frame, ContinuationFrame)]
    assert following == rest
    assert all(frame.stream_id == stream and frame.body_len <= most for frame in [first, *rest])
    assert ["END_HEADERS" in frame.flags for frame in [first, *rest]] == [False] * len(rest) + [True]
    assert first.data + b"".join(frame.data for frame in following) == block


@given(st.dictionaries(st.integers(1, 8), words, max_size=8))
def test_settings(values: dict[int, int]) -> None:
    (frame,) = read(frames.settings(values))
    assert isinstance(frame, SettingsFrame)
    assert (frame.stream_id, frame.settings, len(frame.flags)) == (0, values, 0)


def test_the_acknowledgement_of_settings() -> None:
    (frame,) = read(frames.SETTINGS_ACK)
    assert isinstance(frame, SettingsFrame)
    assert (frame.settings, set(frame.flags)) == ({}, {"ACK"})


@given(streams, words)
def test_rst_stream(stream: int, code: int) -> None:
    (frame,) = read(frames.rst_stream(stream, code))
    assert isinstance(frame, RstStreamFrame)
    assert (frame.stream_id, frame.error_code) == (stream, code)


@given(st.integers(0, 2**31 - 1), st.integers(1, 2**31 - 1))
def test_window_update(stream: int, increment: int) -> None:
    (frame,) = read(frames.window_update(stream, increment))
    assert isinstance(frame, WindowUpdateFrame)
    assert (frame.stream_id, frame.window_increment) == (stream, increment)


@given(st.integers(0, 2**31 - 1), words, st.text(max_size=50))
def test_goaway(last: int, code: int, why: str) -> None:
    (frame,) = read(frames.goaway(last, code, why))
    assert isinstance(frame, GoAwayFrame)
    assert (frame.last_stream_id, frame.error_code, frame.additional_data) == (last, code, why.encode())


@given(st.binary(min_size=8, max_size=8), st.booleans())
def test_ping(payload: bytes, answer: bool) -> None:
    (frame,) = read(frames.ping(payload, frames.ACK if answer else 0))
    assert isinstance(frame, PingFrame)
    assert (frame.opaque_data, "ACK" in frame.flags) == (payload, answer)


@given(st.integers(0, 9), st.integers(0, 255), st.integers(0, 2**31 - 1), st.integers(0, 2**24 - 1))
def test_the_header_of_any_frame(kind: int, flags: int, stream: int, length: int) -> None:
    """RFC 9113 section 4.1, byte by byte."""
    header = frames.frame_header(kind, flags, stream, length)
    assert header == length.to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big")
    high, low, *rest = frames.HEADER.unpack(header)
    assert [high << 16 | low, *rest] == [length, kind, flags, stream]


def test_errors_have_their_names() -> None:
    assert frames.error_name(frames.ENHANCE_YOUR_CALM) == "ENHANCE_YOUR_CALM"
    assert "1234" in frames.error_name(1234)
