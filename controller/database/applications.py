"""Apps and what they are made of: packages, builds, droplets, processes, sidecars, revisions, deployments and tasks."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, String, Text, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column, relationship, synonym

from controller.database.base import Base, Guid, Labelled, Resource, Row, new_guid
from controller.database.secrets import Sealed
from controller.database.tenancy import Space


class App(Labelled, Base):
    __tablename__ = "apps"

    name: Mapped[str] = mapped_column(String(255), index=True)
    space_id: Mapped[int] = mapped_column(ForeignKey("spaces.id", ondelete="CASCADE"), index=True)
    desired_state: Mapped[str] = mapped_column(String(16), default="STOPPED")
    lifecycle_type: Mapped[str] = mapped_column(String(16), default="buildpack")
    lifecycle_data: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """Buildpacks and stack; nothing for docker."""
    environment_variables: Mapped[dict[str, Any]] = mapped_column(Sealed, default=dict, deferred=True)
    """Not read, and not unsealed, with every row of a list."""
    droplet_guid: Mapped[str | None] = mapped_column(Guid)
    """The current droplet. Not a foreign key: droplets refer to their app already."""
    max_task_sequence_id: Mapped[int] = mapped_column(default=0)
    ssh_enabled: Mapped[bool] = mapped_column(default=True)
    revisions_enabled: Mapped[bool] = mapped_column(default=True)
    service_binding_k8s_enabled: Mapped[bool] = mapped_column(default=False)
    file_based_vcap_services_enabled: Mapped[bool] = mapped_column(default=False)
    buildpack_cache_sha256: Mapped[str | None] = mapped_column(String(64))

    state = synonym("desired_state")
    """As the API calls it, in lists that are ordered by it."""
    space: Mapped[Space] = relationship(lazy="joined")
    processes: Mapped[list[Process]] = relationship(back_populates="app", passive_deletes=True)

    __table_args__ = (
        Index("uq_apps_space_id_name", "space_id", func.lower(text("name")), unique=True),
        CheckConstraint("desired_state IN ('STARTED', 'STOPPED')", name="desired_state"),
        CheckConstraint("lifecycle_type IN ('buildpack', 'cnb', 'docker')", name="lifecycle_type"),
    )


class Package(Labelled, Base):
    __tablename__ = "packages"

    app_id: Mapped[int] = mapped_column(ForeignKey("apps.id", ondelete="CASCADE"), index=True)
    type: Mapped[str] = mapped_column(String(16))
    state: Mapped[str] = mapped_column(String(32), index=True)
    sha1: Mapped[str | None] = mapped_column(String(40))
    sha256: Mapped[str | None] = mapped_column(String(64))
    error: Mapped[str | None] = mapped_column(Text)
    docker_image: Mapped[str | None] = mapped_column(Text)
    docker_credentials: Mapped[dict[str, Any] | None] = mapped_column(Sealed)

    app: Mapped[App] = relationship(lazy="joined")

    __table_args__ = (
        CheckConstraint("type IN ('bits', 'docker')", name="type"),
        CheckConstraint(
            "state IN ('AWAITING_UPLOAD', 'PROCESSING_UPLOAD', 'READY', 'FAILED', 'COPYING', 'EXPIRED')", name="state"
        ),
    )


class Droplet(Labelled, Base):
    __tablename__ = "droplets"

    app_id: Mapped[int] = mapped_column(ForeignKey("apps.id", ondelete="CASCADE"), index=True)
    package_guid: Mapped[str | None] = mapped_column(Guid, index=True)
    build_guid: Mapped[str | None] = mapped_column(Guid, index=True)
    state: Mapped[str] = mapped_column(String(32), index=True)
    lifecycle_type: Mapped[str] = mapped_column(String(16), default="buildpack")
    sha1: Mapped[str | None] = mapped_column(String(40))
    sha256: Mapped[str | None] = mapped_column(String(64))
    error: Mapped[str | None] = mapped_column(Text)
    stack: Mapped[str | None] = mapped_column(String(255))
    image: Mapped[str | None] = mapped_column(Text)
    buildpacks: Mapped[list[Any]] = mapped_column(default=list)
    process_types: Mapped[dict[str, Any]] = mapped_column(default=dict)
    execution_metadata: Mapped[str] = mapped_column(Text, default="")
    sidecars: Mapped[list[Any]] = mapped_column(default=list)

    app: Mapped[App] = relationship(lazy="joined")

    __table_args__ = (
        CheckConstraint(
            "state IN ('AWAITING_UPLOAD', 'PROCESSING_UPLOAD', 'COPYING', 'STAGED', 'FAILED', 'EXPIRED')", name="state"
        ),
    )


class Build(Labelled, Base):
    __tablename__ = "builds"

    app_id: Mapped[int] = mapped_column(ForeignKey("apps.id", ondelete="CASCADE"), index=True)
    package_guid: Mapped[str] = mapped_column(Guid, index=True)
    droplet_guid: Mapped[str | None] = mapped_column(Guid)
    state: Mapped[str] = mapped_column(String(16), default="STAGING")
    lifecycle_type: Mapped[str] = mapped_column(String(16), default="buildpack")
    lifecycle_data: Mapped[dict[str, Any]] = mapped_column(default=dict)
    staging_memory_in_mb: Mapped[int] = mapped_column(default=1024)
    staging_disk_in_mb: Mapped[int] = mapped_column(default=1024)
    staging_log_rate_limit_bytes_per_second: Mapped[int] = mapped_column(default=-1)
    error_id: Mapped[str | None] = mapped_column(String(64))
    error_description: Mapped[str | None] = mapped_column(Text)
    created_by_guid: Mapped[str] = mapped_column(Guid)
    created_by_name: Mapped[str | None] = mapped_column(String(255))
    created_by_email: Mapped[str | None] = mapped_column(String(255))

    app: Mapped[App] = relationship(lazy="joined")

    __table_args__ = (
        CheckConstraint("state IN ('STAGING', 'STAGED', 'FAILED')", name="state"),
        Index(
            "uq_builds_staging_app_id",
            "app_id",
            unique=True,
            sqlite_where=text("state = 'STAGING'"),
            postgresql_where=text("state = 'STAGING'"),
        ),
    )


class Process(Labelled, Base):
    __tablename__ = "processes"

    app_id: Mapped[int] = mapped_column(ForeignKey("apps.id", ondelete="CASCADE"), index=True)
    type: Mapped[str] = mapped_column(String(255), index=True)
    version: Mapped[str] = mapped_column(Guid, default=new_guid)
    command: Mapped[str | None] = mapped_column(Text)
    """The user's own; without one the droplet's process_types decide."""
    user: Mapped[str | None] = mapped_column(String(255))
    instances: Mapped[int] = mapped_column(default=0)
    memory_in_mb: Mapped[int] = mapped_column(default=1024)
    disk_in_mb: Mapped[int] = mapped_column(default=1024)
    log_rate_limit_in_bytes_per_second: Mapped[int] = mapped_column(default=-1)
    health_check: Mapped[dict[str, Any]] = mapped_column(default=dict)
    readiness_health_check: Mapped[dict[str, Any]] = mapped_column(default=dict)
    revision_guid: Mapped[str | None] = mapped_column(Guid)

    app: Mapped[App] = relationship(back_populates="processes", lazy="joined")

    __table_args__ = (
        CheckConstraint("instances >= 0", name="instances"),
        CheckConstraint("memory_in_mb > 0 AND disk_in_mb > 0", name="sizes"),
    )


class ProcessInstance(Row, Base):
    """One running copy, as the runtime that runs it reports it; what is routable leads to endpoints in the registry."""

    __tablename__ = "process_instances"

    process_id: Mapped[int] = mapped_column(ForeignKey("processes.id", ondelete="CASCADE"))
    index: Mapped[int]
    instance_guid: Mapped[str] = mapped_column(Guid, unique=True)
    state: Mapped[str] = mapped_column(String(16))
    routable: Mapped[bool] = mapped_column(default=True)
    host: Mapped[str] = mapped_column(String(255))
    ports: Mapped[list[Any]] = mapped_column(default=list)
    """Objects of ``internal`` (what the app listens on), ``external`` and maybe ``external_tls_proxy_port``."""
    details: Mapped[str | None] = mapped_column(Text)
    usage: Mapped[dict[str, Any]] = mapped_column(default=dict)
    since: Mapped[datetime]

    process: Mapped[Process] = relationship()

    __table_args__ = (UniqueConstraint("process_id", "index"),)


class Sidecar(Resource, Base):
    __tablename__ = "sidecars"

    app_id: Mapped[int] = mapped_column(ForeignKey("apps.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(255))
    command: Mapped[str] = mapped_column(Text)
    process_types: Mapped[list[Any]] = mapped_column(default=list)
    memory_in_mb: Mapped[int | None]
    origin: Mapped[str] = mapped_column(String(16), default="user")

    app: Mapped[App] = relationship(lazy="joined")

    __table_args__ = (UniqueConstraint("app_id", "name"),)


class Revision(Labelled, Base):
    __tablename__ = "revisions"

    app_id: Mapped[int] = mapped_column(ForeignKey("apps.id", ondelete="CASCADE"))
    version: Mapped[int]
    droplet_guid: Mapped[str] = mapped_column(Guid)
    description: Mapped[str] = mapped_column(Text)
    environment_variables: Mapped[dict[str, Any]] = mapped_column(Sealed, default=dict, deferred=True)
    commands: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """The user's own command of each process type, or null."""
    sidecars: Mapped[list[Any]] = mapped_column(default=list)

    app: Mapped[App] = relationship(lazy="joined")

    __table_args__ = (UniqueConstraint("app_id", "version"),)


