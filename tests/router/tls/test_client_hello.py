"""What a TLS client says first: real hellos, hellos cut anywhere, and bytes that are none."""

from __future__ import annotations

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.tls.client_hello import MAX_BYTES, MAX_HELLO_BYTES, MAX_RECORDS, ClientHello, NotTls, parse_client_hello

labels = st.from_regex(r"[a-z0-9_]+(-+[a-z0-9_]+)*", fullmatch=True).filter(lambda label: len(label) < 30)
names = st.lists(labels, min_size=1, max_size=5).map(".".join)
protocols = st.lists(st.binary(min_size=1, max_size=30), min_size=1, max_size=5)


def real_hello(name: str | None, alpn: list[str] | None = None, newest: ssl.TLSVersion | None = None) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(alpn)
    if newest:
        context.maximum_version = newest
    sent = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), sent, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return sent.read()


def block(size: int, content: bytes) -> bytes:
    return len(content).to_bytes(size) + content


def extension(kind: int, content: bytes) -> bytes:
    return kind.to_bytes(2) + block(2, content)


def server_name(name: bytes, kind: int = 0) -> bytes:
    return extension(0, block(2, bytes([kind]) + block(2, name)))


def message(
    extensions: bytes | None, *, session: bytes = b"", suites: bytes = b"\x13\x01", compression: bytes = b"\x00"
) -> bytes:
    body = b"\x03\x03" + bytes(32) + block(1, session) + block(2, suites) + block(1, compression)
    if extensions is not None:
        body += block(2, extensions)
    return b"\x01" + block(3, body)


def records(content: bytes, size: int = 2**14) -> bytes:
    parts = [content[start : start + size] for start in range(0, len(content), size)]
    return b"".join(b"\x16\x03\x01" + block(2, part) for part in parts)


class TestRealHellos:
    @pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    def test_name_and_protocols(self, newest: ssl.TLSVersion) -> None:
        hello = real_hello("App.Example.com", ["h2", "http/1.1"], newest)
        assert parse_client_hello(hello) == ClientHello("app.example.com", (b"h2", b"http/1.1"))

    def test_without_either(self) -> None:
        assert parse_client_hello(real_hello(None)) == ClientHello(None, None)

    def test_every_beginning_asks_for_more(self) -> None:
        hello = real_hello("app.example.com", ["h2"])
        assert [parse_client_hello(hello[:end]) for end in range(len(hello))] == [None] * len(hello)

    def test_what_follows_is_not_looked_at(self) -> None:
        hello = real_hello("app.example.com")
        assert parse_client_hello(hello + b"\x17\x03\x03anything") == parse_client_hello(hello)


class TestAnyHello:
    @given(names, protocols, st.binary(max_size=60), st.integers(12, 400))
    def test_is_read_however_it_is_split(self, name: str, alpn: list[bytes], key: bytes, size: int) -> None:
        wire = b"".join(block(1, protocol) for protocol in alpn)
        extensions = extension(51, key) + server_name(name.upper().encode()) + extension(16, block(2, wire))
        whole = records(message(extensions, session=bytes(32)), size)
        assert parse_client_hello(whole) == ClientHello(name, tuple(alpn))

    @given(st.binary(max_size=300))
    def test_bytes_give_a_hello_a_wait_or_not_tls(self, data: bytes) -> None:
        for start in (b"", b"\x16\x03\x01", records(message(b""))[:45]):
            try:
                parse_client_hello(start + data)
            except NotTls:
                continue

    @given(st.binary(max_size=200), st.integers(0, 2**16 - 1))
    def test_extensions_of_any_bytes(self, content: bytes, kind: int) -> None:
        try:
            hello = parse_client_hello(records(message(extension(kind, content))))
        except NotTls:
            assert kind in (0, 16)
        else:
            assert hello is not None

    @given(st.integers(0), st.data())
    def test_a_changed_byte_never_raises_anything_else(self, bit: int, data: st.DataObject) -> None:
        hello = bytearray(records(message(server_name(b"app.example.com") + extension(16, b"\x00\x03\x02h2")), 50))
        hello[data.draw(st.integers(0, len(hello) - 1))] ^= 1 << bit % 8
        try:
            found = parse_client_hello(bytes(hello))
        except NotTls:
            return
        if found is not None and found.server_name is not None:
            assert found.server_name == found.server_name.lower()


