"""What a database's failure is called: its own words, without statement, values or URL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from secagg.errors import SecAggError, StorageError

_FULL: Final = frozenset({"SQLITE_FULL", "53100"})
"""SQLite's name and PostgreSQL's SQLSTATE of a disk without space."""
SPACE: Final = "Make space; nothing was acknowledged that is not stored, and the round goes on when space is back"


def cause_of(error: SQLAlchemyError) -> str:
    """Return the driver's first words; SQLAlchemy's would hold the statement, PostgreSQL's details the values."""
    original = getattr(error, "orig", None)
    if original is None:
        return type(error).__name__
    primary = getattr(getattr(original, "diag", None), "message_primary", None)
    return str(primary or original)


@contextmanager
def storage_errors() -> Iterator[None]:
    """Raise ``StorageError`` for what the database cannot do, and for rows that make no sense."""
    try:
        yield
    except SQLAlchemyError as error:
        original = getattr(error, "orig", None)
        if isinstance(original, SecAggError):
            raise original from None
        code = getattr(original, "sqlite_errorname", None) or getattr(original, "sqlstate", None)
        advice = SPACE if code in _FULL else None
        raise StorageError(f"the database failed: {cause_of(error)}", next_step=advice) from error
    except (ValueError, TypeError, OverflowError) as error:
        advice = "Restore a backup, or start the version that wrote it"
        raise StorageError("the database holds what this version cannot read", next_step=advice) from error
