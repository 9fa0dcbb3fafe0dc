"""The TLS layer without sockets: whatever the pieces, what goes in on one side comes out on the other; so do ends."""

from __future__ import annotations

import asyncio
import ssl

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.tls.handshake import Handshake, HandshakeFailed
from router.tls.layer import SLICE, TlsLayer
from tests.router.tls.authority import HOST, client_context, server_context

SERVER = {version: server_context(version=version) for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)}
CLIENT = client_context()


class Raw(asyncio.Transport):
    """The socket's transport; what is written waits to be carried over."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = bytearray()
        self.ended = self.closed = False
        self.writes = 0
        self.protocol: asyncio.Protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol)
        self.protocol = protocol

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.closed
        assert not self.ended
        self.writes += 1
        self.sent += data

    def write_eof(self) -> None:
        self.ended = True

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def get_write_buffer_size(self) -> int:
        return 0


class Inside(asyncio.Protocol):
    """Notes what it is told."""

    def __init__(self, *, stays: bool) -> None:
        self.received = bytearray()
        self.calls = 0
        self.ended = False
        self.lost: list[Exception | None] = []
        self._stays = stays

    def data_received(self, data: bytes) -> None:
        assert data
        assert not self.ended
        self.calls += 1
        self.received += data

    def eof_received(self) -> bool:
        assert not self.ended
        self.ended = True
        return self._stays

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.append(exc)


class End(Handshake):
    """One side."""

    def __init__(self, *, stays: bool = False) -> None:
        super().__init__()
        self.raw = Raw()
        self.raw.set_protocol(self)
        self.inside = Inside(stays=stays)
        self.layer: TlsLayer
        self.failures: list[Exception] = []
        self.connection_made(self.raw)

    def opened(self, layer: TlsLayer) -> asyncio.Protocol:
        self.layer = layer
        return self.inside

    def failed(self, error: Exception) -> None:
        self.failures.append(error)

    def carry_to(self, other: End, size: int) -> bool:
        """Take over what was written, in pieces of ``size``. Returns whether there was any."""
        data, self.raw.sent = bytes(self.raw.sent), bytearray()
        for start in range(0, len(data), size):
            if not other.raw.closed:
                other.raw.protocol.data_received(data[start : start + size])
        return bool(data)


def pair(
    version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3, *, stays: bool = False, size: int = 10**6
) -> tuple[End, End]:
    """Client and server after their handshake."""
    client, server = End(stays=stays), End(stays=stays)
    server.begin(SERVER[version], server_side=True)
    client.begin(CLIENT, server_side=False, server_hostname=HOST)
    settle(client, server, size)
    return client, server


def settle(client: End, server: End, size: int = 10**6) -> None:
    while client.carry_to(server, size) | server.carry_to(client, size):
        pass


SIZES = st.one_of(st.integers(0, 100), st.sampled_from([16383, 16384, 16385, SLICE, SLICE + 1, 3 * SLICE + 7]))


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(list(SERVER)),
    st.lists(st.tuples(st.booleans(), SIZES), max_size=6),
    st.sampled_from([1, 3, 50, 16_000, 40_000, 10**6]),
)
def test_bytes_arrive_as_they_were_sent(version: ssl.TLSVersion, messages: list[tuple[bool, int]], size: int) -> None:
    client, server = pair(version, size=size)
    expected = {True: b"", False: b""}
    for number, (by_client, length) in enumerate(messages):
        data = bytes([number]) * length
        expected[by_client] += data
        (client if by_client else server).layer.write(data)
    settle(client, server, max(size, sum(length for _, length in messages) // 200 + 1))
    assert (bytes(server.inside.received), bytes(client.inside.received)) == (expected[True], expected[False])
    assert not client.inside.ended
    assert not server.inside.ended


@pytest.mark.parametrize("version", list(SERVER))
class TestEnds:
    def test_each_side_ends_by_itself(self, version: ssl.TLSVersion) -> None:
        client, server = pair(version, stays=True)
        client.layer.write(b"last")
        client.layer.write_eof()
        client.layer.write_eof()
        settle(client, server)
        assert bytes(server.inside.received) == b"last"
        assert server.inside.ended
        assert client.raw.ended
        assert server.raw.protocol.eof_received()
        server.layer.write(b"still here")
        server.layer.write(bytes(100_000))
        settle(client, server)
        assert bytes(client.inside.received) == b"still here" + bytes(100_000)
        server.layer.write_eof()
        settle(client, server)
        assert client.inside.ended
        assert not server.layer.truncated
        assert not client.layer.truncated
        assert not client.layer.eof_received()

    def test_a_protocol_that_does_not_stay_is_closed(self, version: ssl.TLSVersion) -> None:
        client, server = pair(version)
        client.layer.close()
        assert client.raw.closed
        settle(client, server)
        assert server.inside.ended
        assert server.raw.closed

    def test_an_end_that_nobody_said_is_truncation(self, version: ssl.TLSVersion) -> None:
        client, server = pair(version)
        client.layer.write(b"part")
        settle(client, server)
        assert not server.raw.protocol.eof_received()
        assert server.inside.ended
        assert server.layer.truncated
        assert server.layer.get_extra_info("truncated")

    def test_forged_bytes_end_it_with_an_alert_and_an_error(self, version: ssl.TLSVersion) -> None:
        client, server = pair(version)
        client.layer.write(b"good")
        client.raw.sent += b"\x17\x03\x03\x00\x20" + bytes(32)
        settle(client, server)
        assert bytes(server.inside.received) == b"good"
        assert server.raw.closed
        server.layer.connection_lost(None)
        assert isinstance(server.inside.lost[0], ssl.SSLError)
        assert client.raw.closed, "the alert has arrived"

    def test_nothing_can_be_written_after_the_end(self, version: ssl.TLSVersion) -> None:
        client, server = pair(version)
        client.layer.write_eof()
        client.layer.write(b"too late")
        client.layer.writelines([b"too late"])
        settle(client, server)
        assert not server.inside.received


def test_one_write_is_one_write() -> None:
    client, server = pair()
    for data in (b"x", bytes(16384), bytes(10 * SLICE)):
        before = client.raw.writes
        client.layer.write(data)
        assert client.raw.writes == before + 1
    calls = server.inside.calls
    settle(client, server)
    assert server.inside.calls == calls + 1


def test_an_end_in_the_middle_of_a_handshake_is_told_once() -> None:
    server = End()
    server.begin(SERVER[ssl.TLSVersion.TLSv1_3], server_side=True)
    server.data_received(b"\x16\x03\x01")
    assert not server.eof_received()
    server.connection_lost(None)
    assert server.raw.closed
    [failure] = server.failures
    assert isinstance(failure, HandshakeFailed)


@pytest.mark.parametrize("name", ["", ".x", "a" * 300])
def test_a_name_that_cannot_be_one_is_a_failed_handshake(name: str) -> None:
    client = End()
    client.begin(CLIENT, server_side=False, server_hostname=name)
    assert client.raw.closed
    assert len(client.failures) == 1
