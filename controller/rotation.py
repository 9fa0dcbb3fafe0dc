"""Seals anew, with the key that seals now, what older keys have sealed.

Theory of operation. Every sealed column of every table is walked by its primary key, a batch at a time, each batch in
one short transaction. A value is replaced only if it is still the one that was read, so that whoever writes meanwhile
wins; what he wrote with an older key is found by the next walk. Walks go on until one finds nothing to do. A process
that is killed has lost at most the batch it was at: values that are done name their new key and are passed over by the
next run. Nobody has to stop for it, but every controller must hold the new key, and seal with it, before it begins.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, cast

from sqlalchemy import Column, LargeBinary, bindparam, func, literal, select, type_coerce, update
from sqlalchemy.orm import Session

from controller import encryption
from controller.database.engine import Database
from controller.database.schema import METADATA
from controller.database.secrets import KEYS, CannotUnseal, Sealed

BATCH: Final = 200
MOST_WALKS: Final = 10
"""Who still finds something then is not alone: a controller goes on sealing with an older key."""


@dataclass
class Outcome:
    sealed_anew: Counter[str] = field(default_factory=Counter)
    """How many values, by ``table.column``."""
    unreadable: dict[str, str] = field(default_factory=dict)
    """Why not, by ``table.column, id``. They are as they were."""
    finished: bool = False
    """Whether the last walk found nothing left to do."""


def rotate(database: Database) -> Outcome:
    """Raises what the database raises; what was done until then stays done."""
    outcome = Outcome()
    for _ in range(MOST_WALKS):
        if not sum(_walk(database, column, outcome) for column in sealed_columns()):
            outcome.finished = True
            break
    if outcome.finished and not outcome.unreadable:
        database.write(encryption.forget_others)
    return outcome


def sealed_columns() -> Iterator[Column[Any]]:
    for table in METADATA.sorted_tables:
        yield from (column for column in table.columns if isinstance(column.type, Sealed))


def _walk(database: Database, column: Column[Any], outcome: Outcome) -> int:
    """Once over all rows. Returns how many values were sealed anew."""
    name = f"{column.table.name}.{column.name}"
    done, last = 0, cast(int | None, 0)
    while last is not None:
        some, last, unreadable = database.write(partial(_batch, column, last))
        done += some
        outcome.unreadable |= {f"{name}, id {key}": why for key, why in unreadable.items()}
    outcome.sealed_anew[name] += done
    return done


def _batch(column: Column[Any], after: int, session: Session) -> tuple[int, int | None, dict[int, str]]:
    """How many were sealed anew, the last key that was looked at (none: there were no more), and what failed."""
    table = column.table
    raw = type_coerce(column, LargeBinary)
    prefix = KEYS.prefix
    older = func.substr(raw, 1, len(prefix)) != literal(prefix, LargeBinary)
    statement = select(table.c.id, raw).where(table.c.id > after, column.is_not(None), older)
    rows = session.execute(statement.order_by(table.c.id).limit(BATCH)).all()
    changes, unreadable = [], {}
    for key, sealed in rows:
        try:
            changes.append({"key": key, "old": sealed, "new": KEYS.seal(KEYS.unseal(bytes(sealed)))})
        except CannotUnseal as error:
            unreadable[key] = str(error)
    changed = 0
    for change in changes:
        result = session.connection().execute(_replacement(column), change)
        changed += result.rowcount
    return changed, rows[-1][0] if rows else None, unreadable


def _replacement(column: Column[Any]) -> Any:
    """One value by another, if it is still there; it is the same value, so that nothing was updated."""
    table = column.table
    values: dict[str, Any] = {column.name: bindparam("new", type_=LargeBinary)}
    if "updated_at" in table.c:
        values["updated_at"] = table.c.updated_at
    old = bindparam("old", type_=LargeBinary)
    return update(table).where(table.c.id == bindparam("key"), type_coerce(column, LargeBinary) == old).values(values)
