"""A coordinator of a masking round whose process may die: the real round driver, spool and recovery, and what clients call."""

from __future__ import annotations

import asyncio
import hashlib
import random
from types import SimpleNamespace
from typing import Any, TypeVar

from coordinator.contracts import Limits, upload_prefix
from coordinator.upload_desk import UploadDesk
from coordinator.vector_uploads import VectorUploads
from secagg.errors import LateError, WrongPhaseError
from secagg.ids import ClientId
from secagg.messages.masking import Confirmation, MaskedUpload, MaskingJoin, MaskingRoster, Shares, Unmasking
from secagg.messages.round import Phase
from secagg.plan import RoundPlan
from secagg.roles.coordinator.events import (
    ConfirmationReceived,
    Event,
    JoinReceived,
    SharesReceived,
    UnmaskingReceived,
)
from secagg.roles.coordinator.masking.state import MaskingRoundState
from secagg.signing import SignedMessage
from secagg.wire.v1 import masking_service_pb2 as pb
from tests.simulation.coordinator_process import CoordinatorProcess, request_of, signed_result
from tests.simulation.masking.desk import Ended, Missed, SealedTo
from tests.simulation.masking.parties import COORDINATOR, read, signer, trust

M = TypeVar("M")
PARTS = 3
"""In which a vector is sent, so that either end may be gone between them."""
LONGEST_PART_SECONDS = 1.5


class LiveDesk(CoordinatorProcess):
    """One coordinator with one round; see `Desk` for its calls.

    Args:
        plan: of the round.
        defects: collects what fails inside.
    """

    def __init__(self, plan: RoundPlan, defects: list[str]) -> None:
        self.plan = plan
        self._pace = random.Random(plan.digest)
        identity = SimpleNamespace(signer=signer(COORDINATOR), trust=trust())
        super().__init__(plan.spec, plan.round, identity=identity, holders={}, defects=defects)

    def _build(self) -> None:
        super()._build()
        self._uploads = VectorUploads(self.around, UploadDesk(self.around, Limits()))

    @property
    def mean(self) -> bytes:
        name = self.record.mean_blob
        return b"" if name is None else self.blobs.blobs[name]

    async def closed(self) -> None:
        await self.over.wait()

    @property
    def _state(self) -> MaskingRoundState:
        state = self.live.state
        assert isinstance(state, MaskingRoundState)
        return state

    def _ended(self) -> Ended:
        reason = self.outcome.reason if self.running is None else self._state.reason
        return Ended(reason=reason or "the round went on without this client")

    async def _apply(self, what: str, event: Event, message: Any, *, late: bool = False) -> None:
        """Take a message as the services do: the same call again gets its first answer."""
        client: ClientId = message.message.client
        request = request_of(client, what, message.signed)
        if self.store.answer_to(request.request) is not None:
            return
        if self.running is None:
            raise LateError("the round is over")
        try:
            await self.live.apply(event, request)
        except WrongPhaseError as error:
            if late:
                raise LateError("the round went on without this client") from error
            raise
        self.acknowledge(what, client)

    async def _until(self, *phases: Phase) -> bool:
        """Wait until the round is in one of these phases or over; say whether it came so far."""
        if self.running is None:
            return True

        def holds() -> bool:
            return self.live.state.phase in phases or self.live.state.phase.ended

        await self.until(holds)
        return holds()

    # what clients call

    async def offer(self, client: ClientId) -> RoundPlan | Ended | None:
        return self.plan if self.running is not None and self._state.phase is Phase.OPEN else self._ended()

    async def join(self, message: SignedMessage) -> None:
        join = read(message, MaskingJoin)
        await self._apply("joins", JoinReceived(join=join), join)

    async def roster(self, client: ClientId) -> MaskingRoster | Ended | None:
        if not await self._until(Phase.SHARING, Phase.UPLOADING, Phase.CONFIRMING, Phase.UNMASKING):
            return None
        shown = self.running is not None and client in self._state.joins and self._state.degree
        return self._state.roster if shown else self._ended()

    async def shares(self, message: SignedMessage) -> None:
        shares = read(message, Shares)
        await self._apply("shares", SharesReceived(shares=shares), shares)

    async def sharers(self, client: ClientId) -> SealedTo | Ended | None:
        if not await self._until(Phase.UPLOADING, Phase.CONFIRMING, Phase.UNMASKING):
            return None
        state = self._state
        shown = self.running is not None and client in state.sharers
        return (state.sharers, state.sealed_to(client)) if shown else self._ended()

    async def upload(self, message: SignedMessage, vector: bytes) -> None:
        upload = read(message, MaskedUpload)
        client = upload.message.client
        request = request_of(client, "uploads", message)
        if self.store.answer_to(request.request) is not None:
            return
        if self.running is None:
            raise LateError("the round is over")
        async with self._uploads.begin(self.live, upload.message) as receive:
            step = -(-len(vector) // PARTS)
            for offset in range(0, len(vector), step):
                data = vector[offset : offset + step]
                await asyncio.sleep(self._pace.uniform(0.0, LONGEST_PART_SECONDS))
                await receive(pb.VectorPart(offset=offset, data=data, digest=hashlib.sha256(data).digest()))
        await self._uploads.complete(self.live, upload, request)
        self.acknowledge("uploads", client)

    async def survivors(self, client: ClientId) -> tuple[ClientId, ...] | Ended | None:
        if not await self._until(Phase.CONFIRMING, Phase.UNMASKING):
            return None
        shown = self.running is not None and client in self._state.survivors
        return self._state.survivors if shown else self._ended()

    async def confirm(self, message: SignedMessage) -> None:
        confirmation = read(message, Confirmation)
        await self._apply("confirmations", ConfirmationReceived(confirmation=confirmation), confirmation, late=True)

    async def confirmations(self, client: ClientId) -> tuple[SignedMessage, ...] | Ended | Missed | None:
        if not await self._until(Phase.UNMASKING):
            return None
        if self.record.status.phase is Phase.ABORTED:
            return self._ended()
        state = self._state
        if self.running is None or state.phase is not Phase.UNMASKING or client not in state.confirmations:
            return Missed()
        return tuple(one.signed for one in state.confirmations.values())

    async def unmask(self, message: SignedMessage) -> None:
        unmasking = read(message, Unmasking)
        self._check_late_vectors()
        await self._apply("unmaskings", UnmaskingReceived(unmasking=unmasking), unmasking, late=True)

    def _check_late_vectors(self) -> None:
        """See that none lies here once mask keys may be opened: it would be bare."""
        if self.running is not None and self._state.phase is Phase.UNMASKING:
            prefix = f"{upload_prefix(self.plan.spec.job, self.plan.round)}/clients/"
            held = {name.removeprefix(prefix).split("/")[0] for name in self.blobs.names("uploads")}
            if not held <= set(self._state.survivors):
                self._defects.append(f"a late vector was kept: {sorted(held - set(self._state.survivors))}")

    async def result(self, client: ClientId) -> tuple[SignedMessage, bytes] | Ended | None:
        if not await self._until():
            return None
        signed = signed_result(self.record)
        return self._ended() if signed is None else (signed, self.mean)
