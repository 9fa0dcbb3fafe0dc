"""The first schema: all tables as they were at the beginning."""

from __future__ import annotations

from alembic import op

from controller.database.schema import METADATA

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    METADATA.create_all(op.get_bind())


def downgrade() -> None:
    METADATA.drop_all(op.get_bind())
