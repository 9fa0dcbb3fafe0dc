"""Go's spelling of field names: textproto.CanonicalMIMEHeaderKey as a specification."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.http1.fields import field_lines, our_line
from router.http1.names import REMEMBERED_BYTES, canonical

TOKEN_BYTES = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

tokens = st.binary(min_size=1, max_size=2 * REMEMBERED_BYTES).map(
    lambda raw: bytes(TOKEN_BYTES[byte % len(TOKEN_BYTES)] for byte in raw)
)
values = st.from_regex(rb"[\x20-\x7e\x80-\xff\t]{0,40}", fullmatch=True)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (b"x-foo", b"X-Foo"),
        (b"X-CF-InstanceID", b"X-Cf-Instanceid"),
        (b"X-Cf-RouterError", b"X-Cf-Routererror"),
        (b"x-vcap-request-id", b"X-Vcap-Request-Id"),
        (b"ETag", b"Etag"),
        (b"www-AUTHENTICATE", b"Www-Authenticate"),
        (b"b3", b"B3"),
        (b"a--b", b"A--B"),
        (b"-a-", b"-A-"),
        (b"x_foo-bar", b"X_foo-Bar"),
        (b"1a-2b", b"1a-2b"),
        (b"~x-~Y", b"~x-~y"),
        (b"", b""),
    ],
)
def test_letters_at_the_beginning_and_behind_hyphens_are_upper_case(given: bytes, expected: bytes) -> None:
    assert canonical(given) == expected


@pytest.mark.parametrize(
    "name", [b"foo bar", b" foo", b"foo ", b"f\xc3\xb6o-bar", b"foo:bar", b"foo\x00", b"a/b", b"a\tb"]
)
def test_what_cannot_be_a_name_stays_as_it_is(name: bytes) -> None:
    assert canonical(name) == name


def by_go(name: bytes) -> bytes:
    """The rule once more, byte by byte."""
    out, upper = bytearray(), True
    for byte in name:
        if byte not in TOKEN_BYTES:
            return name
        letter = bytes([byte])
        out += letter.upper() if upper else letter.lower()
        upper = letter == b"-"
    return bytes(out)


@given(st.one_of(tokens, st.binary(max_size=20)))
def test_it_follows_the_rule(name: bytes) -> None:
    assert canonical(name) == by_go(name)


@given(tokens)
def test_it_changes_nothing_but_case_and_nothing_twice(name: bytes) -> None:
    once = canonical(name)
    assert once.lower() == name.lower()
    assert canonical(once) == once


@given(tokens, values, st.sampled_from([b"", b" ", b"\t ", b"  "]), st.sampled_from([b"", b" ", b" \t"]))
def test_a_line_keeps_its_value_whatever_becomes_of_its_name(
    name: bytes, value: bytes, before: bytes, behind: bytes
) -> None:
    text = b"%b:%b%b%b\r\n" % (name, before, value, behind)
    (line,) = field_lines(text)
    assert line.raw == text
    assert re.fullmatch(rb"(?s)([^:]+): (.*)\r\n", line.canonical)
    spelt, _, rest = line.canonical.partition(b": ")
    assert spelt == canonical(name)
    assert rest == line.value + b"\r\n"
    assert line.value == value.strip(b" \t")


def test_a_line_that_is_canonical_already_is_kept_once() -> None:
    line = our_line(b"X-Foo", b"1")
    assert line.canonical is line.raw
