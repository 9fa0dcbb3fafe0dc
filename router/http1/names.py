"""How a field's name is spelt on HTTP/1 wires: Go's canonical form, which is what applications behind Gorouter know.

The rules are those of Go's textproto.CanonicalMIMEHeaderKey: the first letter and every letter behind a hyphen are
upper case, all others lower case (``X-Cf-Instanceid``), and a name with a byte that no name may have stays as it is.
Names mean the same in any case (RFC 9110 section 5.1); this is for those who compare them all the same.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from router.http1.grammar import TOKEN

REMEMBERED: Final = 4096
"""How many names are remembered, the least recently seen making room."""
REMEMBERED_BYTES: Final = 128
"""Longer ones are not remembered."""

_IS_NAME: Final = re.compile(TOKEN).fullmatch


def _canonical(name: bytes) -> bytes:
    if not _IS_NAME(name):
        return name
    return b"-".join([part.capitalize() for part in name.split(b"-")])


_remembered: Final = lru_cache(REMEMBERED)(_canonical)


def canonical(name: bytes) -> bytes:
    """``X-Foo`` for ``x-foo`` and ``X-FOO``."""
    return _remembered(name) if len(name) <= REMEMBERED_BYTES else _canonical(name)
