"""Notes that routes may lead elsewhere now: written by who changes them, read by the reconciler."""

from __future__ import annotations

from typing import Final

from sqlalchemy.orm import Session

from controller.database.routing import RouteChange

ANY: Final = "*"
"""Too many to name: whole spaces, organizations, apps."""


def note(session: Session, *guids: str) -> None:
    """In the transaction that changes these routes."""
    session.add_all([RouteChange(route_guid=guid) for guid in guids])
