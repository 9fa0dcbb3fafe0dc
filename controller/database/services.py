"""Services that users bring themselves, and their bindings."""

from __future__ import annotations

from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, String, Text, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from controller.database.applications import App
from controller.database.base import Base, Labelled, Row
from controller.database.routing import Route
from controller.database.secrets import Sealed
from controller.database.tenancy import Space


class ServiceInstance(Labelled, Base):
    __tablename__ = "service_instances"

    name: Mapped[str] = mapped_column(String(255))
    type: Mapped[str] = mapped_column(String(16), default="user-provided")
    space_id: Mapped[int] = mapped_column(ForeignKey("spaces.id", ondelete="CASCADE"), index=True)
    tags: Mapped[list[Any]] = mapped_column(default=list)
    credentials: Mapped[dict[str, Any]] = mapped_column(Sealed, default=dict)
    syslog_drain_url: Mapped[str | None] = mapped_column(Text)
    route_service_url: Mapped[str | None] = mapped_column(Text)
    last_operation: Mapped[dict[str, Any]] = mapped_column(default=dict)

    space: Mapped[Space] = relationship(lazy="joined")

    __table_args__ = (
        Index("uq_service_instances_space_id_name", "space_id", func.lower(text("name")), unique=True),
        CheckConstraint("type IN ('user-provided', 'managed')", name="type"),
    )


class ServiceInstanceShare(Row, Base):
    """An instance that apps of another space may bind."""

    __tablename__ = "service_instance_shares"

    service_instance_id: Mapped[int] = mapped_column(ForeignKey("service_instances.id", ondelete="CASCADE"))
    space_id: Mapped[int] = mapped_column(ForeignKey("spaces.id", ondelete="CASCADE"), index=True)

    __table_args__ = (UniqueConstraint("service_instance_id", "space_id"),)


class ServiceCredentialBinding(Labelled, Base):
    """Of an app, or a key that belongs to nobody."""

    __tablename__ = "service_credential_bindings"

    type: Mapped[str] = mapped_column(String(8))
    name: Mapped[str | None] = mapped_column(String(255))
    service_instance_id: Mapped[int] = mapped_column(ForeignKey("service_instances.id"), index=True)
    app_id: Mapped[int | None] = mapped_column(ForeignKey("apps.id", ondelete="CASCADE"), index=True)
    credentials: Mapped[dict[str, Any]] = mapped_column(Sealed, default=dict)
    last_operation: Mapped[dict[str, Any]] = mapped_column(default=dict)

    service_instance: Mapped[ServiceInstance] = relationship(lazy="joined")
    app: Mapped[App | None] = relationship()

    __table_args__ = (
        CheckConstraint(
            "(type = 'app' AND app_id IS NOT NULL) OR (type = 'key' AND app_id IS NULL AND name IS NOT NULL)",
            name="type",
        ),
        UniqueConstraint("app_id", "service_instance_id", name="uq_service_credential_bindings_app"),
        Index("uq_service_credential_bindings_app_id_name", "app_id", "name", unique=True),
        Index(
            "uq_service_credential_bindings_key",
            "service_instance_id",
            "name",
            unique=True,
            sqlite_where=text("type = 'key'"),
            postgresql_where=text("type = 'key'"),
        ),
    )


class ServiceRouteBinding(Labelled, Base):
    """A route whose requests pass a service first."""

    __tablename__ = "service_route_bindings"

    service_instance_id: Mapped[int] = mapped_column(ForeignKey("service_instances.id"), index=True)
    route_id: Mapped[int] = mapped_column(ForeignKey("routes.id", ondelete="CASCADE"), unique=True)
    route_service_url: Mapped[str] = mapped_column(Text)
    last_operation: Mapped[dict[str, Any]] = mapped_column(default=dict)

    service_instance: Mapped[ServiceInstance] = relationship(lazy="joined")
    route: Mapped[Route] = relationship(lazy="joined")
