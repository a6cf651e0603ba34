"""What the round engine, the services and the stores promise each other.

Stores are synchronous and safe to call from several threads; the asyncio side calls them with ``asyncio.to_thread``.
Messages stand in records as the wire bytes of :mod:`secagg.codec`, so that signatures can be verified again years later.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import BinaryIO, Protocol, TypeAlias

from prometheus_client import CollectorRegistry

from secagg.ids import ClientId, Digest, HolderId, JobId, RoundNumber
from secagg.messages.job import JobState, JobStatus
from secagg.messages.round import RoundStatus
from secagg.plan import JobSpec
from secagg.transport import TlsIdentity

__all__ = [
    "AnsweredRequest",
    "BlobStore",
    "Clock",
    "ContributionRecord",
    "ContributionState",
    "EngineResources",
    "EventRecord",
    "HolderRecord",
    "JobRecord",
    "JobState",
    "KeptEvent",
    "Lease",
    "Limits",
    "PurgeReceipt",
    "RequestRecord",
    "RoundEngine",
    "RoundMove",
    "RoundRecord",
    "RoundStore",
    "mean_name",
    "mean_prefix",
    "upload_prefix",
]

Clock: TypeAlias = Callable[[], float]
"""Seconds since the epoch."""
JobRecord: TypeAlias = JobStatus
Detail: TypeAlias = str | int | float | bool | None


def upload_prefix(job: JobId, round: RoundNumber) -> str:
    """Return the prefix of every blob that is deleted when a round ends."""
    return f"uploads/{job}/{round}"


def mean_prefix(job: JobId, round: RoundNumber) -> str:
    """Return what a round's mean lies beneath."""
    return f"means/{job}/{round}"


def mean_name(job: JobId, round: RoundNumber, digest: Digest) -> str:
    """Return the name of the blob that holds a mean; by its SHA-256, so that nobody overwrites another one."""
    return f"{mean_prefix(job, round)}/{digest.hex()}"


class ContributionState(Enum):
    """How far a client of a round has come."""

    JOINED = "joined"
    UPLOADED = "uploaded"
    REJECTED = "rejected"


@dataclass(frozen=True, kw_only=True)
class ContributionRecord:
    """One client's part in a round. ``join``, ``upload``, ``confirmation``: wire bytes of the ``Signed`` message."""

    client: ClientId
    state: ContributionState
    join: bytes
    upload: bytes | None = None
    confirmation: bytes | None = None
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class HolderRecord:
    """What a key holder signed in a round: wire bytes of the ``Signed`` approval and partial statement."""

    holder: HolderId
    approval: bytes | None = None
    statement: bytes | None = None


@dataclass(frozen=True, kw_only=True)
class RoundRecord:
    """Everything of a round that outlives it.

    ``key``: wire bytes of the ``PublicKeyBundle``; ``roster``: of the ``FrozenRoster`` or, in a masking round, the
    ``MaskingRoster``; ``result``: of the ``Signed`` result.
    ``mean_blob``: the name of the blob that holds the mean (``docs/protocol.md``, section 6.6).
    """

    status: RoundStatus
    key: bytes | None = None
    roster: bytes | None = None
    contributions: tuple[ContributionRecord, ...] = ()
    holders: tuple[HolderRecord, ...] = ()
    result: bytes | None = None
    mean_blob: str | None = None


@dataclass(frozen=True, kw_only=True)
class RequestRecord:
    """A mutating call: ``request_id`` of 1 to 64 characters chosen by ``caller``; ``digest``: SHA-256 of its content."""

    caller: str
    request_id: str
    digest: bytes


@dataclass(frozen=True, kw_only=True)
class AnsweredRequest:
    """A request with the wire bytes of its first answer, which is what a repetition gets."""

    request: RequestRecord
    answer: bytes


@dataclass(frozen=True, kw_only=True)
class EventRecord:
    """One line of the audit trail; ``round`` 0 where it concerns the job alone."""

    job: JobId
    round: RoundNumber
    event: str
    details: Mapping[str, Detail]
    at: float


@dataclass(frozen=True, kw_only=True)
class KeptEvent:
    """One event of a round that runs, from which its state follows; gone with its end.

    ``sequence`` counts from 1 in each round. ``content``: wire bytes of :mod:`coordinator.rounds.kept_events`.
    """

    sequence: int
    content: bytes
    at: float


