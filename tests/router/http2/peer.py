"""One end of an HTTP/2 connection for tests, client or server: frames both ways over a blocking socket.

Keeps the books that every peer has to keep (HPACK, acknowledgements, flow-control windows), each of which can be
switched off, and checks nothing of what it is told to send: a frame that breaks the rules is as easily said as one
that keeps them. What it receives it does check (RFC 9113 section 4 and 6): sizes, windows, and which frame may follow
which; a fault of the other side is an AssertionError.
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Callable, Iterable
from contextlib import suppress

from hpack import Decoder, Encoder

from tests.router.http2.frames import (
    ACK,
    DEFAULT_WINDOW,
    END_HEADERS,
    END_STREAM,
    MAX_FRAME,
    PADDED,
    PREFACE,
    PRIORITY,
    Code,
    Fields,
    Frame,
    Kind,
    Setting,
    as_fields,
    frame,
    settings_payload,
)
from tests.router.http2.streams import ConnectionOver, Message, Stream, StreamReset
from tests.router.wire import PATIENCE


class Peer:
    """``client`` says which role; ``settings`` are announced in the preface, which is sent at once unless ``greet`` is
    False. With ``credits`` off no WINDOW_UPDATE is ever sent by itself; with ``acks`` off nothing is acknowledged."""

    def __init__(
        self,
        sock: socket.socket,
        *,
        client: bool = True,
        settings: dict[int, int] | None = None,
        greet: bool = True,
        credits: bool = True,  # the field's own word
        acks: bool = True,
    ) -> None:
        self.socket = sock
        self.client = client
        self.credits = credits
        self.acks = acks
        self.ours = {Setting.INITIAL_WINDOW_SIZE: DEFAULT_WINDOW, Setting.MAX_FRAME_SIZE: MAX_FRAME, **(settings or {})}
        self.theirs: dict[int, int] = {Setting.INITIAL_WINDOW_SIZE: DEFAULT_WINDOW, Setting.MAX_FRAME_SIZE: MAX_FRAME}
        self.streams: dict[int, Stream] = {}
        self.frames: list[Frame] = []
        """All that were received."""
        self.window = DEFAULT_WINDOW
        self.credit = DEFAULT_WINDOW
        self.goaway: tuple[int, int, bytes] | None = None
        """Last stream, code, debug data of the newest GOAWAY."""
        self.settings_acks = 0
        self.pongs: list[bytes] = []
        self.opened: list[int] = []
        """Streams that the other side opened, in order."""
        self.encoder = Encoder()
        self.decoder = Decoder()
        self.decoder.max_header_list_size = 1 << 24
        if Setting.HEADER_TABLE_SIZE in self.ours:
            self.decoder.max_allowed_table_size = self.ours[Setting.HEADER_TABLE_SIZE]
        self._pending = b""
        self._block: tuple[int, int, bytes] | None = None
        self._next = 1
        self._greeted_by_them = client
        if greet:
            self.send((PREFACE if client else b"") + self.settings(settings or {}))

    # Sending ----------------------------------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def try_send(self, data: bytes) -> bool:
        """Send unless the other side has closed already."""
        try:
            self.send(data)
        except OSError:
            return False
        return True

    @staticmethod
    def settings(settings: dict[int, int]) -> bytes:
        return frame(Kind.SETTINGS, 0, 0, settings_payload(settings))

    def send_frame(self, kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> None:
        self.send(frame(kind, flags, stream, payload))

    def next_stream(self) -> int:
        self._next += 2
        number = self._next - 2
        self.stream(number)
        return number

    def stream(self, number: int) -> Stream:
        if number not in self.streams:
            self.streams[number] = Stream(
                number,
                self.theirs[Setting.INITIAL_WINDOW_SIZE],
                credit=self.ours[Setting.INITIAL_WINDOW_SIZE],
            )
        return self.streams[number]

    def encode(self, fields: Fields) -> bytes:
        return self.encoder.encode(fields)

    def headers(self, stream: int, fields: Fields, *, end: bool = False) -> None:
        """One header block, in as many frames as the other side's frame size asks for."""
        block = self.encode(fields)
        size = self.theirs[Setting.MAX_FRAME_SIZE]
        pieces = [block[at : at + size] for at in range(0, len(block), size)] or [b""]
        kind, flags = Kind.HEADERS, END_STREAM if end else 0
        out = b""
        for index, piece in enumerate(pieces):
            last = END_HEADERS if index == len(pieces) - 1 else 0
            out += frame(kind, flags | last, stream, piece)
            kind, flags = Kind.CONTINUATION, 0
        self.send(out)

    def request(
        self,
        path: str = "/",
        *fields: tuple[str, str],
        method: str = "GET",
        authority: str = "app.test",
        scheme: str = "http",
        end: bool = True,
    ) -> int:
        """Begin a request; returns its stream."""
        number = self.next_stream()
        head = [(":method", method), (":scheme", scheme), (":authority", authority), (":path", path), *fields]
        self.headers(number, as_fields(head), end=end)
        return number

    def exchange(self, path: str = "/", *fields: tuple[str, str], body: bytes | None = None, **more: str) -> Message:
        """A whole request, and its whole response."""
        number = self.request(path, *fields, end=body is None, **more)
        if body is not None:
            self.body(number, body)
        return self.response(number)

    def data(self, stream: int, data: bytes, *, end: bool = False) -> None:
        """One DATA frame, whatever the windows say."""
        self.send_frame(Kind.DATA, END_STREAM if end else 0, stream, data)

    def body(self, number: int, data: bytes, *, end: bool = True) -> None:
        """DATA frames as the windows allow, reading while they do not; stops early if the stream is reset."""
        stream = self.stream(number)
        at = 0
        while at < len(data) or (end and not data):
            self.until(lambda: min(stream.window, self.window) > 0 or stream.reset is not None or not data)
            if stream.reset is not None:
                return
            size = min(self.theirs[Setting.MAX_FRAME_SIZE], stream.window, self.window, len(data) - at)
            piece = data[at : at + size]
            at += size
            stream.window -= size
            self.window -= size
            self.data(number, piece, end=end and at == len(data))
            if not data:
                return

    def reset(self, stream: int, code: int = Code.CANCEL) -> None:
        self.send_frame(Kind.RST_STREAM, 0, stream, struct.pack(">I", code))

    def give(self, stream: int, size: int) -> None:
        """A WINDOW_UPDATE."""
        self.send_frame(Kind.WINDOW_UPDATE, 0, stream, struct.pack(">I", size))
        if stream:
            self.stream(stream).credit += size
        else:
            self.credit += size

    def ping(self, payload: bytes = b"12345678") -> None:
        self.send_frame(Kind.PING, 0, 0, payload)

    def respond(
        self,
        stream: int,
        status: int = 200,
        *fields: tuple[str, str],
        body: bytes = b"",
        trailers: Iterable[tuple[str, str]] = (),
    ) -> None:
        """As a server: a whole response."""
        last = as_fields(trailers)
        self.headers(stream, as_fields([(":status", str(status)), *fields]), end=not body and not last)
        if body:
            self.body(stream, body, end=not last)
        if last:
            self.headers(stream, last, end=True)

    # Receiving --------------------------------------------------------------------------------------------------

    def read_frame(self) -> Frame:
        """The next frame, taken note of. Raises ConnectionOver."""
        if not self._greeted_by_them:
            assert self._exactly(len(PREFACE)) == PREFACE
            self._greeted_by_them = True
        head = self._exactly(9)
        length = int.from_bytes(head[:3], "big")
        kind, flags, stream = struct.unpack(">BBI", head[3:])
        assert length <= self.ours[Setting.MAX_FRAME_SIZE], f"frame of {length} bytes"
        received = Frame(kind, flags, stream & 0x7FFFFFFF, self._exactly(length))
        if not self.frames:
            assert kind == Kind.SETTINGS, f"the first frame is {received}"
            assert not flags & ACK
        self.frames.append(received)
        self._note(received)
        return received

    def _exactly(self, count: int) -> bytes:
        while len(self._pending) < count:
            try:
                data = self.socket.recv(262144)
            except (ConnectionResetError, ssl.SSLEOFError):
                data = b""
            if not data:
                raise ConnectionOver(None if self.goaway is None else Code(self.goaway[1]))
            self._pending += data
        data, self._pending = self._pending[:count], self._pending[count:]
        return data

    def _note(self, received: Frame) -> None:
        kind, flags, payload = received.kind, received.flags, received.payload
        if self._block is not None:
            assert kind == Kind.CONTINUATION, f"{received} within a header block"
            assert received.stream == self._block[0]
        if kind == Kind.SETTINGS:
            self._note_settings(received)
        elif kind == Kind.PING:
            assert len(payload) == 8
            if flags & ACK:
                self.pongs.append(payload)
            elif self.acks:
                self.try_send(frame(Kind.PING, ACK, 0, payload))
        elif kind == Kind.GOAWAY:
            last, code = struct.unpack(">II", payload[:8])
            assert self.goaway is None or last <= self.goaway[0], "GOAWAY with a higher last stream"
            self.goaway = (last, code, payload[8:])
        elif kind == Kind.WINDOW_UPDATE:
            (size,) = struct.unpack(">I", payload)
            assert size > 0
            if received.stream:
                self.stream(received.stream).window += size
                assert self.stream(received.stream).window < 1 << 31
            else:
                self.window += size
                assert self.window < 1 << 31
        elif kind in (Kind.HEADERS, Kind.CONTINUATION, Kind.DATA, Kind.RST_STREAM):
            self._note_on_stream(received, self.stream(received.stream))
        else:
            assert kind == Kind.PRIORITY, f"unexpected {received}"

    def _note_settings(self, received: Frame) -> None:
        payload = received.payload
        if received.flags & ACK:
            assert not payload
            self.settings_acks += 1
            return
        assert len(payload) % 6 == 0
        for at in range(0, len(payload), 6):
            key, value = struct.unpack(">HI", payload[at : at + 6])
            if key == Setting.INITIAL_WINDOW_SIZE:
                for stream in self.streams.values():
                    stream.window += value - self.theirs[key]
            elif key == Setting.HEADER_TABLE_SIZE:
                self.encoder.header_table_size = min(value, 4096)
            self.theirs[key] = value
        if self.acks:
            self.try_send(frame(Kind.SETTINGS, ACK))

    def _note_on_stream(self, received: Frame, stream: Stream) -> None:
        kind, flags, payload = received.kind, received.flags, received.payload
        assert received.stream, f"{received} on stream 0"
        assert stream.reset is None, f"{received} after RST_STREAM"
        stream.frames.append(received)
        if kind == Kind.RST_STREAM:
            assert len(payload) == 4
            stream.reset = int.from_bytes(payload, "big")
            return
        assert not stream.ended or kind == Kind.CONTINUATION, f"{received} after END_STREAM"
        if kind == Kind.DATA:
            self.credit -= len(payload)
            stream.credit -= len(payload)
            assert self.credit >= 0, "more than the connection's window"
            assert stream.credit >= 0, "more than the stream's window"
            pad = payload[0] if flags & PADDED else None
            stream.body += payload if pad is None else payload[1 : len(payload) - pad]
            stream.ended = bool(flags & END_STREAM)
            if self.credits and payload:
                updates = frame(Kind.WINDOW_UPDATE, 0, 0, struct.pack(">I", len(payload)))
                self.credit += len(payload)
                if not stream.ended:
                    updates += frame(Kind.WINDOW_UPDATE, 0, received.stream, struct.pack(">I", len(payload)))
                    stream.credit += len(payload)
                self.try_send(updates)
            return
        if kind == Kind.HEADERS:
            if not self.client and not stream.heads:
                self.opened.append(received.stream)
            pad = payload[0] if flags & PADDED else 0
            payload = payload[bool(flags & PADDED) + (5 if flags & PRIORITY else 0) : len(payload) - pad]
            stream.ended = bool(flags & END_STREAM)
            self._block = (received.stream, flags, payload)
        else:
            assert self._block is not None, "CONTINUATION out of place"
            self._block = (received.stream, self._block[1], self._block[2] + payload)
        if flags & END_HEADERS:
            stream.heads.append([(bytes(n), bytes(v)) for n, v in self.decoder.decode(self._block[2], raw=True)])
            self._block = None

    def until(self, condition: Callable[[], object]) -> None:
        """Read frames until the condition holds."""
        while not condition():
            self.read_frame()

    def response(self, number: int) -> Message:
        """The whole response. Raises StreamReset, ConnectionOver."""
        stream = self.stream(number)
        self.until(lambda: (stream.ended and self._block is None) or stream.reset is not None)
        if not stream.ended and stream.reset is not None:
            raise StreamReset(number, stream.reset)
        return stream.message

    def outcome(self, number: int) -> int:
        """The status of the whole response, or the code of the reset that came instead; the two never overlap."""
        try:
            return self.response(number).status
        except StreamReset as reset:
            return reset.code

    def head(self, number: int) -> Message:
        """The final response head, as soon as it is there. Raises StreamReset, ConnectionOver."""
        stream = self.stream(number)
        self.until(lambda: stream.final_head is not None or stream.reset is not None)
        if stream.final_head is None:
            raise StreamReset(number, stream.reset or 0)
        return stream.message

    def reset_of(self, number: int) -> Code:
        """Wait for the stream's RST_STREAM and return its code. Raises ConnectionOver."""
        stream = self.stream(number)
        self.until(lambda: stream.reset is not None)
        return Code(stream.reset or 0)

    def end_of_connection(self) -> Code | None:
        """Read until the other side closes; the code of its last GOAWAY."""
        try:
            while True:
                self.read_frame()
        except ConnectionOver as over:
            return over.code

    def answered_ping(self) -> bool:
        """Whether the connection still works: a PING is answered, and all that came before it is read."""
        count = len(self.pongs)
        self.ping()
        self.until(lambda: len(self.pongs) > count)
        return True

    def next_request(self) -> int:
        """As a server: the stream of the next request whose head is whole."""
        self.until(lambda: self.opened and self.streams[self.opened[0]].heads)
        return self.opened.pop(0)

    def request_of(self, number: int) -> Message:
        """As a server: the whole request on a stream. Raises StreamReset, ConnectionOver."""
        return self.response(number)

    def close(self) -> None:
        self.socket.close()


def connect(port: int, *, tls: ssl.SSLContext | None = None, name: str = "app.test", **more: object) -> Peer:
    """A client's connection; over TLS, ALPN must have chosen h2."""
    sock = socket.create_connection(("127.0.0.1", port), PATIENCE)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if tls is None:
        return Peer(sock, **more)  # type: ignore[arg-type]
    secured = tls.wrap_socket(sock, server_hostname=name)
    assert secured.selected_alpn_protocol() == "h2"
    return Peer(secured, **more)  # type: ignore[arg-type]


def hang_up(peer: Peer) -> None:
    """Close the connection without a word, whatever is still under way."""
    with suppress(OSError):
        peer.socket.shutdown(socket.SHUT_RDWR)
    peer.socket.close()
