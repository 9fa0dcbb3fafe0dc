"""Requests that ask for one instance of an application, or for one process: X-CF-App-Instance, X-CF-Process-Instance.

Follows gorouter reference 2.1 and 2.2. What is asked for narrows a pool down to a pool of this one request, so that
what fails there says nothing of the route's own.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from router.heads import answers
from router.heads.answers import Answer
from router.pool import Pool

if TYPE_CHECKING:
    from router.pool import Endpoint

_GUID: Final = rb"([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})"
_APP: Final = re.compile(_GUID + rb":([0-9]+)")
_PROCESS: Final = re.compile(_GUID + rb"(?::([0-9]+))?")


class Chosen(NamedTuple):
    """Which endpoints a request will do with."""

    guid: str
    """Of an app, or of a process."""
    number: str
    """Of the instance; empty where any will do."""
    of_process: bool

    def among(self, pool: Pool) -> Pool | None:
        """A pool of those of ``pool`` that are meant; None if there is none."""
        meant = tuple(endpoint for endpoint in pool.endpoints if self._is(endpoint))
        if not meant:
            return None
        narrowed = Pool(pool.route)
        narrowed.endpoints = meant if self.of_process else meant[-1:]
        narrowed.algorithm = pool.algorithm
        narrowed.service = pool.service
        return narrowed

    def _is(self, endpoint: Endpoint) -> bool:
        record = endpoint.record
        guid = record.tags.get("process_id", "") if self.of_process else record.app
        return guid == self.guid and (not self.number or record.private_instance_index == self.number)

    def unknown(self, host: bytes) -> Answer:
        """The answer where the route has no such instance."""
        return answers.unknown_instance(host, self.guid, self.number, of_process=self.of_process)


def chosen(app_instance: bytes, process_instance: bytes) -> Chosen | Answer | None:
    """From the values of the two fields, empty where a request has it not; an Answer refuses what is malformed."""
    if app_instance:
        match = _APP.fullmatch(app_instance)
        if match is None:
            return answers.invalid_app_instance()
        return Chosen(match[1].decode(), match[2].decode(), of_process=False)
    if process_instance:
        match = _PROCESS.fullmatch(process_instance)
        if match is None:
            return answers.invalid_process_instance()
        return Chosen(match[1].decode(), (match[2] or b"").decode(), of_process=True)
    return None
