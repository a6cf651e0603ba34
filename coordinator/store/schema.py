"""Opening a database and bringing its schema up to date."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError

from coordinator.store.engines import WRITES, make_engine
from coordinator.store.failures import cause_of
from secagg.errors import ConfigError, StorageError

_MIGRATIONS: Final = Path(__file__).parent / "migrations"
UPGRADE_LOCK: Final = 0x736563616767
"""PostgreSQL's number of the lock that coordinators hold while they upgrade: "secagg"."""
_UPGRADE_LIMITS: Final = {"lock_timeout": "60s", "statement_timeout": "10min"}


def open_database(url: str) -> Engine:
    """Open a database by its URL and upgrade it to our schema.

    Raises:
        ConfigError: the URL cannot be read, or a newer version of us wrote the database.
        StorageError: the database cannot be opened or upgraded.
    """
    engine = make_engine(url)
    try:
        with engine.execution_options(**WRITES).begin() as connection:
            _upgrade(connection)
    except SQLAlchemyError as error:
        engine.dispose()
        raise StorageError(f"the database cannot be opened: {cause_of(error)}", next_step=_advice(engine)) from error
    except ConfigError:
        engine.dispose()
        raise
    return engine


def alembic_config(connection: Connection) -> Config:
    """Return what Alembic's commands take to work on a connection's database."""
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def _advice(engine: Engine) -> str:
    if engine.dialect.name == "sqlite":
        return "Check database_url, and that its directory exists and may be written"
    return "Check database_url, that the server runs and is reachable, and that its user may make tables"


def _upgrade(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        _wait_for_other_upgrades(connection)
    config = alembic_config(connection)
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    stored = set(MigrationContext.configure(connection).get_current_heads())
    if not stored <= known:
        advice = "Start the version that wrote it, or a newer one; or restore a backup from before the upgrade"
        revisions = ", ".join(sorted(stored - known))
        raise ConfigError(f"the database has a newer schema ({revisions}) than this version knows", next_step=advice)
    command.upgrade(config, "head")


def _wait_for_other_upgrades(connection: Connection) -> None:
    for name, value in _UPGRADE_LIMITS.items():
        connection.execute(text("SELECT set_config(:name, :value, true)"), {"name": name, "value": value})
    connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": UPGRADE_LOCK})
