"""Brings a database to the schema that this code works with, by Alembic's steps in ``versions``."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config

from controller.database.engine import Database

FOLDER: Final = Path(__file__).parent
_LOCK: Final = 0x6D696C6C
"""PostgreSQL's advisory lock: two controllers that start together migrate one after the other."""


def config(database: Database) -> Config:
    made = Config()
    made.set_main_option("script_location", str(FOLDER))
    made.attributes["engine"] = database.engine
    made.attributes["lock"] = None if database.is_sqlite else _LOCK
    return made


def upgrade(database: Database) -> None:
    """To the newest schema; does nothing where that is there already."""
    command.upgrade(config(database), "head")
