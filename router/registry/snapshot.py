"""The table's snapshot on disk, from which a router that starts while Redis is down serves all the same.

A text file: a header line, one line ``route address record`` per endpoint, and a trailer with their count and a
checksum of everything before it. It is written beside and then renamed, so a reader finds a whole one or none; one that
is damaged is refused whole. Nothing here decides when to write or whom to trust.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from router.registry.scripts import NO_VERSION, version_order
from router.registry.slices import sliced

FORMAT: Final = b"millrace-routes 1"
_LEFT_OVER_SECONDS: Final = 600
_LINES: Final = 200
_COLLECTED: Final = 2000


class DamagedSnapshot(ValueError):
    """A snapshot that is not whole or not of this format; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Header:
    """What the table was when the snapshot was taken."""

    epoch: str
    version: str = NO_VERSION
    longest_ttl: float = 0.0
    """Of the leases, in seconds, as far as known."""
    written_at: float = 0.0
    """Seconds since 1970; for people only."""

    def line(self) -> bytes:
        return b"%s %s %s %d %d" % (
            FORMAT,
            self.epoch.encode(),
            self.version.encode(),
            round(self.longest_ttl * 1000),
            int(self.written_at or time.time()),
        )


Chunks = list[list[tuple[bytes, bytes]]]


async def collected(entries: Mapping[bytes, bytes]) -> Chunks:
    """The entries as they are now, referenced, not copied; `entries` must not change until this returns."""
    return [chunk async for chunk in sliced(entries.items(), _COLLECTED)]


async def save(path: Path, header: Header, chunks: Chunks) -> None:
    """Writes the snapshot, readable by its owner only, and returns once it is on the disk.

    Disk I/O happens in threads; lines are put together on the loop in slices. Uses up `chunks`. Raises OSError.
    """
    await asyncio.to_thread(path.parent.mkdir, mode=0o700, parents=True, exist_ok=True)
    # By process, because a worker that ends may still write when its successor begins.
    beside = path.with_name(f"{path.name}.{os.getpid()}.new")
    await asyncio.to_thread(_remove_left_over, path)
    file = await asyncio.to_thread(_open_private, beside)
    try:
        head = header.line() + b"\n"
        checksum, count = zlib.crc32(head), 0
        await asyncio.to_thread(file.write, head)
        while chunks:
            chunk = chunks.pop()
            block = bytearray()
            async for part in sliced(chunk, _LINES):
                block += b"".join([b"%s %s\n" % entry for entry in part])
            checksum, count = zlib.crc32(block, checksum), count + len(chunk)
            await asyncio.to_thread(file.write, block)
        await asyncio.to_thread(_finish, file, b"end %d %08x\n" % (count, checksum))
        await asyncio.to_thread(_rename, beside, path)
    finally:
        # In this order: closing writes what is still buffered, which a full disk refuses again.
        beside.unlink(missing_ok=True)
        file.close()


def _remove_left_over(path: Path) -> None:
    """Half-written files of processes that were killed."""
    for file in path.parent.glob(f"{path.name}.*.new"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - file.stat().st_mtime > _LEFT_OVER_SECONDS:
                file.unlink()


def _open_private(path: Path) -> BinaryIO:
    path.unlink(missing_ok=True)
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def _finish(file: BinaryIO, trailer: bytes) -> None:
    file.write(trailer)
    file.flush()
    os.fsync(file.fileno())


def _rename(beside: Path, path: Path) -> None:
    beside.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def load(path: Path) -> tuple[Header, list[tuple[bytes, bytes]]]:
    """Header and entries (field, record). Blocks: call it in a thread.

    Raises FileNotFoundError, OSError, DamagedSnapshot.
    """
    return parse(path.read_bytes())


def parse(text: bytes) -> tuple[Header, list[tuple[bytes, bytes]]]:
    """Raises DamagedSnapshot."""
    body, end, trailer = text.removesuffix(b"\n").rpartition(b"\nend ")
    if not end or not text.endswith(b"\n"):
        raise DamagedSnapshot("it ends before its last line")
    body += b"\n"
    count, _, checksum = trailer.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(body):
        raise DamagedSnapshot("its checksum does not match")
    head, *lines = body[:-1].split(b"\n")
    if not head.startswith(FORMAT + b" "):
        raise DamagedSnapshot(f"it does not begin with {FORMAT.decode()!r}")
    if count != b"%d" % len(lines):
        raise DamagedSnapshot(f"it holds {len(lines)} entries instead of {count.decode(errors='replace')}")
    return _header(head), [_entry(line) for line in lines]


def _header(line: bytes) -> Header:
    try:
        epoch, version, ttl, written_at = line.decode("ascii").removeprefix(FORMAT.decode() + " ").split(" ")
        version_order(version)
        return Header(epoch, version, int(ttl) / 1000, float(written_at))
    except ValueError:
        raise DamagedSnapshot("its first line is malformed") from None


def _entry(line: bytes) -> tuple[bytes, bytes]:
    parts = line.split(b" ", 2)
    if len(parts) != 3:
        raise DamagedSnapshot(f"malformed line {line[:80]!r}")
    route, address, record = parts
    return b"%s %s" % (route, address), record
