"""What training clients call (``proto/secagg/wire/v1/client_service.proto``; ``docs/protocol.md``, sections 5 and 10)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final, TypeAlias

import grpc.aio

from coordinator.caller_rounds import CallerRounds, answered, caller, request_of
from coordinator.contracts import RoundRecord, mean_name
from coordinator.downloads import Downloads, Read
from coordinator.rounds.engine import RoundEngine
from coordinator.rounds.protocols import ckks_state
from coordinator.upload_streams import ending_with_uploads, header_of, parts_of
from coordinator.uploads import Uploads
from secagg import codec, faults
from secagg.errors import CertificateError, NotFoundError, WrongPhaseError
from secagg.identity import SignedMessage, read_certificate
from secagg.ids import JobId, RoundNumber
from secagg.messages.masking import MaskingJoin
from secagg.messages.round import Join as SignedJoin
from secagg.messages.round import Phase, Upload
from secagg.messages.signed import Authenticated
from secagg.plan import JobSpec, MaskingJob, MaskingRound
from secagg.roles.coordinator.events import JoinReceived
from secagg.roles.coordinator.masking.state import MaskingRoundState
from secagg.roles.coordinator.state import CkksRoundState, RoundState
from secagg.wire.v1 import client_service_pb2 as pb
from secagg.wire.v1.client_service_pb2_grpc import ClientServiceServicer
from secagg.wire.v1.signed_pb2 import Signed

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]

_BEFORE_ROSTER: Final = (Phase.KEYING, Phase.OPEN, Phase.FROZEN)


class ClientServicer(ClientServiceServicer):
    """Serves the clients of an engine's rounds. Every method acts for the client that the caller's certificate names.

    Args:
        engine: runs the rounds.
    """

    def __init__(self, engine: RoundEngine) -> None:
        self._engine = engine
        self._around = engine.around
        self._rounds = CallerRounds(engine)
        self._uploads = Uploads(engine.around, engine.resources.limits, engine.desk)
        self._downloads = Downloads(engine.around.blobs)

    async def WaitForRound(self, request: pb.WaitForRoundRequest, context: Context) -> pb.WaitForRoundResponse:
        """Return the round that can be joined, or that the job is complete, or nothing in time."""
        run, after = await self._rounds.run(request.job), request.after_round
        await self._rounds.wait(
            request.job,
            lambda: run.complete or run.lease is None or run.open_after(after) is not None,
            request.wait_seconds,
        )
        await self._engine.verify_here(run)
        live = run.open_after(after)
        if live is None:
            return pb.WaitForRoundResponse(found=False, job_complete=run.complete)
        state = live.state
        key = state.key if isinstance(state, CkksRoundState) else None
        faults.reach("WaitForRound.answering")
        return pb.WaitForRoundResponse(
            found=True,
            plan=codec.round_plan_to_wire(state.certified),
            key=None if key is None else codec.key_bundle_to_wire(key),
        )

    async def Join(self, request: pb.JoinRequest, context: Context) -> pb.JoinResponse:
        """Enter the caller, with what its protocol's join holds, into an open round."""
        join = self._join(request.join, await self._rounds.spec(request.job))
        asked = request_of(request.request_id, "join", request.job, request.round, join)
        if (known := await self._rounds.first_answer(asked, pb.JoinResponse)) is not None:
            return known
        live = await self._rounds.running(request.job, request.round)
        verify_lifetime(join.signed, self._around.clock() + live.state.spec.longest_seconds)
        answer = pb.JoinResponse()
        await live.apply(JoinReceived(join=join), answered(asked, answer))
        return answer

    def _join(self, wire: Signed, spec: JobSpec) -> Authenticated[SignedJoin] | Authenticated[MaskingJoin]:
        if isinstance(spec.protocol, MaskingJob):
            return self._rounds.of_caller(wire, MaskingJoin)
        return self._rounds.of_caller(wire, SignedJoin)

    async def WaitForRoster(self, request: pb.WaitForRosterRequest, context: Context) -> pb.WaitForRosterResponse:
        """Return the frozen roster, or where the round stands when there is none in time."""
        live = await self._rounds.live(request.job, request.round)
        if live is None:
            return _stored_roster(await self._rounds.stored(request.job, request.round))
        await self._rounds.wait(
            request.job, lambda: live.suspended or live.state.phase not in _BEFORE_ROSTER, request.wait_seconds
        )
        faults.reach("WaitForRoster.answering")
        return _roster(live.state)

    async def GetUploadOffsets(
        self, request: pb.GetUploadOffsetsRequest, context: Context
    ) -> pb.GetUploadOffsetsResponse:
        """Return how much of the caller's upload has arrived."""
        live = await self._rounds.running(request.job, request.round)
        ckks_state(live.state)
        client = caller()
        if client in live.state.uploads:
            return pb.GetUploadOffsetsResponse(complete=True)
        c0, c1 = await self._uploads.offsets(live, client)
        faults.reach("GetUploadOffsets.answering")
        return pb.GetUploadOffsetsResponse(c0_bytes=c0, c1_bytes=c1)

    async def UploadHalves(
        self, request_iterator: AsyncIterator[pb.UploadHalvesRequest], context: Context
    ) -> pb.UploadHalvesResponse:
        """Spool parts of both halves, in order, until the caller ends the stream."""
        with self._rounds.place():
            header = await header_of(request_iterator)
        upload = self._rounds.of_caller(header.upload, Upload)
        live = await self._rounds.running(header.job, header.round)
        # What a stream brings is repeated by its offsets; its request id is looked at, and not kept.
        await self._rounds.verify_new(request_of(header.request_id, "upload", header.job, header.round, upload))
        async with self._uploads.begin(live, upload.message) as receive, ending_with_uploads(live):
            async for part in parts_of(request_iterator):
                await receive(part)
        c0, c1 = await self._uploads.offsets(live, upload.message.client)
        faults.reach("UploadHalves.answering")
        return pb.UploadHalvesResponse(c0_bytes=c0, c1_bytes=c1)

    async def CompleteUpload(self, request: pb.CompleteUploadRequest, context: Context) -> pb.CompleteUploadResponse:
        """Verify the caller's spooled upload and count it."""
        upload = self._rounds.of_caller(request.upload, Upload)
        asked = request_of(request.request_id, "complete", request.job, request.round, upload)
        if (known := await self._rounds.first_answer(asked, pb.CompleteUploadResponse)) is not None:
            return known
        live = await self._rounds.running(request.job, request.round)
        answer = pb.CompleteUploadResponse()
        await self._uploads.complete(live, upload, answered(asked, answer))
        return answer

    async def WaitForResult(self, request: pb.WaitForResultRequest, context: Context) -> pb.WaitForResultResponse:
        """Return the signed result, or the reason of the abort, or where the round stands when it has not ended in time."""
        live = await self._rounds.live(request.job, request.round)
        if live is None:
            record = await self._rounds.stored(request.job, request.round)
            signed = None if record.result is None else codec.signed_from_bytes(record.result)
            return pb.WaitForResultResponse(
                phase=codec.phase_to_wire(record.status.phase), reason=record.status.reason, result=_wire(signed)
            )
        await self._rounds.wait(request.job, lambda: live.over, request.wait_seconds)
        state = live.state
        faults.reach("WaitForResult.answering")
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
        name, offset = await self._mean_of(request.job, request.round), request.offset
        # A caller that does not read holds the part that waits for it.
        with self._rounds.place(), self._downloads.begin(name) as read:
            while data := await self._part(request, read, offset):
                faults.reach("DownloadMean.answering")
                yield pb.DownloadMeanResponse(data=data)
                offset += len(data)

    async def _part(self, request: pb.DownloadMeanRequest, read: Read, offset: int) -> bytes:
        try:
            return await read(offset)
        except NotFoundError:
            # Says so of a round that was purged meanwhile.
            await self._rounds.stored(request.job, request.round)
            raise

    async def _mean_of(self, job: str, round: int) -> str:
        """Return the name of a round's mean; :class:`WrongPhaseError` when it has published none."""
        status = await self._engine.status(JobId(job), RoundNumber(round))
        if status.phase is Phase.PUBLISHED and round:
            live = (await self._engine.run_of(JobId(job))).running(RoundNumber(round))
            if live is not None and live.state.result is not None:
                return mean_name(JobId(job), RoundNumber(round), live.state.result.mean_digest)
            record = await self._rounds.stored(job, round)
            if record.mean_blob is not None:
                return record.mean_blob
        raise WrongPhaseError(f"round {round} of job {job} is {status.phase.value}: it has published no mean")


