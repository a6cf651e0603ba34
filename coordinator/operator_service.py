"""What operators and auditors call: jobs are made, jobs and rounds are shown."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable
from dataclasses import replace
from typing import Any, Final, TypeAlias, TypeVar

import grpc.aio
import structlog
from google.protobuf.message import Message

from coordinator.contracts import Clock, JobState, RequestRecord, RoundEngine, RoundRecord, RoundStore
from secagg import codec, faults, labels
from secagg.digests import Canonical
from secagg.errors import UnreachableError, UsageError
from secagg.ids import HolderId, JobId, RoundNumber
from secagg.messages.round import RoundStatus
from secagg.plan import CkksJob, JobSpec
from secagg.transport import current_caller
from secagg.wire.v1 import operator_service_pb2 as wire
from secagg.wire.v1.operator_service_pb2_grpc import OperatorServiceServicer

DEFAULT_PAGE: Final = 50
MAX_PAGE: Final = 500
MAX_PAGE_BYTES: Final = 3 * 1024 * 1024
"""A page ends early rather than outgrow a message."""
MAX_REQUEST_ID: Final = 64

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
Item = TypeVar("Item", bound=Message)

_log: Final = structlog.get_logger("coordinator.operators")


class OperatorServicer(OperatorServiceServicer):
    """Serves ``OperatorService``; who may call what stands in :mod:`coordinator.access_table`.

    Args:
        store: jobs and rounds.
        engine: runs the rounds.
        holders: the key holders that the coordinator can dial.
        clock: seconds since the epoch.
    """

    def __init__(self, store: RoundStore, engine: RoundEngine, holders: Collection[HolderId], clock: Clock) -> None:
        self._store = store
        self._engine = engine
        self._holders = frozenset(holders)
        self._clock = clock
        self._closing = asyncio.Event()

    def close(self) -> None:
        """End every call that watches rounds."""
        self._closing.set()

    async def CreateJob(self, request: wire.CreateJobRequest, context: Context) -> wire.CreateJobResponse:
        """Store a job and begin its rounds; the same request again gives the same answer."""
        caller = str(current_caller())
        spec = codec.job_spec_from_wire(request.spec)
        spec.verify_new()
        if isinstance(spec.protocol, CkksJob):
            self._require_holders(spec.protocol)
        record = RequestRecord(caller=caller, request_id=_request_id(request.request_id), digest=_content(spec))
        await asyncio.to_thread(self._store.create_job, spec, self._clock(), record)
        faults.reach("job.created")
        await self._engine.job_created(spec.job)
        _log.info("job created", job=spec.job, by=caller, tensors=len(spec.tensors), coordinates=spec.values)
        # As it was created, however far it is when the call is repeated: the same request gets the same answer.
        created = await asyncio.to_thread(self._store.job, spec.job)
        first = replace(created, state=JobState.RUNNING, published_rounds=0, aborted_rounds=0)
        faults.reach("CreateJob.answering")
        return wire.CreateJobResponse(job=codec.job_status_to_wire(first))

    async def ListJobs(self, request: wire.ListJobsRequest, context: Context) -> wire.ListJobsResponse:
        """Return jobs by name."""
        records = await asyncio.to_thread(self._store.jobs, request.after_job, _page_size(request.page_size))
        return wire.ListJobsResponse(jobs=_page(codec.job_status_to_wire(record) for record in records))

    async def GetJob(self, request: wire.GetJobRequest, context: Context) -> wire.GetJobResponse:
        """Return one job."""
        return wire.GetJobResponse(job=await self._job(JobId(request.job)))

    async def ListRounds(self, request: wire.ListRoundsRequest, context: Context) -> wire.ListRoundsResponse:
        """Return rounds by number, running ones as they stand now."""
        size = _page_size(request.page_size)
        records = await asyncio.to_thread(self._store.rounds, JobId(request.job), request.after_round, size)
        statuses = [await self._current(record) for record in records]
        return wire.ListRoundsResponse(rounds=_page(codec.round_status_to_wire(status) for status in statuses))

    async def GetRound(self, request: wire.GetRoundRequest, context: Context) -> wire.GetRoundResponse:
        """Return one round; round 0 is the newest."""
        status = await self._engine.status(JobId(request.job), RoundNumber(request.round))
        return wire.GetRoundResponse(round=codec.round_status_to_wire(status))

    async def WatchRounds(
        self, request: wire.WatchRoundsRequest, context: Context
    ) -> AsyncIterator[wire.WatchRoundsResponse]:
        """Yield a status at once and one for each change, until the round has ended."""
        await asyncio.to_thread(self._store.job, JobId(request.job))
        statuses = self._engine.watch(JobId(request.job), RoundNumber(request.round))
        async for status in _until(self._closing, statuses):
            faults.reach("WatchRounds.answering")
            yield wire.WatchRoundsResponse(round=codec.round_status_to_wire(status))

    async def _job(self, job: JobId) -> wire.JobStatus:
        return codec.job_status_to_wire(await asyncio.to_thread(self._store.job, job))

    async def _current(self, record: RoundRecord) -> RoundStatus:
        status = record.status
        return status if status.phase.ended else await self._engine.status(status.job, status.round)

    def _require_holders(self, ckks: CkksJob) -> None:
        unknown = sorted(set(ckks.holders) - self._holders)
        if unknown:
            advice = "Name key holders of the coordinator's [key_holders], or add them there and restart it"
            raise UsageError(f"this coordinator has no address of key holder {', '.join(unknown)}", next_step=advice)


def _request_id(request_id: str) -> str:
    if not (0 < len(request_id) <= MAX_REQUEST_ID and request_id.isprintable()):
        raise UsageError("request_id must have 1 to 64 printable characters", next_step="Use a fresh UUID")
    return request_id


def _content(spec: JobSpec) -> bytes:
    canonical = Canonical(labels.CREATE_JOB)
    spec.extend(canonical)
    return canonical.sha256()


def _page_size(asked: int) -> int:
    if asked > MAX_PAGE:
        raise UsageError(f"page_size is {asked}, at most {MAX_PAGE}", next_step="Ask for the next page with after_...")
    return asked or DEFAULT_PAGE


def _page(items: Iterable[Item]) -> list[Item]:
    """Take items as long as they fit one message, and at least one."""
    taken: list[Item] = []
    used = 0
    for item in items:
        used += item.ByteSize()
        if taken and used > MAX_PAGE_BYTES:
            break
        taken.append(item)
    return taken


async def _until(closing: asyncio.Event, statuses: AsyncIterator[RoundStatus]) -> AsyncIterator[RoundStatus]:
    """Yield until the source ends; :class:`UnreachableError` once the event is set, so that who watches asks again."""
    closed = asyncio.ensure_future(closing.wait())
    try:
        while not closing.is_set():
            following = asyncio.ensure_future(anext(statuses, None))
            try:
                await asyncio.wait({following, closed}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                if not following.done():
                    following.cancel()
                    await asyncio.wait({following})
            status = None if following.cancelled() else following.result()
            if status is None and not closing.is_set():
                return
            if status is not None:
                yield status
        raise UnreachableError("the coordinator", "it is being stopped")
    finally:
        closed.cancel()
