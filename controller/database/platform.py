"""What operators set up for everybody: buildpacks, stacks, feature flags, environment groups, security groups."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, String, Text, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from controller.database.base import Base, Labelled, Resource, Row, now
from controller.database.secrets import Sealed


class Stack(Labelled, Base):
    __tablename__ = "stacks"

    name: Mapped[str] = mapped_column(String(255), unique=True)
    description: Mapped[str | None] = mapped_column(Text)
    state: Mapped[str] = mapped_column(String(16), default="ACTIVE")
    state_reason: Mapped[str | None] = mapped_column(Text)
    default: Mapped[bool] = mapped_column(default=False)


class Buildpack(Labelled, Base):
    __tablename__ = "buildpacks"

    name: Mapped[str] = mapped_column(String(255))
    stack: Mapped[str | None] = mapped_column(String(255))
    lifecycle: Mapped[str] = mapped_column(String(16), default="buildpack")
    state: Mapped[str] = mapped_column(String(16), default="AWAITING_UPLOAD")
    filename: Mapped[str | None] = mapped_column(String(255))
    sha256: Mapped[str | None] = mapped_column(String(64))
    position: Mapped[int] = mapped_column(index=True)
    enabled: Mapped[bool] = mapped_column(default=True)
    locked: Mapped[bool] = mapped_column(default=False)

    __table_args__ = (
        Index(
            "uq_buildpacks_name_stack_lifecycle",
            "name",
            func.coalesce(text("stack"), text("''")),
            "lifecycle",
            unique=True,
        ),
        CheckConstraint("state IN ('AWAITING_UPLOAD', 'READY')", name="state"),
        CheckConstraint("position > 0", name="position"),
    )


class FeatureFlag(Row, Base):
    """A flag that an operator has set; all others have their defaults."""

    __tablename__ = "feature_flags"

    name: Mapped[str] = mapped_column(String(64), unique=True)
    enabled: Mapped[bool]
    custom_error_message: Mapped[str | None] = mapped_column(Text)
    updated_at: Mapped[datetime] = mapped_column(default=now, onupdate=now)


class EnvironmentGroup(Row, Base):
    """Variables of every app that runs, or is staged."""

    __tablename__ = "environment_groups"

    name: Mapped[str] = mapped_column(String(16), unique=True)
    variables: Mapped[dict[str, Any]] = mapped_column(Sealed, default=dict)
    updated_at: Mapped[datetime] = mapped_column(default=now, onupdate=now)

    __table_args__ = (CheckConstraint("name IN ('running', 'staging')", name="name"),)


class SecurityGroup(Resource, Base):
    __tablename__ = "security_groups"

    name: Mapped[str] = mapped_column(String(255), unique=True)
    rules: Mapped[list[Any]] = mapped_column(default=list)
    running_everywhere: Mapped[bool] = mapped_column(default=False)
    staging_everywhere: Mapped[bool] = mapped_column(default=False)


class SecurityGroupSpace(Row, Base):
    """A group that holds in a space, for what runs there or what is staged there."""

    __tablename__ = "security_group_spaces"

    security_group_id: Mapped[int] = mapped_column(ForeignKey("security_groups.id", ondelete="CASCADE"))
    space_id: Mapped[int] = mapped_column(ForeignKey("spaces.id", ondelete="CASCADE"), index=True)
    phase: Mapped[str] = mapped_column(String(8))

    __table_args__ = (
        UniqueConstraint("security_group_id", "space_id", "phase"),
        CheckConstraint("phase IN ('running', 'staging')", name="phase"),
    )
