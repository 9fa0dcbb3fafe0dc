"""The certificates that clients are shown: the choice by server name, and the reload when files change.

Handshakes begin with ``Certificates.context``; the name that the client asks for then switches to another one. A reload
makes everything anew beside what serves and puts it in its place: connections that are open keep what they began with.
A file that turned bad never replaces what was good. Knows no connection.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Final

from router.config.settings import Settings, TlsPem
from router.tls.contexts import server_context
from router.tls.key_pair import KeyPair
from router.tls.pem import BadKeyPair, read_pair

LOOK_EVERY: Final = 2.0
"""Seconds between two looks at the files."""

_MAX_FILE_BYTES: Final = 1024 * 1024

_log = logging.getLogger("router.tls")

MakeContext = Callable[[Sequence[KeyPair]], ssl.SSLContext]


class BySni:
    """Contexts for certificates, by server name (gorouter reference 6.1).

    An exact name wins over a wildcard, whatever the order, and a later certificate over an earlier one of the same name
    and kind of key; RSA and ECDSA certificates of one name live in one context. Everything else gets the first one.
    """

    def __init__(self, pairs: Sequence[KeyPair], make: MakeContext) -> None:
        by_name: dict[str, dict[str, KeyPair]] = {}
        for pair in pairs:
            for name in pair.names:
                by_name.setdefault(name, {})[pair.kind] = pair
        first = pairs[0]
        alike = {pair.kind: pair for pair in reversed(pairs) if pair.names == first.names}
        made: dict[tuple[KeyPair, ...], ssl.SSLContext] = {}

        def context_of(chosen: dict[str, KeyPair]) -> ssl.SSLContext:
            key = tuple(sorted(chosen.values(), key=lambda pair: pair.kind))
            if key not in made:
                made[key] = make(key)
            return made[key]

        self.default = context_of(alike)
        """What a handshake begins with, and what serves clients that name no server, or one that is unknown."""
        self._by_name = {name: context_of(chosen) for name, chosen in by_name.items()}
        self.default.sni_callback = self._switch

    def context_for(self, name: str | None) -> ssl.SSLContext:
        """``name`` as a client gave it."""
        if not name:
            return self.default
        name = name.lower().rstrip(".")
        found = self._by_name.get(name)
        if found is None:
            _, _, parent = name.partition(".")
            found = self._by_name.get(f"*.{parent}", self.default)
        return found

    def _switch(self, tls: ssl.SSLObject, name: str | None, begun_with: ssl.SSLContext) -> None:
        chosen = self.context_for(name)
        if chosen is not begun_with:
            tls.context = chosen


class Certificates:
    """Of one worker. Raises BadKeyPair, OSError, ssl.SSLError if there is not a usable version of each certificate."""

    def __init__(self, settings: Settings, protocols: Sequence[str]) -> None:
        self._settings = settings
        self._protocols = protocols
        self._seen = [_signature(entry) for entry in settings.tls_pem]
        self._pairs = [_first_pair(number, entry) for number, entry in enumerate(settings.tls_pem)]
        self._serving = BySni(self._pairs, self._make)

    def _make(self, pairs: Sequence[KeyPair]) -> ssl.SSLContext:
        return server_context(self._settings, pairs, self._protocols)

    @property
    def context(self) -> ssl.SSLContext:
        """To begin a handshake with."""
        return self._serving.default

    @property
    def watches(self) -> bool:
        """Whether there are files that may change."""
        return any(entry.cert_file for entry in self._settings.tls_pem)

    @property
    def expires(self) -> datetime:
        """When the first of them expires, in UTC."""
        return min(pair.expires for pair in self._pairs)

    async def watch(self) -> None:
        """Look at the files every few seconds, for as long as it is not cancelled; returns if there are none."""
        while self.watches:
            await asyncio.sleep(LOOK_EVERY)
            await asyncio.to_thread(self.look)

    def look(self) -> bool:
        """Read again what has changed on disk; returns whether new handshakes get something new.

        Reads files and makes keys ready, so it may take a while: call it in a thread, one call at a time.
        """
        pairs = list(self._pairs)
        for number, entry in enumerate(self._settings.tls_pem):
            signature = _signature(entry)
            if signature == self._seen[number]:
                continue
            self._seen[number] = signature
            try:
                pairs[number] = _from_files(entry)
            except (BadKeyPair, OSError) as error:
                _kept(number, entry, error)
        if pairs == self._pairs:
            return False
        try:
            self._serving = BySni(pairs, self._make)
        except ssl.SSLError as error:
            _log.error("tls-certificates-kept", extra={"data": {"why": f"OpenSSL refuses a new one: {error.reason}"}})
            return False
        self._pairs = pairs
        _log.info("tls-certificates-reloaded", extra={"data": {"expires": self.expires.isoformat()}})
        return True


def read_entry(entry: TlsPem) -> KeyPair:
    """The certificate of one item of tls_pem. Raises BadKeyPair, OSError."""
    return _from_files(entry) if entry.cert_file else read_pair(entry.cert_chain, entry.private_key)


def with_files_read(settings: Settings) -> Settings:
    """Settings that hold the text of the files beside their paths, for a worker that starts while a file is broken.

    Files that cannot be used now are left out.
    """
    entries = []
    for entry in settings.tls_pem:
        if entry.cert_file:
            try:
                pair = _from_files(entry)
                entries.append(replace(entry, cert_chain=pair.chain, private_key=pair.key))
                continue
            except (BadKeyPair, OSError):
                pass
        entries.append(entry)
    return replace(settings, tls_pem=tuple(entries))


def _first_pair(number: int, entry: TlsPem) -> KeyPair:
    if entry.cert_file and entry.cert_chain:
        try:
            return _from_files(entry)
        except (BadKeyPair, OSError) as error:
            _kept(number, entry, error)
            return read_pair(entry.cert_chain, entry.private_key)
    return read_entry(entry)


def _kept(number: int, entry: TlsPem, error: BadKeyPair | OSError) -> None:
    path = entry.key_file if isinstance(error, BadKeyPair) and error.part == "key" else entry.cert_file
    why = f"{error.strerror}: {error.filename}" if isinstance(error, OSError) else f"{path} {error}"
    data = {"tls_pem": number, "why": why, "kept": "the certificate as it was"}
    _log.error("tls-certificates-kept", extra={"data": data})


def _from_files(entry: TlsPem) -> KeyPair:
    return read_pair(_text(entry.cert_file), _text(entry.key_file))


def _text(path: str) -> str:
    with Path(path).open("rb") as file:
        return file.read(_MAX_FILE_BYTES).decode("ascii", "replace")


def _signature(entry: TlsPem) -> tuple[object, ...]:
    """What changes when the files do."""
    return tuple(_file_signature(path) for path in (entry.cert_file, entry.key_file) if path)


def _file_signature(path: str) -> tuple[int, ...]:
    try:
        stat = Path(path).stat()
    except OSError:
        return ()
    return (stat.st_mtime_ns, stat.st_size, stat.st_ino, stat.st_dev)
