"""The audit trail."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, delete, insert, select

from coordinator.contracts import EventRecord
from coordinator.store import jobs, rows
from coordinator.store.tables import EVENTS, MAX_ROUND
from secagg.ids import JobId, RoundNumber


def add(connection: Connection, lines: Iterable[EventRecord]) -> None:
    """Add lines; their jobs must exist."""
    values = [
        {"job": line.job, "round": line.round, "event": line.event, "details": dict(line.details), "at": line.at}
        for line in lines
    ]
    if values:
        connection.execute(insert(EVENTS), values)


def read(connection: Connection, job: JobId, round: RoundNumber | None) -> list[EventRecord]:
    """Return the lines of a job or of one round, oldest first."""
    jobs.require(connection, job)
    query = select(EVENTS).where(EVENTS.c.job == job).order_by(EVENTS.c.id)
    if round is not None:
        query = query.where(EVENTS.c.round == min(round, MAX_ROUND))
    return [rows.event_record(row) for row in connection.execute(query).all()]


def purge(connection: Connection, before: float) -> int:
    """Delete the lines of no round that are of before; those of a round go with it."""
    return connection.execute(delete(EVENTS).where(EVENTS.c.round == 0, EVENTS.c.at < before)).rowcount
