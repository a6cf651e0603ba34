"""Jobs, rounds and the audit trail in an SQL database."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, cast

from sqlalchemy import Connection, Row, Select, Table, delete, func, insert, select, update
from sqlalchemy.exc import SQLAlchemyError

from coordinator.contracts import Detail, EventRecord, JobRecord, JobState, RequestRecord, RoundRecord
from coordinator.store import rows
from coordinator.store.schema import WRITES, open_database
from coordinator.store.tables import CONTRIBUTIONS, EVENTS, HOLDERS, JOBS, PHASES, REQUESTS, ROUNDS
from secagg import codec
from secagg.errors import ConflictError, StorageError, UnknownJobError, UnknownRoundError
from secagg.ids import JobId, RoundNumber
from secagg.messages.round import Phase, RoundStatus
from secagg.plan import JobSpec

_ENDS = tuple(phase.value for phase in Phase if phase.ended)
_PARTS = (PHASES, CONTRIBUTIONS, HOLDERS)
MAX_ROUND: Final = 2**63 - 1
"""What a database can be asked for; the wire's integers go further, and no round does."""


class SqlRoundStore:
    """A :class:`~coordinator.contracts.RoundStore` in the database of a URL; its schema is upgraded when it is opened.

    Raises:
        ConfigError: the URL cannot be read, or a newer version wrote the database.
        StorageError: the database cannot be opened.
    """

    def __init__(self, url: str) -> None:
        self._engine = open_database(url)
        self._writer = self._engine.execution_options(**{WRITES: True})

    def close(self) -> None:
        """Let go of files and connections."""
        self._engine.dispose()

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with _storage_errors(), self._writer.begin() as connection:
            yield connection

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with _storage_errors(), self._engine.begin() as connection:
            yield connection

    def create_job(self, spec: JobSpec, created_at: float, request: RequestRecord | None = None) -> None:
        """Store a job, and the request that asked for it in the same step."""
        encoded = codec.job_spec_to_bytes(spec)
        with self._writing() as connection:
            if request is not None:
                _claim(connection, request, created_at)
            found = connection.execute(select(JOBS.c.spec).where(JOBS.c.job == spec.job)).first()
            if found is None:
                values = {"job": spec.job, "spec": encoded, "state": JobState.RUNNING.value, "created_at": created_at}
                connection.execute(insert(JOBS).values(values))
                details: dict[str, Detail] = {} if request is None else {"by": request.caller}
                _audit(connection, spec.job, RoundNumber(0), "job-created", details, created_at)
            elif codec.job_spec_from_bytes(found.spec) != spec:
                advice = "Give the new job another name; a job never changes"
                raise ConflictError(f"there is a job {spec.job!r} with another content", next_step=advice)

    def job(self, job: JobId) -> JobRecord:
        """Return one job."""
        found = self._jobs(select(JOBS).where(JOBS.c.job == job))
        if not found:
            raise UnknownJobError(f"there is no job {job[:80]!r}")
        return found[0]

    def jobs(self, after: str, limit: int) -> list[JobRecord]:
        """Return at most ``limit`` jobs by name."""
        return self._jobs(select(JOBS).where(JOBS.c.job > after).order_by(JOBS.c.job).limit(limit))

    def running_jobs(self) -> list[JobRecord]:
        """Return every job that is not complete."""
        return self._jobs(select(JOBS).where(JOBS.c.state == JobState.RUNNING.value).order_by(JOBS.c.job))

    def _jobs(self, query: Select[Any]) -> list[JobRecord]:
        with self._reading() as connection:
            found = connection.execute(query).all()
            return [rows.job_record(row, _ended_rounds(connection, row.job)) for row in found]

    def complete_job(self, job: JobId, at: float) -> None:
        """Say that a job has published all its rounds."""
        values = {"state": JobState.COMPLETE.value, "completed_at": at}
        with self._writing() as connection:
            if connection.execute(update(JOBS).where(JOBS.c.job == job).values(values)).rowcount == 0:
                raise UnknownJobError(f"there is no job {job!r}")

    def next_round(self, job: JobId) -> RoundNumber:
        """Return the number after the last one that was opened, from 1."""
        with self._reading() as connection:
            return _next_round(connection, job)

    def open_round(self, job: JobId, round: RoundNumber, at: float, phase: Phase = Phase.KEYING) -> None:
        """Take a number for a new round, in its first phase."""
        status = RoundStatus(job=job, round=round, phase=phase, phase_started={phase: at})
        record = RoundRecord(status=status)
        with self._writing() as connection:
            expected = _next_round(connection, job)
            if round != expected:
                raise ConflictError(f"the next round of job {job!r} is {expected}, not {round}")
            connection.execute(insert(ROUNDS).values(job=job, round=round, **rows.round_values(record)))
            _insert_parts(connection, record)

    def save_round(self, record: RoundRecord) -> None:
        """Replace all that is stored of a round, in one step."""
        status = record.status
        with self._writing() as connection:
            statement = update(ROUNDS).where(ROUNDS.c.job == status.job, ROUNDS.c.round == status.round)
            if connection.execute(statement.values(rows.round_values(record))).rowcount == 0:
                raise _unknown_round(status.job, status.round)
            for table in _PARTS:
                connection.execute(delete(table).where(table.c.job == status.job, table.c.round == status.round))
            _insert_parts(connection, record)

    def round(self, job: JobId, round: RoundNumber) -> RoundRecord:
        """Return one round."""
        query = select(ROUNDS).where(ROUNDS.c.job == job, ROUNDS.c.round == min(round, MAX_ROUND))
        with self._reading() as connection:
            row = connection.execute(query).first()
            if row is None:
                _require_job(connection, job)
                raise _unknown_round(job, round)
            return _record(connection, row)

    def rounds(self, job: JobId, after: int, limit: int) -> list[RoundRecord]:
        """Return at most ``limit`` rounds by number, from ``after`` + 1 on; without contributions' and holders' bytes."""
        query = (
            select(ROUNDS)
            .where(ROUNDS.c.job == job, ROUNDS.c.round > min(after, MAX_ROUND))
            .order_by(ROUNDS.c.round)
            .limit(limit)
        )
        with self._reading() as connection:
            _require_job(connection, job)
            found = connection.execute(query).all()
            return [rows.round_record(row, _status(connection, row), (), ()) for row in found]

    def last_round(self, job: JobId) -> RoundRecord | None:
        """Return the newest round, if there is one."""
        query = select(ROUNDS).where(ROUNDS.c.job == job).order_by(ROUNDS.c.round.desc()).limit(1)
        with self._reading() as connection:
            _require_job(connection, job)
            row = connection.execute(query).first()
            return None if row is None else _record(connection, row)

    def unfinished_rounds(self) -> list[RoundRecord]:
        """Return every round, of any job, that neither was published nor aborted."""
        query = select(ROUNDS).where(ROUNDS.c.phase.not_in(_ENDS)).order_by(ROUNDS.c.job, ROUNDS.c.round)
        with self._reading() as connection:
            return [_record(connection, row) for row in connection.execute(query).all()]

    def claim_request(self, request: RequestRecord, at: float) -> bool:
        """Return whether this request is new."""
        with self._writing() as connection:
            return _claim(connection, request, at)

    def audit(self, job: JobId, round: RoundNumber, event: str, details: Mapping[str, Detail], at: float) -> None:
        """Add a line to the audit trail."""
        with self._writing() as connection:
            _require_job(connection, job)
            _audit(connection, job, round, event, details, at)

    def events(self, job: JobId, round: RoundNumber | None = None) -> list[EventRecord]:
        """Return the audit trail of a job or of one round, oldest first."""
        query = select(EVENTS).where(EVENTS.c.job == job).order_by(EVENTS.c.id)
        if round is not None:
            query = query.where(EVENTS.c.round == round)
        with self._reading() as connection:
            _require_job(connection, job)
            return [rows.event_record(row) for row in connection.execute(query).all()]