class Deployment(Labelled, Base):
    __tablename__ = "deployments"

    app_id: Mapped[int] = mapped_column(ForeignKey("apps.id", ondelete="CASCADE"), index=True)
    state: Mapped[str] = mapped_column(String(16))
    status_value: Mapped[str] = mapped_column(String(16), index=True)
    status_reason: Mapped[str] = mapped_column(String(16))
    status_updated_at: Mapped[datetime]
    last_healthy_at: Mapped[datetime]
    strategy: Mapped[str] = mapped_column(String(16), default="rolling")
    droplet_guid: Mapped[str | None] = mapped_column(Guid)
    previous_droplet_guid: Mapped[str | None] = mapped_column(Guid)
    revision_guid: Mapped[str | None] = mapped_column(Guid)
    revision_version: Mapped[int | None]
    original_web_instances: Mapped[int] = mapped_column(default=1)
    deploying_process_guid: Mapped[str | None] = mapped_column(Guid)
    new_processes: Mapped[list[Any]] = mapped_column(default=list)
    options: Mapped[dict[str, Any]] = mapped_column(default=dict)
    canary_step: Mapped[int] = mapped_column(default=0)
    error: Mapped[str | None] = mapped_column(Text)

    app: Mapped[App] = relationship(lazy="joined")

    __table_args__ = (
        CheckConstraint("status_value IN ('ACTIVE', 'FINALIZED')", name="status_value"),
        Index(
            "uq_deployments_active_app_id",
            "app_id",
            unique=True,
            sqlite_where=text("status_value = 'ACTIVE'"),
            postgresql_where=text("status_value = 'ACTIVE'"),
        ),
    )


class Task(Labelled, Base):
    __tablename__ = "tasks"

    app_id: Mapped[int] = mapped_column(ForeignKey("apps.id", ondelete="CASCADE"))
    sequence_id: Mapped[int]
    name: Mapped[str] = mapped_column(String(255))
    command: Mapped[str] = mapped_column(Sealed)
    user: Mapped[str | None] = mapped_column(String(255))
    state: Mapped[str] = mapped_column(String(16), index=True)
    droplet_guid: Mapped[str] = mapped_column(Guid)
    memory_in_mb: Mapped[int] = mapped_column(default=1024)
    disk_in_mb: Mapped[int] = mapped_column(default=1024)
    log_rate_limit_in_bytes_per_second: Mapped[int] = mapped_column(default=-1)
    failure_reason: Mapped[str | None] = mapped_column(Text)

    app: Mapped[App] = relationship(lazy="joined")

    __table_args__ = (
        UniqueConstraint("app_id", "sequence_id"),
        CheckConstraint("state IN ('PENDING', 'RUNNING', 'SUCCEEDED', 'CANCELING', 'FAILED')", name="state"),
    )