@dataclass(frozen=True, kw_only=True)
class RoundMove:
    """What some events make of a round: stored in one step, or not at all.

    Attributes:
        events: to be kept as long as the round runs, in the order of their sequence, which is held against what is kept, also of
            events that end the round; none where the move is not an event's.
        record: what replaces all that is stored of the round; None where it stays as it is.
        audits: lines of the audit trail.
        requests: the calls that brought the events, with their answers.
        at: seconds since the epoch.
    """

    job: JobId
    round: RoundNumber
    at: float
    events: tuple[KeptEvent, ...] = ()
    record: RoundRecord | None = None
    audits: tuple[EventRecord, ...] = ()
    requests: tuple[AnsweredRequest, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Lease:
    """The right of one coordinator process to run the rounds of a job, for a while.

    Attributes:
        owner: names the process, by its data directory: one at a time uses that, and it keeps its name when it is restarted.
        token: grows whenever the right changes hands, and is never used again: a fencing token.
        address: ``host:port`` at which clients find the owner.
    """

    job: JobId
    owner: str
    token: int
    address: str = ""


@dataclass(frozen=True, kw_only=True)
class PurgeReceipt:
    """What is left of a round whose record was deleted. ``content``: wire bytes of the ``Signed`` receipt."""

    job: JobId
    round: RoundNumber
    at: float
    content: bytes


class RoundStore(Protocol):
    """Jobs, rounds and the audit trail. What a method has returned from survives a kill at any instant.

    Every method may raise :class:`~secagg.errors.StorageError`; unknown names raise ``UnknownJobError`` or
    ``UnknownRoundError``. A method that takes a ``lease`` raises ``ElsewhereError``, and does nothing, when the job's
    lease has another token; without a lease it asks for none.
    """

    def create_job(self, spec: JobSpec, created_at: float, request: RequestRecord | None = None) -> None:
        """Store a job, the request that asked for it and the audit trail's line ``job-created`` in one step.

        The same job again is harmless; ``ConflictError`` with another spec, or when the request had another content.
        """

    def job(self, job: JobId) -> JobRecord:
        """Return one job."""

    def jobs(self, after: str, limit: int) -> list[JobRecord]:
        """Return at most ``limit`` jobs by name, from the first name above ``after`` on."""

    def running_jobs(self) -> list[JobRecord]:
        """Return every job that is not complete."""

    def complete_job(self, job: JobId, at: float, lease: Lease | None = None) -> None:
        """Say that a job has published all its rounds."""

    def next_round(self, job: JobId) -> RoundNumber:
        """Return the number after the last one that was opened, from 1."""

    def open_round(self, move: RoundMove, lease: Lease | None = None) -> None:
        """Take a number for a new round and store its record; ``ConflictError`` when it is not :meth:`next_round`'s."""

    def advance_round(self, move: RoundMove, lease: Lease | None = None) -> None:
        """Store a move; with a record whose phase has ended, the events that were kept are deleted in the same step.

        ``UnknownRoundError`` unless the round was opened; ``ConflictError`` when it has ended, when the events' sequence does
        not go on from what is kept, or when a request had another content.
        """

    def kept_events(self, job: JobId, round: RoundNumber) -> list[KeptEvent]:
        """Return what was kept of a round that runs, in the order of the sequence; nothing after its end.

        ``MessageError`` where one is missing in between.
        """

    def close_round(self, job: JobId, round: RoundNumber, lease: Lease | None = None) -> None:
        """Say that nothing is left to clean up after an ended round; harmless when it was said before."""

    def unclosed_rounds(self, job: JobId) -> list[RoundRecord]:
        """Return the rounds of a job that run, or that ended and were not closed, by number."""

    def round(self, job: JobId, round: RoundNumber) -> RoundRecord:
        """Return one round."""

    def rounds(self, job: JobId, after: int, limit: int) -> list[RoundRecord]:
        """Return at most ``limit`` rounds by number, from ``after`` + 1 on; without contributions' and holders' bytes."""

    def last_round(self, job: JobId) -> RoundRecord | None:
        """Return the newest round, if there is one."""

    def answer_to(self, request: RequestRecord) -> bytes | None:
        """Return the first answer to a request; None for a new one. ``ConflictError`` when it had another content."""

    def keep_answer(self, answered: AnsweredRequest, at: float) -> bytes:
        """Store an answer unless there is one already; return the first. ``ConflictError`` as :meth:`answer_to`."""

    def audit(self, job: JobId, round: RoundNumber, event: str, details: Mapping[str, Detail], at: float) -> None:
        """Add a line to the audit trail. ``details``: ids, counts and reasons, never a vector, key or share."""

    def events(self, job: JobId, round: RoundNumber | None = None) -> list[EventRecord]:
        """Return the audit trail of a job or of one round, oldest first."""

    def take_lease(self, job: JobId, owner: str, seconds: float, *, address: str = "") -> Lease | None:
        """Take or prolong the right to run a job's rounds; None while another owner's has not run out.

        The time is the database's own where it has one, so that the clocks of coordinators need not agree. Taking it again
        as its owner keeps the token; taking it from another, or after it was given back, makes a larger one.
        """

    def lease_of(self, job: JobId) -> Lease | None:
        """Return who runs a job's rounds; None when nobody's lease counts now."""

    def give_back(self, lease: Lease) -> None:
        """End a lease before its time, so that another need not wait; harmless when it is another's by now."""

    def ended_before(self, at: float, limit: int) -> list[tuple[JobId, RoundNumber]]:
        """Return at most ``limit`` closed rounds, not yet purged, that ended before ``at``, oldest first."""

    def purge_round(self, receipt: PurgeReceipt) -> None:
        """Delete all that is stored of an ended round but number, phase and times, and keep the receipt, in one step.

        Gone are plan, key, roster, contributions, holders, result, reason, its lines of the audit trail. ``WrongPhaseError``
        for a round that has not ended and been closed.
        """

    def purge_requests(self, before: float) -> int:
        """Delete requests that were answered before; return how many."""

    def purge_trail(self, before: float) -> int:
        """Delete lines of the audit trail that concern jobs alone, and are of before; return how many."""

    def receipts(self, job: JobId | None = None) -> list[PurgeReceipt]:
        """Return the receipts of a job, or of all, oldest first."""

    def close(self) -> None:
        """Let go of files and connections."""


class BlobStore(Protocol):
    """Large bytes by name. A name is 1 to 8 parts of ``[A-Za-z0-9._-]``, joined by ``/``; ``UsageError`` for any other.

    Every method may raise :class:`~secagg.errors.StorageError`; a blob that is not there raises ``NotFoundError``.
    """

    def write(self, name: str, parts: Iterable[bytes]) -> int:
        """Store a whole blob in one step, replacing what was there; return its bytes. On disk when this returns."""

    def append(self, name: str, offset: int, data: bytes | memoryview) -> int:
        """Add bytes at the end, return the new size.

        A repeat of bytes that are there is harmless, ``ConflictError`` when they differ; ``UsageError`` for a gap.
        What was appended survives a kill of the machine only after :meth:`sync`.
        """

    def sync(self, name: str) -> None:
        """Put what was appended on disk."""

    def size(self, name: str) -> int:
        """Return the bytes of a blob; 0 where there is none."""

    def read(self, name: str, offset: int, length: int) -> bytes:
        """Return at most ``length`` bytes from ``offset`` on; fewer only at the end."""

    def open(self, name: str) -> BinaryIO:
        """Open a blob for reading, seekable; a file of a directory can be mapped too. The caller closes it."""

    def names(self, prefix: str) -> list[str]:
        """Return the names of the blobs beneath a prefix (whole parts of a name; empty: all), sorted."""

    def keep_only(self, prefix: str, name: str) -> None:
        """Delete every blob beneath a prefix but one, and what killed writers left half written there."""

    def delete_prefix(self, prefix: str) -> None:
        """Delete the blob of that name and every blob beneath it; harmless where there is none."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds of what the coordinator takes on. ``spool_bytes``: of all uploads that wait on disk at a time."""

    spool_bytes: int = 50 * 1024**3
    concurrent_uploads: int = 64
    waiting_calls: int = 20_000


@dataclass(frozen=True, kw_only=True)
class EngineResources:
    """What the server hands to ``coordinator.rounds.engine.RoundEngine(resources)``.

    ``holders``: ``host:port`` of each key holder by name. ``owner``, ``address``, ``lease_seconds``: under which name leases are
    taken, where clients find their owner, and how long they last without being renewed. ``alone``: whether no other process can
    use the store.
    """

    store: RoundStore
    blobs: BlobStore
    identity: TlsIdentity
    holders: Mapping[HolderId, str]
    limits: Limits
    clock: Clock
    metrics: CollectorRegistry
    owner: str = "coordinator"
    address: str = ""
    lease_seconds: float = 15.0
    alone: bool = False


class RoundEngine(Protocol):
    """Runs the rounds of every running job (``coordinator.rounds.engine``).

    ``coordinator.client_service.ClientServicer(engine)`` serves the clients of its rounds.
    """

    async def start(self) -> None:
        """Go on with the rounds that a former process left unfinished, and run those of every running job."""

    async def stop(self, grace_seconds: float) -> None:
        """Begin no new round, give running ones ``grace_seconds``, then leave them as they stand in the store."""

    async def job_created(self, job: JobId) -> None:
        """Run the rounds of a job that is in the store now; harmless when they run already."""

    async def status(self, job: JobId, round: RoundNumber) -> RoundStatus:
        """Return where a round stands; round 0 is the newest."""

    def watch(self, job: JobId, round: RoundNumber) -> AsyncIterator[RoundStatus]:
        """Yield a status at once and one for each change, until the round has ended.

        Round 0: the newest round and then the next ones, until the job is complete.
        """
