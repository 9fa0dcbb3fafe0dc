"""An established TLS connection: a protocol towards the socket's transport, a transport towards the protocol inside.

OpenSSL works on two memory buffers; this layer moves bytes between them and the socket. uvloop has a layer of its own,
but that one keeps a timer and a quarter of a MiB per connection, reports no half-close and no truncation, and costs
more. ``router.tls.handshake`` makes these once a handshake is complete.

Invariants. Between two callbacks nothing that could be decrypted is left undecrypted, and nothing that was encrypted is
left unsent: so pausing the socket pauses the protocol inside, and what waits is what waits in the socket's transport.
What is fed to OpenSSL or taken from it goes in slices, because its buffers keep the size of the largest piece ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Iterable
from typing import Any, Final

RECORD: Final = 16 * 1024
"""The most that one TLS record holds (RFC 8446 section 5.1): one read never returns more, nor leaves a rest."""
SLICE: Final = 32 * 1024
"""Bytes that go through OpenSSL's buffers at once."""


class TlsLayer(asyncio.Protocol, asyncio.Transport):
    """Both sides of a connection whose handshake is complete. Call ``begin`` once to put the protocol inside."""

    __slots__ = (
        "_decrypt",
        "_encrypt",
        "_ended",
        "_error",
        "_feed",
        "_incoming",
        "_inner",
        "_outgoing",
        "_shut",
        "_take",
        "_tls",
        "_transport",
        "at_end",
        "truncated",
    )

    def __init__(
        self, transport: asyncio.Transport, tls: ssl.SSLObject, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO
    ) -> None:
        super().__init__()
        self._transport = transport
        self._tls = tls
        self._incoming = incoming
        self._outgoing = outgoing
        self._feed = incoming.write
        self._take = outgoing.read
        self._decrypt = tls.read
        self._encrypt = tls.write
        self._inner: asyncio.Protocol = _NOBODY
        self._ended = False
        """Whether the peer has said that it sends no more (close_notify)."""
        self._shut = False
        """Whether we have."""
        self._error: ssl.SSLError | None = None
        self.at_end: Callable[[ssl.SSLSession | None], object] | None = None
        """Called once the connection is closed in good order, with what a client may resume with."""
        self.truncated = False
        """Whether the peer's bytes ended without close_notify: somebody may have cut them off (RFC 8446 6.1)."""

    def begin(self, inner: asyncio.Protocol) -> None:
        """``inner`` is the protocol from here on; gets what came together with the end of the handshake."""
        self._inner = inner
        inner.connection_made(self)
        if not self._transport.is_closing():
            self._receive(b"")

    @property
    def alpn(self) -> str | None:
        """The protocol that both sides agreed on (RFC 7301), if they did."""
        return self._tls.selected_alpn_protocol()

    @property
    def version(self) -> str | None:
        """Such as ``TLSv1.3``."""
        return self._tls.version()

    @property
    def cipher(self) -> str:
        """OpenSSL's name of the cipher suite."""
        used = self._tls.cipher()
        return used[0] if used else ""

    @property
    def resumed(self) -> bool:
        """Whether a former session was resumed instead of a full handshake."""
        return bool(self._tls.session_reused)

    # From the socket --------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if len(data) > SLICE:
            self._receive(data)
            return
        try:
            self._feed(data)
            plain = self._decrypt(RECORD)
        except ssl.SSLWantReadError:  # the rest of the record is still on its way
            if self._outgoing.pending:
                self._flush()
            return
        except ssl.SSLZeroReturnError:  # close_notify, after ours
            plain = b""
        except ssl.SSLError as error:
            self._undecryptable(error, [])
            return
        if plain and not self._incoming.pending:
            if self._outgoing.pending:
                self._flush()
            self._inner.data_received(plain)
        else:
            self._receive(b"", plain)

    def _receive(self, data: bytes, first: bytes | None = None) -> None:
        """As many records as there are, as one piece; ``first`` is what has been decrypted already (empty: the end)."""
        parts: list[bytes] = []
        ended = first == b""
        if first:
            parts.append(first)
        decrypt = self._decrypt
        incoming = self._incoming
        view = memoryview(data)
        try:
            for start in range(0, len(data) or 1, SLICE):
                if start < len(data):
                    self._feed(view[start : start + SLICE])
                try:
                    while not ended and incoming.pending:
                        plain = decrypt(RECORD)
                        parts.append(plain)
                        ended = not plain
                except ssl.SSLWantReadError:
                    continue
        except ssl.SSLZeroReturnError:
            ended = True
        except ssl.SSLError as error:
            self._undecryptable(error, parts)
            return
        if self._outgoing.pending:
            self._flush()
        self._deliver(parts)
        if ended and not self._ended:
            self._ended = True
            if not self._transport.is_closing() and not self._inner.eof_received():
                self.close()

    def _deliver(self, parts: list[bytes]) -> None:
        plain = parts[0] if len(parts) == 1 else b"".join(parts)
        if plain:
            self._inner.data_received(plain)

    def _undecryptable(self, error: ssl.SSLError, parts: list[bytes]) -> None:
        """The peer broke the protocol or sent an alert: what was good before is passed on, then all is over."""
        self._error = error
        self._deliver(parts)
        if self._outgoing.pending:
            self._flush()
        self._shut = True
        if self._transport.get_write_buffer_size():
            self._transport.abort()
        else:
            self._transport.close()

    def eof_received(self) -> bool:
        if self._ended:
            return not self._shut
        self._ended = self.truncated = True
        return bool(self._inner.eof_received())

    def connection_lost(self, exc: Exception | None) -> None:
        inner, self._inner = self._inner, _NOBODY
        if self.at_end is not None and self._error is None:
            self.at_end(self._tls.session)
        inner.connection_lost(self._error or exc)

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()

    # From the protocol inside -----------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not data or self._shut:
            return
        if len(data) > SLICE:
            self.writelines((data,))
        else:
            self._encrypt(data)
            self._transport.write(self._take())

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        if self._shut:
            return
        sealed: list[bytes] = []
        for data in list_of_data:
            view = memoryview(data)
            for start in range(0, len(view), SLICE):
                self._encrypt(view[start : start + SLICE])
                sealed.append(self._take())
        if sealed:
            self._transport.write(b"".join(sealed) if len(sealed) > 1 else sealed[0])

    def _flush(self) -> None:
        self._transport.write(self._take())

    def _say_end(self) -> None:
        """Send close_notify, once."""
        if self._shut:
            return
        self._shut = True
        with contextlib.suppress(ssl.SSLError):  # SSLWantReadError: the peer's own has not come; no need to wait
            self._tls.unwrap()
        if self._outgoing.pending and not self._transport.is_closing():
            self._flush()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        """We send no more; reading goes on. The socket's direction ends as well, for peers that look there only."""
        if not self._shut:
            self._say_end()
            if not self._transport.is_closing():
                self._transport.write_eof()

    def close(self) -> None:
        self._say_end()
        self._transport.close()

    def abort(self) -> None:
        self._shut = True
        self._transport.abort()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def is_reading(self) -> bool:
        return self._transport.is_reading()

    def get_write_buffer_size(self) -> int:
        return self._transport.get_write_buffer_size()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._transport.get_write_buffer_limits()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._transport.set_write_buffer_limits(high, low)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol)
        self._inner = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._inner

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """``ssl_object``, ``truncated``, and all that the socket's transport knows."""
        if name == "ssl_object":
            return self._tls
        if name == "truncated":
            return self.truncated
        return self._transport.get_extra_info(name, default)


_NOBODY: Final = asyncio.Protocol()
"""Stands inside before there is a protocol and after it is gone; takes everything and does nothing."""
