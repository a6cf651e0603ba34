"""The schema as it is now. Changing it needs a migration too; a test compares the two."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

_NAME = String(63)
_WORD = String(16)

METADATA: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _of_round(*last_key_columns: Column[str]) -> tuple[Column[str] | Column[int] | ForeignKeyConstraint, ...]:
    return (
        Column("job", _NAME, primary_key=True),
        Column("round", BigInteger, primary_key=True, autoincrement=False),
        *last_key_columns,
        ForeignKeyConstraint(["job", "round"], ["rounds.job", "rounds.round"]),
    )


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
    Column("reason", Text, nullable=False),
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
    Column("mean_blob", String(255)),
    Index(None, "phase"),
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
    Column("reason", Text, nullable=False),
)
HOLDERS: Final = Table(
    "round_holders",
    METADATA,
    *_of_round(Column("holder", _NAME, primary_key=True)),
    Column("position", Integer, nullable=False),
    Column("verdict", _WORD),
    Column("reason", Text, nullable=False),
    Column("approval", LargeBinary),
    Column("statement", LargeBinary),
)
EVENTS: Final = Table(
    "events",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("job", _NAME, ForeignKey("jobs.job"), nullable=False),
    Column("round", BigInteger, nullable=False),
    Column("event", String(63), nullable=False),
    Column("details", JSON, nullable=False),
    Column("at", Float, nullable=False),
    Index(None, "job", "round"),
)
REQUESTS: Final = Table(
    "requests",
    METADATA,
    Column("caller", String(127), primary_key=True),
    Column("request_id", String(64), primary_key=True),
    Column("digest", LargeBinary, nullable=False),
    Column("at", Float, nullable=False),
)