@contextmanager
def _storage_errors() -> Iterator[None]:
    try:
        yield
    except SQLAlchemyError as error:
        # The text of SQLAlchemy's errors holds the statement; the driver's own says what happened.
        raise StorageError(f"the database failed: {getattr(error, 'orig', None) or type(error).__name__}") from error


def _unknown_round(job: JobId, round: RoundNumber) -> UnknownRoundError:
    return UnknownRoundError(f"job {job[:80]!r} has no round {round}")


def _require_job(connection: Connection, job: JobId) -> None:
    if connection.execute(select(JOBS.c.job).where(JOBS.c.job == job)).first() is None:
        raise UnknownJobError(f"there is no job {job[:80]!r}")


def _next_round(connection: Connection, job: JobId) -> RoundNumber:
    _require_job(connection, job)
    last = connection.execute(select(func.max(ROUNDS.c.round)).where(ROUNDS.c.job == job)).scalar()
    return RoundNumber((last or 0) + 1)


def _ended_rounds(connection: Connection, job: str) -> dict[str, int]:
    query = select(ROUNDS.c.phase, func.count()).where(ROUNDS.c.job == job).group_by(ROUNDS.c.phase)
    return {row[0]: row[1] for row in connection.execute(query).all()}


def _claim(connection: Connection, request: RequestRecord, at: float) -> bool:
    same = (REQUESTS.c.caller == request.caller, REQUESTS.c.request_id == request.request_id)
    found = connection.execute(select(REQUESTS.c.digest).where(*same)).first()
    if found is None:
        values = {"caller": request.caller, "request_id": request.request_id, "digest": request.digest, "at": at}
        connection.execute(insert(REQUESTS).values(values))
    elif found.digest != request.digest:
        raise ConflictError("the request id was used before for another content")
    return found is None


def _audit(
    connection: Connection, job: JobId, round: RoundNumber, event: str, details: Mapping[str, Detail], at: float
) -> None:
    values = {"job": job, "round": round, "event": event, "details": dict(details), "at": at}
    connection.execute(insert(EVENTS).values(values))


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
    order = table.c.position if table is HOLDERS else table.c.client if table is CONTRIBUTIONS else table.c.started_at
    return cast("list[Row[Any]]", list(connection.execute(query.order_by(order)).all()))


def _status(connection: Connection, row: Row[Any]) -> RoundStatus:
    return rows.round_status(row, _parts(connection, PHASES, row), _parts(connection, HOLDERS, row))


def _record(connection: Connection, row: Row[Any]) -> RoundRecord:
    holders = _parts(connection, HOLDERS, row)
    status = rows.round_status(row, _parts(connection, PHASES, row), holders)
    return rows.round_record(row, status, _parts(connection, CONTRIBUTIONS, row), holders)
