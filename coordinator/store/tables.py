"""The schema as it is now. Changing it needs a migration too; a test compares the two."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Dialect,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    and_,
    false,
)
from sqlalchemy.types import TypeDecorator

from secagg.errors import UsageError
from secagg.ids import JobId, RoundNumber

MAX_ROUND: Final = 2**63 - 1
"""What a database can be asked for; the wire's integers go further, and no round does."""


def _plain(value: str | None) -> str | None:
    """Return a text that every database can hold: PostgreSQL has no NUL, and nothing encodes half a surrogate pair."""
    if value is not None and ("\0" in value or any("\ud800" <= one <= "\udfff" for one in value)):
        raise UsageError("a text holds a character that cannot be stored", next_step="Leave out NUL and surrogates")
    return value


class _ShortText(TypeDecorator[str]):
    """A text of bounded length that is the same in every database."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002 - SQLAlchemy's name
        """Refuse what only some databases hold."""
        return _plain(value)


class _LongText(TypeDecorator[str]):
    """A text of any length that is the same in every database."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002 - SQLAlchemy's name
        """Refuse what only some databases hold."""
        return _plain(value)


_NAME = _ShortText(63)
_WORD = _ShortText(16)

METADATA: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _of_round(
    *last_key_columns: Column[str] | Column[int],
) -> tuple[Column[str] | Column[int] | ForeignKeyConstraint, ...]:
    return (
        Column("job", _NAME, primary_key=True),
        Column("round", BigInteger, primary_key=True, autoincrement=False),
        *last_key_columns,
        ForeignKeyConstraint(["job", "round"], ["rounds.job", "rounds.round"]),
    )


def same_round(table: Table, job: JobId, round: RoundNumber) -> ColumnElement[bool]:
    """Return the condition that a row is of one round."""
    return and_(table.c.job == job, table.c.round == min(round, MAX_ROUND))


JOBS: Final = Table(
    "jobs",
    METADATA,
    Column("job", _NAME, primary_key=True),
    Column("spec", LargeBinary, nullable=False),
    Column("state", _WORD, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("completed_at", Float),
)
ROUNDS: Final = Table(
    "rounds",
    METADATA,
    Column("job", _NAME, ForeignKey("jobs.job"), primary_key=True),
    Column("round", BigInteger, primary_key=True, autoincrement=False),
    Column("phase", _WORD, nullable=False),
    Column("reason", _LongText, nullable=False),
    Column("joined", Integer, nullable=False),
    Column("shared", Integer, nullable=False, server_default="0"),
    Column("uploaded", Integer, nullable=False),
    Column("approvals", Integer, nullable=False),
    Column("answers", Integer, nullable=False),
    Column("contributors", JSON, nullable=False),
    Column("total_weight", Float, nullable=False),
    Column("plan", LargeBinary),
    Column("key", LargeBinary),
    Column("roster", LargeBinary),
    Column("result", LargeBinary),
    Column("mean_blob", _ShortText(255)),
    Column("closed", Boolean, nullable=False, server_default=false()),
    Column("ended_at", Float),
    Column("purged_at", Float),
    Index(None, "job", "phase"),
    Index(None, "job", "closed"),
    Index(None, "ended_at"),
)
PHASES: Final = Table(
    "round_phases",
    METADATA,
    *_of_round(Column("phase", _WORD, primary_key=True)),
    Column("started_at", Float, nullable=False),
)
CONTRIBUTIONS: Final = Table(
    "contributions",
    METADATA,
    *_of_round(Column("client", _NAME, primary_key=True)),
    Column("state", _WORD, nullable=False),
    Column("join", LargeBinary, nullable=False),
    Column("upload", LargeBinary),
    Column("confirmation", LargeBinary),
    Column("reason", _LongText, nullable=False),
)
HOLDERS: Final = Table(
    "round_holders",
    METADATA,
    *_of_round(Column("holder", _NAME, primary_key=True)),
    Column("position", Integer, nullable=False),
    Column("verdict", _WORD),
    Column("reason", _LongText, nullable=False),
    Column("approval", LargeBinary),
    Column("statement", LargeBinary),
)
EVENTS: Final = Table(
    "events",
    METADATA,
    # SQLite numbers rows by itself, in 64 bits, only where the type is called INTEGER.
    Column("id", BigInteger().with_variant(Integer, "sqlite"), Identity(), primary_key=True),
    Column("job", _NAME, ForeignKey("jobs.job"), nullable=False),
    Column("round", BigInteger, nullable=False),
    Column("event", _ShortText(63), nullable=False),
    Column("details", JSON, nullable=False),
    Column("at", Float, nullable=False),
    Index(None, "job", "round"),
)
REQUESTS: Final = Table(
    "requests",
    METADATA,
    Column("caller", _ShortText(127), primary_key=True),
    Column("request_id", _ShortText(64), primary_key=True),
    Column("digest", LargeBinary, nullable=False),
    Column("at", Float, nullable=False),
    Column("answer", LargeBinary),
    # The round that the request moved, so that its caller's name goes when the round is purged.
    Column("job", _NAME),
    Column("round", BigInteger),
    Index(None, "job", "round"),
    Index(None, "at"),
)
KEPT_EVENTS: Final = Table(
    "kept_events",
    METADATA,
    *_of_round(Column("sequence", BigInteger, primary_key=True, autoincrement=False)),
    Column("content", LargeBinary, nullable=False),
    Column("at", Float, nullable=False),
)
LEASES: Final = Table(
    "leases",
    METADATA,
    Column("job", _NAME, ForeignKey("jobs.job"), primary_key=True),
    # Empty where the lease was given back or never taken.
    Column("owner", _ShortText(255), nullable=False),
    Column("token", BigInteger, nullable=False),
    Column("address", _ShortText(255), nullable=False),
    Column("expires_at", Float, nullable=False),
)
RECEIPTS: Final = Table(
    "receipts",
    METADATA,
    *_of_round(),
    Column("at", Float, nullable=False),
    Column("content", LargeBinary, nullable=False),
    Index(None, "at"),
)
