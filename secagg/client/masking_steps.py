"""A client's own steps in a masking round: keys, shares, one vector, one confirmation, one unmasking (docs/protocol.md, section 10)."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from secagg.client.calls import Limit, poll_seconds
from secagg.client.exchange import Exchange, Method, ended, phase_of, stretched
from secagg.client.keeping import Keeping
from secagg.client.masked_vector import mask
from secagg.client.masking_answers import read_confirmations, read_roster, read_shares, read_survivors
from secagg.client.threads import in_thread
from secagg.client.transfer import Uploader
from secagg.client.updates import verify_fits
from secagg.client.uploads import VectorUpload
from secagg.errors import LateError, WrongPhaseError
from secagg.messages.round import Phase
from secagg.roles.client.events import Event, RoundEnded
from secagg.roles.client.masking.events import (
    AwaitSurvivors,
    DrawSecrets,
    MaskingEffect,
    MaskUpdate,
    SecretsDrawn,
    SendConfirmation,
    SendMaskingJoin,
    SendShares,
    SendUnmasking,
    SendVector,
    TurnMissed,
    UnmaskingAccepted,
    VectorAccepted,
    VectorMasked,
)
from secagg.wire.v1 import client_service_pb2
from secagg.wire.v1 import masking_service_pb2 as pb

SEED_BYTES: Final = 32
_TOO_LATE: Final = (LateError, WrongPhaseError)
_AWAY: Final = RoundEnded(
    reason="it was published before this client saw its survivors; whether this client's vector is in it is not known here"
)


class MaskingSteps:
    """Carries out what the machine asks for in a masking round.

    Args:
        exchange: with the coordinator.
        keeping: keeps the masked vector.
    """

    def __init__(self, exchange: Exchange, keeping: Keeping) -> None:
        self._exchange = exchange
        self._keeping = keeping
        self._resumed = False

    async def carry_out(self, effect: MaskingEffect) -> Event:  # noqa: PLR0911 - one for each effect
        """Do it, and return what came of it."""
        match effect:
            case DrawSecrets():
                return await self._draw()
            case SendMaskingJoin():
                limit = stretched(self._exchange.deadlines.open_seconds)
                return await self._exchange.join(effect.join, limit, field="masking_roster", read=self._read_roster)
            case SendShares():
                return await self._share(effect)
            case MaskUpdate():
                return await self._mask(effect)
            case SendVector():
                return await self._upload(effect)
            case AwaitSurvivors():
                return await self._survivors(effect)
            case SendConfirmation():
                return await self._confirm(effect)
            case SendUnmasking():
                return await self._unmask(effect)

    def resume(self, masked: VectorMasked) -> None:
        """Go on with the vector that an earlier process masked. Blocking.

        Raises:
            RoundAbortedError: it is not there any more as it was.
        """
        self._keeping.find_vector(masked.vector_digest, masked.vector_bytes)
        self._exchange.total = masked.vector_bytes
        self._resumed = True

    async def _draw(self) -> Event:
        # An update that does not fit is refused before anything is sent. The caller promised not to change it meanwhile.
        wanted = self._exchange.wanted
        await in_thread(verify_fits, wanted.update, wanted.weight, self._exchange.spec)
        return SecretsDrawn(master_seed=secrets.token_bytes(SEED_BYTES))

    def _read_roster(self, answer: client_service_pb2.WaitForRosterResponse) -> Event:
        return read_roster(answer.masking_roster, self._exchange.identity.trust)

    # 10.3: shares

    async def _share(self, effect: SendShares) -> Event:
        exchange = self._exchange
        limit = stretched(exchange.deadlines.sharing_seconds)
        exchange.report(Phase.SHARING, 0)
        request = pb.SendSharesRequest(**self._addressed(), shares=await exchange.signed(effect.shares))
        try:
            await exchange.ask(lambda at: at.masking.SendShares, request, limit)
        except _TOO_LATE as error:
            return await exchange.aborted(error)
        shown = await self._shown(lambda at: at.masking.WaitForShares, pb.WaitForSharesRequest, limit, "sharers")
        return await _read(shown, read_shares, effect.roster)

    # 10.4: the vector

    async def _mask(self, effect: MaskUpdate) -> Event:
        exchange, wanted = self._exchange, self._exchange.wanted
        exchange.total = effect.plan.spec.masking_parameters.vector_bytes
        exchange.report(Phase.UPLOADING, 0)
        await in_thread(self._keeping.new_vector)
        event, exchange.clipped = await mask(wanted.update, wanted.weight, effect, self._keeping.vector)
        return event

    async def _upload(self, effect: SendVector) -> Event:
        exchange = self._exchange
        limit = stretched(exchange.deadlines.uploading_seconds)
        upload = VectorUpload(
            coordinator=exchange.coordinator,
            job=exchange.spec.job,
            round=exchange.number,
            signed=await exchange.signed(effect.upload),
            size=effect.upload.vector_bytes,
            file=self._keeping.vector,
        )
        uploader = Uploader(exchange.coordinator, upload, lambda sent: exchange.report(Phase.UPLOADING, sent))
        try:
            await uploader.run(limit, resumed=self._resumed)
        except _TOO_LATE as error:
            return await exchange.aborted(error)
        self._keeping.release()
        return VectorAccepted()

    # 10.5: survivors

    async def _survivors(self, effect: AwaitSurvivors) -> Event:
        exchange = self._exchange
        limit = stretched(exchange.deadlines.uploading_seconds)
        shown = await self._shown(
            lambda at: at.masking.WaitForSurvivors, pb.WaitForSurvivorsRequest, limit, "survivors"
        )
        return await _read(shown, read_survivors, effect.roster)

    async def _confirm(self, effect: SendConfirmation) -> Event:
        exchange = self._exchange
        limit = stretched(exchange.deadlines.confirming_seconds)
        exchange.report(Phase.CONFIRMING, exchange.total)
        request = pb.ConfirmRequest(**self._addressed(), confirmation=await exchange.signed(effect.confirmation))
        try:
            await exchange.ask(lambda at: at.masking.Confirm, request, limit)
        except _TOO_LATE:
            return TurnMissed()
        kind = pb.WaitForConfirmationsRequest
        shown = await self._shown(
            lambda at: at.masking.WaitForConfirmations, kind, limit, "confirmations", missed=TurnMissed()
        )
        return await _read(shown, read_confirmations, exchange.identity.trust)

    # 10.6: the shares of the neighbours

    async def _unmask(self, effect: SendUnmasking) -> Event:
        exchange = self._exchange
        exchange.report(Phase.UNMASKING, exchange.total)
        request = pb.UnmaskRequest(**self._addressed(), unmasking=await exchange.signed(effect.unmasking))
        # Too late: others revealed enough, or the round ended. Its result tells.
        with suppress(*_TOO_LATE):
            await exchange.ask(lambda at: at.masking.Unmask, request, stretched(exchange.deadlines.unmasking_seconds))
        return UnmaskingAccepted()

    # what they share

    def _addressed(self) -> dict[str, Any]:
        exchange = self._exchange
        return {"request_id": uuid.uuid4().hex, "job": exchange.spec.job, "round": exchange.number}

    async def _shown(self, method: Method, kind: Any, limit: Limit, what: str, *, missed: Event = _AWAY) -> Any:
        """Ask until the coordinator shows what is waited for; return that answer, or what happened instead.

        ``missed``: that the round was published without this client, which was away for too long.
        """
        exchange = self._exchange
        while not limit.over:
            request = kind(job=exchange.spec.job, round=exchange.number, wait_seconds=poll_seconds(limit))
            try:
                answer = await exchange.ask(method, request, limit)
            except _TOO_LATE as error:
                # This client was declared dropped.
                return await exchange.aborted(error)
            phase = phase_of(answer.standing)
            if phase is Phase.ABORTED:
                return ended(answer.standing)
            if answer.ready:
                return answer
            if phase is Phase.PUBLISHED:
                return missed
        return RoundEnded(reason=f"the coordinator showed no {what} within {limit.seconds:g} s")


async def _read(shown: Any, read: Callable[[Any, Any], Event], context: Any) -> Event:
    """Read an answer in a thread; an event stays what it is."""
    return shown if isinstance(shown, RoundEnded | TurnMissed) else await in_thread(read, shown, context)
