"""A coordinator of a ``ckks`` round in a simulation: what its clients call, without gRPC."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from coordinator.contracts import Limits
from coordinator.rounds.calls import KeyHolderCalls
from coordinator.rounds.live import LiveRound
from coordinator.uploads import Uploads
from secagg import codec
from secagg.errors import LateError
from secagg.ids import ClientId, HolderId, RoundNumber
from secagg.messages.ceremony import PublicKeyBundle
from secagg.messages.round import FrozenRoster, Half, Join, Phase, Upload
from secagg.plan import RoundPlan
from secagg.roles.coordinator.events import JoinReceived, KeyCertified
from secagg.signing import SignedMessage
from secagg.wire.v1 import client_service_pb2 as pb
from tests.pki_material import COORDINATOR, NOW
from tests.simulation.coordinator_process import CoordinatorProcess, request_of, signed_result
from tests.simulation.round_material import SPEC, identity, read

ROUND = RoundNumber(1)


@dataclass(frozen=True, kw_only=True)
class Offer:
    """What a client is shown before it joins."""

    plan: RoundPlan
    bundle: PublicKeyBundle


@dataclass(frozen=True, kw_only=True)
class Ended:
    """What a client is shown of a round without a result."""

    reason: str


class CoordinatorNode(CoordinatorProcess):
    """One coordinator with one round; its methods are what clients call.

    Args:
        holders: the ways to the key holders.
        key: certified already, or None to have one made in a ceremony.
        defects: collects what fails inside.
    """

    def __init__(
        self, holders: Mapping[HolderId, KeyHolderCalls], key: KeyCertified | None, defects: list[str]
    ) -> None:
        self._key = key
        super().__init__(
            SPEC, ROUND, identity=identity(COORDINATOR), holders=holders, defects=defects, prepared=self._hand_key
        )

    def _hand_key(self, live: LiveRound) -> None:
        key = self._key
        if key is not None:
            live.chores.make_key = lambda _state: live.report(key, Phase.KEYING)  # type: ignore[attr-defined]

    def _build(self) -> None:
        super()._build()
        self._uploads = Uploads(self.around, Limits())

    @property
    def plan(self) -> RoundPlan | None:
        return self.record.status.plan

    @property
    def key(self) -> PublicKeyBundle | None:
        """The certified key, as it is stored."""
        data = self.record.key
        return None if data is None else codec.key_bundle_from_bytes(data, trust=identity(COORDINATOR).trust, at=NOW)

    # what clients call; each waits at most as long as the real service does

    async def offer(self, client: ClientId) -> Offer | Ended | None:
        if self.running is None:
            return Ended(reason=self.outcome.reason or "the round is not open any more")
        await self.until(lambda: self.live.state.phase is not Phase.KEYING)
        state = self.live.state
        if state.phase is Phase.OPEN and state.plan is not None and state.key is not None:  # type: ignore[attr-defined]
            return Offer(plan=state.plan, bundle=state.key)  # type: ignore[attr-defined]
        return None if state.phase is Phase.KEYING else Ended(reason=state.reason or "the round is not open any more")

    async def join(self, signed: SignedMessage) -> None:
        join = read(signed, Join)
        request = request_of(join.message.client, "join", signed)
        if self.store.answer_to(request.request) is None:
            self._refuse_after_end()
            await self.live.apply(JoinReceived(join=join), request)
        self.acknowledge("joins", join.message.client)

    async def roster(self, client: ClientId) -> FrozenRoster | Ended | None:
        if self.running is None:
            return self._stored_roster()
        before = (Phase.KEYING, Phase.OPEN, Phase.FROZEN)
        await self.until(lambda: self.live.state.phase not in before)
        state = self.live.state
        if state.roster_digest is not None and state.phase not in before:
            return state.roster  # type: ignore[attr-defined,no-any-return]
        return Ended(reason=state.reason) if state.phase.ended else None

    def _stored_roster(self) -> FrozenRoster | Ended:
        data = self.record.roster
        if data is None:
            return Ended(reason=self.outcome.reason)
        return codec.roster_from_bytes(data, trust=identity(COORDINATOR).trust, at=NOW)

    async def upload(self, signed: SignedMessage, halves: Mapping[Half, bytes]) -> None:
        upload = read(signed, Upload)
        request = request_of(upload.message.client, f"upload-{hashlib.sha256(signed.payload).hexdigest()}", signed)
        if self.store.answer_to(request.request) is None:
            self._refuse_after_end()
            async with self._uploads.begin(self.live, upload.message) as receive:
                for half, data in halves.items():
                    digest = hashlib.sha256(data).digest()
                    await receive(pb.UploadPart(half=codec.half_to_wire(half), offset=0, data=data, digest=digest))
            await self._uploads.complete(self.live, upload, request)
        self.acknowledge("uploads", upload.message.client)

    def _refuse_after_end(self) -> None:
        if self.running is None or self.live.state.phase.ended:
            raise LateError(f"round {ROUND} is over")

    async def result(self, client: ClientId) -> tuple[SignedMessage, bytes] | Ended | None:
        if self.running is not None:
            await self.until(lambda: self.live.state.phase.ended)
            if not self.live.state.phase.ended:
                return None
        record, signed = self.record, signed_result(self.record)
        if record.mean_blob is not None and signed is not None:
            size = self.blobs.size(record.mean_blob)
            return signed, await asyncio.to_thread(self.around.blobs.read, record.mean_blob, 0, size)
        return Ended(reason=record.status.reason)
