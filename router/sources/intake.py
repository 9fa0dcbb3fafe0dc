"""From the subject and payload of a NATS message to the announced table. Knows no connection.

A message that the table knows is not even parsed. What cannot be used is reported in Gorouter's words
(``validation-error``) the first time, and again after a while if it keeps coming: registrars repeat their mistakes
every few seconds.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from hashlib import blake2b
from typing import Final

import orjson

from router.sources.announced import AnnouncedTable
from router.sources.journal import Journal
from router.sources.message import RefusedMessage, read_registration, read_unregistration

REGISTER: Final = "router.register"
UNREGISTER: Final = "router.unregister"
OF_ROUTERS: Final = frozenset(("router.greet", "router.start", "router.active_apps"))
"""What routers and registrars say besides; none of it says anything of a route."""
REPEAT_AFTER: Final = 600.0
"""Seconds after which the same refusal is reported again."""
MAX_REFUSED: Final = 1000
"""Refused messages that are remembered."""
_KEY_BYTES: Final = 16
_SHOWN: Final = 2000


class Intake:
    """``take`` is called for each message, in order."""

    def __init__(self, table: AnnouncedTable, journal: Journal, clock: Callable[[], float]) -> None:
        self._table = table
        self._journal = journal
        self._clock = clock
        self._refused: dict[bytes, float] = {}
        self.refused = 0
        """Messages, or URIs of messages, that could not be used."""

    def take(self, subject: str, payload: bytes) -> None:
        if subject == REGISTER:
            key = blake2b(payload, digest_size=_KEY_BYTES).digest()
            if not self._table.refresh(key):
                self._register(key, payload)
        elif subject == UNREGISTER:
            self._unregister(payload)
        elif subject not in OF_ROUTERS:
            self._check(subject, payload)

    def _register(self, key: bytes, payload: bytes) -> None:
        if self._clock() < self._refused.get(key, 0.0):
            self.refused += 1
            return
        try:
            said = read_registration(payload)
        except RefusedMessage as problem:
            self._refuse(REGISTER, payload, str(problem), key)
            return
        for each in said.refused:
            self._refuse(REGISTER, payload, each, None if said.routes else key)
        if said.routes:
            self._table.register(said.routes, said.record, said.ttl, key=key, updated_at_ns=said.updated_at_ns)

    def _unregister(self, payload: bytes) -> None:
        try:
            said = read_unregistration(payload)
        except RefusedMessage as problem:
            self._refuse(UNREGISTER, payload, str(problem))
            return
        for each in said.refused:
            self._refuse(UNREGISTER, payload, each)
        self._table.unregister(said.routes, said.address, segment=said.segment, component=said.component)

    def _check(self, subject: str, payload: bytes) -> None:
        try:
            orjson.loads(payload)
        except orjson.JSONDecodeError as error:
            self._refuse(subject, payload, f"not JSON: {error}")

    def _refuse(self, subject: str, payload: bytes, problem: str, key: bytes | None = None) -> None:
        self.refused += 1
        if key is not None:
            if len(self._refused) >= MAX_REFUSED:
                del self._refused[next(iter(self._refused))]
            self._refused.pop(key, None)
            self._refused[key] = self._clock() + REPEAT_AFTER
        text = payload[:_SHOWN].decode(errors="replace")
        self._journal.line(logging.ERROR, "validation-error", {"error": problem, "payload": text, "subject": subject})
