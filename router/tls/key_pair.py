"""A certificate with its key, read already, and the way into an OpenSSL context.

A private key must never appear in a message, a log line or a repr that starts here, nor lie in a file that others may
read.
"""

from __future__ import annotations

import os
import ssl
import tempfile
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate chain and the key of its first certificate, which belong together."""

    chain: str
    """PEM."""
    key: str = field(repr=False)
    """PEM, not encrypted."""
    names: tuple[str, ...]
    """DNS names, in lower case: the subject alternative names, or the common name where there are none of those."""
    kind: str
    """``rsa`` or ``ecdsa``."""
    expires: datetime
    """In UTC."""


def install(chain: str, key: str, context: ssl.SSLContext) -> None:
    """Put a certificate chain and its key, both PEM, into a context. Raises ssl.SSLError: OpenSSL refuses them.

    Python reads keys from files only, so this makes one: in memory where the system can, else for this user alone.
    """
    text = f"{key.rstrip()}\n{chain}".encode()
    if hasattr(os, "memfd_create"):
        with open(os.memfd_create("key-pair"), "wb") as file:
            file.write(text)
            file.flush()
            context.load_cert_chain(f"/proc/self/fd/{file.fileno()}", password=_no_password)
    else:
        with tempfile.NamedTemporaryFile(mode="wb") as named:
            named.write(text)
            named.flush()
            context.load_cert_chain(named.name, password=_no_password)


def _no_password() -> str:
    raise ValueError("the key is encrypted")  # without this, OpenSSL would ask at the terminal
