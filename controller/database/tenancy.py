"""Who may do what where: organizations, spaces, users, their roles, quotas and isolation segments."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, String, func, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from controller.database.base import Base, Labelled, Resource, Row

ORGANIZATION_ROLES: Final = (
    "organization_user",
    "organization_auditor",
    "organization_manager",
    "organization_billing_manager",
)
SPACE_ROLES: Final = ("space_developer", "space_auditor", "space_manager", "space_supporter")


class OrganizationQuota(Resource, Base):
    """Limits; NULL is none."""

    __tablename__ = "organization_quotas"

    name: Mapped[str] = mapped_column(String(255), unique=True)
    total_memory_in_mb: Mapped[int | None]
    per_process_memory_in_mb: Mapped[int | None]
    total_instances: Mapped[int | None]
    per_app_tasks: Mapped[int | None]
    log_rate_limit_in_bytes_per_second: Mapped[int | None] = mapped_column(BigInteger)
    paid_services_allowed: Mapped[bool] = mapped_column(default=True)
    total_service_instances: Mapped[int | None]
    total_service_keys: Mapped[int | None]
    total_routes: Mapped[int | None]
    total_reserved_ports: Mapped[int | None]
    total_domains: Mapped[int | None]


class Organization(Labelled, Base):
    __tablename__ = "organizations"

    name: Mapped[str] = mapped_column(String(255))
    suspended: Mapped[bool] = mapped_column(default=False)
    quota_id: Mapped[int] = mapped_column(ForeignKey("organization_quotas.id"), index=True)
    default_isolation_segment_id: Mapped[int | None] = mapped_column(ForeignKey("isolation_segments.id"))

    quota: Mapped[OrganizationQuota] = relationship(lazy="joined")
    spaces: Mapped[list[Space]] = relationship(back_populates="organization", passive_deletes=True)

    __table_args__ = (Index("uq_organizations_name", func.lower(text("name")), unique=True),)


class SpaceQuota(Resource, Base):
    """Limits within an organization; NULL is none."""

    __tablename__ = "space_quotas"

    name: Mapped[str] = mapped_column(String(255))
    organization_id: Mapped[int] = mapped_column(ForeignKey("organizations.id", ondelete="CASCADE"), index=True)
    total_memory_in_mb: Mapped[int | None]
    per_process_memory_in_mb: Mapped[int | None]
    total_instances: Mapped[int | None]
    per_app_tasks: Mapped[int | None]
    log_rate_limit_in_bytes_per_second: Mapped[int | None] = mapped_column(BigInteger)
    paid_services_allowed: Mapped[bool] = mapped_column(default=True)
    total_service_instances: Mapped[int | None]
    total_service_keys: Mapped[int | None]
    total_routes: Mapped[int | None]
    total_reserved_ports: Mapped[int | None]

    organization: Mapped[Organization] = relationship(lazy="joined")

    __table_args__ = (
        Index("uq_space_quotas_organization_id_name", "organization_id", func.lower(text("name")), unique=True),
    )


class Space(Labelled, Base):
    __tablename__ = "spaces"

    name: Mapped[str] = mapped_column(String(255))
    organization_id: Mapped[int] = mapped_column(ForeignKey("organizations.id", ondelete="CASCADE"), index=True)
    quota_id: Mapped[int | None] = mapped_column(ForeignKey("space_quotas.id"), index=True)
    isolation_segment_id: Mapped[int | None] = mapped_column(ForeignKey("isolation_segments.id"))
    allow_ssh: Mapped[bool] = mapped_column(default=True)
    suspended: Mapped[bool] = mapped_column(default=False)

    organization: Mapped[Organization] = relationship(back_populates="spaces", lazy="joined")
    quota: Mapped[SpaceQuota | None] = relationship()

    __table_args__ = (
        Index("uq_spaces_organization_id_name", "organization_id", func.lower(text("name")), unique=True),
    )


class User(Labelled, Base):
    """Somebody who was seen with a token, or was given a role; ``guid`` is what the identity provider says."""

    __tablename__ = "users"

    username: Mapped[str | None] = mapped_column(String(255), index=True)
    origin: Mapped[str | None] = mapped_column(String(255))
    is_client: Mapped[bool] = mapped_column(default=False)


class Role(Resource, Base):
    """One right of one user, in an organization or in a space. Of the eight kinds each at most once."""

    __tablename__ = "roles"

    type: Mapped[str] = mapped_column(String(32), index=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    organization_id: Mapped[int | None] = mapped_column(ForeignKey("organizations.id", ondelete="CASCADE"), index=True)
    space_id: Mapped[int | None] = mapped_column(ForeignKey("spaces.id", ondelete="CASCADE"), index=True)

    user: Mapped[User] = relationship(lazy="joined")
    organization: Mapped[Organization | None] = relationship()
    space: Mapped[Space | None] = relationship()

    __table_args__ = (
        Index("uq_roles_user_id_type_organization_id", "user_id", "type", "organization_id", unique=True),
        Index("uq_roles_user_id_type_space_id", "user_id", "type", "space_id", unique=True),
        CheckConstraint(
            "(organization_id IS NOT NULL AND space_id IS NULL AND type LIKE 'organization%')"
            " OR (organization_id IS NULL AND space_id IS NOT NULL AND type LIKE 'space%')",
            name="place",
        ),
    )


class IsolationSegment(Labelled, Base):
    __tablename__ = "isolation_segments"

    name: Mapped[str] = mapped_column(String(255))

    __table_args__ = (Index("uq_isolation_segments_name", func.lower(text("name")), unique=True),)


class IsolationSegmentEntitlement(Row, Base):
    """An organization may use a segment."""

    __tablename__ = "isolation_segment_entitlements"

    isolation_segment_id: Mapped[int] = mapped_column(ForeignKey("isolation_segments.id", ondelete="CASCADE"))
    organization_id: Mapped[int] = mapped_column(ForeignKey("organizations.id", ondelete="CASCADE"), index=True)

    __table_args__ = (
        Index("uq_isolation_segment_entitlements_pair", "isolation_segment_id", "organization_id", unique=True),
    )
