"""Alembic's entry: runs the steps on the engine that it is given."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Engine, text

from controller.database.schema import METADATA


def migrate() -> None:
    engine: Engine = context.config.attributes["engine"]
    lock: int | None = context.config.attributes.get("lock")
    with engine.connect().execution_options(writes=True) as connection:
        context.configure(
            connection=connection,
            target_metadata=METADATA,
            render_as_batch=True,
            transaction_per_migration=lock is None,
        )
        with context.begin_transaction():
            if lock is not None:
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": lock})
            context.run_migrations()
        connection.commit()


migrate()
