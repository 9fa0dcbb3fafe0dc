"""One end of an HTTP/2 connection (RFC 9113): frames in, frames out, streams, and the flow of their bodies.

Theory of operation. ``feed`` takes what arrived and calls what each frame is for: ``new_stream`` of the connection,
``take_headers``, ``take_data`` and ``take_reset`` of a stream. What is to be sent collects in ``out``; ``wake`` is
called when something does and no ``feed`` is under way. Subclasses know whose connection it is and own a transport;
nothing here does, nor does anything here know what a request is.

    idle --HEADERS--> open --END_STREAM of one side--> half-closed --of the other--> closed (RFC 9113 section 5.1)
                       |                                |
                       +--------- RST_STREAM -----------+--> closed; late frames are forgiven for a while

The flow of a single body is `router.http2.stream`'s; here are the connection's window and who goes out next.

What a peer can ask for without asking for real work (resets, pings, settings, empty frames) is paid out of
``_allowance``, which real work and time fill up again: who overdraws it is sent away with ENHANCE_YOUR_CALM.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from time import monotonic
from typing import Final, Generic, TypeVar

from router.http2 import frames
from router.http2.frames import DEFAULT_WINDOW, HEADER, HEADER_BYTES, LARGEST_WINDOW, SMALLEST_MAX_FRAME
from router.http2.hpack import BOMB_FACTOR, CompressionError, Decoder
from router.http2.stream import STREAM_WINDOW, Fault, Stream

CONNECTION_WINDOW: Final = 1024 * 1024
"""The same for all streams together; given back as soon as it is used, lest one stalled stream hold up the others."""
OUT_AT_ONCE: Final = 64 * 1024
"""Bytes that may collect before they are handed to the transport in the middle of a round."""

BURST: Final = 1000
"""What a connection may spend at once on frames that ask for no work."""
PER_SECOND: Final = 500
WORTH_ASKING: Final = 256
"""Bytes: who opens its windows in smaller steps than this earns nothing by it."""
RESET_COST: Final = 5
SETTINGS_COST: Final = 5
_CLOSED_KEPT: Final = 256
"""How many closed streams are remembered, to tell a frame that crossed ours from one that breaks the rules."""


S = TypeVar("S", bound=Stream)


class Connection(ABC, Generic[S]):
    __slots__ = (
        "_allowance",
        "_block",
        "_block_flags",
        "_block_stream",
        "_closed",
        "_feeding",
        "_filled_at",
        "_max_block",
        "_room",
        "_settled",
        "_tail",
        "_taken",
        "blocked",
        "decoder",
        "newest",
        "out",
        "out_bytes",
        "peer_leaves",
        "peer_max_streams",
        "peer_takes_connect",
        "peer_window",
        "receive_window",
        "send_window",
        "streams",
        "waiting",
    )

    def __init__(self, max_list: int) -> None:
        self.streams: dict[int, S] = {}
        self.newest = 0
        """The highest stream number used, by whichever side is the client."""
        self.waiting: dict[int, S] = {}
        """Streams with ``unsent``, in the order in which they are served."""
        self.out: list[bytes] = []
        self.out_bytes = 0
        self.blocked = False
        """Whether the transport takes no more for now."""
        self.decoder = Decoder(max_list)
        self.send_window = DEFAULT_WINDOW
        self.receive_window = DEFAULT_WINDOW
        self.peer_window = DEFAULT_WINDOW
        """What a new stream may send ahead."""
        self.peer_max_streams = 100
        """How many streams the peer serves at once; what to assume until it says (section 6.5.2)."""
        self.peer_takes_connect = False
        """Extended CONNECT (RFC 8441)."""
        self.peer_leaves = False
        """It has sent GOAWAY: no new streams."""
        self._settled = False
        self._tail = b""
        self._taken = 0
        self._block_stream = 0
        """The stream whose header block goes on in CONTINUATION, 0 if none does."""
        self._block_flags = 0
        self._block = b""
        self._max_block = BOMB_FACTOR * max_list
        self._closed: dict[int, bool] = {}
        self._allowance: float = BURST
        self._filled_at = monotonic()
        self._feeding = False
        self._room = False
        """Whether the peer has opened windows in this round."""

    @abstractmethod
    def new_stream(self, number: int, block: bytes, end: bool) -> None:
        """The peer opens a stream. Raises Fault where it may not."""

    @abstractmethod
    def wake(self) -> None:
        """``out`` has something for the transport, by the end of this round of the loop."""

    @abstractmethod
    def flush(self) -> None:
        """Hand ``out`` to the transport now."""

    @abstractmethod
    def stream_forgotten(self, stream: S) -> None:
        """The stream is over; what its peer had to say about that follows."""

    @abstractmethod
    def ping_answered(self) -> None:
        """The peer has got what was sent before our PING."""

    @abstractmethod
    def go_away(self, last_stream: int) -> None:
        """The peer will serve no stream above ``last_stream``."""

    # Out --------------------------------------------------------------------------------------------------------

    def put(self, data: bytes) -> None:
        self.out.append(data)
        self.out_bytes += len(data)
        if self.out_bytes >= OUT_AT_ONCE:
            self.flush()
        elif not self._feeding:
            self.wake()

    def pump(self, stream: S) -> bool:
        """Send what is possible of what waits in ``stream``. Returns whether nothing is left."""
        data = stream.unsent
        room = min(stream.send_window, self.send_window)
        at = 0
        left = len(data)
        view = memoryview(data)
        while left and room > 0 and not self.blocked:
            size = min(left, room, SMALLEST_MAX_FRAME)
            left -= size
            room -= size
            last = not left and stream.ends and not stream.trailers
            stream.send_window -= size
            self.send_window -= size
            if size >= WORTH_ASKING:
                self.earn(2 + (size >> 11))
            header = HEADER.pack(0, size, frames.DATA, frames.END_STREAM if last else 0, stream.id)
            self.put(b"".join((header, view[at : at + size])))
            at += size
        if left:
            stream.unsent = data[at:]
            return False
        stream.unsent = b""
        if stream.ends:
            if stream.trailers:
                self.put(frames.header_frames(stream.id, stream.trailers, frames.END_STREAM, SMALLEST_MAX_FRAME))
            elif not data:
                self.put(HEADER.pack(0, 0, frames.DATA, frames.END_STREAM, stream.id))
            stream.end_local()
        return True

    def pump_waiting(self) -> None:
        """There is room again: each stream that waits sends what it can, the one that waited longest first."""
        waiting = self.waiting
        for number in list(waiting):
            if self.blocked or self.send_window <= 0:
                return
            stream = waiting.pop(number, None)
            if stream is None:
                continue
            if self.pump(stream):
                stream.flowing()
            else:
                waiting[number] = stream

    # Life of streams --------------------------------------------------------------------------------------------

    def forget(self, stream: Stream, *, forgiven: bool) -> None:
        """The stream is over; ``forgiven``: frames for it may be on their way still."""
        number = stream.id
        known = self.streams.pop(number, None)
        if known is None:
            return
        self.waiting.pop(number, None)
        self._remember_closed(number, forgiven)
        self.stream_forgotten(known)

    def _remember_closed(self, number: int, forgiven: bool) -> None:
        closed = self._closed
        closed[number] = forgiven
        if len(closed) > _CLOSED_KEPT:
            del closed[next(iter(closed))]

    def never_opened(self, number: int) -> bool:
        """Whether nobody has opened this stream yet."""
        return not number & 1 or number > self.newest

    def refuse(self, number: int, code: int) -> None:
        """A stream error for a stream that may not even be open (section 5.4.2). Raises Fault: once too often."""
        self.spend(RESET_COST)
        stream = self.streams.get(number)
        self.put(frames.rst_stream(number, code))
        if stream is not None:
            self.forget(stream, forgiven=True)
            stream.take_reset(code)
        else:
            self._remember_closed(number, True)

    def earn(self, units: int) -> None:
        """Real work was done."""
        if self._allowance < BURST:
            self._allowance += units

    def spend(self, units: int) -> None:
        """Raises Fault (ENHANCE_YOUR_CALM)."""
        self._allowance -= units
        if self._allowance < 0:
            now = monotonic()
            self._allowance = min(BURST, self._allowance + (now - self._filled_at) * PER_SECOND)
            self._filled_at = now
            if self._allowance < 0:
                raise Fault(frames.ENHANCE_YOUR_CALM, "too many frames that ask for no work")

    # In ---------------------------------------------------------------------------------------------------------

    @property
    def in_header_block(self) -> bool:
        """Whether a header block, or a frame, has begun and not ended."""
        return bool(self._block_stream or self._tail)

    def feed(self, data: bytes) -> bool:
        """Bytes from the peer, after its preface. Returns whether a frame came to its end. Raises Fault.

        Windows that were opened are used once all is read, lest a body go out in as many frames as there were steps.
        """
        if self._tail:
            data = self._tail + data
            self._tail = b""
        at = 0
        size = len(data)
        unpack = HEADER.unpack_from
        self._feeding = True
        try:
            while size - at >= HEADER_BYTES:
                high, low, kind, flags, number = unpack(data, at)
                if high << 16 | low > SMALLEST_MAX_FRAME:
                    raise Fault(frames.FRAME_SIZE_ERROR, "frame longer than allowed")
                start = at + HEADER_BYTES
                end = start + low + (high << 16)
                if end > size:
                    break
                number &= LARGEST_WINDOW
                at = end
                if self._block_stream:
                    if kind != frames.CONTINUATION or number != self._block_stream:
                        raise Fault(frames.PROTOCOL_ERROR, "a frame in the middle of a header block")
                elif not self._settled:
                    if kind != frames.SETTINGS or flags & frames.ACK:
                        raise Fault(frames.PROTOCOL_ERROR, "the first frame is not SETTINGS")
                    self._settled = True
                if kind == frames.HEADERS:
                    self._headers(flags, number, data[start:end])
                elif kind == frames.DATA:
                    self._data(flags, number, data[start:end])
                elif kind <= frames.CONTINUATION:
                    _TAKE[kind](self, flags, number, data[start:end])
                else:
                    self.spend(1)  # section 4.1: frames of unknown types are ignored
            if self._room:
                self._room = False
                self.pump_waiting()
        except CompressionError as error:
            raise Fault(frames.COMPRESSION_ERROR, str(error)) from None
        finally:
            self._feeding = False
        self._tail = data[at:] if at < size else b""
        return at > 0

    def _headers(self, flags: int, number: int, payload: bytes) -> None:
        if not number:
            raise Fault(frames.PROTOCOL_ERROR, "HEADERS on stream 0")
        if flags & frames.PADDED:
            payload = _unpadded(payload)
        if flags & frames.WITH_PRIORITY:
            if len(payload) < 5:
                raise Fault(frames.FRAME_SIZE_ERROR, "HEADERS too short for its priority")
            if _depends_on(payload) == number:
                raise Fault(frames.PROTOCOL_ERROR, "a stream that depends on itself")
            payload = payload[5:]
        if flags & frames.END_HEADERS:
            self._take_block(number, payload, bool(flags & frames.END_STREAM))
        else:
            self._block_stream = number
            self._block_flags = flags
            self._block = payload

    def _continuation(self, flags: int, number: int, payload: bytes) -> None:
        if not self._block_stream:
            raise Fault(frames.PROTOCOL_ERROR, "CONTINUATION without HEADERS")
        self.spend(1)
        self._block += payload
        if len(self._block) > self._max_block:
            raise Fault(frames.ENHANCE_YOUR_CALM, "header block far beyond its limit")
        if flags & frames.END_HEADERS:
            block, self._block = self._block, b""
            self._block_stream = 0
            self._take_block(number, block, bool(self._block_flags & frames.END_STREAM))

    def _take_block(self, number: int, block: bytes, end: bool) -> None:
        stream = self.streams.get(number)
        if stream is None and number > self.newest:
            self.new_stream(number, block, end)
            return
        pairs = self.decoder.decode(block)  # whatever becomes of them: later blocks build on them (section 4.3)
        if stream is None:
            if not self._closed.get(number, False):
                known = number in self._closed
                raise Fault(frames.STREAM_CLOSED if known else frames.PROTOCOL_ERROR, "HEADERS on a closed stream")
            self.spend(1)
        elif stream.remote_ended:
            self.refuse(number, frames.STREAM_CLOSED)
        else:
            stream.remote_ended = end
            stream.take_headers(pairs, end)
            if end and stream.local_ended:
                self.forget(stream, forgiven=False)

    def _data(self, flags: int, number: int, payload: bytes) -> None:
        size = len(payload)
        self.receive_window -= size
        if self.receive_window < 0:
            raise Fault(frames.FLOW_CONTROL_ERROR, "more DATA than the connection's window")
        self._taken += size
        if self._taken >= CONNECTION_WINDOW // 2:
            self.receive_window += self._taken
            self.put(frames.window_update(0, self._taken))
            self._taken = 0
        if flags & frames.PADDED:
            payload = _unpadded(payload)
        end = bool(flags & frames.END_STREAM)
        if payload:
            self.earn(1)
        elif not end:
            self.spend(1)
        stream = self.streams.get(number)
        if stream is None:
            if self.never_opened(number):
                raise Fault(frames.PROTOCOL_ERROR, "DATA on a stream that is not open")
            self.spend(1)
            if not self._closed.get(number, False):
                self.refuse(number, frames.STREAM_CLOSED)
            return
        if stream.remote_ended:
            self.refuse(number, frames.STREAM_CLOSED)
            return
        stream.receive_window -= size
        if stream.receive_window < 0:
            self.refuse(number, frames.FLOW_CONTROL_ERROR)
            return
        stream.remote_ended = end
        stream.take_data(payload, end)
        if end:
            if stream.local_ended:
                self.forget(stream, forgiven=False)
        elif stream.receive_window <= STREAM_WINDOW // 2 and not stream.held and number in self.streams:
            stream.give_room(STREAM_WINDOW - stream.receive_window)

    def _priority(self, _flags: int, number: int, payload: bytes) -> None:
        """Deprecated (section 5.3): checked, and nothing more."""
        self.spend(1)
        if not number:
            raise Fault(frames.PROTOCOL_ERROR, "PRIORITY on stream 0")
        if len(payload) != 5:
            self._refuse_unless_idle(number, frames.FRAME_SIZE_ERROR)
        elif _depends_on(payload) == number:
            self._refuse_unless_idle(number, frames.PROTOCOL_ERROR)

    def _refuse_unless_idle(self, number: int, code: int) -> None:
        if self.never_opened(number):  # section 6.4: RST_STREAM must not be sent for an idle stream
            raise Fault(code, "malformed PRIORITY")
        self.refuse(number, code)

    def _rst_stream(self, _flags: int, number: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise Fault(frames.FRAME_SIZE_ERROR, "RST_STREAM of another length than 4")
        if self.never_opened(number):
            raise Fault(frames.PROTOCOL_ERROR, "RST_STREAM on a stream that is not open")
        stream = self.streams.get(number)
        self.spend(RESET_COST if stream is not None else 1)
        if stream is not None:
            self.forget(stream, forgiven=False)
            stream.take_reset(int.from_bytes(payload, "big"))

    def _settings(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise Fault(frames.PROTOCOL_ERROR, "SETTINGS on a stream")
        if len(payload) % 6 or (flags & frames.ACK and payload):
            raise Fault(frames.FRAME_SIZE_ERROR, "SETTINGS of a wrong length")
        if flags & frames.ACK:
            return
        self.spend(SETTINGS_COST + len(payload) // 6)
        for at in range(0, len(payload), 6):
            self._set(int.from_bytes(payload[at : at + 2], "big"), int.from_bytes(payload[at + 2 : at + 6], "big"))
        self.put(frames.SETTINGS_ACK)

    def _set(self, key: int, value: int) -> None:
        if key == frames.SETTINGS_INITIAL_WINDOW_SIZE:
            if value > LARGEST_WINDOW:
                raise Fault(frames.FLOW_CONTROL_ERROR, "initial window beyond 2^31-1")
            change = value - self.peer_window
            self.peer_window = value
            for stream in self.streams.values():
                stream.send_window += change
                if stream.send_window > LARGEST_WINDOW:
                    raise Fault(frames.FLOW_CONTROL_ERROR, "window beyond 2^31-1")
            self._room = True
        elif key == frames.SETTINGS_MAX_FRAME_SIZE:
            if not SMALLEST_MAX_FRAME <= value <= 2**24 - 1:
                raise Fault(frames.PROTOCOL_ERROR, "SETTINGS_MAX_FRAME_SIZE out of range")
        elif key == frames.SETTINGS_MAX_CONCURRENT_STREAMS:
            self.peer_max_streams = value
        elif key in (frames.SETTINGS_ENABLE_PUSH, frames.SETTINGS_ENABLE_CONNECT_PROTOCOL):
            if value > 1:
                raise Fault(frames.PROTOCOL_ERROR, "a setting that is neither 0 nor 1")
            if key == frames.SETTINGS_ENABLE_CONNECT_PROTOCOL:
                self.peer_takes_connect = bool(value)

    def _push_promise(self, _flags: int, _number: int, _payload: bytes) -> None:
        raise Fault(frames.PROTOCOL_ERROR, "PUSH_PROMISE, which nobody allowed")

    def _ping(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise Fault(frames.PROTOCOL_ERROR, "PING on a stream")
        if len(payload) != 8:
            raise Fault(frames.FRAME_SIZE_ERROR, "PING of another length than 8")
        self.spend(1)
        if flags & frames.ACK:
            self.ping_answered()
        else:
            self.put(frames.ping(payload, frames.ACK))

    def _goaway(self, _flags: int, number: int, payload: bytes) -> None:
        if number:
            raise Fault(frames.PROTOCOL_ERROR, "GOAWAY on a stream")
        if len(payload) < 8:
            raise Fault(frames.FRAME_SIZE_ERROR, "GOAWAY too short")
        self.spend(1)
        self.peer_leaves = True
        self.go_away(int.from_bytes(payload[:4], "big") & LARGEST_WINDOW)

    def _window_update(self, _flags: int, number: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise Fault(frames.FRAME_SIZE_ERROR, "WINDOW_UPDATE of another length than 4")
        self.spend(1)
        increment = int.from_bytes(payload, "big") & LARGEST_WINDOW
        if not number:
            self.send_window += increment
            if not increment:
                raise Fault(frames.PROTOCOL_ERROR, "WINDOW_UPDATE by 0")
            if self.send_window > LARGEST_WINDOW:
                raise Fault(frames.FLOW_CONTROL_ERROR, "window beyond 2^31-1")
            self._room = True
            return
        stream = self.streams.get(number)
        if stream is None:
            if self.never_opened(number):
                raise Fault(frames.PROTOCOL_ERROR, "WINDOW_UPDATE on a stream that is not open")
            return
        stream.send_window += increment
        if not increment:
            self.refuse(number, frames.PROTOCOL_ERROR)
        elif stream.send_window > LARGEST_WINDOW:
            self.refuse(number, frames.FLOW_CONTROL_ERROR)
        elif number in self.waiting:
            self._room = True


_TAKE: Final = {
    frames.PRIORITY: Connection._priority,
    frames.RST_STREAM: Connection._rst_stream,
    frames.SETTINGS: Connection._settings,
    frames.PUSH_PROMISE: Connection._push_promise,
    frames.PING: Connection._ping,
    frames.GOAWAY: Connection._goaway,
    frames.WINDOW_UPDATE: Connection._window_update,
    frames.CONTINUATION: Connection._continuation,
}


def _unpadded(payload: bytes) -> bytes:
    """Without its padding (section 6.1). Raises Fault."""
    if not payload:
        raise Fault(frames.FRAME_SIZE_ERROR, "a padded frame without a pad length")
    end = len(payload) - payload[0]
    if end < 1:
        raise Fault(frames.PROTOCOL_ERROR, "more padding than frame")
    return payload[1:end]


def _depends_on(payload: bytes) -> int:
    return int.from_bytes(payload[:4], "big") & LARGEST_WINDOW
