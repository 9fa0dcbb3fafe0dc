"""Jobs, audit events, leadership among several controllers, and the keys that sealed something."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, Index, LargeBinary, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from controller.database.base import Base, Guid, Resource, Row
from controller.database.secrets import Sealed


class Job(Resource, Base):
    """Long work with its progress. A worker holds it by ``locked_until``; one that dies lets another take it over."""

    __tablename__ = "jobs"

    operation: Mapped[str] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(16), default="PROCESSING")
    resource_type: Mapped[str | None] = mapped_column(String(64))
    resource_guid: Mapped[str | None] = mapped_column(Guid, index=True)
    user_guid: Mapped[str | None] = mapped_column(Guid)
    arguments: Mapped[dict[str, Any]] = mapped_column(Sealed, default=dict)
    errors: Mapped[list[Any]] = mapped_column(default=list)
    warnings: Mapped[list[Any]] = mapped_column(default=list)
    attempts: Mapped[int] = mapped_column(default=0)
    run_at: Mapped[datetime]
    locked_by: Mapped[str | None] = mapped_column(String(64))
    locked_until: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint("state IN ('PROCESSING', 'POLLING', 'COMPLETE', 'FAILED')", name="state"),
        Index("ix_jobs_state_run_at", "state", "run_at"),
    )


class AuditEvent(Resource, Base):
    """Who did what to what. Kept after its target is gone, so nothing here refers to another table."""

    __tablename__ = "audit_events"

    type: Mapped[str] = mapped_column(String(64), index=True)
    actor_guid: Mapped[str] = mapped_column(Guid)
    actor_type: Mapped[str] = mapped_column(String(32))
    actor_name: Mapped[str | None] = mapped_column(String(255))
    target_guid: Mapped[str] = mapped_column(Guid, index=True)
    target_type: Mapped[str] = mapped_column(String(32))
    target_name: Mapped[str | None] = mapped_column(String(255))
    data: Mapped[dict[str, Any]] = mapped_column(default=dict)
    space_guid: Mapped[str | None] = mapped_column(Guid, index=True)
    organization_guid: Mapped[str | None] = mapped_column(Guid, index=True)


class Leader(Row, Base):
    """Which of several controllers does a periodic work now."""

    __tablename__ = "leaders"

    name: Mapped[str] = mapped_column(String(64), unique=True)
    holder: Mapped[str] = mapped_column(String(64))
    until: Mapped[datetime]
    note: Mapped[str | None] = mapped_column(Text)


class EncryptionKeySentinel(Row, Base):
    """A key that values in this database are sealed with, and a value by which it is known."""

    __tablename__ = "encryption_key_sentinels"

    name: Mapped[str] = mapped_column(String(255), unique=True)
    sealed: Mapped[bytes] = mapped_column(LargeBinary)
