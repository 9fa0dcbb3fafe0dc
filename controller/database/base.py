"""What all tables have in common: how constraints are called, and the columns of everything that the API shows.

The names of constraints are part of the contract: `controller.v3.conflicts` tells by them which rule a write broke.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, ClassVar, Final
from uuid import uuid4

from sqlalchemy import JSON, BigInteger, DateTime, Integer, MetaData, String, TypeDecorator
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

NAMES: Final = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}

BigKey = BigInteger().with_variant(Integer, "sqlite")
"""SQLite gives numbers of its own only to INTEGER keys."""
Json = JSON().with_variant(JSONB(), "postgresql")
Guid = String(255)
"""UUIDs in lower case, and whatever else an identity provider calls its users."""


class Moment(TypeDecorator[datetime]):
    """A point in time, UTC; SQLite keeps no zone, so that it is given back here."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value.replace(tzinfo=UTC) if value is not None and value.tzinfo is None else value


def new_guid() -> str:
    return str(uuid4())


def now() -> datetime:
    """To the second, which is what the API shows and what it compares filters with."""
    return datetime.now(UTC).replace(microsecond=0)


class Base(DeclarativeBase):
    metadata = MetaData(naming_convention=NAMES)
    type_annotation_map: ClassVar[dict[Any, Any]] = {datetime: Moment, dict[str, Any]: Json, list[Any]: Json}


class Row:
    """A key of the database's own; its order is the order of creation."""

    id: Mapped[int] = mapped_column(BigKey, primary_key=True, autoincrement=True)


class Resource(Row):
    """What has a name of its own in the API."""

    guid: Mapped[str] = mapped_column(Guid, unique=True, default=new_guid)
    created_at: Mapped[datetime] = mapped_column(default=now, index=True)
    updated_at: Mapped[datetime] = mapped_column(default=now, onupdate=now, index=True)


class Labelled(Resource):
    """A resource with metadata: labels can be selected by, annotations cannot."""

    labels: Mapped[dict[str, Any]] = mapped_column(default=dict)
    annotations: Mapped[dict[str, Any]] = mapped_column(default=dict)
