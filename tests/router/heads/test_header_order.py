"""``millrace.header_order: sorted``: the order in which Go writes the fields of a message."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from router.heads.header_order import of_request, of_response

lines = st.lists(
    st.builds(
        lambda name, value: b"%b: %d\r\n" % (name, value),
        st.sampled_from(
            [b"Host", b"User-Agent", b"Content-Length", b"Transfer-Encoding", b"A", b"x-b", b"X-A", b"Date"]
        ),
        st.integers(0, 3),
    ),
    max_size=12,
)


def test_requests_begin_with_host_agent_and_framing() -> None:
    fields = b"X-Forwarded-For: 1\r\nContent-Length: 1\r\nAccept: *\r\nuser-agent: curl\r\nB3: 1\r\nHost: a\r\n"
    assert of_request(fields) == (
        b"Host: a\r\nuser-agent: curl\r\nContent-Length: 1\r\nAccept: *\r\nB3: 1\r\nX-Forwarded-For: 1\r\n"
    )


def test_in_responses_what_the_server_adds_comes_last_and_the_coding_behind_it() -> None:
    fields = b"Vary: a\r\ntransfer-encoding: chunked\r\nAge: 1\r\nETag: x\r\n"
    ours = b"Date: now\r\nConnection: close\r\n"
    assert of_response(fields, ours) == b"Age: 1\r\nETag: x\r\nVary: a\r\n" + ours + b"transfer-encoding: chunked\r\n"


@given(lines)
def test_no_line_is_lost_or_changed_and_those_of_one_name_keep_their_order(given: list[bytes]) -> None:
    for made in (of_request(b"".join(given)), of_response(b"".join(given), b"")):
        sent = made.splitlines(keepends=True)
        assert sorted(sent) == sorted(given)
        for name in {line.partition(b":")[0] for line in given}:
            assert [line for line in sent if line.startswith(name + b":")] == [
                line for line in given if line.startswith(name + b":")
            ]
