"""The sample backend's HTTP/1.1: what it reads and throws away, what it answers, and what it refuses."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from director.sample_http import MAX_HEAD_BYTES, Answer, BadRequest, Request, Server, parse


async def echo(request: Request) -> Answer:
    if request.target == "/big":
        return Answer(filling=1_000_000)
    return Answer(f"{request.method} {request.target}")


async def talk(sent: bytes, pieces: int = 0) -> bytes:
    """Everything that comes back when this is sent, whole or in pieces, and the client then stops sending."""
    client, server = trio.testing.memory_stream_pair()
    received = b""
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Server(echo).serve_connection, server)
            for at in range(0, len(sent), pieces or len(sent)):
                await client.send_all(sent[at : at + (pieces or len(sent))])
                await trio.testing.wait_all_tasks_blocked()
            await client.send_eof()
            async for chunk in client:
                received += chunk
    return received


def bodies(received: bytes) -> list[bytes]:
    """The bodies of a run of answers."""
    found = []
    while received:
        head, _, rest = received.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 ")
        length = int(next(line for line in head.split(b"\r\n") if line.startswith(b"Content-Length: "))[16:])
        found.append(rest[:length])
        received = rest[length:]
    return found


BODIES = pytest.mark.parametrize(
    "body",
    [
        b"\r\n",
        b"Content-Length: 5\r\n\r\nhello",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1;a=b\r\n!\r\n0\r\n\r\n",
        b"Transfer-Encoding: Chunked\r\n\r\n0\r\nTrailer: value\r\n\r\n",
    ],
)


@BODIES
@pytest.mark.parametrize("pieces", [0, 1])
def test_a_body_is_skipped_to_the_byte(body: bytes, pieces: int) -> None:
    request = b"POST /%d HTTP/1.1\r\nHost: a\r\n" + body
    received = trio.run(talk, request % 1 + request % 2, pieces)
    assert bodies(received) == [b"POST /1", b"POST /2"]


def test_an_answer_has_a_date_a_type_and_a_length() -> None:
    received = trio.run(talk, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    lines = received.split(b"\r\n")
    assert lines[0] == b"HTTP/1.1 200 OK"
    assert [line.partition(b": ")[0] for line in lines[1:4]] == [b"Date", b"Content-Type", b"Content-Length"]


def test_head_gets_the_length_and_no_body() -> None:
    received = trio.run(talk, b"HEAD /big HTTP/1.1\r\nHost: a\r\n\r\n")
    assert b"\r\nContent-Length: 1000000\r\n" in received
    assert received.endswith(b"\r\n\r\n")


def test_a_large_answer_arrives_whole() -> None:
    (body,) = bodies(trio.run(talk, b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n"))
    assert len(body) == 1_000_000


def test_a_client_that_waits_is_told_to_go_on() -> None:
    received = trio.run(talk, b"PUT / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nok")
    assert received.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize(
    ("head", "answers"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 2),
        (b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", 1),
        (b"GET / HTTP/1.1\r\nConnection: x, Close\r\n\r\n", 1),
        (b"GET / HTTP/1.0\r\n\r\n", 1),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 2),
    ],
)
def test_the_connection_is_kept_as_asked(head: bytes, answers: int) -> None:
    assert len(bodies(trio.run(talk, head + head))) == answers


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"GET /\r\n\r\n", b"the first line is not"),
        (b"GET / HTTP/2.0\r\n\r\n", b"the first line is not"),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", b"not a header field"),
        (b"GET / HTTP/1.1\r\nA: b\nC: d\r\n\r\n", b"not a header field"),
        (b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", b"content-length: one number"),
        (b"GET / HTTP/1.1\r\nContent-Length: +1\r\n\r\n", b"content-length: one number"),
        (b"GET / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", b"transfer-encoding: only chunked"),
        (b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n", b"transfer-encoding: only"),
        (b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", b"a bad chunk size"),
        (b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", b"a chunk longer than its size"),
        (b"GET / HTTP/1.1\r\nA: " + b"a" * MAX_HEAD_BYTES + b"\r\n", b"more than 65536 bytes of header"),
    ],
)
def test_what_is_not_understood_is_refused_and_the_connection_closed(sent: bytes, said: bytes) -> None:
    received = trio.run(talk, sent)
    assert received.startswith(f"HTTP/1.1 400 {HTTPStatus.BAD_REQUEST.phrase}\r\n".encode())
    assert b"\r\nConnection: close\r\n" in received
    assert said in received


def test_a_client_that_vanishes_is_no_error() -> None:
    assert trio.run(talk, b"GET / HT") == b""


@given(st.binary(max_size=80))
def test_any_head_is_parsed_or_refused(head: bytes) -> None:
    try:
        request = parse(head + b"\r\n\r\n")
    except BadRequest:
        return
    assert head.startswith(f"{request.method} {request.target} {request.version}".encode())


@given(
    st.from_regex(r"[A-Z]{1,8}", fullmatch=True),
    st.from_regex(r"/[!-~]{0,20}", fullmatch=True),
    st.lists(
        st.tuples(
            st.from_regex(r"[A-Za-z-]{1,10}", fullmatch=True),
            st.from_regex(r"([!-~]([ !-~]{0,9}[!-~])?)?", fullmatch=True),
        ),
        max_size=5,
    ),
)
def test_fields_keep_their_order_names_and_repeats(method: str, target: str, fields: list[tuple[str, str]]) -> None:
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
    request = parse(f"{method} {target} HTTP/1.1\r\n{lines}\r\n".encode())
    assert (request.method, request.target, request.fields) == (method, target, tuple(fields))


def test_it_knows_when_it_is_idle() -> None:
    release = trio.Event()

    async def held(request: Request) -> Answer:
        await release.wait()
        return Answer()

    async def main(handler: Callable[[Request], Awaitable[Answer]]) -> None:
        server = Server(handler)
        client, other = trio.testing.memory_stream_pair()
        await server.idle()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.serve_connection, other)
            await client.send_all(b"GET / HTTP/1.1\r\n\r\n")
            await trio.testing.wait_all_tasks_blocked()
            with trio.move_on_after(0.05) as waiting:
                await server.idle()
            assert waiting.cancelled_caught
            release.set()
            with trio.fail_after(5):
                await server.idle()
            await client.aclose()

    trio.run(main, held)
