"""Event streams: every way of writing one, every way of cutting one into pieces, and what breaks it."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.sources.sse import BrokenEvents, Event, EventParser

LINE_ENDS = (b"\n", b"\r\n", b"\r")
NAMES = st.sampled_from(["Upsert", "Delete", "é"])
DATA_LINES = st.lists(st.text(st.characters(blacklist_characters="\r\n", blacklist_categories=["Cs"]), max_size=12))
NOISE = st.sampled_from(
    [": a comment", ":", "id: 7", "id", "retry: 1000", "other: field", "data2", "eventual: x", "ï: ö"]
)


def parsed(stream: bytes, *cuts: int) -> list[Event]:
    """The events of a stream that comes in pieces, cut at these places."""
    parser = EventParser()
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    return [event for start, end in pairwise(places) for event in parser.feed(stream[start:end])]


@st.composite
def streams(draw: st.DrawFn) -> tuple[bytes, list[Event]]:
    """A stream, and the events that were written into it."""
    lines: list[str] = []
    events: list[Event] = []
    for _ in range(draw(st.integers(0, 4))):
        name = draw(st.none() | NAMES)
        data = draw(DATA_LINES)
        block = [f"data:{draw(st.sampled_from(['', ' ']))}{line}" for line in data]
        # A space after the colon is not part of the value, so that a value that begins with one needs another.
        block = [f"data: {line}" if line.startswith(" ") else text for line, text in zip(data, block, strict=True)]
        if name is not None:
            block.insert(draw(st.integers(0, len(block))), f"event: {name}")
        for noise in draw(st.lists(NOISE, max_size=2)):
            block.insert(draw(st.integers(0, len(block))), noise)
        lines += [*block, ""]
        if data:
            events.append(Event(name or "message", "\n".join(data).encode()))
    ends = draw(st.lists(st.sampled_from(LINE_ENDS), min_size=len(lines), max_size=len(lines)))
    mark = draw(st.sampled_from([b"", b"\xef\xbb\xbf"])) if lines else b""
    return mark + _joined(lines, ends), events


def _joined(lines: list[str], ends: list[bytes]) -> bytes:
    """With these line ends; never CR before a line that is LF alone, which would be one end and not two."""
    text = b""
    for line, end in zip(lines, ends, strict=True):
        text += line.encode() + (b"\r" if not line and end == b"\n" and text.endswith(b"\r") else end)
    return text


@given(streams(), st.lists(st.integers(0, 400), max_size=8))
def test_what_was_written_is_read_however_it_is_cut(written: tuple[bytes, list[Event]], cuts: list[int]) -> None:
    stream, events = written
    assert parsed(stream, *cuts) == events
    assert parsed(stream, *range(len(stream))) == events


@given(streams(), st.integers(0, 400))
def test_an_event_that_is_cut_off_never_happened(written: tuple[bytes, list[Event]], cut: int) -> None:
    stream, events = written
    seen = parsed(stream[:cut])
    assert seen == events[: len(seen)]


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=5))
def test_bytes_of_any_kind_are_events_or_a_broken_stream(stream: bytes, cuts: list[int]) -> None:
    def outcome(*places: int) -> list[Event] | str:
        try:
            return parsed(stream, *places)
        except BrokenEvents as error:
            return str(error)

    assert outcome(*cuts) == outcome()


@pytest.mark.parametrize("end", LINE_ENDS)
def test_an_event_is_there_with_the_end_of_its_empty_line(end: bytes) -> None:
    parser = EventParser()
    assert parser.feed(b"event: Upsert" + end + b"data: {}" + end) == []
    assert parser.feed(end) == [Event("Upsert", b"{}")]


def test_the_stream_of_a_routing_api() -> None:
    stream = b'id: 0\nevent: Upsert\ndata: {"route":"a.com"}\n\nid: 1\nevent: Delete\ndata: {}\n\n'
    assert parsed(stream) == [Event("Upsert", b'{"route":"a.com"}'), Event("Delete", b"{}")]


def test_a_name_without_data_is_no_event_and_does_not_name_the_next() -> None:
    assert parsed(b"event: Upsert\n\ndata: x\n\n") == [Event("message", b"x")]


def test_empty_data_is_data() -> None:
    assert parsed(b"data\n\ndata:\ndata:\n\n") == [Event("message", b""), Event("message", b"\n")]


class TestLimits:
    @pytest.mark.parametrize(
        "stream",
        [
            b"data: " + b"x" * 60,
            b"data: " + b"x" * 60 + b"\n",
            b"data: 12345678\n" * 6,
            b"data\n" * 13,
            b"event: " + b"x" * 60 + b"\n",
            b"event: 1234\n" * 6,
            b": " + b"x" * 60 + b"\n",
        ],
    )
    def test_an_event_has_a_longest(self, stream: bytes) -> None:
        with pytest.raises(BrokenEvents, match="longer than 50 bytes"):
            EventParser(50).feed(stream)

    def test_the_longest_passes(self) -> None:
        assert EventParser(50).feed(b"data: " + b"x" * 44 + b"\n\n") == [Event("message", b"x" * 44)]

    def test_a_stream_of_comments_may_go_on_for_ever(self) -> None:
        parser = EventParser(50)
        assert parser.feed(b": still here\n" * 1000 + b"data: x\n\n") == [Event("message", b"x")]

    def test_what_is_not_utf_8_is_no_event_stream(self) -> None:
        with pytest.raises(BrokenEvents, match="UTF-8"):
            EventParser().feed(b"data: \xff\n")
