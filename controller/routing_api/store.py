"""Registered routes in the database, and their log (`RegisteredRoute`). Functions of one transaction.

Theory of operation. A write first takes the next version, which locks the one row that holds it until the transaction
ends: writers take turns, and who reads the rows above a version sees all of them up to the newest. Bulk writes are one
statement with many parameter sets, whatever they find there.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple, cast
from uuid import uuid4

from sqlalchemy import Table, and_, bindparam, case, delete, func, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from controller.database.routing import RegisteredRoute, RegisteredRoutesVersion
from controller.routing_api.said import Said

KEPT_SECONDS: Final = 600
"""How long what left stays as gone."""
BATCH: Final = 2000
_TABLE: Final = cast(Table, RegisteredRoute.__table__)
_IDENTITY: Final = ("kind", "route", "ip", "port", "tls_port")


class Cursor(NamedTuple):
    """How far somebody has followed: to this row of this version."""

    version: int
    row: int


class Listed(NamedTuple):
    """A row as followers and lists need it."""

    id: int
    version: int
    kind: str
    said: str
    tag_guid: str
    tag_index: int
    gone: bool

    @property
    def cursor(self) -> Cursor:
        return Cursor(self.version, self.id)

    @property
    def object(self) -> bytes:
        """The route object, with its modification tag."""
        tag = f',"modification_tag":{{"guid":"{self.tag_guid}","index":{self.tag_index}}}}}'
        return (self.said[:-1] + tag).encode()


_COLUMNS: Final = (
    _TABLE.c.id,
    _TABLE.c.version,
    _TABLE.c.kind,
    _TABLE.c.said,
    _TABLE.c.modification_guid,
    _TABLE.c.modification_index,
    _TABLE.c.gone,
)


def upsert(session: Session, entries: Sequence[Said], moment: datetime) -> None:
    """Register, or register again: then the tag's index goes up by one."""
    version = _next_version(session)
    rows = [
        {
            "kind": said.kind,
            "route": said.route,
            "ip": said.ip,
            "port": said.port,
            "tls_port": said.tls_port,
            "isolation_segment": said.isolation_segment,
            "said": said.text,
            "modification_guid": str(uuid4()),
            "modification_index": 0,
            "expires_at": moment + timedelta(seconds=said.ttl),
            "version": version,
            "gone": False,
        }
        for said in {said.identity: said for said in entries}.values()
    ]
    if rows:
        session.connection().execute(_upsert_statement(session), rows)


def _upsert_statement(session: Session) -> Any:
    is_postgresql = session.get_bind().dialect.name == "postgresql"
    statement: Any = (postgresql.insert if is_postgresql else sqlite.insert)(_TABLE)
    came, had = statement.excluded, _TABLE.c
    return statement.on_conflict_do_update(
        index_elements=_IDENTITY,
        set_={
            "isolation_segment": came.isolation_segment,
            "said": came.said,
            "modification_guid": case((had.gone, came.modification_guid), else_=had.modification_guid),
            "modification_index": case((had.gone, 0), else_=had.modification_index + 1),
            "expires_at": came.expires_at,
            "version": came.version,
            "gone": False,
        },
    )


def remove(session: Session, entries: Sequence[Said], moment: datetime) -> None:
    """What is not there is no error."""
    version = _next_version(session)
    wanted = [{f"its_{name}": value for name, value in zip(_IDENTITY, said.identity, strict=True)} for said in entries]
    if wanted:
        same = [_TABLE.c[name] == bindparam(f"its_{name}") for name in _IDENTITY]
        statement = _TABLE.update().where(*same, _TABLE.c.gone.is_(False))
        session.connection().execute(statement.values(gone=True, version=version, expires_at=moment), wanted)


def any_expired(session: Session, moment: datetime) -> bool:
    statement = select(_TABLE.c.id).where(_TABLE.c.gone.is_(False), _TABLE.c.expires_at <= moment).limit(1)
    return session.execute(statement).first() is not None


def expire(session: Session, moment: datetime) -> None:
    """Whose time is over leaves."""
    version = _next_version(session)
    over = update(_TABLE).where(_TABLE.c.gone.is_(False), _TABLE.c.expires_at <= moment)
    session.execute(over.values(gone=True, version=version, expires_at=moment))


def forget(session: Session, moment: datetime) -> None:
    """What left long ago is kept no longer."""
    _next_version(session)
    old = and_(_TABLE.c.gone, _TABLE.c.expires_at < moment - timedelta(seconds=KEPT_SECONDS))
    newest = session.scalar(select(func.max(_TABLE.c.version)).where(old))
    if newest is not None:
        session.execute(delete(_TABLE).where(old))
        forgotten = RegisteredRoutesVersion.forgotten
        session.execute(
            update(RegisteredRoutesVersion).values(forgotten=case((forgotten > newest, forgotten), else_=newest))
        )


def live(
    session: Session, moment: datetime, kind: str | None = None, segments: Sequence[str] | None = None
) -> list[Listed]:
    """What is registered now; of TCP routes perhaps only those of some isolation segments."""
    statement = select(*_COLUMNS).where(_TABLE.c.gone.is_(False), _TABLE.c.expires_at > moment)
    if kind is not None:
        statement = statement.where(_TABLE.c.kind == kind)
    if segments is not None:
        statement = statement.where(_TABLE.c.isolation_segment.in_(segments))
    return [Listed(*row) for row in session.execute(statement.order_by(_TABLE.c.id))]


def newest(session: Session) -> Cursor:
    """Whoever follows from here misses nothing that comes."""
    number = session.scalar(select(RegisteredRoutesVersion.number)) or 0
    return Cursor(number, 2**62)


def changes(session: Session, after: Cursor) -> list[Listed] | None:
    """At most BATCH rows that changed since. None: some of what changed is not kept any more."""
    later = or_(_TABLE.c.version > after.version, and_(_TABLE.c.version == after.version, _TABLE.c.id > after.row))
    statement = (
        select(*_COLUMNS)
        .where(_TABLE.c.version >= after.version, later)
        .order_by(_TABLE.c.version, _TABLE.c.id)
        .limit(BATCH)
    )
    found = [Listed(*row) for row in session.execute(statement)]
    # Asked afterwards: what is forgotten in between shows here.
    forgotten = session.scalar(select(RegisteredRoutesVersion.forgotten)) or 0
    return None if forgotten > after.version else found


def _next_version(session: Session) -> int:
    number = RegisteredRoutesVersion.number
    statement = update(RegisteredRoutesVersion).values(number=number + 1).returning(number)
    return int(session.execute(statement, execution_options={"synchronize_session": False}).scalar_one())