class TestOldClients:
    def test_a_hello_may_have_no_extensions(self) -> None:
        assert parse_client_hello(records(message(None))) == ClientHello(None, None)
        assert parse_client_hello(records(message(b""))) == ClientHello(None, None)


class TestNotTls:
    @pytest.mark.parametrize(
        "data",
        [
            b"G",
            b"GET / HTTP/1.1\r\n",
            b"\x80\x2e\x01",  # SSL 2
            b"\x16\x02",
            b"\x16\x03\x01\x00\x00",
            b"\x16\x03\x01\x40\x01",
            b"\x16\x03\x01\x00\x05\x02",
            records(b"\x01\x00\x40\x00" + bytes(10)),
            records(message(b""), 40)[:45] + b"\x17\x03",
        ],
    )
    def test_is_said_at_the_first_wrong_byte(self, data: bytes) -> None:
        with pytest.raises(NotTls):
            parse_client_hello(data)

    @pytest.mark.parametrize(
        "hello",
        [
            message(b"", session=bytes(33)),
            message(b"", suites=b""),
            message(b"", suites=b"\x13"),
            message(b"", compression=b""),
            message(server_name(b"a.com") + server_name(b"b.com")),
            message(extension(0, block(2, b"\x00" + block(2, b"a.com") + b"\x00" + block(2, b"b.com")))),
            message(extension(0, block(2, b"\x00" + block(2, b"a.com")) + b"\x00")),
            message(extension(0, b"")),
            message(extension(0, block(2, b""))),
            message(server_name(b"a.com", kind=1)),
            message(extension(16, block(2, b""))),
            message(extension(16, block(2, b"\x00"))),
            message(extension(16, block(2, b"\x03h2"))),
            message(extension(16, block(2, b"\x02h2") + b"\x00")),
            b"\x01" + block(3, message(b"")[4:] + b"\x00"),
            b"\x01" + block(3, b"\x03\x03"),
        ],
    )
    def test_lengths_must_add_up_and_nothing_come_twice(self, hello: bytes) -> None:
        with pytest.raises(NotTls):
            parse_client_hello(records(hello))

    @pytest.mark.parametrize(
        "name",
        [
            b"",
            b".",
            b"a.com.",
            b"a..com",
            b"a.com\x00.b.com",
            b"a.com/x",
            b"a com",
            b"*.a.com",
            b"-a.com",
            b"a.com-",
            b"::1",
            "ä.com".encode(),
            b"a\n",
            b"a" * 254,
        ],
    )
    def test_a_name_must_be_a_host_name(self, name: bytes) -> None:
        with pytest.raises(NotTls, match="host name"):
            parse_client_hello(records(message(server_name(name))))

    def test_the_longest_name_is_one(self) -> None:
        name = ".".join(["a" * 49] * 5) + ".com"
        assert len(name) == 253
        assert parse_client_hello(records(message(server_name(name.encode())))) == ClientHello(name, None)


class TestBounds:
    def test_the_longest_hello(self) -> None:
        empty = len(message(extension(21, b"")))
        longest = message(extension(21, bytes(MAX_HELLO_BYTES - empty)))
        assert len(longest) == MAX_HELLO_BYTES
        assert parse_client_hello(records(longest)) == ClientHello(None, None)
        with pytest.raises(NotTls, match="of 16385 bytes"):
            parse_client_hello(records(message(extension(21, bytes(MAX_HELLO_BYTES - empty + 1))))[:9])

    def test_the_most_records(self) -> None:
        hello = message(server_name(b"a" * 40))
        content, last = hello[: MAX_RECORDS - 1], hello[MAX_RECORDS - 1 :]
        assert parse_client_hello(records(content, 1) + records(last)) == ClientHello("a" * 40, None)
        with pytest.raises(NotTls, match="more than 64 records"):
            parse_client_hello(records(hello, 1))

    @given(st.integers(1, 3000))
    def test_max_bytes_are_always_enough(self, size: int) -> None:
        wire = records(b"\x01" + block(3, bytes(MAX_HELLO_BYTES - 4)), size)[:MAX_BYTES]
        with pytest.raises(NotTls):
            parse_client_hello(wire)
