"""What a worker does with a connection, by the listener that it came to: the layers it passes, the protocol spoken.

The one place that knows how listeners are composed. A layer is an asyncio protocol that takes something off the front
of a connection (a PROXY header, TLS) and then makes the next one; the last is a client connection of the edge.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from router.edge import Edge
from router.settings import Settings


class Listeners:
    """Of one worker."""

    def __init__(self, settings: Settings, edge: Edge) -> None:
        self._settings = settings
        self._edge = edge

    def protocol(self, name: str) -> Callable[[], asyncio.Protocol]:
        """The factory of protocols for what the listener ``name`` accepts."""
        match name:
            case "http":
                return self._edge.client
        raise ValueError(f"no listener is called {name}")
