"""What training clients call in a masking round (``proto/secagg/wire/v1/masking_service.proto``; ``docs/protocol.md``, section 10)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final, TypeAlias

import grpc.aio

from coordinator.caller_rounds import CallerRounds, answered, caller, request_of
from coordinator.contracts import AnsweredRequest
from coordinator.masking_answers import confirmations_for, dropped_out, is_settled, standing_of, stored_standing
from coordinator.rounds.engine import RoundEngine
from coordinator.rounds.live import LiveRound
from coordinator.rounds.protocols import masking_state
from coordinator.upload_streams import ending_with_uploads, header_of, parts_of
from coordinator.vector_uploads import VectorUploads
from secagg import codec, faults
from secagg.errors import LateError, WrongPhaseError
from secagg.ids import ClientId
from secagg.messages.masking import Confirmation, MaskedUpload, Shares, Unmasking
from secagg.messages.round import Phase
from secagg.roles.coordinator.events import ConfirmationReceived, Event, SharesReceived, UnmaskingReceived
from secagg.roles.coordinator.masking.state import MaskingRoundState
from secagg.wire.v1 import masking_service_pb2 as pb
from secagg.wire.v1.masking_service_pb2_grpc import MaskingServiceServicer

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]

_SHARERS_KNOWN: Final = (Phase.UPLOADING, Phase.CONFIRMING, Phase.UNMASKING, Phase.PUBLISHED)
_SURVIVORS_KNOWN: Final = (Phase.CONFIRMING, Phase.UNMASKING, Phase.PUBLISHED)
# A round that is published needs no shares any more, so nobody is given a reason to reveal them.
_REVEALING: Final = (Phase.UNMASKING,)


class MaskingServicer(MaskingServiceServicer):
    """Serves the clients of an engine's masking rounds. Every method acts for the client that the caller's certificate names.

    Args:
        engine: runs the rounds.
    """

    def __init__(self, engine: RoundEngine) -> None:
        self._rounds = CallerRounds(engine)
        self._uploads = VectorUploads(engine.around, engine.desk)

    async def SendShares(self, request: pb.SendSharesRequest, context: Context) -> pb.SendSharesResponse:
        """Take what the caller sealed to its neighbours."""
        shares = self._rounds.of_caller(request.shares, Shares)
        asked = request_of(request.request_id, "shares", request.job, request.round, shares)
        if (known := await self._rounds.first_answer(asked, pb.SendSharesResponse)) is not None:
            return known
        live, answer = await self._running(request.job, request.round), pb.SendSharesResponse()
        await live.apply(SharesReceived(shares=shares), answered(asked, answer))
        return answer

    async def WaitForShares(self, request: pb.WaitForSharesRequest, context: Context) -> pb.WaitForSharesResponse:
        """Return whose shares count and what is sealed to the caller, or where the round stands when that is not known in time."""
        live = await self._rounds.live(request.job, request.round)
        if live is None:
            return pb.WaitForSharesResponse(standing=await self._stored(request.job, request.round))
        state = await self._waited(live, request.job, request.wait_seconds, _SHARERS_KNOWN)
        answer = pb.WaitForSharesResponse(standing=standing_of(state), ready=state.phase in _SHARERS_KNOWN)
        if answer.ready:
            clients = state.clients
            answer.sharers.extend(codec.positions_of(state.sharers, clients))
            answer.sealed.extend(codec.sealed_shares_to_wire(state.sealed_to(caller()), clients))
        faults.reach("WaitForShares.answering")
        return answer

    async def GetVectorOffset(self, request: pb.GetVectorOffsetRequest, context: Context) -> pb.GetVectorOffsetResponse:
        """Return how much of the caller's vector has arrived."""
        live = await self._running(request.job, request.round)
        client = caller()
        if client in live.state.uploads:
            return pb.GetVectorOffsetResponse(complete=True)
        offset = await self._uploads.offset(live, client)
        faults.reach("GetVectorOffset.answering")
        return pb.GetVectorOffsetResponse(bytes=offset)

    async def UploadVector(
        self, request_iterator: AsyncIterator[pb.UploadVectorRequest], context: Context
    ) -> pb.UploadVectorResponse:
        """Spool parts of the caller's vector, in order, until the caller ends the stream."""
        with self._rounds.place():
            header = await header_of(request_iterator)
        upload = self._rounds.of_caller(header.upload, MaskedUpload)
        live = await self._running(header.job, header.round)
        # What a stream brings is repeated by its offsets; its request id is looked at, and not kept.
        await self._rounds.verify_new(request_of(header.request_id, "vector", header.job, header.round, upload))
        async with self._uploads.begin(live, upload.message) as receive, ending_with_uploads(live):
            async for part in parts_of(request_iterator):
                await receive(part)
        offset = await self._uploads.offset(live, upload.message.client)
        faults.reach("UploadVector.answering")
        return pb.UploadVectorResponse(bytes=offset)

    async def CompleteVector(self, request: pb.CompleteVectorRequest, context: Context) -> pb.CompleteVectorResponse:
        """Verify the caller's spooled vector and count it."""
        upload = self._rounds.of_caller(request.upload, MaskedUpload)
        asked = request_of(request.request_id, "complete-vector", request.job, request.round, upload)
        if (known := await self._rounds.first_answer(asked, pb.CompleteVectorResponse)) is not None:
            return known
        live, answer = await self._running(request.job, request.round), pb.CompleteVectorResponse()
        await self._uploads.complete(live, upload, answered(asked, answer))
        return answer

    async def WaitForSurvivors(
        self, request: pb.WaitForSurvivorsRequest, context: Context
    ) -> pb.WaitForSurvivorsResponse:
        """Return whose vectors are in the sum, or where the round stands when that is not known in time."""
        live = await self._rounds.live(request.job, request.round)
        if live is None:
            return pb.WaitForSurvivorsResponse(standing=await self._stored(request.job, request.round))
        state = await self._waited(live, request.job, request.wait_seconds, _SURVIVORS_KNOWN)
        answer = pb.WaitForSurvivorsResponse(standing=standing_of(state), ready=state.phase in _SURVIVORS_KNOWN)
        if answer.ready:
            answer.survivors.extend(codec.positions_of(state.survivors, state.clients))
        faults.reach("WaitForSurvivors.answering")
        return answer

    async def Confirm(self, request: pb.ConfirmRequest, context: Context) -> pb.ConfirmResponse:
        """Take the caller's signature of the survivors."""
        confirmation = self._rounds.of_caller(request.confirmation, Confirmation)
        asked = request_of(request.request_id, "confirm", request.job, request.round, confirmation)
        if (known := await self._rounds.first_answer(asked, pb.ConfirmResponse)) is not None:
            return known
        live, answer = await self._running(request.job, request.round), pb.ConfirmResponse()
        event = ConfirmationReceived(confirmation=confirmation)
        await _apply(live, event, confirmation.message, answered(asked, answer))
        return answer

    async def WaitForConfirmations(
        self, request: pb.WaitForConfirmationsRequest, context: Context
    ) -> pb.WaitForConfirmationsResponse:
        """Return a quorum of others' confirmations, or where the round stands when there is none in time."""
        live = await self._rounds.live(request.job, request.round)
        if live is None:
            return pb.WaitForConfirmationsResponse(standing=await self._stored(request.job, request.round))
        state = await self._waited(live, request.job, request.wait_seconds, _REVEALING)
        answer = pb.WaitForConfirmationsResponse(standing=standing_of(state), ready=state.phase in _REVEALING)
        if answer.ready:
            shown = confirmations_for(state, caller())
            answer.confirmations.extend(codec.signed_to_wire(one.signed) for one in shown)
        faults.reach("WaitForConfirmations.answering")
        return answer

    async def Unmask(self, request: pb.UnmaskRequest, context: Context) -> pb.UnmaskResponse:
        """Take the shares that the caller reveals."""
        unmasking = self._rounds.of_caller(request.unmasking, Unmasking)
        asked = request_of(request.request_id, "unmask", request.job, request.round, unmasking)
        if (known := await self._rounds.first_answer(asked, pb.UnmaskResponse)) is not None:
            return known
        live, answer = await self._running(request.job, request.round), pb.UnmaskResponse()
        event = UnmaskingReceived(unmasking=unmasking)
        await _apply(live, event, unmasking.message, answered(asked, answer))
        return answer

    async def _running(self, job: str, round: int) -> LiveRound:
        live = await self._rounds.running(job, round)
        masking_state(live.state)
        return live

    async def _stored(self, job: str, round: int) -> pb.Standing:
        return stored_standing(await self._rounds.stored(job, round))

    async def _waited(self, live: LiveRound, job: str, seconds: float, phases: tuple[Phase, ...]) -> MaskingRoundState:
        """Wait for one of these phases, or the end; :class:`LateError` once the caller is known to have dropped out."""
        client = caller()
        _verify_in(masking_state(live.state), client)

        def holds() -> bool:
            # Asked at every change, for everybody who waits: only what takes no time.
            state = live.state
            return live.over or state.phase in phases or client in state.refused

        await self._rounds.wait(job, holds, seconds)
        return _verify_in(masking_state(live.state), client)


async def _apply(live: LiveRound, event: Event, message: Confirmation | Unmasking, asked: AnsweredRequest) -> None:
    """Apply an event that may come after the end: then a repetition is harmless, and everything else is late."""
    try:
        await live.apply(event, asked)
    except WrongPhaseError:
        if not is_settled(masking_state(live.state), message):
            raise


def _verify_in(state: MaskingRoundState, client: ClientId) -> MaskingRoundState:
    reason = dropped_out(state, client)
    if reason is not None:
        raise LateError(f"client {client} has dropped out of round {state.round}: {reason}")
    return state
