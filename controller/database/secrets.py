"""Columns that hold secrets: sealed with AES-256-GCM under a key of a ring, so that keys can be rotated.

A sealed value names its key. The ring's first key seals new values; `controller.rotation` seals old ones anew.
What leaves this module in clear text is for the API's own checks to show or hide; it is never logged.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import LargeBinary, TypeDecorator
from sqlalchemy.engine import Dialect

KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_SEPARATOR: Final = b":"


class CannotUnseal(Exception):
    """A value was sealed with a key that is not in the ring, or was damaged. The message names the key."""


class KeyRing:
    """Keys by name, the one for new values first."""

    def __init__(self) -> None:
        self._ciphers: dict[bytes, AESGCM] = {}

    def hold(self, keys: Mapping[str, bytes]) -> None:
        """From now on, these; the first one seals. Raises ValueError: a key that is not 32 bytes, or no key."""
        if not keys:
            raise ValueError("at least one encryption key is needed")
        for name, key in keys.items():
            if len(key) != KEY_BYTES:
                raise ValueError(f"encryption key {name!r}: {KEY_BYTES} bytes are needed, not {len(key)}")
            if _SEPARATOR.decode() in name:
                raise ValueError(f"encryption key {name!r}: its name must not hold a colon")
        self._ciphers = {name.encode(): AESGCM(key) for name, key in keys.items()}

    @property
    def current(self) -> bytes:
        """Name of the key that seals."""
        return next(iter(self._ciphers))

    @property
    def names(self) -> frozenset[bytes]:
        return frozenset(self._ciphers)

    @property
    def prefix(self) -> bytes:
        """What every value begins with that the key of now has sealed."""
        return self.current + _SEPARATOR

    def seal(self, text: bytes) -> bytes:
        name = self.current
        nonce = os.urandom(_NONCE_BYTES)
        return name + _SEPARATOR + nonce + self._ciphers[name].encrypt(nonce, text, name)

    def unseal(self, sealed: bytes) -> bytes:
        """Raises CannotUnseal."""
        name, _, rest = sealed.partition(_SEPARATOR)
        cipher = self._ciphers.get(name)
        if cipher is None:
            raise CannotUnseal(f"no encryption key called {name.decode(errors='replace')!r}: add it to the keys")
        try:
            return cipher.decrypt(rest[:_NONCE_BYTES], rest[_NONCE_BYTES:], name)
        except InvalidTag:
            raise CannotUnseal(f"a value sealed with key {name.decode(errors='replace')!r} is damaged") from None


KEYS: Final = KeyRing()
"""Of this process. Column types have no other way to a key."""


class Sealed(TypeDecorator[Any]):
    """Any JSON value, sealed."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> bytes | None:
        return None if value is None else KEYS.seal(orjson.dumps(value))

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        return None if value is None else orjson.loads(KEYS.unseal(bytes(value)))
