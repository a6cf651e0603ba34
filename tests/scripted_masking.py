"""A masking round as an honest coordinator plays it to alice over gRPC: six others beside her, with machines and keys of their own.

A test replaces an act, or lets alice come back and hears the same answers again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from he.packing import unpack_mean
from secagg import codec
from secagg.client import AsyncClient, RoundResult
from secagg.client.exchange import now
from secagg.identity import Party, Role
from secagg.ids import Digest
from secagg.masking.masks import MaskedSum, piece_bytes, pieces
from secagg.masking.unmasking import UnmaskedRound, masks_in_sum, recover_secrets
from secagg.messages.masking import Confirmation, MaskedUpload, MaskingJoin, Shares, Unmasking
from secagg.messages.round import Phase, Result
from secagg.messages.signed import Authenticated
from secagg.roles.client.events import PlanOffered
from secagg.roles.client.masking.events import (
    ConfirmationsShown,
    MaskingRosterFrozen,
    SecretsDrawn,
    SurvivorsShown,
    VectorAccepted,
)
from secagg.roles.coordinator.events import (
    ConfirmationReceived,
    JoinReceived,
    SharesReceived,
    UnmaskingReceived,
    VectorVerified,
)
from secagg.wire.v1 import client_service_pb2 as pb
from secagg.wire.v1 import masking_service_pb2 as masking_pb
from tests.masking_material import ALICE, CLIENTS, PLAN, POLICY, Round, master_seed
from tests.scripted_coordinator import PARTY, Stage

OTHERS = tuple(client for client in CLIENTS if client != ALICE)
UPDATE = {"w": np.linspace(-1.0, 1.0, 50, dtype=np.float32)}
WEIGHT = 0.75
SENT: dict[str, tuple[type, str]] = {
    "Join": (pb.JoinRequest, "join"),
    "SendShares": (masking_pb.SendSharesRequest, "shares"),
    "CompleteVector": (masking_pb.CompleteVectorRequest, "upload"),
    "Confirm": (masking_pb.ConfirmRequest, "confirmation"),
    "Unmask": (masking_pb.UnmaskRequest, "unmasking"),
}
"""What alice signs, by method: the request and the field of the signed message."""


class SignedRound(Round):
    """A round of machines whose messages are really signed."""

    def __init__(self, stage: Stage, plan: Any) -> None:
        super().__init__(plan)
        self.stage = stage

    def message(self, client: Any, kind: Any, **changes: object) -> Authenticated[Any]:
        bare = super().message(client, kind, **changes)
        identity = self.stage.made.identity(Party(role=Role.CLIENT, name=client))
        return replace(bare, signed=codec.sign(bare.message, identity.signer))


class MaskingPlay:
    """One round. ``answers``: the last one of each method, as alice heard it."""

    def __init__(self, stage: Stage, plan: Any = PLAN) -> None:
        self.stage, self.plan = stage, plan
        self.round = SignedRound(stage, plan)
        self.answers: dict[str, Any] = {}
        self.mean = b""
        acts: dict[str, Callable[[Any], Any]] = {
            "WaitForRound": self._offer,
            "Join": self._join,
            "WaitForRoster": self._roster,
            "SendShares": self._shares,
            "WaitForShares": self._sharers,
            "GetVectorOffset": lambda _: masking_pb.GetVectorOffsetResponse(bytes=0),
            "UploadVector": self._arrived,
            "CompleteVector": self._vector,
            "WaitForSurvivors": self._survivors,
            "Confirm": self._confirm,
            "WaitForConfirmations": self._confirmations,
            "Unmask": self._unmask,
            "WaitForResult": self._result,
            "DownloadMean": lambda _: [self.mean],
        }
        stage.service.script = {method: [self._noted(method, act)] for method, act in acts.items()}

    def _noted(self, method: str, act: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def answer(request: Any) -> Any:
            self.answers[method] = act(request)
            return self.answers[method]

        return answer

    def rewind(self) -> None:
        """From now on every answer is the one of before, and nothing of alice was seen yet."""
        service = self.stage.service
        service.script.update({method: [answer] for method, answer in self.answers.items() if method != "UploadVector"})
        service.seen.clear()
        service.vectors.clear()

    async def perform(self, update: Any = UPDATE, *, state_dir: Path | None = None, **acts: Any) -> RoundResult:
        """Let alice take part; ``acts`` replace answers, others are of `participate` or `AsyncClient`."""
        script = {name: acts.pop(name) for name in list(acts) if name in self.stage.service.script}
        self.stage.service.script.update(script)
        named = {
            name: acts.pop(name) for name in list(acts) if name in ("spool_dir", "identity", "coordinator", "policy")
        }
        arguments = {"coordinator": PARTY.name, "identity": self.stage.identity, "policy": POLICY, **named}
        async with AsyncClient(self.stage.address, **arguments, state_dir=state_dir, silence_seconds=1.0) as client:
            return await client.participate(self.plan.spec.job, update, WEIGHT, **acts)

    def payloads(self) -> dict[str, set[bytes]]:
        """Return what alice signed, by method."""
        seen = self.stage.service.sent
        return {method: {getattr(one, field).payload for one in seen(kind)} for method, (kind, field) in SENT.items()}

    def vectors(self) -> set[bytes]:
        """Return the vectors that alice sent."""
        return {b"".join(one.part.data for one in stream[1:]) for stream in self.stage.service.vectors}

    # what the coordinator does

    def _read(self, wire: Any, kind: type[Any]) -> Authenticated[Any]:
        signed = codec.signed_from_wire(wire)
        return codec.authenticate(signed, kind, trust=self.stage.identity.trust, at=now())

    def _offer(self, _: Any) -> pb.WaitForRoundResponse:
        return pb.WaitForRoundResponse(found=True, plan=codec.round_plan_to_wire(self.plan))

    def _join(self, request: pb.JoinRequest) -> pb.JoinResponse:
        if not self.round.state.joins:
            self.round.happens(JoinReceived(join=self._read(request.join, MaskingJoin)))
            for client in OTHERS:
                self.round.tell(client, PlanOffered(plan=self.plan, bundle=None))
                self.round.tell(client, SecretsDrawn(master_seed=master_seed(client, self.plan)))
                self.round.happens(self.round.join(client))
        return pb.JoinResponse()

    def _roster(self, _: Any) -> pb.WaitForRosterResponse:
        roster = codec.masking_roster_to_wire(self.round.state.roster)
        return pb.WaitForRosterResponse(phase=codec.phase_to_wire(self.round.state.phase), masking_roster=roster)

    def _shares(self, request: masking_pb.SendSharesRequest) -> masking_pb.SendSharesResponse:
        self.round.happens(SharesReceived(shares=self._read(request.shares, Shares)))
        for client in OTHERS:
            self.round.tell(client, MaskingRosterFrozen(roster=self.round.state.roster))
            self.round.happens(self.round.shares(client))
        return masking_pb.SendSharesResponse()

    @property
    def _standing(self) -> masking_pb.Standing:
        return masking_pb.Standing(phase=codec.phase_to_wire(self.round.state.phase))

    def _sharers(self, _: Any) -> masking_pb.WaitForSharesResponse:
        state = self.round.state
        return masking_pb.WaitForSharesResponse(
            standing=self._standing,
            ready=True,
            sharers=codec.positions_of(state.sharers, CLIENTS),
            sealed=codec.sealed_shares_to_wire(state.sealed_to(ALICE), CLIENTS),
        )

    def _arrived(self, _: Any) -> masking_pb.UploadVectorResponse:
        last = self.stage.service.vectors[-1][-1].part
        return masking_pb.UploadVectorResponse(bytes=last.offset + len(last.data))

    def _vector(self, request: masking_pb.CompleteVectorRequest) -> masking_pb.CompleteVectorResponse:
        (vector,) = self.vectors()
        upload = self._read(request.upload, MaskedUpload)
        assert hashlib.sha256(vector).digest() == upload.message.vector_digest
        self.round.vectors[ALICE] = vector
        self.round.happens(VectorVerified(upload=upload))
        self.round.mask(OTHERS)
        for client in OTHERS:
            self.round.happens(self.round.vector(client))
            self.round.tell(client, VectorAccepted())
        return masking_pb.CompleteVectorResponse()

    def _survivors(self, _: Any) -> masking_pb.WaitForSurvivorsResponse:
        survivors = codec.positions_of(self.round.state.survivors, CLIENTS)
        return masking_pb.WaitForSurvivorsResponse(standing=self._standing, ready=True, survivors=survivors)

    def _confirm(self, request: masking_pb.ConfirmRequest) -> masking_pb.ConfirmResponse:
        self.round.happens(ConfirmationReceived(confirmation=self._read(request.confirmation, Confirmation)))
        for client in OTHERS:
            self.round.tell(client, SurvivorsShown(survivors=self.round.state.survivors))
            self.round.happens(self.round.confirmation(client))
        return masking_pb.ConfirmResponse()

    def _confirmations(self, _: Any) -> masking_pb.WaitForConfirmationsResponse:
        shown = [codec.signed_to_wire(self.round.state.confirmations[client].signed) for client in OTHERS]
        return masking_pb.WaitForConfirmationsResponse(standing=self._standing, ready=True, confirmations=shown)

    def _unmask(self, request: masking_pb.UnmaskRequest) -> masking_pb.UnmaskResponse:
        self.round.happens(UnmaskingReceived(unmasking=self._read(request.unmasking, Unmasking)))
        for client in OTHERS:
            self.round.tell(client, ConfirmationsShown(confirmations=tuple(self.round.state.confirmations.values())))
            self.round.happens(self.round.unmasking(client))
        return masking_pb.UnmaskResponse()

    def _result(self, _: Any) -> pb.WaitForResultResponse:
        self.mean, weight = self._opened()
        message = Result(
            plan_digest=self.plan.digest,
            roster_digest=self.round.state.frozen_digest,
            contributors=CLIENTS,
            total_weight=weight,
            mean_digest=Digest(hashlib.sha256(self.mean).digest()),
            mean_bytes=len(self.mean),
        )
        signed = codec.sign(message, self.stage.made.identity(PARTY).signer)
        phase = codec.phase_to_wire(Phase.PUBLISHED)
        return pb.WaitForResultResponse(phase=phase, result=codec.signed_to_wire(signed))

    def _opened(self) -> tuple[bytes, float]:
        """Take the masks off the sum of all vectors, with the shares that were revealed."""
        state, everybody = self.round.state, frozenset(range(len(CLIENTS)))
        unmasked = UnmaskedRound(
            plan_digest=self.plan.digest,
            roster_digest=state.frozen_digest,
            joins=[state.joins[client].message for client in CLIENTS],
            graph=state.neighbourhood.graph,
            threshold=state.threshold,
            sharers=everybody,
            survivors=everybody,
            revealed={CLIENTS.index(one): state.unmaskings[one].message.shares for one in state.unmaskings},
        )
        spec = self.plan.spec
        total, parameters = MaskedSum(spec.masking_parameters), spec.masking_parameters
        masks = masks_in_sum(unmasked, recover_secrets(unmasked).secrets)
        for start, stop in pieces(parameters):
            first, size = piece_bytes(start, stop, parameters)
            for vector in self.round.vectors.values():
                total.add(start, stop, vector[first : first + size])
            total.take_off(start, stop, masks)
        mean, weight = unpack_mean(total.values(len(CLIENTS)), spec.layout, spec.clip, spec.max_weight)
        return b"".join(mean[tensor.name].tobytes() for tensor in spec.tensors), weight
