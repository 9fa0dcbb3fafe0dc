"""Domains, routes and their destinations, and what registrars register through the Routing API."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from controller.database.applications import App
from controller.database.base import Base, Guid, Labelled, Resource, Row
from controller.database.tenancy import Organization, Space


class RouterGroup(Resource, Base):
    """Routers that share ports."""

    __tablename__ = "router_groups"

    name: Mapped[str] = mapped_column(String(255), unique=True)
    type: Mapped[str] = mapped_column(String(8))
    reservable_ports: Mapped[str] = mapped_column(String(255), default="")

    __table_args__ = (CheckConstraint("type IN ('http', 'tcp')", name="type"),)


class Domain(Labelled, Base):
    """Shared by all where it belongs to no organization."""

    __tablename__ = "domains"

    name: Mapped[str] = mapped_column(String(255), unique=True)
    """Lower case."""
    organization_id: Mapped[int | None] = mapped_column(ForeignKey("organizations.id", ondelete="CASCADE"), index=True)
    router_group_guid: Mapped[str | None] = mapped_column(Guid)
    internal: Mapped[bool] = mapped_column(default=False)
    enforce_route_policies: Mapped[bool] = mapped_column(default=False)

    organization: Mapped[Organization | None] = relationship()

    __table_args__ = (
        CheckConstraint("name = lower(name)", name="lower_case"),
        CheckConstraint("organization_id IS NULL OR router_group_guid IS NULL", name="tcp_is_shared"),
    )


class DomainShare(Row, Base):
    """A private domain that another organization may use."""

    __tablename__ = "domain_shares"

    domain_id: Mapped[int] = mapped_column(ForeignKey("domains.id", ondelete="CASCADE"))
    organization_id: Mapped[int] = mapped_column(ForeignKey("organizations.id", ondelete="CASCADE"), index=True)

    __table_args__ = (UniqueConstraint("domain_id", "organization_id"),)


class Route(Labelled, Base):
    __tablename__ = "routes"

    host: Mapped[str] = mapped_column(String(63), default="")
    path: Mapped[str] = mapped_column(String(128), default="")
    port: Mapped[int] = mapped_column(default=0)
    """0: none, so that routes without one are unique, too."""
    domain_id: Mapped[int] = mapped_column(ForeignKey("domains.id", ondelete="CASCADE"), index=True)
    space_id: Mapped[int] = mapped_column(ForeignKey("spaces.id", ondelete="CASCADE"), index=True)
    options: Mapped[dict[str, Any]] = mapped_column(default=dict)

    domain: Mapped[Domain] = relationship(lazy="joined")
    space: Mapped[Space] = relationship(lazy="joined")
    destinations: Mapped[list[Destination]] = relationship(
        back_populates="route", passive_deletes=True, order_by="Destination.id"
    )

    __table_args__ = (
        UniqueConstraint("host", "domain_id", "path", "port", name="uq_routes_address"),
        CheckConstraint("port BETWEEN 0 AND 65535", name="port"),
        CheckConstraint("port = 0 OR (host = '' AND path = '')", name="tcp"),
    )


class RouteShare(Row, Base):
    """A route that apps of another space may use."""

    __tablename__ = "route_shares"

    route_id: Mapped[int] = mapped_column(ForeignKey("routes.id", ondelete="CASCADE"))
    space_id: Mapped[int] = mapped_column(ForeignKey("spaces.id", ondelete="CASCADE"), index=True)

    __table_args__ = (UniqueConstraint("route_id", "space_id"),)


class Destination(Resource, Base):
    """Where a route leads: to the instances of one process type of an app."""

    __tablename__ = "destinations"

    route_id: Mapped[int] = mapped_column(ForeignKey("routes.id", ondelete="CASCADE"), index=True)
    app_id: Mapped[int] = mapped_column(ForeignKey("apps.id", ondelete="CASCADE"), index=True)
    process_type: Mapped[str] = mapped_column(String(255), default="web")
    port: Mapped[int] = mapped_column(default=0)
    """0: the app's own default."""
    protocol: Mapped[str] = mapped_column(String(8), default="http1")
    weight: Mapped[int | None]

    route: Mapped[Route] = relationship(back_populates="destinations")
    app: Mapped[App] = relationship(lazy="joined")

    __table_args__ = (
        UniqueConstraint("app_id", "route_id", "process_type", "port", name="uq_destinations_target"),
        CheckConstraint("protocol IN ('http1', 'http2', 'tcp')", name="protocol"),
        CheckConstraint("weight IS NULL OR weight BETWEEN 1 AND 100", name="weight"),
        CheckConstraint("port = 0 OR port BETWEEN 1024 AND 65535", name="port"),
    )


class RegisteredRoute(Row, Base):
    """What a registrar said through the Routing API, until its time is over. The table is its own log: each write gives
    its rows the next version, and what left stays a while as gone, so that followers learn of it."""

    __tablename__ = "registered_routes"

    kind: Mapped[str] = mapped_column(String(8))
    route: Mapped[str] = mapped_column(String(1024))
    """The key of an HTTP route; the router group, port and server name of a TCP route."""
    ip: Mapped[str] = mapped_column(String(255))
    port: Mapped[int]
    tls_port: Mapped[int] = mapped_column(default=0)
    """Of TCP routes, where they have one."""
    isolation_segment: Mapped[str] = mapped_column(String(255), default="")
    said: Mapped[str] = mapped_column(Text)
    """The route object as JSON, without its modification tag."""
    modification_guid: Mapped[str] = mapped_column(Guid)
    modification_index: Mapped[int] = mapped_column(BigInteger, default=0)
    expires_at: Mapped[datetime] = mapped_column(index=True)
    """Of what is gone: when it left."""
    version: Mapped[int] = mapped_column(BigInteger, index=True)
    gone: Mapped[bool] = mapped_column(default=False)

    __table_args__ = (
        Index("uq_registered_routes_endpoint", "kind", "route", "ip", "port", "tls_port", unique=True),
        CheckConstraint("kind IN ('http', 'tcp')", name="kind"),
    )


class RegisteredRoutesVersion(Row, Base):
    """The one row that every write to registered_routes changes first: writers take turns, so that versions become
    visible in their order."""

    __tablename__ = "registered_routes_version"

    number: Mapped[int] = mapped_column(BigInteger, default=0)
    forgotten: Mapped[int] = mapped_column(BigInteger, default=0)
    """The newest version of rows that are no longer kept as gone: whoever has not followed so far has missed some."""

    __table_args__ = (CheckConstraint("id = 1", name="one_row"),)


class RouteChange(Row, Base):
    """A note, in the transaction that changed a route, for whoever keeps the registry; it is deleted when acted on."""

    __tablename__ = "route_changes"

    route_guid: Mapped[str] = mapped_column(Guid)
    """Of the route, there or gone; ``*``: any may have changed."""
