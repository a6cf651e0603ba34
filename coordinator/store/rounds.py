"""Jobs, rounds and the audit trail in an SQL database."""

from __future__ import annotations

from collections.abc import Mapping

from coordinator.contracts import (
    AnsweredRequest,
    Detail,
    EventRecord,
    JobRecord,
    KeptEvent,
    Lease,
    PurgeReceipt,
    RequestRecord,
    RoundMove,
    RoundRecord,
)
from coordinator.store import jobs, leases, moves, records, requests, retention, trail
from coordinator.store.database import Database
from secagg.ids import JobId, RoundNumber
from secagg.plan import JobSpec

_OF_THE_JOB = RoundNumber(0)


class SqlRoundStore:
    """A :class:`~coordinator.contracts.RoundStore` in the database of a URL; its schema is upgraded when it is opened.

    Raises:
        ConfigError: the URL cannot be read, or a newer version wrote the database.
        StorageError: the database cannot be opened.
    """

    def __init__(self, url: str) -> None:
        self._database = Database(url)

    def close(self) -> None:
        """Let go of files and connections."""
        self._database.close()

    def create_job(self, spec: JobSpec, created_at: float, request: RequestRecord | None = None) -> None:
        """Store a job, and the request that asked for it in the same step."""
        by: dict[str, Detail] = {} if request is None else {"by": request.caller}
        line = EventRecord(job=spec.job, round=_OF_THE_JOB, event="job-created", details=by, at=created_at)
        with self._database.writing() as connection:
            if request is not None:
                requests.claim(connection, request, created_at)
            if jobs.create(connection, spec, created_at):
                trail.add(connection, (line,))

    def job(self, job: JobId) -> JobRecord:
        """Return one job."""
        with self._database.reading() as connection:
            return jobs.find(connection, job)

    def jobs(self, after: str, limit: int) -> list[JobRecord]:
        """Return at most ``limit`` jobs by name."""
        with self._database.reading() as connection:
            return jobs.page(connection, after, limit)

    def running_jobs(self) -> list[JobRecord]:
        """Return every job that is not complete."""
        with self._database.reading() as connection:
            return jobs.running(connection)

    def complete_job(self, job: JobId, at: float, lease: Lease | None = None) -> None:
        """Say that a job has published all its rounds."""
        with self._database.writing() as connection:
            leases.require(connection, job, lease)
            jobs.complete(connection, job, at)

    def next_round(self, job: JobId) -> RoundNumber:
        """Return the number after the last one that was opened, from 1."""
        with self._database.reading() as connection:
            return jobs.next_round(connection, job)

    def open_round(self, move: RoundMove, lease: Lease | None = None) -> None:
        """Take a number for a new round and store its record."""
        with self._database.writing() as connection:
            leases.require(connection, move.job, lease)
            moves.open_round(connection, move)

    def advance_round(self, move: RoundMove, lease: Lease | None = None) -> None:
        """Store a move; what was kept of the round goes with its end."""
        with self._database.writing() as connection:
            leases.require(connection, move.job, lease)
            ended = moves.advance_round(connection, move)
        if ended:
            self._database.wipe_deleted()

    def kept_events(self, job: JobId, round: RoundNumber) -> list[KeptEvent]:
        """Return what was kept of a round that runs, in order."""
        with self._database.reading() as connection:
            return moves.kept_events(connection, job, round)

    def close_round(self, job: JobId, round: RoundNumber, lease: Lease | None = None) -> None:
        """Say that nothing is left to clean up after an ended round; ``WrongPhaseError`` for one that runs."""
        with self._database.writing() as connection:
            leases.require(connection, job, lease)
            moves.close_round(connection, job, round)

    def unclosed_rounds(self, job: JobId) -> list[RoundRecord]:
        """Return the rounds of a job that run, or that ended and were not closed."""
        with self._database.reading() as connection:
            return records.unclosed(connection, job)

    def round(self, job: JobId, round: RoundNumber) -> RoundRecord:
        """Return one round."""
        with self._database.reading() as connection:
            return records.find(connection, job, round)

    def rounds(self, job: JobId, after: int, limit: int) -> list[RoundRecord]:
        """Return at most ``limit`` rounds by number, from ``after`` + 1 on; without contributions' and holders' bytes."""
        with self._database.reading() as connection:
            return records.page(connection, job, after, limit)

    def last_round(self, job: JobId) -> RoundRecord | None:
        """Return the newest round, if there is one."""
        with self._database.reading() as connection:
            return records.last(connection, job)

    def answer_to(self, request: RequestRecord) -> bytes | None:
        """Return the first answer to a request; None where there is none yet."""
        with self._database.reading() as connection:
            return requests.answer_to(connection, request)

    def keep_answer(self, answered: AnsweredRequest, at: float) -> bytes:
        """Store an answer unless there is one already; return the first."""
        with self._database.writing() as connection:
            return requests.keep_answer(connection, answered, at)

    def audit(self, job: JobId, round: RoundNumber, event: str, details: Mapping[str, Detail], at: float) -> None:
        """Add a line to the audit trail."""
        with self._database.writing() as connection:
            jobs.require(connection, job)
            trail.add(connection, (EventRecord(job=job, round=round, event=event, details=details, at=at),))

    def events(self, job: JobId, round: RoundNumber | None = None) -> list[EventRecord]:
        """Return the audit trail of a job or of one round, oldest first."""
        with self._database.reading() as connection:
            return trail.read(connection, job, round)

    def take_lease(self, job: JobId, owner: str, seconds: float, *, address: str = "") -> Lease | None:
        """Take or prolong the right to run a job's rounds; None while another owner's has not run out."""
        with self._database.writing() as connection:
            return leases.take(connection, job, owner, seconds, address)

    def lease_of(self, job: JobId) -> Lease | None:
        """Return who runs a job's rounds; None when nobody's lease counts now."""
        with self._database.reading() as connection:
            return leases.current(connection, job)

    def give_back(self, lease: Lease) -> None:
        """End a lease before its time; nothing can be written with it afterwards."""
        with self._database.writing() as connection:
            leases.give_back(connection, lease)

    def ended_before(self, at: float, limit: int) -> list[tuple[JobId, RoundNumber]]:
        """Return at most ``limit`` closed rounds, not yet purged, that ended before ``at``, oldest first."""
        with self._database.reading() as connection:
            return retention.ended_before(connection, at, limit)

    def purge_round(self, receipt: PurgeReceipt) -> None:
        """Delete all of an ended round but number, phase and times, with the requests that moved it; keep the receipt."""
        with self._database.writing() as connection:
            retention.purge_round(connection, receipt)
        self._database.wipe_deleted()

    def purge_requests(self, before: float) -> int:
        """Delete requests that were answered before; return how many."""
        with self._database.writing() as connection:
            purged = requests.purge(connection, before)
        self._database.wipe_deleted()
        return purged

    def purge_trail(self, before: float) -> int:
        """Delete lines of the audit trail that concern jobs alone, and are of before; return how many."""
        with self._database.writing() as connection:
            purged = trail.purge(connection, before)
        self._database.wipe_deleted()
        return purged

    def receipts(self, job: JobId | None = None) -> list[PurgeReceipt]:
        """Return the receipts of a job, or of all, oldest first."""
        with self._database.reading() as connection:
            return retention.receipts(connection, job)
