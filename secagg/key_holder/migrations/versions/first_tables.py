"""The first tables: the ledger, sealed rosters, begun ceremonies and sealed shares.

Triggers keep what stands for ever from being changed, whoever writes to the file by way of SQLite.
"""

import sqlalchemy as sa
from alembic import op

revision = "first_tables"
down_revision = None
branch_labels = None
depends_on = None

_FOR_EVER = ("ceremonies", "rosters", "ledger")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "sealing",
        sa.Column("salt", sa.LargeBinary, primary_key=True),
        sa.Column("proof", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "ceremonies",
        sa.Column("ceremony_digest", sa.LargeBinary, primary_key=True),
        sa.Column("begun_at", sa.Float, nullable=False),
    )
    op.create_table(
        "key_shares",
        sa.Column("key_id", sa.LargeBinary, primary_key=True),
        sa.Column("ceremony_digest", sa.LargeBinary, nullable=False, unique=True),
        sa.Column("ceremony_plan", sa.LargeBinary, nullable=False),
        sa.Column("sealed_share", sa.LargeBinary, nullable=False),
        sa.Column("begun_at", sa.Float, nullable=False),
        sa.Column("expires_at", sa.Float, nullable=False),
    )
    op.create_table(
        "rosters",
        sa.Column("key_id", sa.LargeBinary, primary_key=True),
        sa.Column("roster_digest", sa.LargeBinary, nullable=False),
        sa.Column("sealed_at", sa.Float, nullable=False),
    )
    op.create_table(
        "ledger",
        sa.Column("key_id", sa.LargeBinary, primary_key=True),
        sa.Column("request_digest", sa.LargeBinary, nullable=False),
        sa.Column("approved_at", sa.Float, nullable=False),
    )
    for table in _FOR_EVER:
        for verb in ("update", "delete"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{verb} BEFORE {verb.upper()} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{table} stands for ever'); END"
            )


def downgrade() -> None:
    """Refuse: a ledger that is gone would let a key answer twice."""
    raise NotImplementedError("a key holder's ledger is never given up")
