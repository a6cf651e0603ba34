"""The legal moves of a masking round at the coordinator, in one table keyed by (phase, kind of event)."""

from __future__ import annotations

from secagg.ids import RoundNumber
from secagg.masking_plan import MaskingRound
from secagg.messages.round import Phase
from secagg.plan import JobSpec, RoundPlan
from secagg.roles.coordinator import joining
from secagg.roles.coordinator.effects import Audit, Effect, SetDeadline
from secagg.roles.coordinator.ending import cancelled, stored
from secagg.roles.coordinator.events import (
    CancelRequested,
    ConfirmationReceived,
    DeadlinePassed,
    Event,
    GraceOver,
    JoinReceived,
    SharesReceived,
    SumUnmasked,
    UnmaskingFailed,
    UnmaskingReceived,
    UploadRefused,
    VectorVerified,
)
from secagg.roles.coordinator.masking import sharing, unmasking, uploading
from secagg.roles.coordinator.masking.state import MaskingRoundState, MaskingStep
from secagg.roles.machine import Machine

MASKING: Machine[MaskingRoundState, Event, Effect] = Machine(
    phase_of=lambda state: state.phase,
    moves={
        (Phase.OPEN, JoinReceived): sharing.join_received,
        (Phase.OPEN, DeadlinePassed): sharing.open_deadline,
        (Phase.OPEN, CancelRequested): cancelled,
        (Phase.SHARING, JoinReceived): joining.join_late,
        (Phase.SHARING, SharesReceived): sharing.shares_received,
        (Phase.SHARING, DeadlinePassed): sharing.sharing_deadline,
        (Phase.SHARING, CancelRequested): cancelled,
        (Phase.UPLOADING, JoinReceived): joining.join_late,
        (Phase.UPLOADING, SharesReceived): sharing.shares_late,
        (Phase.UPLOADING, VectorVerified): uploading.vector_verified,
        (Phase.UPLOADING, UploadRefused): uploading.upload_refused,
        (Phase.UPLOADING, DeadlinePassed): uploading.uploading_deadline,
        (Phase.UPLOADING, CancelRequested): cancelled,
        (Phase.CONFIRMING, JoinReceived): joining.join_late,
        (Phase.CONFIRMING, SharesReceived): sharing.shares_late,
        (Phase.CONFIRMING, VectorVerified): uploading.vector_late,
        (Phase.CONFIRMING, UploadRefused): uploading.refusal_late,
        (Phase.CONFIRMING, ConfirmationReceived): unmasking.confirmation_received,
        (Phase.CONFIRMING, GraceOver): unmasking.grace_over,
        (Phase.CONFIRMING, DeadlinePassed): unmasking.confirming_deadline,
        (Phase.CONFIRMING, CancelRequested): cancelled,
        (Phase.UNMASKING, JoinReceived): joining.join_late,
        (Phase.UNMASKING, SharesReceived): sharing.shares_late,
        (Phase.UNMASKING, VectorVerified): uploading.vector_late,
        (Phase.UNMASKING, UploadRefused): uploading.refusal_late,
        (Phase.UNMASKING, ConfirmationReceived): unmasking.confirmation_late,
        (Phase.UNMASKING, UnmaskingReceived): unmasking.unmasking_received,
        (Phase.UNMASKING, SumUnmasked): unmasking.sum_unmasked,
        (Phase.UNMASKING, UnmaskingFailed): unmasking.unmasking_failed,
        (Phase.UNMASKING, DeadlinePassed): unmasking.unmasking_deadline,
        (Phase.UNMASKING, CancelRequested): cancelled,
        (Phase.PUBLISHED, JoinReceived): joining.join_late,
        (Phase.PUBLISHED, SharesReceived): sharing.shares_late,
        (Phase.PUBLISHED, VectorVerified): uploading.vector_late,
        (Phase.ABORTED, JoinReceived): joining.join_late,
        (Phase.ABORTED, SharesReceived): sharing.shares_late,
        (Phase.ABORTED, VectorVerified): uploading.vector_late,
    },
)


def begin_masking(spec: JobSpec, round: RoundNumber, nonce: bytes) -> MaskingStep:
    """Start a round: clients may join at once."""
    plan = RoundPlan(spec=spec, round=round, protocol=MaskingRound(nonce=nonce))
    state = MaskingRoundState(spec=spec, round=round, plan=plan)
    deadline = SetDeadline(phase=Phase.OPEN, seconds=spec.deadlines.open_seconds)
    audit = Audit(event="round-opened", details={"round": round, "plan": plan.digest.hex()})
    return stored(state, deadline, audit)
