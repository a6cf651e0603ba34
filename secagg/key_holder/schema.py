"""The tables of a key holder. `migrations/` makes them; a test holds the two together."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Column, Float, Integer, LargeBinary, MetaData, Table

METADATA: Final = MetaData()

SEALING: Final = Table(
    "sealing",
    METADATA,
    Column("salt", LargeBinary, primary_key=True),
    # A constant under the sealing key: tells a wrong passphrase before it makes a share unreadable.
    Column("proof", LargeBinary, nullable=False),
)

STORE: Final = Table(
    "store",
    METADATA,
    Column("store_id", LargeBinary, primary_key=True),
    # Counts every change. A witness in another directory counts along, so that an old copy is known when it comes back.
    Column("generation", Integer, nullable=False),
)

CEREMONIES: Final = Table(
    "ceremonies",
    METADATA,
    Column("ceremony_digest", LargeBinary, primary_key=True),
    Column("begun_at", Float, nullable=False),
)

KEY_SHARES: Final = Table(
    "key_shares",
    METADATA,
    Column("key_id", LargeBinary, primary_key=True),
    Column("ceremony_digest", LargeBinary, nullable=False, unique=True),
    Column("ceremony_plan", LargeBinary, nullable=False),
    Column("sealed_share", LargeBinary, nullable=False),
    Column("begun_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False),
)

ROSTERS: Final = Table(
    "rosters",
    METADATA,
    Column("key_id", LargeBinary, primary_key=True),
    Column("roster_digest", LargeBinary, nullable=False),
    Column("sealed_at", Float, nullable=False),
)

LEDGER: Final = Table(
    "ledger",
    METADATA,
    Column("key_id", LargeBinary, primary_key=True),
    Column("request_digest", LargeBinary, nullable=False),
    Column("approved_at", Float, nullable=False),
)

# Which file holds the sum of c1 that was approved of; the row goes with the share.
SUMS: Final = Table(
    "sums",
    METADATA,
    Column("key_id", LargeBinary, primary_key=True),
    Column("sum_digest", LargeBinary, nullable=False),
)
