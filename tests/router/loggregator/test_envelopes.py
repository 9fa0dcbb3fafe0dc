"""Envelopes as another reader understands them: whatever goes in comes out."""

from __future__ import annotations

import struct
from uuid import UUID

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from router.loggregator import wire
from router.loggregator.envelopes import HTTP_HEAD, METHODS, Series, counter, tags, uuid_message
from router.loggregator.wire import Timestamps, delimited, fixed_uint64_of_hex, number, padding, utf8, varint
from tests.router.loggregator.dropsonde import read

TIMES = st.integers(1 << 56, (1 << 62) - 1)
"""Nanoseconds, from 1972 on."""
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
DOUBLES = st.floats(allow_nan=False)
UINT64S = st.integers(0, (1 << 64) - 1)


@given(TEXTS, TEXTS, st.lists(DOUBLES, min_size=1, max_size=70), TIMES)
def test_value_metrics(name: str, unit: str, values: list[float], at: int) -> None:
    series = Series(name, unit)
    joined = series.envelopes(values, Timestamps().varint(at))
    assert len(joined) == series.size * len(values)
    for start, value in zip(range(0, len(joined), series.size), values, strict=True):
        envelope = read(joined[start : start + series.size])
        assert (envelope.origin, envelope.eventType, envelope.timestamp) == ("gorouter", 6, at)
        metric = envelope.valueMetric
        assert (metric.name, metric.unit) == (name, unit)
        assert struct.pack("d", metric.value) == struct.pack("d", value)


@given(TEXTS, UINT64S, TIMES)
def test_counters(name: str, delta: int, at: int) -> None:
    envelope = read(counter(name, delta, Timestamps().varint(at)))
    assert (envelope.origin, envelope.eventType, envelope.timestamp) == ("gorouter", 7, at)
    assert (envelope.counterEvent.name, envelope.counterEvent.delta) == (name, delta)
    assert not envelope.counterEvent.HasField("total")


@given(st.dictionaries(TEXTS, TEXTS, max_size=5))
def test_tags(pairs: dict[str, str]) -> None:
    assert dict(read(counter("c", 1, Timestamps().varint(1 << 56)) + tags(pairs)).tags) == pairs


@given(st.lists(st.integers(-60, 60), max_size=10), TIMES)
def test_times_near_each_other(steps: list[int], at: int) -> None:
    times = Timestamps()
    for step in steps:
        now = max(1 << 56, at + step * 1_000_000_000)
        encoded = times.varint(now)
        assert len(encoded) == wire.TIMESTAMP_LENGTH
        assert read(counter("c", 1, encoded)).timestamp == now


@given(st.integers(-(1 << 63), (1 << 64) - 1))
def test_varints(value: int) -> None:
    field = read(counter("c", 0, Timestamps().varint(1 << 56)) + delimited(10, number(2, value)))
    assert field.counterEvent.delta == value & (1 << 64) - 1
    assert len(varint(value)) <= 10


@given(UINT64S)
def test_varints_of_a_known_length(value: int) -> None:
    encoded = fixed_uint64_of_hex(value.to_bytes(8, "little").hex().encode())
    assert len(encoded) == 10
    field = read(counter("c", 0, Timestamps().varint(1 << 56)) + delimited(10, b"\x10" + encoded))
    assert field.counterEvent.delta == value


@given(st.integers(3, 20_000))
def test_padding_is_passed_over(length: int) -> None:
    envelope = counter("c", 5, Timestamps().varint(1 << 56))
    assert len(padding(length)) == length
    padded = read(envelope + padding(length))
    padded.DiscardUnknownFields()
    assert padded == read(envelope)


@pytest.mark.parametrize("length", [0, 1, 2])
def test_no_padding_is_shorter_than_three_bytes(length: int) -> None:
    with pytest.raises(ValueError, match=f"no field is {length} bytes long"):
        padding(length)


@given(st.uuids())
def test_halves_of_a_uuid_are_little_endian(value: UUID) -> None:
    assert struct.pack("<QQ", *halves(value)) == value.bytes


def test_the_example_of_the_protocol() -> None:
    assert halves(UUID("f47ac10b-58cc-4372-a567-0e02b2c3d479")) == (0x7243CC580BC17AF4, 0x79D4C3B2020E67A5)


def halves(value: UUID) -> tuple[int, int]:
    event = b"".join(
        (b"\x08\x01\x10\x01", delimited(3, uuid_message(value)), b"\x20\x01\x28\x01", b"\x32\x00\x3a\x00\x42\x00")
    )
    event += b"\x48\x00\x50\x00"
    read_back = read(HTTP_HEAD + Timestamps().varint(1 << 56) + delimited(7, event)).httpStartStop.requestId
    return read_back.low, read_back.high


@given(st.binary(max_size=100))
def test_strings_are_utf8_whatever_was_sent(value: bytes) -> None:
    text = utf8(value)
    text.decode()
    if value.isascii():
        assert text == value


def test_methods_have_the_numbers_of_the_protocol() -> None:
    known = {
        "GET": 1,
        "POST": 2,
        "PUT": 3,
        "DELETE": 4,
        "HEAD": 5,
        "CONNECT": 11,
        "OPTIONS": 24,
        "PATCH": 26,
        "TRACE": 36,
    }
    assert {name: METHODS[name.encode()] for name in known} == known
    assert (METHODS[b"VERSION-CONTROL"], len(METHODS)) == (44, 44)


def test_the_reader_is_strict() -> None:
    with pytest.raises(DecodeError):
        read(counter("c", 1, Timestamps().varint(1 << 56))[:-1])
    with pytest.raises((DecodeError, AssertionError)):
        read(HTTP_HEAD + Timestamps().varint(1 << 56) + delimited(7, b"\x08\x01"))
