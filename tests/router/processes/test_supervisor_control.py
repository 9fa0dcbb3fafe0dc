"""The control channel and the component log: what passes between the processes, and what people read."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
import socket
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.logs.component_log import JsonLines
from router.processes.control import MAX_MESSAGE_BYTES, BrokenChannel, Channel, Message

_TREES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


async def received(raw: bytes) -> list[Message]:
    """What a channel makes of bytes, until their end."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    channel = await Channel.over(theirs)
    messages = []
    with ours:
        await asyncio.get_running_loop().sock_sendall(ours, raw)
    while (message := await channel.receive()) is not None:
        messages.append(message)
    await channel.close()
    return messages


class TestTheChannel:
    @settings(max_examples=40, deadline=None)
    @given(st.lists(st.dictionaries(st.text(max_size=3), _TREES, max_size=3), max_size=5))
    def test_messages_arrive_whole_and_in_order(self, messages: list[Message]) -> None:
        async def talk() -> list[Message]:
            ours, theirs = socket.socketpair()
            here, there = await Channel.over(ours), await Channel.over(theirs)
            for message in messages:
                here.send(message)
            await here.close()
            heard = []
            while (arrived := await there.receive()) is not None:
                heard.append(arrived)
            await there.close()
            return heard

        assert asyncio.run(talk()) == messages

    @pytest.mark.parametrize("raw", [b"", b"\0\0", b"\0\0\0\x05{}", b"\0\0\0\x02{"])
    def test_an_end_in_the_middle_is_an_end(self, raw: bytes) -> None:
        assert asyncio.run(received(raw)) == []

    @pytest.mark.parametrize("raw", [b"\xff\xff\xff\xff{}", b"\0\0\0\x02[]", b"\0\0\0\x02}{"])
    def test_what_no_channel_sends_is_an_error(self, raw: bytes) -> None:
        with pytest.raises(BrokenChannel):
            asyncio.run(received(raw))

    @settings(max_examples=60, deadline=None)
    @given(st.binary(max_size=30))
    def test_any_bytes_are_messages_an_end_or_a_broken_channel(self, raw: bytes) -> None:
        try:
            messages = asyncio.run(received(raw))
        except BrokenChannel:
            return
        assert all(isinstance(message, dict) for message in messages)

    def test_a_message_that_is_too_long_is_not_sent(self) -> None:
        async def send() -> None:
            ours, theirs = socket.socketpair()
            channel = await Channel.over(ours)
            with theirs:
                channel.send({"text": "x" * MAX_MESSAGE_BYTES})

        with pytest.raises(ValueError, match="control message"):
            asyncio.run(send())


class TestTheLog:
    def line(self, level: int, message: str, *arguments: object, **more: Any) -> dict[str, Any]:
        stream = io.StringIO()
        handler = logging.StreamHandler(stream)
        handler.setFormatter(JsonLines({"worker": 1}))
        logger = logging.Logger("router.supervisor")
        logger.addHandler(handler)
        logger.log(level, message, *arguments, **more)
        [line] = stream.getvalue().splitlines()
        decoded: dict[str, Any] = json.loads(line)
        return decoded

    def test_has_gorouters_shape(self) -> None:
        line = self.line(logging.INFO, "worker-died", extra={"data": {"pid": 7}})
        assert list(line) == ["log_level", "timestamp", "message", "source", "data"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", line["timestamp"])
        assert (line["message"], line["source"]) == ("worker-died", "gorouter.stdout.supervisor")
        assert line["data"] == {"worker": 1, "pid": 7}

    @pytest.mark.parametrize(
        ("level", "number"),
        [(logging.DEBUG, 0), (logging.INFO, 1), (logging.WARNING, 2), (logging.ERROR, 3), (logging.CRITICAL, 3)],
    )
    def test_numbers_its_levels_as_gorouter_does(self, level: int, number: int) -> None:
        assert self.line(level, "x")["log_level"] == number

    def test_an_exception_is_one_line_too(self) -> None:
        try:
            raise ValueError("two\nlines")
        except ValueError:
            line = self.line(logging.ERROR, "failed %s", "here", exc_info=True)
        assert line["message"] == "failed here"
        assert line["data"]["trace"].endswith("ValueError: two\nlines")
