"""The legal moves of a round at the coordinator, in one table keyed by (phase, kind of event)."""

from __future__ import annotations

from typing import Any

from secagg.ids import RoundNumber
from secagg.messages.round import HolderStatus, HolderVerdict, Phase
from secagg.plan import JobSpec, MaskingJob
from secagg.roles.coordinator import joining, opening, sealing, uploading
from secagg.roles.coordinator.effects import Audit, Effect, SetDeadline
from secagg.roles.coordinator.ending import CkksStep, abort, cancelled, stored
from secagg.roles.coordinator.events import (
    AnswerReceived,
    ApprovalReceived,
    CancelRequested,
    CeremonyBegun,
    DeadlinePassed,
    Event,
    GraceOver,
    HolderLost,
    HolderSilent,
    JoinReceived,
    KeyCertified,
    KeyFailed,
    OpeningFailed,
    SealReceived,
    SumOpened,
    UploadRefused,
    UploadVerified,
)
from secagg.roles.coordinator.masking.rules import MASKING, begin_masking
from secagg.roles.coordinator.masking.state import MaskingRoundState
from secagg.roles.coordinator.state import CkksRoundState, RoundState, StateT
from secagg.roles.machine import Machine, Step

CKKS: Machine[CkksRoundState, Event, Effect] = Machine(
    phase_of=lambda state: state.phase,
    moves={
        (Phase.KEYING, CeremonyBegun): joining.ceremony_begun,
        (Phase.KEYING, KeyCertified): joining.key_certified,
        (Phase.KEYING, KeyFailed): joining.key_failed,
        (Phase.KEYING, DeadlinePassed): joining.key_deadline,
        (Phase.KEYING, CancelRequested): cancelled,
        (Phase.OPEN, JoinReceived): joining.join_received,
        (Phase.OPEN, DeadlinePassed): joining.open_deadline,
        (Phase.OPEN, CancelRequested): cancelled,
        (Phase.FROZEN, SealReceived): sealing.seal_received,
        (Phase.FROZEN, HolderSilent): opening.holder_silent,
        (Phase.FROZEN, HolderLost): sealing.holder_lost,
        (Phase.FROZEN, DeadlinePassed): sealing.sealing_deadline,
        (Phase.FROZEN, JoinReceived): joining.join_late,
        (Phase.FROZEN, CancelRequested): cancelled,
        (Phase.UPLOADING, JoinReceived): joining.join_late,
        (Phase.UPLOADING, UploadVerified): uploading.upload_verified,
        (Phase.UPLOADING, UploadRefused): uploading.upload_refused,
        (Phase.UPLOADING, DeadlinePassed): uploading.uploading_deadline,
        (Phase.UPLOADING, CancelRequested): cancelled,
        (Phase.APPROVING, JoinReceived): joining.join_late,
        (Phase.APPROVING, UploadVerified): uploading.upload_late,
        (Phase.APPROVING, UploadRefused): uploading.refusal_late,
        (Phase.APPROVING, ApprovalReceived): opening.approval_received,
        (Phase.APPROVING, HolderSilent): opening.holder_silent,
        (Phase.APPROVING, HolderLost): opening.holder_lost,
        (Phase.APPROVING, DeadlinePassed): opening.approving_deadline,
        (Phase.APPROVING, CancelRequested): cancelled,
        (Phase.DECRYPTING, JoinReceived): joining.join_late,
        (Phase.DECRYPTING, UploadVerified): uploading.upload_late,
        (Phase.DECRYPTING, UploadRefused): uploading.refusal_late,
        (Phase.DECRYPTING, ApprovalReceived): opening.late_approval,
        (Phase.DECRYPTING, HolderSilent): opening.holder_silent,
        (Phase.DECRYPTING, HolderLost): opening.holder_lost,
        (Phase.DECRYPTING, AnswerReceived): opening.answer_received,
        (Phase.DECRYPTING, GraceOver): opening.grace_over,
        (Phase.DECRYPTING, SumOpened): opening.sum_opened,
        (Phase.DECRYPTING, OpeningFailed): opening.opening_failed,
        (Phase.DECRYPTING, DeadlinePassed): opening.decrypting_deadline,
        (Phase.DECRYPTING, CancelRequested): cancelled,
        (Phase.PUBLISHED, JoinReceived): joining.join_late,
        (Phase.PUBLISHED, UploadVerified): uploading.upload_late,
        (Phase.ABORTED, JoinReceived): joining.join_late,
        (Phase.ABORTED, UploadVerified): uploading.upload_late,
    },
)


def begin(spec: JobSpec, round: RoundNumber, *, nonce: bytes) -> Step[Any, Effect]:
    """Start a round. In ``ckks`` its key is not made yet; in ``masking`` it is open, its plan made unique by 32 random bytes."""
    if isinstance(spec.protocol, MaskingJob):
        return begin_masking(spec, round, nonce)
    return _begin_ckks(spec, round)


def _begin_ckks(spec: JobSpec, round: RoundNumber) -> CkksStep:
    holders = {name: HolderStatus(holder=name, verdict=HolderVerdict.OK) for name in spec.ckks.holders}
    deadline = SetDeadline(phase=Phase.KEYING, seconds=spec.deadlines.keying_seconds)
    state = CkksRoundState(spec=spec, round=round, holders=holders)
    return stored(state, deadline, Audit(event="round-opened", details={"round": round}))


def step(state: RoundState, event: Event) -> Step[Any, Effect]:
    """Apply an event.

    Raises:
        WrongPhaseError: the event cannot happen in this phase.
        SecAggError: the sender's message is refused; the state is as it was.
    """
    if isinstance(state, MaskingRoundState):
        return MASKING.step(state, event)
    if isinstance(state, CkksRoundState):
        return CKKS.step(state, event)
    raise AssertionError(f"no machine runs a {type(state).__name__}")


def aborted(state: StateT, reason: str) -> StateT:
    """Return the round as it stands after an end that no store took note of."""
    return abort(state, reason).state
