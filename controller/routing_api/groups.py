"""Router groups (gorouter reference 1.7): routers that share ports, of which routes are given some."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from controller import ports
from controller.database.base import new_guid
from controller.database.routing import Domain, RouterGroup
from controller.routing_api.errors import RoutingApiError, bad_request

KINDS: Final = ("http", "tcp")
PORTS_CHANGED: Final = (
    "Routes on ports that are no longer in the range stay. Where a load balancer does not pass these ports any more, "
    "they cannot be reached."
)
_LONGEST: Final = 255


def shown(group: RouterGroup) -> dict[str, Any]:
    more = {"reservable_ports": group.reservable_ports} if group.type == "tcp" else {}
    return {"guid": group.guid, "name": group.name, "type": group.type, **more}


def listed(session: Session, name: str | None) -> list[dict[str, Any]]:
    """All of them, or the one with this name. Raises RoutingApiError: there is none."""
    statement = select(RouterGroup).order_by(RouterGroup.id)
    groups = session.scalars(statement if name is None else statement.where(RouterGroup.name == name)).all()
    if name is not None and not groups:
        raise RoutingApiError("ResourceNotFoundError", f"Router Group '{name}' not found")
    return [shown(group) for group in groups]


def kinds(session: Session) -> dict[str, str]:
    """Types of the groups by their guids."""
    return {group.guid: group.type for group in session.scalars(select(RouterGroup))}


def create(session: Session, said: Any) -> dict[str, Any]:
    """Raises RoutingApiError."""
    if not isinstance(said, dict):
        raise bad_request("the body is an object")
    name, kind, reservable = (said.get(key) or "" for key in ("name", "type", "reservable_ports"))
    if not isinstance(name, str) or not name:
        raise bad_request("Missing name in router group")
    if len(name) > _LONGEST or not name.isprintable():
        raise bad_request(f"name: at most {_LONGEST} characters that can be printed")
    if kind not in KINDS:
        raise bad_request("Missing type in router group" if not kind else f"type: http or tcp, not {kind!r:.40}")
    if kind == "http" and reservable:
        raise bad_request("Reservable ports are not supported for router groups of type http")
    if kind == "tcp":
        _check_ports(reservable, name)
    group = RouterGroup(guid=new_guid(), name=name, type=kind, reservable_ports=reservable)
    session.add(group)
    try:
        session.flush()
    except IntegrityError:
        raise RoutingApiError("DBConflictError", f"Router Group '{name}' exists already") from None
    return shown(group)


def change(session: Session, guid: str, said: Any) -> dict[str, Any]:
    """Its reservable ports. Raises RoutingApiError."""
    group = _find(session, guid)
    if not isinstance(said, dict):
        raise bad_request("the body is an object")
    reservable = said.get("reservable_ports")
    if reservable:
        if group.type == "http":
            raise bad_request("Reservable ports are not supported for router groups of type http")
        _check_ports(reservable, group.name)
        group.reservable_ports = reservable
    return shown(group)


def remove(session: Session, guid: str) -> None:
    """Raises RoutingApiError: there is none, or domains belong to it."""
    group = _find(session, guid)
    domain = session.scalars(select(Domain.name).where(Domain.router_group_guid == guid).limit(1)).first()
    if domain is not None:
        raise RoutingApiError("DBConflictError", f"Router Group '{group.name}' is that of the domain {domain}")
    session.delete(group)


def _find(session: Session, guid: str) -> RouterGroup:
    group = session.scalars(select(RouterGroup).where(RouterGroup.guid == guid).with_for_update()).one_or_none()
    if group is None:
        raise RoutingApiError("ResourceNotFoundError", f"Router Group '{guid}' does not exist")
    return group


def _check_ports(reservable: Any, name: str) -> None:
    if not reservable:
        raise bad_request(f"Missing reservable_ports in router group: {name}")
    if not isinstance(reservable, str) or len(reservable) > _LONGEST:
        raise bad_request(f"reservable_ports: a string of at most {_LONGEST} characters such as 1024-1123,2000")
    try:
        ports.reservable(reservable)
    except ValueError as error:
        raise bad_request(f"reservable_ports: {error}") from None
