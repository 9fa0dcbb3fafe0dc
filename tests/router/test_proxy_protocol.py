"""The PROXY protocol as bytes: what is believed, what is refused, and that what we say can be read back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.proxy_protocol import (
    MAX_V1_BYTES,
    MAX_V2_BYTES,
    BadProxyHeader,
    NoProxyHeader,
    Place,
    ProxyHeader,
    build_v1,
    build_v2,
    parse_proxy_header,
    plain_address,
)

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
CLIENT, SERVER = ("192.0.2.1", 56324), ("198.51.100.7", 443)

ports = st.integers(0, 65535)
v4 = st.tuples(st.ip_addresses(v=4).map(str), ports)
v6 = st.tuples(st.ip_addresses(v=6).filter(lambda ip: ip.ipv4_mapped is None).map(str), ports)
pairs = st.tuples(v4, v4) | st.tuples(v6, v6)


def v2(command: int, kind: int, content: bytes) -> bytes:
    return SIGNATURE + bytes((command, kind)) + len(content).to_bytes(2) + content


class TestRoundTrip:
    @given(pairs, st.binary(max_size=20))
    def test_both_versions_say_what_they_were_given(self, pair: tuple[Place, Place], rest: bytes) -> None:
        for header in (build_v1(*pair), build_v2(*pair)):
            assert parse_proxy_header(header + rest) == ProxyHeader(len(header), *pair)

    @given(pairs)
    def test_every_beginning_asks_for_more(self, pair: tuple[Place, Place]) -> None:
        for header in (build_v1(*pair), build_v2(*pair)):
            assert {parse_proxy_header(header[:end]) for end in range(len(header))} == {None}

    @given(v4, v6)
    def test_mixed_families_meet_in_ipv6(self, one: Place, other: Place) -> None:
        for build in (build_v1, build_v2):
            header = parse_proxy_header(build(one, other))
            assert header is not None
            assert header.source is not None
            assert str(plain_address(header.source[0])) == one[0]
            assert header.destination == other

    def test_an_unknown_client_is_said_to_be_unknown(self) -> None:
        for header in (build_v1(None, None), build_v2(None, None), build_v1(CLIENT, None), build_v2(None, SERVER)):
            assert parse_proxy_header(header) == ProxyHeader(len(header), None, None)

    def test_the_specification_s_own_examples(self) -> None:
        assert build_v1(CLIENT, SERVER) == b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n"
        assert build_v1(("fe80::1%eth0", 1), ("::1", 2)) == b"PROXY TCP6 fe80::1 ::1 1 2\r\n"
        assert build_v2(CLIENT, SERVER) == SIGNATURE + bytes.fromhex("21 11 000c c0000201 c6336407 dc04 01bb")


class TestVersion1:
    def test_unknown_may_say_more(self) -> None:
        line = b"PROXY UNKNOWN ffff::1 whatever 65535 65535\r\n"
        assert parse_proxy_header(line + b"GET") == ProxyHeader(len(line), None, None)

    @pytest.mark.parametrize(
        "line",
        [
            b"PROXY \r\n",
            b"PROXY TCP4\r\n",
            b"PROXY TCP5 192.0.2.1 198.51.100.7 1 2\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.7 1 2\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.7 1 2 \r\n",
            b"PROXY  TCP4 192.0.2.1 198.51.100.7 1 2\r\n",
            b"PROXY TCP4  192.0.2.1 198.51.100.7 1 2\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.7 1\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.7 1 2 3\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.7 01 2\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.7 -1 2\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.7 1 65536\r\n",
            b"PROXY TCP4 192.0.2.256 198.51.100.7 1 2\r\n",
            b"PROXY TCP4 192.0.2.01 198.51.100.7 1 2\r\n",
            b"PROXY TCP4 ::1 ::1 1 2\r\n",
            b"PROXY TCP6 192.0.2.1 198.51.100.7 1 2\r\n",
            b"PROXY TCP6 fe80::1%1 ::1 1 2\r\n",
            b"PROXY TCP6 :::: ::1 1 2\r\n",
            b"PROXY UNKNOWNX\r\n",
            b"PROXY UNKNOWN a\rb\r\n",
            b"PROXY unknown\r\n",
            b"PROXY " + b"x" * MAX_V1_BYTES,
            b"PROXY UNKNOWN " + b"x" * (MAX_V1_BYTES - 15) + b"\r\n",
        ],
    )
    def test_is_refused_unless_spelled_exactly(self, line: bytes) -> None:
        with pytest.raises(BadProxyHeader, match="PROXY line"):
            parse_proxy_header(line)

    def test_the_longest_line(self) -> None:
        line = b"PROXY UNKNOWN " + b"x" * (MAX_V1_BYTES - 16) + b"\r\n"
        assert len(line) == MAX_V1_BYTES
        assert parse_proxy_header(line) == ProxyHeader(MAX_V1_BYTES, None, None)


class TestVersion2:
    @pytest.mark.parametrize(
        ("command", "kind"), [(0x20, 0x00), (0x20, 0x11), (0x20, 0xFF), (0x21, 0x00), (0x21, 0x31)]
    )
    def test_local_and_unknown_leave_the_connection_s_own_address(self, command: int, kind: int) -> None:
        for content in (b"", bytes(216)):
            header = v2(command, kind, content)
            assert parse_proxy_header(header + b"GET") == ProxyHeader(len(header), None, None)

    def test_extensions_are_passed_over(self) -> None:
        header = build_v2(CLIENT, SERVER)
        longer = v2(0x21, 0x11, header[16:] + b"\x04\x00\x05hello")
        assert parse_proxy_header(longer) == ProxyHeader(len(longer), CLIENT, SERVER)
        assert parse_proxy_header(longer[:-1]) is None

    @pytest.mark.parametrize(
        "header",
        [
            v2(0x11, 0x11, bytes(12)),
            v2(0x31, 0x11, bytes(12)),
            v2(0x22, 0x11, bytes(12)),
            v2(0x21, 0x12, bytes(12)),
            v2(0x21, 0x22, bytes(36)),
            v2(0x21, 0x41, bytes(36)),
            v2(0x21, 0x01, bytes(36)),
            v2(0x21, 0x11, bytes(11)),
            v2(0x21, 0x21, bytes(35)),
            v2(0x20, 0x00, bytes(MAX_V2_BYTES - 15)),
        ],
    )
    def test_refuses_what_it_cannot_know(self, header: bytes) -> None:
        with pytest.raises(BadProxyHeader):
            parse_proxy_header(header[:16])  # no need to wait for the rest

    def test_the_longest_header(self) -> None:
        header = v2(0x20, 0x00, bytes(MAX_V2_BYTES - 16))
        assert parse_proxy_header(header) == ProxyHeader(MAX_V2_BYTES, None, None)


class TestAnythingElse:
    @pytest.mark.parametrize("data", [b"GET /", b"PO", b"proxy ", b"\x16\x03", b"\r\n\r\nG", b"PROXYX", b"\n"])
    def test_is_told_from_a_header_as_early_as_can_be(self, data: bytes) -> None:
        with pytest.raises(NoProxyHeader):
            parse_proxy_header(data)

    @given(
        st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", b"PROXY TCP6 ", SIGNATURE, SIGNATURE + b"\x21"]),
        st.binary(max_size=300) | st.text("0123456789abcdef:. \r\n%", max_size=110).map(str.encode),
    )
    def test_no_bytes_raise_anything_else(self, start: bytes, rest: bytes) -> None:
        try:
            header = parse_proxy_header(start + rest)
        except BadProxyHeader:
            return
        assert header is not None or len(start + rest) < MAX_V2_BYTES
