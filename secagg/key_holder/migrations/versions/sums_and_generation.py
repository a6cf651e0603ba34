"""Sums of c1 that outlive the process, the store's generation, and ledger lines that may go once their key is gone."""

import sqlalchemy as sa
from alembic import op

revision = "sums_and_generation"
down_revision = "first_tables"
branch_labels = None
depends_on = None

_AS_LONG_AS_THE_KEY = (
    "DROP TRIGGER rosters_no_delete",
    "DROP TRIGGER ledger_no_delete",
    (
        "CREATE TRIGGER rosters_no_delete BEFORE DELETE ON rosters WHEN OLD.key_id IN (SELECT key_id FROM key_shares) "
        "BEGIN SELECT RAISE(ABORT, 'rosters stands for ever while there is a key'); END"
    ),
    (
        "CREATE TRIGGER ledger_no_delete BEFORE DELETE ON ledger WHEN OLD.key_id IN (SELECT key_id FROM key_shares) "
        "BEGIN SELECT RAISE(ABORT, 'ledger stands for ever while there is a key'); END"
    ),
)


def upgrade() -> None:
    """Make the tables; what stands of a key stands as long as its share does."""
    op.create_table(
        "store",
        sa.Column("store_id", sa.LargeBinary, primary_key=True),
        sa.Column("generation", sa.Integer, nullable=False),
    )
    op.execute("INSERT INTO store VALUES (randomblob(16), 0)")
    op.create_table(
        "sums",
        sa.Column("key_id", sa.LargeBinary, primary_key=True),
        sa.Column("sum_digest", sa.LargeBinary, nullable=False),
    )
    for statement in _AS_LONG_AS_THE_KEY:
        op.execute(statement)


def downgrade() -> None:
    """Refuse: a ledger that is gone would let a key answer twice."""
    raise NotImplementedError("a key holder's ledger is never given up")
