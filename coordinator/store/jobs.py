"""Jobs in the database, with what their rounds came to."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Select, func, select, update

from coordinator.contracts import JobRecord, JobState
from coordinator.store import rows
from coordinator.store.database import insert_new
from coordinator.store.tables import JOBS, ROUNDS
from secagg import codec
from secagg.errors import ConflictError, UnknownJobError
from secagg.ids import JobId, RoundNumber
from secagg.plan import JobSpec

__all__ = ["complete", "create", "find", "lock", "next_round", "page", "require", "running"]


def require(connection: Connection, job: JobId) -> None:
    """Raise ``UnknownJobError`` where there is no such job."""
    if connection.execute(select(JOBS.c.job).where(JOBS.c.job == job)).first() is None:
        raise _unknown(job)


def lock(connection: Connection, job: JobId) -> None:
    """Have this job's rounds numbered by nobody else until the transaction ends; raise as :func:`require`."""
    # FOR NO KEY UPDATE: rows that refer to the job can still be added. SQLite has one writer anyway.
    query = select(JOBS.c.job).where(JOBS.c.job == job).with_for_update(key_share=True)
    if connection.execute(query).first() is None:
        raise _unknown(job)


def create(connection: Connection, spec: JobSpec, at: float) -> bool:
    """Store a job; return whether it is new. ``ConflictError`` with another spec."""
    encoded = codec.job_spec_to_bytes(spec)
    values = {"job": spec.job, "spec": encoded, "state": JobState.RUNNING.value, "created_at": at}
    if insert_new(connection, JOBS, values):
        return True
    found = connection.execute(select(JOBS.c.spec).where(JOBS.c.job == spec.job)).scalar_one()
    if codec.job_spec_from_bytes(found) != spec:
        advice = "Give the new job another name; a job never changes"
        raise ConflictError(f"there is a job {spec.job!r} with another content", next_step=advice)
    return False


def find(connection: Connection, job: JobId) -> JobRecord:
    """Return one job."""
    found = _records(connection, select(JOBS).where(JOBS.c.job == job))
    if not found:
        raise _unknown(job)
    return found[0]


def page(connection: Connection, after: str, limit: int) -> list[JobRecord]:
    """Return jobs by name."""
    return _records(connection, select(JOBS).where(JOBS.c.job > after).order_by(JOBS.c.job).limit(limit))


def running(connection: Connection) -> list[JobRecord]:
    """Return every job that is not complete."""
    query = select(JOBS).where(JOBS.c.state == JobState.RUNNING.value).order_by(JOBS.c.job)
    return _records(connection, query)


def complete(connection: Connection, job: JobId, at: float) -> None:
    """Say that a job has published all its rounds."""
    values = {"state": JobState.COMPLETE.value, "completed_at": at}
    if connection.execute(update(JOBS).where(JOBS.c.job == job).values(values)).rowcount == 0:
        raise _unknown(job)


def next_round(connection: Connection, job: JobId) -> RoundNumber:
    """Return the number after the last one that was opened."""
    require(connection, job)
    last = connection.execute(select(func.max(ROUNDS.c.round)).where(ROUNDS.c.job == job)).scalar()
    return RoundNumber((last or 0) + 1)


def _records(connection: Connection, query: Select[Any]) -> list[JobRecord]:
    found = connection.execute(query).all()
    return [rows.job_record(row, _rounds_by_phase(connection, row.job)) for row in found]


def _rounds_by_phase(connection: Connection, job: str) -> dict[str, int]:
    query = select(ROUNDS.c.phase, func.count()).where(ROUNDS.c.job == job).group_by(ROUNDS.c.phase)
    return {row[0]: row[1] for row in connection.execute(query).all()}


def _unknown(job: JobId) -> UnknownJobError:
    return UnknownJobError(f"there is no job {job[:80]!r}")
