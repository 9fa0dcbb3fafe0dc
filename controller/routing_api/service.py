"""The Routing API as a whole: those who must know when routes were registered, and their life."""

from __future__ import annotations

import trio

from controller.database.engine import Database
from controller.routing_api.keeper import RouteKeeper
from controller.routing_api.stream import Watchers
from controller.settings import Settings


class RoutingApi:
    """``run`` is its life. One per process."""

    def __init__(self, database: Database, settings: Settings) -> None:
        """Raises InvalidRedisUrl, InvalidName; does no I/O."""
        self.watchers = Watchers(database)
        self._keeper = RouteKeeper(database, settings.registry, settings.registry_namespace)

    def changed(self) -> None:
        """A transaction of this process wrote registered routes. In the trio thread."""
        self._keeper.changed()
        self.watchers.changed()

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keeper.run)
            nursery.start_soon(self.watchers.run)
