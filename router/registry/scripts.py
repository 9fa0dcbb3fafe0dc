"""The registry's keys in Redis, and the atomic scripts that are the only way to change them.

A script's text is ``lua/prelude.lua`` followed by its own file: whoever sends the same text runs the same code. Nothing
here talks to Redis. docs/route-registry.md describes every script's keys, arguments and reply.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from typing import Final

MAX_BATCH: Final = 500
"""Endpoints per script call: Redis serves nobody else while a script runs."""

NO_VERSION: Final = "0-0"
"""The version of a table that nothing was ever logged for."""

_NAMESPACE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_LEASE_NAME = re.compile(r"[A-Za-z0-9_.:@/-]{1,200}")


class InvalidName(ValueError):
    """A namespace or lease name with characters that a key cannot hold."""


def checked_lease_name(name: str) -> str:
    """Raises InvalidName."""
    if not _LEASE_NAME.fullmatch(name):
        raise InvalidName(f"lease name {name!r}: give 1 to 200 letters, digits or any of _ . : @ / -")
    return name


class Keys:
    """The key names of one namespace; the namespace in braces is the hash tag that keeps them on one shard."""

    __slots__ = ("leases", "log", "meta", "prefix", "table")

    def __init__(self, namespace: str) -> None:
        """Raises InvalidName."""
        if not _NAMESPACE.fullmatch(namespace):
            raise InvalidName(f"namespace {namespace!r}: give 1 to 64 letters, digits or any of _ . -")
        self.prefix = f"{{{namespace}}}:"
        self.table = f"{self.prefix}table"
        self.log = f"{self.prefix}log"
        self.meta = f"{self.prefix}meta"
        self.leases = f"{self.prefix}leases"

    def lease(self, name: str) -> str:
        return f"{self.prefix}lease:{name}"

    def owned(self, name: str) -> str:
        return f"{self.prefix}owned:{name}"

    def shared(self) -> tuple[str, ...]:
        """KEYS of a script that concerns no lease in particular."""
        return (self.table, self.log, self.meta, self.leases)

    def of_lease(self, name: str) -> tuple[str, ...]:
        """KEYS of a script that works for one lease."""
        return (*self.shared(), self.lease(name), self.owned(name))


@dataclass(frozen=True)
class Script:
    """One script, by the name of its file."""

    name: str

    @cached_property
    def text(self) -> str:
        folder = files(__package__) / "lua"
        return (folder / "prelude.lua").read_text() + (folder / f"{self.name}.lua").read_text()

    @cached_property
    def sha(self) -> str:
        """The digest by which EVALSHA names the script."""
        return hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


REGISTER: Final = Script("register")
UNREGISTER: Final = Script("unregister")
RENEW: Final = Script("renew")
RELEASE: Final = Script("release")
PRUNE: Final = Script("prune")


def version_order(version: str) -> tuple[int, int]:
    """Versions are stream ids, ``milliseconds-sequence``; this is how they compare. Raises ValueError."""
    milliseconds, _, sequence = version.partition("-")
    return int(milliseconds), int(sequence)
