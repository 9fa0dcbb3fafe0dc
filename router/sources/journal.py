"""The table's log lines: one per change, as Gorouter writes them, while a person could still read them.

A router that starts in a big installation learns of 100,000 endpoints at once. A line for each would cost more than the
endpoints themselves; beyond a budget per second changes are only counted, and one line at the end says how many.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final

BUDGET: Final = 500
"""Lines per second."""


class Journal:
    """Lines of one logger. ``clock`` gives seconds, monotonic; ``settle`` is to be called about once a second."""

    def __init__(self, log: logging.Logger, clock: Callable[[], float], budget: int = BUDGET) -> None:
        self._log = log
        self._clock = clock
        self._budget = budget
        self._second = clock()
        self._written = 0
        self._left_out: Counter[str] = Counter()

    def wants(self, level: int) -> bool:
        """Whether lines of this level are written at all: ask before making what a line would say."""
        return self._log.isEnabledFor(level)

    def line(self, level: int, message: str, data: Mapping[str, Any]) -> None:
        """Written, or counted if this second has had its share."""
        if not self._log.isEnabledFor(level):
            return
        if self._written >= self._budget:
            if self._clock() - self._second < 1.0:
                self._left_out[message] += 1
                return
            self.settle()
        self._written += 1
        self._log.log(level, message, extra={"data": data})

    def settle(self) -> None:
        """A new second: says what the last one left out."""
        now = self._clock()
        if now - self._second < 1.0:
            return
        self._second, self._written = now, 0
        if self._left_out:
            left_out, self._left_out = self._left_out, Counter()
            self._log.info("more-changes", extra={"data": dict(left_out)})
