"""How a round ends, and the steps that every handler is made of."""

from __future__ import annotations

from dataclasses import replace

from secagg.messages.round import Phase
from secagg.roles.coordinator.effects import (
    AbortRound,
    Audit,
    DeleteUploads,
    Effect,
    EndHolders,
    StoreRound,
)
from secagg.roles.coordinator.events import CancelRequested
from secagg.roles.coordinator.state import RoundState
from secagg.roles.machine import Step

RoundStep = Step[RoundState, Effect]


def unchanged(state: RoundState) -> RoundStep:
    """Take note of nothing: a repetition, or a timer that came too late."""
    return Step(state=state, effects=())


def stored(state: RoundState, *effects: Effect) -> RoundStep:
    """Move to ``state``; what is sent waits until it is durable."""
    return Step(state=state, effects=(StoreRound(), *effects))


def abort(state: RoundState, reason: str, have: int | None = None, need: int | None = None) -> RoundStep:
    """End the round without a result."""
    ended = replace(state, phase=Phase.ABORTED, reason=reason, have=have, need=need, opening=False)
    audit = Audit(event="round-aborted", details={"reason": reason, "phase": state.phase.value})
    return stored(ended, AbortRound(reason=reason, have=have, need=need), *clean_up(ended), audit)


def clean_up(state: RoundState) -> tuple[Effect, ...]:
    """Return what either end owes: shares destroyed, uploads deleted."""
    holders = state.group.holders if state.plan is not None else state.spec.protocol.holders
    return (EndHolders(holders=holders), DeleteUploads())


def cancelled(state: RoundState, event: CancelRequested) -> RoundStep:
    """End the round at the coordinator's own wish, whatever the phase."""
    return abort(state, event.reason)
