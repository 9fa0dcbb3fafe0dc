"""Claims of tokens whose signatures were checked a moment ago: a client shows the same token with every request.

Bounded by time and by number. It must never hold a token itself, only its digest, nor give claims out past the token's
end; whether a token was revoked meanwhile is for the caller to check, each time.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

KEPT_SECONDS: Final = 60.0
MOST: Final = 4096

Check = Callable[[str], Mapping[str, Any]]


class Verified:
    """Safe for use from many threads."""

    def __init__(self, check: Check, *, seconds: float = KEPT_SECONDS, most: int = MOST) -> None:
        """``check`` gives the claims of a token that is valid now, ``exp`` (RFC 7519 section 4.1.4) among them, or
        raises."""
        self._check = check
        self._seconds = seconds
        self._most = most
        self._known: dict[bytes, tuple[float, Mapping[str, Any]]] = {}
        """By digest: until when they are believed (the clock of ``exp``), and the claims; the oldest first."""
        self._lock = threading.Lock()

    def claims(self, token: str) -> Mapping[str, Any]:
        """Raises what the check raises."""
        digest = hashlib.sha256(token.encode()).digest()
        known = self._known.get(digest)
        moment = time.time()
        if known is not None and moment < known[0]:
            return known[1]
        claims = self._check(token)
        with self._lock:
            self._known.pop(digest, None)
            self._known[digest] = min(moment + self._seconds, float(claims["exp"])), claims
            if len(self._known) > self._most:
                del self._known[next(iter(self._known))]
        return claims
