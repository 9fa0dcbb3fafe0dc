"""Which one of several routers writes what NATS says into the registry: a key in Redis that expires unless renewed.

The key holds a sign and a name. ``+``: the holder hears NATS. ``-``: it does not, and keeps the place only as long as
nobody comes who does. So there is always somebody who renews the lease, and whoever writes is not deaf for long.
Blocking, as the registry's writer is.
"""

from __future__ import annotations

from typing import Final

from router.registry.scripts import Keys
from router.registry.writer import RegistryWriter

TTL: Final = 3.0
"""Seconds after which a holder that died is replaced."""

_TAKE: Final = """
local holder = redis.call('GET', KEYS[1])
local sign = ARGV[2]
if not holder or string.sub(holder, 2) == ARGV[1] or (sign == '+' and string.sub(holder, 1, 1) == '-') then
  redis.call('SET', KEYS[1], sign .. ARGV[1], 'PX', ARGV[3])
  return 1
end
return 0
"""
_LEAVE: Final = """
local holder = redis.call('GET', KEYS[1])
if holder and string.sub(holder, 2) == ARGV[1] then
  redis.call('DEL', KEYS[1])
end
"""


class BridgeLock:
    """The place, for one who would hold it."""

    def __init__(self, writer: RegistryWriter, namespace: str, name: str) -> None:
        """``name`` is this router's, and no other's."""
        self._writer = writer
        self._key = f"{Keys(namespace).prefix}bridge"
        self._name = name

    def take(self, *, hears: bool) -> bool:
        """Take the place or keep it, for another TTL. False: somebody else has it. Raises RegistryUnavailable."""
        sign = "+" if hears else "-"
        return bool(
            self._writer.call(lambda client: client.eval(_TAKE, 1, self._key, self._name, sign, round(TTL * 1000)))
        )

    def leave(self) -> None:
        """Give the place up, if it is ours. Raises RegistryUnavailable."""
        self._writer.call(lambda client: client.eval(_LEAVE, 1, self._key, self._name))
