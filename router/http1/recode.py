"""Bodies for a client that needs another framing than the backend chose (RFC 9112 sections 6.3 and 7.1)."""

from __future__ import annotations

from typing import Protocol

from router.http1.chunked import ChunkScanner


class Recoder(Protocol):
    """Turns pieces of a body as they came into pieces as they go; ``complete`` marks the last one."""

    def recode(self, data: bytes, complete: bool) -> bytes: ...


class ToChunks:
    """For a body that ended with its connection, and a client whose connection goes on."""

    def recode(self, data: bytes, complete: bool) -> bytes:
        chunk = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
        return chunk + b"0\r\n\r\n" if complete else chunk


class FromChunks:
    """For a peer that knows no chunks: HTTP/1.0, HTTP/2."""

    __slots__ = ("_scanner",)

    def __init__(self) -> None:
        self._scanner = ChunkScanner(502)

    @property
    def trailers(self) -> bytes:
        """Field lines that came behind the last chunk."""
        return self._scanner.trailers

    def recode(self, data: bytes, complete: bool) -> bytes:
        out: list[bytes] = []
        self._scanner.feed(data, out)
        return b"".join(out)
