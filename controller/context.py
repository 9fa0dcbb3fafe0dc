"""What all requests of one controller process share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import trio

from controller.caller import AUDIENCE, Caller
from controller.database.engine import Database
from controller.settings import Settings


class Tokens(Protocol):
    def caller(self, authorization: str, *, audience: str | None = AUDIENCE) -> Caller | None:
        """Who an Authorization header speaks for; None for an empty one. ``audience``: whom the token must be for, if
        that matters. Raises ApiError (InvalidAuthToken)."""


class Jobs(Protocol):
    async def began(self, guids: Sequence[str], *, patience: float) -> None:
        """These jobs are committed: start them, and wait up to ``patience`` seconds for their ends."""


@dataclass(frozen=True)
class Context:
    settings: Settings
    database: Database
    tokens: Tokens
    jobs: Jobs
    routes_changed: Callable[[], None]
    """Tells whoever keeps the registry equal to the database that there may be a difference."""
    threads: trio.CapacityLimiter
    """As many requests at a time may be in worker threads as there are connections to the database."""
