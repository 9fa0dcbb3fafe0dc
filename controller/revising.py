"""What makes a new revision of an app, and how it is described (reference 3.2): pure comparisons.

A revision is what was started: droplet, environment, the users' own commands and sidecars.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from controller.database.applications import Revision, Sidecar

INITIAL: Final = "Initial revision."


@dataclass(frozen=True, slots=True)
class Content:
    """Everything of a revision that counts."""

    droplet_guid: str
    environment_variables: Mapping[str, Any]
    commands: Mapping[str, str | None]
    """The user's own command of each process type, or None."""
    sidecars: tuple[Mapping[str, Any], ...]
    """By name."""


def content_of(revision: Revision) -> Content:
    return Content(
        revision.droplet_guid,
        revision.environment_variables,
        revision.commands,
        tuple(sorted(revision.sidecars, key=_name)),
    )


def described(sidecars: Iterable[Sidecar]) -> tuple[Mapping[str, Any], ...]:
    """Sidecars as a revision keeps them."""
    kept = [
        {
            "name": sidecar.name,
            "command": sidecar.command,
            "process_types": sorted(sidecar.process_types),
            "memory_in_mb": sidecar.memory_in_mb,
        }
        for sidecar in sidecars
    ]
    return tuple(sorted(kept, key=_name))


def reasons(before: Content, after: Content) -> list[str]:
    """What is new in ``after``; nothing: it is no new revision."""
    found = list(_commands(before.commands, after.commands))
    if before.droplet_guid != after.droplet_guid:
        found.append("New droplet deployed.")
    if dict(before.environment_variables) != dict(after.environment_variables):
        found.append("New environment variables deployed.")
    if before.sidecars != after.sidecars:
        found.append("Sidecars updated.")
    return sorted(found)


def _commands(before: Mapping[str, str | None], after: Mapping[str, str | None]) -> Iterable[str]:
    for kind in before.keys() | after.keys():
        if kind not in before:
            yield f"New process type '{kind}' added."
        elif kind not in after:
            yield f"Process type '{kind}' removed."
        elif before[kind] != after[kind]:
            verb = "added" if before[kind] is None else "removed" if after[kind] is None else "updated"
            yield f"Custom start command {verb} for '{kind}' process."


def _name(sidecar: Mapping[str, Any]) -> str:
    return str(sidecar["name"])
