"""A live round as operators see it, and as the store keeps it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from coordinator.contracts import (
    ContributionRecord,
    ContributionState,
    EventRecord,
    HolderRecord,
    RoundRecord,
    mean_name,
)
from coordinator.rounds.protocols import ckks_state
from secagg import codec
from secagg.identity import SignedMessage
from secagg.ids import ClientId, HolderId
from secagg.messages.round import Phase, RoundStatus
from secagg.roles.coordinator.effects import Audit, Effect
from secagg.roles.coordinator.masking.state import MaskingRoundState
from secagg.roles.coordinator.state import CkksRoundState, RoundState


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What the driver keeps beside the machine's state. ``phase_started``: seconds since the epoch."""

    phase_started: Mapping[Phase, float]
    result: SignedMessage | None


def status_of(state: RoundState, evidence: Evidence) -> RoundStatus:
    """Return what operators and auditors see."""
    counts = _counts(state)
    return RoundStatus(
        job=state.spec.job,
        round=state.round,
        phase=state.phase,
        reason=_reason(state),
        joined=len(state.joins),
        shared=counts.shared,
        uploaded=len(state.uploads),
        approvals=counts.approvals,
        answers=counts.answers,
        phase_started=dict(evidence.phase_started),
        holders=tuple(state.holders[name] for name in sorted(state.holders)),
        plan=state.plan,
        contributors=state.contributors if state.result is None else state.result.contributors,
        total_weight=0.0 if state.result is None else state.result.total_weight,
    )


@dataclass(frozen=True, kw_only=True)
class _Counts:
    shared: int = 0
    approvals: int = 0
    answers: int = 0


def _counts(state: RoundState) -> _Counts:
    if isinstance(state, MaskingRoundState):
        return _Counts(shared=len(state.shares), approvals=len(state.confirmations), answers=len(state.unmaskings))
    round = ckks_state(state)
    return _Counts(approvals=len(round.approvals), answers=len(round.answered))


def _reason(state: RoundState) -> str:
    return state.reason if state.need is None else f"{state.reason} (have {state.have}, need {state.need})"


def audit_records(state: RoundState, effects: Iterable[Effect], at: float) -> tuple[EventRecord, ...]:
    """Return the lines of the audit trail that a step asks for."""
    return tuple(
        EventRecord(job=state.spec.job, round=state.round, event=one.event, details=dict(one.details), at=at)
        for one in effects
        if isinstance(one, Audit)
    )


def record_of(state: RoundState, evidence: Evidence) -> RoundRecord:
    """Return what the store keeps beyond the round's end: never a share, sealed or revealed, for shares open masks."""
    return RoundRecord(
        status=status_of(state, evidence),
        key=_key(state),
        roster=None if state.roster_digest is None else _roster(state),
        contributions=tuple(_contribution(state, client) for client in sorted(state.joins)),
        holders=tuple(_holder(ckks_state(state), name) for name in sorted(state.holders)),
        result=None if evidence.result is None else codec.signed_to_bytes(evidence.result),
        mean_blob=None if state.result is None else mean_name(state.spec.job, state.round, state.result.mean_digest),
    )


def _key(state: RoundState) -> bytes | None:
    key = state.key if isinstance(state, CkksRoundState) else None
    return None if key is None else codec.key_bundle_to_bytes(key)


def _roster(state: RoundState) -> bytes:
    if isinstance(state, MaskingRoundState):
        return codec.masking_roster_to_bytes(state.roster)
    return codec.roster_to_bytes(ckks_state(state).roster)


def _contribution(state: RoundState, client: ClientId) -> ContributionRecord:
    upload = state.uploads.get(client)
    return ContributionRecord(
        client=client,
        state=_contribution_state(state, client),
        join=codec.signed_to_bytes(state.joins[client].signed),
        upload=None if upload is None else codec.signed_to_bytes(upload.signed),
        confirmation=_confirmation(state, client),
        reason=state.refused.get(client, ""),
    )


def _confirmation(state: RoundState, client: ClientId) -> bytes | None:
    confirmation = state.confirmations.get(client) if isinstance(state, MaskingRoundState) else None
    return None if confirmation is None else codec.signed_to_bytes(confirmation.signed)


def _contribution_state(state: RoundState, client: ClientId) -> ContributionState:
    if client in state.uploads:
        return ContributionState.UPLOADED
    return ContributionState.REJECTED if client in state.refused else ContributionState.JOINED


def _holder(state: CkksRoundState, holder: HolderId) -> HolderRecord:
    approval, answer = state.approvals.get(holder), state.answers.get(holder)
    statement = None if answer is None else answer.statement
    return HolderRecord(
        holder=holder,
        approval=None if approval is None else codec.signed_to_bytes(approval.signed),
        statement=None if statement is None else codec.signed_to_bytes(statement.signed),
    )
