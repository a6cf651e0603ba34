"""Records of rounds in the database."""

from __future__ import annotations

from typing import Any, Final, cast

from sqlalchemy import Connection, Row, Table, delete, insert, select, update

from coordinator.contracts import RoundRecord
from coordinator.store import jobs, rows
from coordinator.store.tables import CONTRIBUTIONS, HOLDERS, MAX_ROUND, PHASES, ROUNDS, same_round
from secagg.errors import UnknownRoundError
from secagg.ids import JobId, RoundNumber
from secagg.messages.round import RoundStatus

_ORDER: Final = {PHASES: PHASES.c.started_at, CONTRIBUTIONS: CONTRIBUTIONS.c.client, HOLDERS: HOLDERS.c.position}
"""The tables with parts of a record, each with the column that orders them."""


def unknown(job: JobId, round: RoundNumber) -> UnknownRoundError:
    """Return the error that names a round which is not there."""
    return UnknownRoundError(f"job {job[:80]!r} has no round {round}")


def find(connection: Connection, job: JobId, round: RoundNumber) -> RoundRecord:
    """Return one round."""
    row = connection.execute(select(ROUNDS).where(same_round(ROUNDS, job, round))).first()
    if row is None:
        jobs.require(connection, job)
        raise unknown(job, round)
    return _record(connection, row)


def page(connection: Connection, job: JobId, after: int, limit: int) -> list[RoundRecord]:
    """Return rounds by number, without contributions' and holders' bytes."""
    jobs.require(connection, job)
    above = (ROUNDS.c.job == job, ROUNDS.c.round > min(after, MAX_ROUND))
    found = connection.execute(select(ROUNDS).where(*above).order_by(ROUNDS.c.round).limit(limit)).all()
    return [rows.round_record(row, _status(connection, row), (), ()) for row in found]


def last(connection: Connection, job: JobId) -> RoundRecord | None:
    """Return the newest round of a job."""
    jobs.require(connection, job)
    query = select(ROUNDS).where(ROUNDS.c.job == job).order_by(ROUNDS.c.round.desc()).limit(1)
    row = connection.execute(query).first()
    return None if row is None else _record(connection, row)


def unclosed(connection: Connection, job: JobId) -> list[RoundRecord]:
    """Return the rounds of a job that run, or that ended and were not closed."""
    jobs.require(connection, job)
    query = select(ROUNDS).where(ROUNDS.c.job == job, ROUNDS.c.closed.is_(False)).order_by(ROUNDS.c.round)
    return [_record(connection, row) for row in connection.execute(query).all()]


def add(connection: Connection, record: RoundRecord, at: float) -> None:
    """Store the record of a new round."""
    status = record.status
    connection.execute(insert(ROUNDS).values(job=status.job, round=status.round, **_values(record, at)))
    _insert_parts(connection, record)


def replace(connection: Connection, record: RoundRecord, at: float) -> None:
    """Replace all that is stored of a round."""
    status = record.status
    connection.execute(update(ROUNDS).where(same_round(ROUNDS, status.job, status.round)).values(_values(record, at)))
    delete_parts(connection, status.job, status.round, (PHASES, CONTRIBUTIONS, HOLDERS))
    _insert_parts(connection, record)


def delete_parts(connection: Connection, job: JobId, round: RoundNumber, tables: tuple[Table, ...]) -> None:
    """Delete a round's rows of some tables."""
    for table in tables:
        connection.execute(delete(table).where(same_round(table, job, round)))


def _values(record: RoundRecord, at: float) -> rows.Values:
    status = record.status
    ended_at = status.phase_started.get(status.phase, at) if status.phase.ended else None
    return rows.round_values(record) | {"ended_at": ended_at}


def _insert_parts(connection: Connection, record: RoundRecord) -> None:
    key = {"job": record.status.job, "round": record.status.round}
    parts = {
        PHASES: rows.phase_values(record.status),
        CONTRIBUTIONS: rows.contribution_values(record),
        HOLDERS: rows.holder_values(record),
    }
    for table, values in parts.items():
        if values:
            connection.execute(insert(table), [{**key, **one} for one in values])


def _parts(connection: Connection, table: Table, row: Row[Any]) -> list[Row[Any]]:
    query = select(table).where(table.c.job == row.job, table.c.round == row.round)
    return cast("list[Row[Any]]", list(connection.execute(query.order_by(_ORDER[table])).all()))


def _status(connection: Connection, row: Row[Any]) -> RoundStatus:
    return rows.round_status(row, _parts(connection, PHASES, row), _parts(connection, HOLDERS, row))


def _record(connection: Connection, row: Row[Any]) -> RoundRecord:
    holders = _parts(connection, HOLDERS, row)
    status = rows.round_status(row, _parts(connection, PHASES, row), holders)
    return rows.round_record(row, status, _parts(connection, CONTRIBUTIONS, row), holders)
