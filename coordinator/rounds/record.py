"""A live round as operators see it, and as the store keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from coordinator.contracts import (
    ContributionRecord,
    ContributionState,
    HolderRecord,
    RoundRecord,
    mean_name,
)
from secagg import codec
from secagg.identity import SignedMessage
from secagg.ids import ClientId, HolderId
from secagg.messages.round import PartialStatement, Phase, RoundStatus
from secagg.messages.signed import Authenticated
from secagg.roles.coordinator.state import RoundState


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What the driver keeps beside the machine's state. ``phase_started``: seconds since the epoch."""

    phase_started: Mapping[Phase, float]
    statements: Mapping[HolderId, Authenticated[PartialStatement]]
    result: SignedMessage | None


def status_of(state: RoundState, evidence: Evidence) -> RoundStatus:
    """Return what operators and auditors see."""
    return RoundStatus(
        job=state.spec.job,
        round=state.round,
        phase=state.phase,
        reason=_reason(state),
        joined=len(state.joins),
        uploaded=len(state.uploads),
        approvals=len(state.approvals),
        answers=len(state.answered),
        phase_started=dict(evidence.phase_started),
        holders=tuple(state.holders[name] for name in sorted(state.holders)),
        plan=state.plan,
        contributors=state.contributors if state.result is None else state.result.contributors,
        total_weight=0.0 if state.result is None else state.result.total_weight,
    )


def _reason(state: RoundState) -> str:
    return state.reason if state.need is None else f"{state.reason} (have {state.have}, need {state.need})"


def record_of(state: RoundState, evidence: Evidence) -> RoundRecord:
    """Return what the store keeps."""
    published = state.phase is Phase.PUBLISHED
    return RoundRecord(
        status=status_of(state, evidence),
        key=None if state.key is None else codec.key_bundle_to_bytes(state.key),
        roster=None if state.roster_digest is None else codec.roster_to_bytes(state.roster),
        contributions=tuple(_contribution(state, client) for client in sorted(state.joins)),
        holders=tuple(_holder(state, evidence, name) for name in sorted(state.holders)),
        result=None if evidence.result is None else codec.signed_to_bytes(evidence.result),
        mean_blob=mean_name(state.spec.job, state.round) if published else None,
    )


def _contribution(state: RoundState, client: ClientId) -> ContributionRecord:
    upload = state.uploads.get(client)
    return ContributionRecord(
        client=client,
        state=_contribution_state(state, client),
        join=codec.signed_to_bytes(state.joins[client].signed),
        upload=None if upload is None else codec.signed_to_bytes(upload.signed),
        reason=state.refused.get(client, ""),
    )


def _contribution_state(state: RoundState, client: ClientId) -> ContributionState:
    if client in state.uploads:
        return ContributionState.UPLOADED
    return ContributionState.REJECTED if client in state.refused else ContributionState.JOINED


def _holder(state: RoundState, evidence: Evidence, holder: HolderId) -> HolderRecord:
    approval, statement = state.approvals.get(holder), evidence.statements.get(holder)
    return HolderRecord(
        holder=holder,
        approval=None if approval is None else codec.signed_to_bytes(approval.signed),
        statement=None if statement is None else codec.signed_to_bytes(statement.signed),
    )
