"""Opening a database and bringing its schema up to date."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from secagg.errors import ConfigError, StorageError

WRITES: Final = "secagg_writes"
"""Execution option of a connection that will write."""
BUSY_MILLISECONDS: Final = 10_000
_MIGRATIONS: Final = Path(__file__).parent / "migrations"
_PRAGMAS: Final = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA synchronous = FULL",
    f"PRAGMA busy_timeout = {BUSY_MILLISECONDS}",
)


def open_database(url: str) -> Engine:
    """Open a database by its URL and upgrade it to our schema.

    Raises:
        ConfigError: the URL cannot be read, or a newer version of us wrote the database.
        StorageError: the database cannot be opened or upgraded.
    """
    engine = _engine(url)
    try:
        with engine.execution_options(**{WRITES: True}).begin() as connection:
            _upgrade(connection)
    except SQLAlchemyError as error:
        engine.dispose()
        advice = "Check database_url, and that its directory exists and may be written"
        raise StorageError(f"the database cannot be opened: {_cause(error)}", next_step=advice) from error
    except ConfigError:
        engine.dispose()
        raise
    return engine


def _cause(error: SQLAlchemyError) -> str:
    """Return the driver's own words; SQLAlchemy's would hold the statement and its values."""
    return str(getattr(error, "orig", None) or type(error).__name__)


def _engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
        if parsed.get_backend_name() == "sqlite" and parsed.database in (None, "", ":memory:"):
            raise ConfigError("database_url names no file", next_step="Use sqlite:////absolute/path/coordinator.db")
        engine = create_engine(parsed, hide_parameters=True)
    except (ArgumentError, ImportError, SQLAlchemyError) as error:
        advice = "Use sqlite:////absolute/path/coordinator.db, or the URL of a database whose driver is installed"
        raise ConfigError(f"database_url cannot be used: {type(error).__name__}", next_step=advice) from None
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # The driver would begin transactions by itself, and not before schema changes.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in _PRAGMAS:
        cursor.execute(pragma)
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that reads first and then writes cannot wait for another writer: it must say so at its beginning.
    immediate = connection.get_execution_options().get(WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


def _upgrade(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    stored = set(MigrationContext.configure(connection).get_current_heads())
    if not stored <= known:
        advice = "Start the version that wrote it, or a newer one; or restore a backup from before the upgrade"
        revisions = ", ".join(sorted(stored - known))
        raise ConfigError(f"the database has a newer schema ({revisions}) than this version knows", next_step=advice)
    command.upgrade(config, "head")
