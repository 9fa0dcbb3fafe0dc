"""Route services that are applications behind this router: which of them are reached without a network, and how.

Follows gorouter reference 7. A connection to such a service is a pair of sockets inside the worker. Its other end is a
client connection of the worker's own edge, so that the request is routed as if it had come from outside by HTTPS; there
is no port that anybody else could connect to.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio

    from router.edge import Edge

PEER: Final = ("127.0.0.1", 0)
"""Who such a request comes from, as the application that serves it is told."""
_ENTRY: Final = re.compile(r"(?:\*\.)?[a-z0-9-]+(?:\.[a-z0-9-]+)+")


class Allowlist:
    """The setting route_services_hairpinning_allowlist: empty for all hosts."""

    def __init__(self, entries: Iterable[str]) -> None:
        """Raises ValueError, which names the entry that is none."""
        names = [entry.lower() for entry in entries]
        for name in names:
            if not _ENTRY.fullmatch(name):
                raise ValueError(
                    f"{name!r} is no name such as app.example.com, nor a wildcard such as *.example.com for one label"
                )
        self._names = frozenset(names)

    def allows(self, host: str) -> bool:
        """``host`` as the route says it: the route *.example.com is allowed by that very entry."""
        return not self._names or host in self._names or "*." + host.partition(".")[2] in self._names


async def connect(edge: Edge, protocol: asyncio.Protocol) -> None:
    """Give ``protocol`` a connection to the edge itself. Raises OSError."""
    ours, theirs = socket.socketpair()
    try:
        ours.setblocking(False)
        theirs.setblocking(False)
        await edge.loop.connect_accepted_socket(partial(edge.inner_client, PEER), theirs)
        await edge.loop.create_unix_connection(lambda: protocol, sock=ours)
    except BaseException:
        ours.close()  # the other end ends with it
        theirs.close()
        raise
