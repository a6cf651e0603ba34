"""APPROVING and DECRYPTING: a quorum, then answers, then the sum (``docs/protocol.md``, section 6)."""

from __future__ import annotations

from dataclasses import replace

from secagg.errors import FaultyKeyHolderError
from secagg.ids import HolderId
from secagg.messages.round import Approval, HolderVerdict, Phase
from secagg.roles.coordinator.effects import AskDecryption, Audit, OpenSum, SetDeadline, SetGrace
from secagg.roles.coordinator.ending import CkksStep, abort, published, result_of, stored, too_light, unchanged
from secagg.roles.coordinator.events import (
    AnswerReceived,
    ApprovalReceived,
    DeadlinePassed,
    GraceOver,
    HolderLost,
    HolderSilent,
    OpeningFailed,
    SumOpened,
)
from secagg.roles.coordinator.state import CkksRoundState, accounts, named

GRACE_SECONDS = 2.0
"""How long answers beyond t + 1 are waited for: t + 1 detect a liar, t + 2 name it."""
_WEIGHT_DEVIATIONS = 8.0


def approval_received(state: CkksRoundState, event: ApprovalReceived) -> CkksStep:
    """Count an approval; the quorum starts the decryption."""
    approval = event.approval.message
    _check_approval(state, approval)
    if approval.holder in state.approvals or approval.holder in state.lost:
        return unchanged(state)
    approvals = {**state.approvals, approval.holder: event.approval}
    approved = replace(state, approvals=approvals).with_verdict(approval.holder, HolderVerdict.OK, "")
    if len(approvals) < state.group.quorum:
        return stored(approved)
    return _start_decryption(approved)


def _check_approval(state: CkksRoundState, approval: Approval) -> None:
    holder = approval.holder
    if holder not in state.group.holders:
        raise FaultyKeyHolderError(holder, "it approved, and does not hold this key")
    if approval.key_id != state.certified.ckks.key_id:
        raise FaultyKeyHolderError(holder, "it approved for another key")
    if approval.request_digest != state.request_digest:
        raise FaultyKeyHolderError(holder, "it approved another set of contributions")


def _start_decryption(state: CkksRoundState) -> CkksStep:
    holders = frozenset(state.approvals)
    asking = replace(state, phase=Phase.DECRYPTING, asked=holders)
    deadline = SetDeadline(phase=Phase.DECRYPTING, seconds=state.spec.deadlines.decrypting_seconds)
    audit = Audit(event="quorum-reached", details={"holders": named(holders), "quorum": state.group.quorum})
    return stored(asking, deadline, _ask(asking, holders), audit)


def _ask(state: CkksRoundState, holders: frozenset[HolderId]) -> AskDecryption:
    quorum = tuple(state.approvals.values())[: state.group.quorum]
    return AskDecryption(approvals=quorum, holders=tuple(sorted(holders)))


def late_approval(state: CkksRoundState, event: ApprovalReceived) -> CkksStep:
    """Ask a holder that approved after the quorum too: its answer may name a liar."""
    approval = event.approval.message
    _check_approval(state, approval)
    if approval.holder in state.approvals or approval.holder in state.lost:
        return unchanged(state)
    more = frozenset({approval.holder})
    approvals = {**state.approvals, approval.holder: event.approval}
    approved = replace(state, approvals=approvals, asked=state.asked | more)
    approved = approved.with_verdict(approval.holder, HolderVerdict.OK, "")
    return stored(approved, _ask(approved, more))


def holder_silent(state: CkksRoundState, event: HolderSilent) -> CkksStep:
    """Say that a holder cannot be reached, and wait for it all the same."""
    if event.holder not in state.group.holders or event.holder in state.lost:
        return unchanged(state)
    return stored(state.with_verdict(event.holder, HolderVerdict.UNREACHABLE, event.reason))


def holder_lost(state: CkksRoundState, event: HolderLost) -> CkksStep:
    """Give up waiting for a holder; end the round when too few are left."""
    if event.holder not in state.group.holders or event.holder in state.lost:
        return unchanged(state)
    left = state.without(event.holder, event.verdict, event.reason)
    step = _consider(left) if state.phase is Phase.DECRYPTING else _go_on_without(left)
    details = {"holder": event.holder, "verdict": event.verdict.value, "reason": event.reason}
    return replace(step, effects=(*step.effects, Audit(event="holder-lost", details=details)))


def _go_on_without(left: CkksRoundState) -> CkksStep:
    have = len(frozenset(left.group.holders) - left.lost)
    if have < left.group.quorum:
        return _abort_approving(left, "too few key holders can approve", have)
    return stored(left)


def _abort_approving(state: CkksRoundState, reason: str, have: int) -> CkksStep:
    missing = sorted(frozenset(state.group.holders) - frozenset(state.approvals))
    return abort(state, f"{reason}: {accounts(state, missing)}", have, state.group.quorum)


def approving_deadline(state: CkksRoundState, event: DeadlinePassed) -> CkksStep:
    """End the round: the quorum did not come in time."""
    if event.phase is not Phase.APPROVING:
        return unchanged(state)
    late = state
    for holder in sorted(state.hesitating):
        late = late.without(holder, HolderVerdict.UNREACHABLE, "it did not approve in time")
    return _abort_approving(late, "too few approvals in time", len(state.approvals))


