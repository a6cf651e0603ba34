"""What is deleted of rounds that ended long ago, and the receipts that stay."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Connection, insert, select, update

from coordinator.contracts import PurgeReceipt
from coordinator.store import records, rows
from coordinator.store.moves import locked_phase
from coordinator.store.tables import (
    CONTRIBUTIONS,
    EVENTS,
    HOLDERS,
    KEPT_EVENTS,
    RECEIPTS,
    REQUESTS,
    ROUNDS,
    same_round,
)
from secagg.errors import WrongPhaseError
from secagg.ids import JobId, RoundNumber

_PARTS: Final = (CONTRIBUTIONS, HOLDERS, KEPT_EVENTS, EVENTS, REQUESTS)
_NOTHING: Final[dict[str, Any]] = {
    "reason": "",
    **dict.fromkeys(("joined", "shared", "uploaded", "approvals", "answers"), 0),
    "contributors": [],
    "total_weight": 0.0,
    **dict.fromkeys(("plan", "key", "roster", "result", "mean_blob")),
}
"""The columns of a purged round, of which number, phase and times are left."""


def ended_before(connection: Connection, at: float, limit: int) -> list[tuple[JobId, RoundNumber]]:
    """Return closed rounds, not yet purged, that ended before a time, oldest first."""
    query = (
        select(ROUNDS.c.job, ROUNDS.c.round)
        .where(ROUNDS.c.ended_at < at, ROUNDS.c.closed.is_(True), ROUNDS.c.purged_at.is_(None))
        .order_by(ROUNDS.c.ended_at, ROUNDS.c.job, ROUNDS.c.round)
        .limit(limit)
    )
    return [rows.round_name(row.job, row.round) for row in connection.execute(query).all()]


def purge_round(connection: Connection, receipt: PurgeReceipt) -> None:
    """Delete what is stored of a round, and keep the receipt; the first receipt of a round stays."""
    job, round = receipt.job, receipt.round
    phase = locked_phase(connection, job, round)
    query = select(ROUNDS.c.closed, ROUNDS.c.purged_at).where(same_round(ROUNDS, job, round))
    found = connection.execute(query).one()
    if not (phase.ended and found.closed):
        raise WrongPhaseError(
            f"round {round} of job {job!r} has not ended and been cleaned up",
            next_step="Only a round that has ended is purged; try again when it has",
        )
    if found.purged_at is not None:
        return
    records.delete_parts(connection, job, round, _PARTS)
    values = _NOTHING | {"purged_at": receipt.at}
    connection.execute(update(ROUNDS).where(same_round(ROUNDS, job, round)).values(values))
    connection.execute(insert(RECEIPTS).values(job=job, round=round, at=receipt.at, content=receipt.content))


def receipts(connection: Connection, job: JobId | None) -> list[PurgeReceipt]:
    """Return the receipts of a job, or of all, oldest first."""
    query = select(RECEIPTS).order_by(RECEIPTS.c.at, RECEIPTS.c.job, RECEIPTS.c.round)
    if job is not None:
        query = query.where(RECEIPTS.c.job == job)
    return [rows.receipt(row) for row in connection.execute(query).all()]
