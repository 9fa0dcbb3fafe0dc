"""The signature that a request carries to a route service and back, as Gorouter writes and reads it.

Follows gorouter reference 7. What is signed is a JSON text, ``{"forwarded_url":"...","requested_time":"..."}``, which
is encrypted by the same act: AES-128 in Galois/Counter Mode with a random nonce of 12 bytes and no further data, under
a key that PBKDF2 makes of the secret. X-CF-Proxy-Signature is the ciphertext with its tag, X-CF-Proxy-Metadata names
the nonce.

Every router that knows the secret can read every signature, so none keeps a list of those it made. Decides neither what
a signed URL may be used for, nor what a client is told: that is `router.route_services.turns`.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from base64 import b64encode, urlsafe_b64encode
from binascii import Error, a2b_base64
from calendar import timegm
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_ROUNDS: Final = 100_001
_KEY_BYTES: Final = 16
_NONCE_BYTES: Final = 12
_NANOSECONDS: Final = 1_000_000_000

_TIME: Final = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:Z|([+-])(\d\d):(\d\d))", re.ASCII)
"""RFC 3339 section 5.6, as Go writes it."""
_TO_STANDARD: Final = bytes.maketrans(b"-_", b"+/")
_NOT_BASE64: Final = re.compile(rb"[^A-Za-z0-9_=-]")


class InvalidSignature(Exception):
    """This was not made with any of our secrets, or was changed since. The text says how that was noticed."""


class ExpiredSignature(InvalidSignature):
    """It is genuine, and too old."""

    def __init__(self) -> None:
        super().__init__("route service request expired")


class Signed(NamedTuple):
    """What a signature says."""

    forwarded_url: str
    """Of the request as the client sent it."""
    requested_at: int
    """Nanoseconds since 1970."""


class Signer:
    """Signs with one secret, and reads what was signed with it or with the one before it.

    Making one takes some 60 ms of CPU for each secret: once per worker, before it serves.
    """

    def __init__(self, secret: str, former: str = "", *, clock: Callable[[], int] = time.time_ns) -> None:
        """``former``: a secret that is still believed but not used any more; ``clock`` gives nanoseconds since 1970."""
        self._cipher = _cipher(secret)
        self._readers = [self._cipher, _cipher(former)] if former else [self._cipher]
        self._clock = clock

    def sign(self, forwarded_url: str) -> tuple[bytes, bytes]:
        """Values of X-CF-Proxy-Signature and X-CF-Proxy-Metadata for this URL, now."""
        text = orjson.dumps({"forwarded_url": forwarded_url, "requested_time": written_time(self._clock())})
        nonce = os.urandom(_NONCE_BYTES)
        return urlsafe_b64encode(self._cipher.encrypt(nonce, text, None)), _metadata(nonce)

    def read(self, signature: bytes, metadata: bytes, max_age: float) -> Signed:
        """What the two values say, once they prove genuine and at most ``max_age`` seconds old.

        A time that is yet to come is no fault: the clocks of two routers differ. Raises InvalidSignature.
        """
        nonce = _nonce(metadata)
        sealed = _decoded(signature)
        for cipher in self._readers:
            text = _opened(cipher, nonce, sealed)
            if text is not None:
                signed = _read(text)
                if self._clock() - signed.requested_at > max_age * _NANOSECONDS:
                    raise ExpiredSignature
                return signed
        raise InvalidSignature("cipher: message authentication failed")


def _cipher(secret: str) -> AESGCM:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - costs memory: not without a secret

    return AESGCM(hashlib.pbkdf2_hmac("sha256", secret.encode(), b"", _ROUNDS, _KEY_BYTES))


def _opened(cipher: AESGCM, nonce: bytes, sealed: bytes) -> bytes | None:
    from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - as above

    try:
        return cipher.decrypt(nonce, sealed, None)
    except InvalidTag:
        return None


# The two values -------------------------------------------------------------------------------------------------------


def _metadata(nonce: bytes) -> bytes:
    return urlsafe_b64encode(b'{"nonce":"%b"}' % b64encode(nonce))


def _nonce(metadata: bytes) -> bytes:
    """Only the one spelling that Gorouter writes is taken, so that no byte of it can be changed unnoticed."""
    if not metadata:
        raise InvalidSignature("No metadata found")
    try:
        found = orjson.loads(_decoded(metadata))
        nonce = a2b_base64(found["nonce"], strict_mode=True)
    except (ValueError, TypeError, KeyError) as error:
        raise InvalidSignature(f"invalid metadata: {error}") from None
    if _metadata(nonce) != metadata:
        raise InvalidSignature("invalid metadata")
    if len(nonce) != _NONCE_BYTES:
        raise InvalidSignature("incorrect nonce length given to GCM")
    return nonce


def _decoded(value: bytes) -> bytes:
    """From URL-safe base64 (RFC 4648 section 5) with padding, and bits that stand for nothing all zero."""
    foreign = _NOT_BASE64.search(value)
    try:
        plain = a2b_base64(value.translate(_TO_STANDARD), strict_mode=True) if foreign is None else b""
    except Error:
        plain = b""
    if not plain or urlsafe_b64encode(plain) != value:
        raise InvalidSignature(f"illegal base64 data at input byte {foreign.start() if foreign else len(value)}")
    return plain


# The text that is signed ----------------------------------------------------------------------------------------------


def _read(text: bytes) -> Signed:
    try:
        found: Any = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidSignature(str(error)) from None
    url = found.get("forwarded_url") if isinstance(found, dict) else None
    when = found.get("requested_time") if isinstance(found, dict) else None
    if not isinstance(url, str) or not isinstance(when, str):
        raise InvalidSignature("the signed text names no forwarded_url or no requested_time")
    return Signed(url, read_time(when))


def written_time(nanoseconds: int) -> str:
    """As Go's RFC3339Nano, in UTC: no zeros at the end of the fraction."""
    second, fraction = divmod(nanoseconds, _NANOSECONDS)
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
    return f"{whole}.{fraction:09d}".rstrip("0").rstrip(".") + "Z"


def read_time(text: str) -> int:
    """Nanoseconds since 1970; what is finer is dropped. Raises InvalidSignature."""
    match = _TIME.fullmatch(text)
    try:
        if match is None:
            raise ValueError
        year, month, day, hour, minute, second = map(int, match.groups()[:6])
        whole = timegm(datetime(year, month, day, hour, minute, second).timetuple())
    except ValueError:
        raise InvalidSignature(f"cannot parse {text!r} as an RFC 3339 time") from None
    if match[8]:
        ahead = int(match[9]) * 3600 + int(match[10]) * 60
        whole -= ahead if match[8] == "+" else -ahead
    return whole * _NANOSECONDS + int((match[7] or "")[:9].ljust(9, "0"))
