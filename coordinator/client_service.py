"""What training clients call (``proto/secagg/wire/v1/client_service.proto``; ``docs/protocol.md``, section 5)."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias, TypeVar

import grpc.aio

from coordinator.contracts import RequestRecord, RoundRecord, mean_name
from coordinator.rounds.changes import Changes
from coordinator.rounds.engine import RoundEngine
from coordinator.rounds.live import LiveRound
from coordinator.uploads import Uploads
from secagg import codec
from secagg.access import current_caller
from secagg.errors import CertificateError, LateError, NotAllowedError, UsageError, WrongPhaseError
from secagg.identity import SignedMessage, read_certificate
from secagg.ids import ClientId, JobId, RoundNumber
from secagg.messages.round import Join as SignedJoin
from secagg.messages.round import Phase, Upload
from secagg.messages.signed import Authenticated
from secagg.roles.coordinator.events import JoinReceived
from secagg.wire.v1 import client_service_pb2 as pb
from secagg.wire.v1.client_service_pb2_grpc import ClientServiceServicer
from secagg.wire.v1.signed_pb2 import Signed

MessageT = TypeVar("MessageT", SignedJoin, Upload)
Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]

LONGEST_WAIT_SECONDS: Final = 30.0
PART_BYTES: Final = 1024 * 1024
_LONGEST_REQUEST_ID: Final = 64
_BEFORE_ROSTER: Final = (Phase.KEYING, Phase.OPEN, Phase.FROZEN)


class ClientServicer(ClientServiceServicer):
    """Serves the clients of an engine's rounds. Every method acts for the client that the caller's certificate names.

    Args:
        engine: runs the rounds.
    """

    def __init__(self, engine: RoundEngine) -> None:
        self._engine = engine
        self._around = engine.around
        self._uploads = Uploads(engine.around, engine.resources.limits)

    async def WaitForRound(self, request: pb.WaitForRoundRequest, context: Context) -> pb.WaitForRoundResponse:
        """Return the round that can be joined, or that the job is complete, or nothing in time."""
        run = await self._engine.run_of(JobId(request.job))
        after = request.after_round
        await self._wait(run.changes, lambda: run.complete or run.open_after(after) is not None, request.wait_seconds)
        live = run.open_after(after)
        if live is None or live.state.plan is None or live.state.key is None:
            return pb.WaitForRoundResponse(found=False, job_complete=run.complete)
        return pb.WaitForRoundResponse(
            found=True,
            plan=codec.round_plan_to_wire(live.state.plan),
            key=codec.key_bundle_to_wire(live.state.key),
        )

    async def Join(self, request: pb.JoinRequest, context: Context) -> pb.JoinResponse:
        """Enter the caller's commitment into an open round."""
        join = self._of_caller(request.join, SignedJoin)
        await self._claim(request.request_id, "join", request.job, request.round, join)
        live = await self._live(request.job, request.round)
        if live is None:
            raise LateError(f"round {request.round} of job {request.job} is over")
        verify_lifetime(join.signed, self._around.clock() + live.state.spec.deadlines.total_seconds)
        await live.apply(JoinReceived(join=join))
        return pb.JoinResponse()

    async def WaitForRoster(self, request: pb.WaitForRosterRequest, context: Context) -> pb.WaitForRosterResponse:
        """Return the frozen roster, or where the round stands when there is none in time."""
        live = await self._live(request.job, request.round)
        if live is None:
            return self._stored_roster(await self._stored(request.job, request.round))
        changes = (await self._engine.run_of(JobId(request.job))).changes
        await self._wait(changes, lambda: live.state.phase not in _BEFORE_ROSTER, request.wait_seconds)
        state = live.state
        frozen = state.roster_digest is not None and state.phase not in _BEFORE_ROSTER
        return pb.WaitForRosterResponse(
            phase=codec.phase_to_wire(state.phase),
            roster=codec.roster_to_wire(state.roster) if frozen else None,
            reason=state.reason,
            have=state.have,
            need=state.need,
        )

    @staticmethod
    def _stored_roster(record: RoundRecord) -> pb.WaitForRosterResponse:
        status = record.status
        answer = pb.WaitForRosterResponse(phase=codec.phase_to_wire(status.phase), reason=status.reason)
        if record.roster is not None:
            answer.roster.ParseFromString(record.roster)
        return answer

    async def GetUploadOffsets(
        self, request: pb.GetUploadOffsetsRequest, context: Context
    ) -> pb.GetUploadOffsetsResponse:
        """Return how much of the caller's upload has arrived."""
        live = await self._uploading(request.job, request.round)
        client = _caller()
        if client in live.state.uploads:
            return pb.GetUploadOffsetsResponse(complete=True)
        c0, c1 = await self._uploads.offsets(live, client)
        return pb.GetUploadOffsetsResponse(c0_bytes=c0, c1_bytes=c1)

    async def UploadHalves(
        self, request_iterator: AsyncIterator[pb.UploadHalvesRequest], context: Context
    ) -> pb.UploadHalvesResponse:
        """Spool parts of both halves, in order, until the caller ends the stream."""
        header = await _header(request_iterator)
        upload = self._of_caller(header.upload, Upload)
        await self._claim(header.request_id, "upload", header.job, header.round, upload)
        live = await self._uploading(header.job, header.round)
        async with self._uploads.begin(live, upload.message) as receive:
            async for message in request_iterator:
                if message.WhichOneof("body") != "part":
                    raise UsageError("only the first message of an upload carries the header")
                await receive(message.part)
        c0, c1 = await self._uploads.offsets(live, upload.message.client)
        return pb.UploadHalvesResponse(c0_bytes=c0, c1_bytes=c1)

    async def CompleteUpload(self, request: pb.CompleteUploadRequest, context: Context) -> pb.CompleteUploadResponse:
        """Verify the caller's spooled upload and count it."""
        upload = self._of_caller(request.upload, Upload)
        await self._claim(request.request_id, "complete", request.job, request.round, upload)
        live = await self._uploading(request.job, request.round)
        await self._uploads.complete(live, upload)
        return pb.CompleteUploadResponse()

    async def WaitForResult(self, request: pb.WaitForResultRequest, context: Context) -> pb.WaitForResultResponse:
        """Return the signed result, or the reason of the abort, or where the round stands when it has not ended in time."""
        live = await self._live(request.job, request.round)
        if live is None:
            record = await self._stored(request.job, request.round)
            signed = None if record.result is None else codec.signed_from_bytes(record.result)
            return pb.WaitForResultResponse(
                phase=codec.phase_to_wire(record.status.phase), reason=record.status.reason, result=_wire(signed)
            )
        changes = (await self._engine.run_of(JobId(request.job))).changes
        await self._wait(changes, lambda: live.state.phase.ended, request.wait_seconds)
        state = live.state
        return pb.WaitForResultResponse(
            phase=codec.phase_to_wire(state.phase),
            result=_wire(live.result),
            reason=state.reason,
            have=state.have,
            need=state.need,
        )

    async def DownloadMean(
        self, request: pb.DownloadMeanRequest, context: Context
    ) -> AsyncIterator[pb.DownloadMeanResponse]:
        """Stream the mean's bytes from an offset on."""
        job, number = JobId(request.job), RoundNumber(request.round)
        status = await self._engine.status(job, number)
        if status.phase is not Phase.PUBLISHED or not number:
            raise WrongPhaseError(f"round {number} of job {job} is {status.phase.value}: it has published no mean")
        offset, blobs = request.offset, self._around.blobs
        while data := await asyncio.to_thread(blobs.read, mean_name(job, number), offset, PART_BYTES):
            yield pb.DownloadMeanResponse(data=data)
            offset += len(data)

    async def _wait(self, changes: Changes, holds: Callable[[], bool], seconds: float) -> None:
        # A NaN fails every comparison, and so waits not at all.
        bounded = min(seconds, LONGEST_WAIT_SECONDS) if seconds > 0 else 0.0
        await self._engine.waiting.wait_until(changes, holds, bounded)

    async def _live(self, job: str, round: int) -> LiveRound | None:
        return await self._engine.live_round(JobId(job), RoundNumber(round))

    async def _uploading(self, job: str, round: int) -> LiveRound:
        live = await self._live(job, round)
        if live is None:
            raise LateError(f"round {round} of job {job} is over")
        return live

    async def _stored(self, job: str, round: int) -> RoundRecord:
        return await asyncio.to_thread(self._around.store.round, JobId(job), RoundNumber(round))

    def _of_caller(self, wire: Signed, kind: type[MessageT]) -> Authenticated[MessageT]:
        """Authenticate a message that the caller signed in its own name."""
        at = datetime.fromtimestamp(self._around.clock(), UTC)
        message = codec.authenticate(codec.signed_from_wire(wire), kind, trust=self._around.identity.trust, at=at)
        if message.message.client != _caller():
            raise NotAllowedError(f"{_caller()} may not act for client {message.message.client}")
        return message

    async def _claim(
        self,
        request_id: str,
        what: str,
        job: str,
        round: int,
        message: Authenticated[SignedJoin] | Authenticated[Upload],
    ) -> None:
        """Hold a request id to its content: the same again is harmless, another is a conflict."""
        if not 1 <= len(request_id) <= _LONGEST_REQUEST_ID:
            raise UsageError(f"request_id has {len(request_id)} characters: choose 1 to {_LONGEST_REQUEST_ID}")
        content = hashlib.sha256(f"{what}\0{job}\0{round}\0".encode() + message.signed.payload).digest()
        request = RequestRecord(caller=str(current_caller()), request_id=request_id, digest=content)
        await asyncio.to_thread(self._around.store.claim_request, request, self._around.clock())


def verify_lifetime(signed: SignedMessage, until: float) -> None:
    """Refuse a join whose certificate may end before its round: the holders would refuse the whole roster for it.

    Args:
        signed: the join.
        until: the longest end of the round, seconds since the epoch.

    Raises:
        CertificateError: the certificate ends before.
    """
    end = read_certificate(signed.certificate).not_valid_after_utc
    if end.timestamp() < until:
        advice = "Have a new one issued with `secagg pki issue --force` and join the next round"
        raise CertificateError(
            f"the certificate ends on {end:%Y-%m-%d %H:%M} UTC, before its round may end", next_step=advice
        )


def _caller() -> ClientId:
    return ClientId(current_caller().name)


async def _header(requests: AsyncIterator[pb.UploadHalvesRequest]) -> pb.UploadHeader:
    async for message in requests:
        if message.WhichOneof("body") == "header":
            return message.header
        break
    raise UsageError("the first message of an upload carries the header")


def _wire(signed: SignedMessage | None) -> Signed | None:
    return None if signed is None else codec.signed_to_wire(signed)
