"""Lines on their way to something slow: a bounded queue, and a thread that empties it.

The loop's thread offers lines; a thread of the queue's own takes what has gathered every FLUSH_EVERY seconds or
FLUSH_BYTES bytes. Between them at most MAX_PENDING_BYTES wait: when a disk, a pipe or a receiver is slow, full or gone,
further lines are dropped and counted, and whoever offers never waits. Subclasses say where lines go (``take``).
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from typing import Final

FLUSH_EVERY: Final = 0.1
FLUSH_BYTES: Final = 64 * 1024
MAX_PENDING_BYTES: Final = 8 * 1024 * 1024
CLOSE_GRACE: Final = 1.0
"""How long close() waits for a destination that does not take the last lines, seconds."""
COMPLAIN_EVERY: Final = 10.0
"""At most one line of the router's own log about dropped lines in this many seconds."""

_log = logging.getLogger("router.access-log")


class LineQueue:
    """``offer`` is for one thread at a time; ``start`` it before."""

    def __init__(self, name: str, *, prompt: bool = False, complains: bool = True) -> None:
        """``name`` is the destination, for people. ``prompt``: each line is taken at once, not with later ones.

        ``complains``: False where a complaint would go, and wait, where the lines go.
        """
        self.name = name
        self.lines: deque[bytes] = deque()
        """Whole lines, each with its newline; the thread's to take from the left."""
        self.closing = False
        self._wake_at = 0 if prompt else FLUSH_BYTES
        self._complains = complains
        # Each of these has one thread that writes it and so needs no lock: the first three the loop's, the others ours.
        self._offered = 0
        self._woken_at = 0
        self._refused = 0
        self._settled = 0
        self._failed = 0
        self._wake = threading.Event()
        self._complaint = threading.Lock()
        self._complained_at = -COMPLAIN_EVERY
        self._thread = threading.Thread(target=self._run, name=f"lines to {name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Lines given up so far because the destination did not keep up or refused them."""
        return self._refused + self._failed

    def offer(self, line: bytes) -> bool:
        """Queue one line; drops it, counted, when MAX_PENDING_BYTES are waiting already. Never blocks."""
        offered = self._offered
        if offered - self._settled > MAX_PENDING_BYTES:
            self._refused += 1
            self.complain("it does not keep up")
            return False
        self.lines.append(line)
        self._offered = offered = offered + len(line)
        if offered - self._woken_at > self._wake_at:
            self._woken_at = offered
            self._wake.set()
        return True

    def close(self) -> None:
        """Deliver what is queued and close the destination; after CLOSE_GRACE seconds what is left is given up."""
        self.closing = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(CLOSE_GRACE)

    def wait(self, seconds: float) -> None:
        """For the thread: until there is much to take, or the queue is closed, or ``seconds`` have passed."""
        self._wake.wait(seconds)
        self._wake.clear()

    def _run(self) -> None:
        closing = False
        while not closing:
            self.wait(FLUSH_EVERY)
            closing = self.closing
            self.take()
        self.shut()

    # What a destination is ---------------------------------------------------------------------------------------

    def take(self) -> None:
        """Deliver what is in ``lines`` and say so (``settle``). What is left there is offered again later."""
        raise NotImplementedError

    def shut(self) -> None:
        """Close the destination; the last call."""
        raise NotImplementedError

    def settle(self, size: int, failed: int = 0) -> None:
        """``size`` bytes have left ``lines`` for good; ``failed`` of their lines were lost."""
        self._settled += size
        self._failed += failed

    def complain(self, reason: str, message: str = "access-log-lines-dropped") -> None:
        """Say in the router's own log that lines are lost (or ``message``), unless something was said just now."""
        if not self._complains:
            return
        with self._complaint:
            now = time.monotonic()
            if now - self._complained_at < COMPLAIN_EVERY:
                return
            self._complained_at = now
        _log.warning(message, extra={"data": {"file": self.name, "reason": reason, "dropped": self.dropped}})
