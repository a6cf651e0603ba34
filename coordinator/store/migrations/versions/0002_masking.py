"""Masking rounds: how many clients shared their secrets, and what each survivor confirmed."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("rounds", sa.Column("shared", sa.Integer, nullable=False, server_default="0"))
    op.add_column("contributions", sa.Column("confirmation", sa.LargeBinary))


def downgrade() -> None:
    op.drop_column("contributions", "confirmation")
    op.drop_column("rounds", "shared")
