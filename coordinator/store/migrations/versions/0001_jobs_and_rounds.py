"""Jobs, rounds, contributions, holders, the audit trail and request ids."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_NAME = sa.String(63)
_WORD = sa.String(16)


def upgrade() -> None:
    _create_jobs_and_rounds()
    _create_parts_of_a_round()
    _create_events_and_requests()


def downgrade() -> None:
    for table in ("requests", "events", "round_holders", "contributions", "round_phases", "rounds", "jobs"):
        op.drop_table(table)


def _create_jobs_and_rounds() -> None:
    op.create_table(
        "jobs",
        sa.Column("job", _NAME, nullable=False),
        sa.Column("spec", sa.LargeBinary, nullable=False),
        sa.Column("state", _WORD, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("completed_at", sa.Float),
        sa.PrimaryKeyConstraint("job", name="pk_jobs"),
    )
    op.create_table(
        "rounds",
        sa.Column("job", _NAME, nullable=False),
        sa.Column("round", sa.BigInteger, nullable=False),
        sa.Column("phase", _WORD, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        *(sa.Column(name, sa.Integer, nullable=False) for name in ("joined", "uploaded", "approvals", "answers")),
        sa.Column("contributors", sa.JSON, nullable=False),
        sa.Column("total_weight", sa.Float, nullable=False),
        *(sa.Column(name, sa.LargeBinary) for name in ("plan", "key", "roster", "result")),
        sa.Column("mean_blob", sa.String(255)),
        sa.PrimaryKeyConstraint("job", "round", name="pk_rounds"),
        sa.ForeignKeyConstraint(["job"], ["jobs.job"], name="fk_rounds_jobs"),
    )
    op.create_index("ix_rounds_phase", "rounds", ["phase"])


def _create_part(table: str, key: sa.Column[str], *columns: sa.Column[object]) -> None:
    op.create_table(
        table,
        sa.Column("job", _NAME, nullable=False),
        sa.Column("round", sa.BigInteger, nullable=False),
        key,
        *columns,
        sa.PrimaryKeyConstraint("job", "round", key.name, name=f"pk_{table}"),
        sa.ForeignKeyConstraint(["job", "round"], ["rounds.job", "rounds.round"], name=f"fk_{table}_rounds"),
    )


def _create_parts_of_a_round() -> None:
    _create_part(
        "round_phases",
        sa.Column("phase", _WORD, nullable=False),
        sa.Column("started_at", sa.Float, nullable=False),
    )
    _create_part(
        "contributions",
        sa.Column("client", _NAME, nullable=False),
        sa.Column("state", _WORD, nullable=False),
        sa.Column("join", sa.LargeBinary, nullable=False),
        sa.Column("upload", sa.LargeBinary),
        sa.Column("reason", sa.Text, nullable=False),
    )
    _create_part(
        "round_holders",
        sa.Column("holder", _NAME, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("verdict", _WORD),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("approval", sa.LargeBinary),
        sa.Column("statement", sa.LargeBinary),
    )


def _create_events_and_requests() -> None:
    op.create_table(
        "events",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("job", _NAME, nullable=False),
        sa.Column("round", sa.BigInteger, nullable=False),
        sa.Column("event", sa.String(63), nullable=False),
        sa.Column("details", sa.JSON, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_events"),
        sa.ForeignKeyConstraint(["job"], ["jobs.job"], name="fk_events_jobs"),
    )
    op.create_index("ix_events_job_round", "events", ["job", "round"])
    op.create_table(
        "requests",
        sa.Column("caller", sa.String(127), nullable=False),
        sa.Column("request_id", sa.String(64), nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("caller", "request_id", name="pk_requests"),
    )
