"""How a round ends, and the steps that every handler is made of."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TypeAlias

from secagg.ids import Digest
from secagg.messages.round import Phase, Result
from secagg.roles.coordinator.effects import (
    AbortRound,
    Audit,
    DeleteUploads,
    Effect,
    EndHolders,
    PublishResult,
    StoreRound,
)
from secagg.roles.coordinator.events import CancelRequested
from secagg.roles.coordinator.state import CkksRoundState, RoundState, StateT
from secagg.roles.machine import Step

RoundStep: TypeAlias = Step[StateT, Effect]
CkksStep: TypeAlias = Step[CkksRoundState, Effect]


def unchanged(state: StateT) -> RoundStep[StateT]:
    """Take note of nothing: a repetition, or a timer that came too late."""
    return Step(state=state, effects=())


def stored(state: StateT, *effects: Effect) -> RoundStep[StateT]:
    """Move to ``state``; what is sent waits until it is durable."""
    return Step(state=state, effects=(StoreRound(), *effects))


def abort(state: StateT, reason: str, have: int | None = None, need: int | None = None) -> RoundStep[StateT]:
    """End the round without a result."""
    ended = replace(state, phase=Phase.ABORTED, reason=reason, have=have, need=need)
    audit = Audit(event="round-aborted", details={"reason": reason, "phase": state.phase.value})
    return stored(ended, AbortRound(reason=reason, have=have, need=need), *clean_up(ended), audit)


def clean_up(state: RoundState) -> tuple[Effect, ...]:
    """Return what either end owes: shares destroyed, uploads deleted."""
    if not isinstance(state, CkksRoundState):
        return (DeleteUploads(),)
    holders = state.group.holders if state.plan is not None else state.spec.ckks.holders
    return (EndHolders(holders=holders), DeleteUploads())


def cancelled(state: StateT, event: CancelRequested) -> RoundStep[StateT]:
    """End the round at the coordinator's own wish, whatever the phase."""
    return abort(state, event.reason)


def result_of(state: RoundState, *, total_weight: float, mean_digest: Digest, mean_bytes: int) -> Result:
    """Return what is signed: the sum's own total weight, or the minimum where it is below that by no more than its error."""
    return Result(
        plan_digest=state.certified.digest,
        roster_digest=state.frozen_digest,
        contributors=state.contributors,
        # Within the error of the minimum counts as the minimum: clients compare without knowing the error.
        total_weight=max(total_weight, state.spec.min_total_weight),
        mean_digest=mean_digest,
        mean_bytes=mean_bytes,
    )


def too_light(state: RoundState, weight: float, error: float) -> str | None:
    """Return why a sum of this weight must not be published, or None. ``error``: how far it may be off, in the same units."""
    least = state.spec.min_total_weight
    if math.isfinite(weight) and weight + error >= least:
        return None
    return f"the total weight {weight:.6g} is below min_total_weight {least:g}"


def published(state: StateT, result: Result, details: Mapping[str, str | int | float]) -> RoundStep[StateT]:
    """End the round with a result."""
    ended = replace(state, phase=Phase.PUBLISHED, result=result)
    shown = {"contributors": len(result.contributors), "mean": result.mean_digest.hex(), **details}
    step = stored(ended)
    # The result is signed first, so that what is stored is what will be shown.
    effects = (
        PublishResult(result=result),
        *step.effects,
        *clean_up(ended),
        Audit(event="round-published", details=shown),
    )
    return replace(step, effects=effects)