def answer_received(state: CkksRoundState, event: AnswerReceived) -> CkksStep:
    """Take note of an answer, and open the sum when there are enough."""
    holder = event.holder
    if holder not in state.asked:
        raise FaultyKeyHolderError(holder, "it answered a decryption that it was not asked for")
    if holder in state.answered or holder in state.lost:
        return unchanged(state)
    answers = {**state.answers, holder: event}
    answered = replace(state, answered=(*state.answered, holder), answers=answers)
    answered = answered.with_verdict(holder, HolderVerdict.OK, "")
    step = _consider(answered)
    if len(answered.usable) == state.group.threshold + 1 and not step.state.opening and not step.state.phase.ended:
        return replace(step, effects=(*step.effects, SetGrace(seconds=GRACE_SECONDS)))
    return step


def grace_over(state: CkksRoundState, _event: GraceOver) -> CkksStep:
    """Open with t + 1 answers when the others take their time."""
    if state.opening or len(state.usable) <= state.group.threshold or state.usable == state.failed_with:
        return unchanged(state)
    return _open(state)


def _consider(state: CkksRoundState) -> CkksStep:
    """Open, wait, or give up, by the answers that are there and those that may still come."""
    if state.opening:
        return stored(state)
    t, usable = state.group.threshold, state.usable
    if len(usable) >= t and usable != state.failed_with:
        enough = len(usable) >= t + 2 or not state.pending or state.closing
        return _open(state) if enough else stored(state)
    if state.closing or not (state.pending or state.hesitating):
        return _abort_decrypting(state)
    return stored(state)


def _open(state: CkksRoundState) -> CkksStep:
    usable = tuple(holder for holder in state.group.holders if holder in state.usable)
    return stored(replace(state, opening=True, failed_with=state.usable), OpenSum(holders=usable))


def _abort_decrypting(state: CkksRoundState) -> CkksStep:
    usable, t = state.usable, state.group.threshold
    if len(usable) >= t:
        reason = f"the answers of {named(usable)} do not belong together, and no other holder answered"
        return abort(state, reason)
    missing = sorted(frozenset(state.group.holders) - usable)
    return abort(state, f"too few key holders answered: {accounts(state, missing)}", len(usable), t)


def decrypting_deadline(state: CkksRoundState, event: DeadlinePassed) -> CkksStep:
    """Wait for nobody any more: open with what is there, or end the round."""
    if event.phase is not Phase.DECRYPTING:
        return unchanged(state)
    late = replace(state, closing=True)
    for holder in sorted(state.pending | state.hesitating):
        late = late.without(holder, HolderVerdict.UNREACHABLE, "it did not answer in time")
    return _consider(late)


def sum_opened(state: CkksRoundState, event: SumOpened) -> CkksStep:
    """Publish the mean of an opened sum, unless it weighs too little."""
    if not state.opening:
        return unchanged(state)
    opened = replace(_clear(_blame(state, event.liars)), opening=False)
    reason = too_light(opened, event.total_weight, weight_error(state))
    if reason is not None:
        return abort(opened, reason)
    result = result_of(
        opened, total_weight=event.total_weight, mean_digest=event.mean_digest, mean_bytes=event.mean_bytes
    )
    details: dict[str, str | int | float] = {
        "total_weight": event.total_weight,
        "faulty_holders": named(event.liars),
        "not_waited_for": named(opened.pending | opened.hesitating),
    }
    return published(opened, result, details)


def weight_error(state: CkksRoundState) -> float:
    """Return how far an honest total weight may be off, in the callers' units: a sum exactly at the minimum must pass."""
    spec = state.spec
    error = state.certified.parameters.value_error(len(state.uploads))
    return _WEIGHT_DEVIATIONS * error * spec.max_weight / spec.clip


def _blame(state: CkksRoundState, liars: tuple[HolderId, ...]) -> CkksRoundState:
    for holder in liars:
        state = state.without(holder, HolderVerdict.FAULTY, "its answer is not on the polynomial of the others")
    return state


def _clear(state: CkksRoundState) -> CkksRoundState:
    """Take suspicion back from those whose answers opened the sum."""
    for holder in state.usable:
        if state.holders[holder].verdict is HolderVerdict.SUSPECT:
            state = state.with_verdict(holder, HolderVerdict.OK, "")
    return state


def opening_failed(state: CkksRoundState, event: OpeningFailed) -> CkksStep:
    """Drop named liars and try the rest; with suspects only, wait for another answer."""
    if not state.opening:
        return unchanged(state)
    failed = replace(_blame(state, event.liars), opening=False)
    for holder in event.suspects:
        failed = failed.with_verdict(holder, HolderVerdict.SUSPECT, "its answer and the others' do not belong together")
    if not event.can_wait:
        return abort(failed, event.reason)
    step = _consider(failed)
    audit = Audit(event="opening-failed", details={"liars": named(event.liars), "suspects": named(event.suspects)})
    return replace(step, effects=(*step.effects, audit))
