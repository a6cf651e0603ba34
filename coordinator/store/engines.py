"""SQLAlchemy engines by URL: every wait has a limit, and nothing of the URL's password shows."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from secagg.errors import ConfigError

_WRITES: Final = "secagg_writes"
WRITES: Final[dict[str, Any]] = {_WRITES: True}
"""Execution options of a connection that will write."""
READS: Final[dict[str, dict[str, Any]]] = {
    "sqlite": {},
    # Several statements of one transaction see one state, as SQLite's do.
    "postgresql": {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True},
}
"""Execution options of a connection that only reads, by dialect."""
BUSY_MILLISECONDS: Final = 10_000
_PRAGMAS: Final = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA synchronous = FULL",
    # Shares that clients revealed are kept while their round runs, and must not stay in free pages after it.
    "PRAGMA secure_delete = ON",
    f"PRAGMA busy_timeout = {BUSY_MILLISECONDS}",
)
_SERVER_LIMITS: Final = {
    "statement_timeout": 30_000,
    "lock_timeout": 10_000,
    # A process that was paused inside a transaction would hold its locks, and the lease with them.
    "idle_in_transaction_session_timeout": 10_000,
}
"""Milliseconds that PostgreSQL grants a session."""
_CONNECTION_LIMITS: Final = {
    "connect_timeout": "10",
    # Milliseconds until bytes that nobody acknowledges end the connection.
    "tcp_user_timeout": "30000",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "application_name": "secagg-coordinator",
}
_POOL: Final[dict[str, Any]] = {"pool_pre_ping": True, "pool_timeout": 10, "pool_recycle": 1800}


def make_engine(url: str) -> Engine:
    """Return an engine for ``sqlite:///FILE`` or ``postgresql://...`` (psycopg 3); it has not connected yet.

    Raises:
        ConfigError: the URL cannot be read, or its kind of database is not one of ours.
    """
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
        if backend == "postgresql":
            return _postgresql(parsed)
        if backend == "sqlite":
            return _sqlite(parsed)
    except (ArgumentError, ImportError, SQLAlchemyError, ValueError) as error:
        raise _unusable(f"database_url cannot be used: {type(error).__name__}") from None
    raise _unusable(f"database_url names {backend[:40]!r}, which is neither SQLite nor PostgreSQL")


def _unusable(reason: str) -> ConfigError:
    advice = "Use sqlite:////absolute/path/coordinator.db or postgresql://user:password@host/database"
    return ConfigError(reason, next_step=advice)


def _sqlite(url: URL) -> Engine:
    if url.database in (None, "", ":memory:"):
        raise ConfigError("database_url names no file", next_step="Use sqlite:////absolute/path/coordinator.db")
    if not str(url.database).startswith(("/", "file:")):
        # It would mean another file for each directory that somebody starts in.
        raise ConfigError("database_url is a relative path", next_step="Use four slashes: sqlite:////absolute/path")
    engine = create_engine(url, hide_parameters=True)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _postgresql(url: URL) -> Engine:
    if "@" in (url.host or ""):
        # What stands before it is a part of the password: it must be shown nowhere.
        raise _unusable("database_url has an @ in its password: write %40 instead")
    limits = {name: value for name, value in _CONNECTION_LIMITS.items() if name not in url.query}
    given = url.query.get("options", "")
    # What the URL says comes last and wins.
    options = [
        *(f"-c {name}={value}" for name, value in _SERVER_LIMITS.items()),
        given if isinstance(given, str) else "",
    ]
    return create_engine(
        url.set(drivername="postgresql+psycopg").difference_update_query(["options"]),
        connect_args=limits | {"options": " ".join(options).strip()},
        hide_parameters=True,
        **_POOL,
    )


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # The driver would begin transactions by itself, and not before schema changes.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in _PRAGMAS:
        cursor.execute(pragma)
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that reads first and then writes cannot wait for another writer: it must say so at its beginning.
    immediate = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")
