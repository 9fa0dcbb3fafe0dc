"""Which rule of the database a write broke. Names of constraints are the contract (`controller.database.base`)."""

from __future__ import annotations

from functools import cache

from sqlalchemy import Index, UniqueConstraint
from sqlalchemy.exc import IntegrityError

from controller.database.schema import METADATA


def broke(error: IntegrityError, constraint: str) -> bool:
    """Whether it was the constraint or unique index with this name."""
    diagnosis = getattr(error.orig, "diag", None)
    if diagnosis is not None:
        return bool(diagnosis.constraint_name == constraint)
    return any(text in str(error.orig) for text in _sqlite_texts(constraint))


@cache
def _sqlite_texts(constraint: str) -> tuple[str, ...]:
    """SQLite names an index only where an expression is in it, and else the columns."""
    texts = [f"index '{constraint}'", f"CHECK constraint failed: {constraint}"]
    for table in METADATA.tables.values():
        for rule in (*table.constraints, *table.indexes):
            if isinstance(rule, UniqueConstraint | Index) and rule.name == constraint:
                texts.append("UNIQUE constraint failed: " + ", ".join(f"{table.name}.{c.name}" for c in rule.columns))
    return tuple(texts)