def _roster(state: RoundState) -> pb.WaitForRosterResponse:
    answer = pb.WaitForRosterResponse(
        phase=codec.phase_to_wire(state.phase), reason=state.reason, have=state.have, need=state.need
    )
    if state.roster_digest is None or state.phase in _BEFORE_ROSTER:
        return answer
    if isinstance(state, MaskingRoundState):
        answer.masking_roster.CopyFrom(codec.masking_roster_to_wire(state.roster))
    elif isinstance(state, CkksRoundState):
        answer.roster.CopyFrom(codec.roster_to_wire(state.roster))
    return answer


def _stored_roster(record: RoundRecord) -> pb.WaitForRosterResponse:
    status = record.status
    answer = pb.WaitForRosterResponse(phase=codec.phase_to_wire(status.phase), reason=status.reason)
    if record.roster is not None:
        masks = status.plan is not None and isinstance(status.plan.protocol, MaskingRound)
        (answer.masking_roster if masks else answer.roster).ParseFromString(record.roster)
    return answer


def verify_lifetime(signed: SignedMessage, until: float) -> None:
    """Refuse a join whose certificate may end before its round: the others would refuse the whole roster for it.

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


def _wire(signed: SignedMessage | None) -> Signed | None:
    return None if signed is None else codec.signed_to_wire(signed)
