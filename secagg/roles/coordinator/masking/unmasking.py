"""CONFIRMING and UNMASKING: one set of survivors, then its shares, then its sum (``docs/protocol.md``, 10.5 to 10.7)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from secagg.errors import ConflictError, FaultyClientError, MessageError
from secagg.ids import ClientId
from secagg.masking.unmasking import proven, verify_revealed
from secagg.messages.masking import Confirmation, Unmasking
from secagg.messages.round import Phase
from secagg.roles.coordinator.effects import Audit, SetDeadline, SetGrace, UnmaskSum
from secagg.roles.coordinator.ending import abort, published, result_of, stored, too_light, unchanged
from secagg.roles.coordinator.events import (
    ConfirmationReceived,
    DeadlinePassed,
    GraceOver,
    SumUnmasked,
    UnmaskingFailed,
    UnmaskingReceived,
)
from secagg.roles.coordinator.masking.sharing import check_member
from secagg.roles.coordinator.masking.state import MaskingRoundState, MaskingStep
from secagg.roles.coordinator.state import named

GRACE_SECONDS = 2.0
"""How long confirmations beyond those that are needed are waited for: who did not confirm reveals nothing."""


def confirmation_received(state: MaskingRoundState, event: ConfirmationReceived) -> MaskingStep:
    """Count a confirmation; the last one, or enough of them and a grace, start the unmasking."""
    confirmation = event.confirmation.message
    if _is_repetition(state, confirmation):
        return unchanged(state)
    confirmed = replace(state, confirmations={**state.confirmations, confirmation.client: event.confirmation})
    if len(confirmed.confirmations) == len(confirmed.survivors):
        return _start_unmasking(confirmed)
    if _confirmed_enough(confirmed) and not _confirmed_enough(state):
        return stored(confirmed, SetGrace(seconds=GRACE_SECONDS))
    return stored(confirmed)


def confirmation_late(state: MaskingRoundState, event: ConfirmationReceived) -> MaskingStep:
    """Take a confirmation that came after the quorum: its client can still reveal its shares, which may be needed."""
    confirmation = event.confirmation.message
    if _is_repetition(state, confirmation):
        return unchanged(state)
    return stored(replace(state, confirmations={**state.confirmations, confirmation.client: event.confirmation}))


def _is_repetition(state: MaskingRoundState, confirmation: Confirmation) -> bool:
    known = state.confirmations.get(confirmation.client)
    if known is not None and known.message != confirmation:
        raise ConflictError(f"client {confirmation.client} has confirmed something else")
    _check_survivor(state, confirmation)
    return known is not None


def _check_survivor(state: MaskingRoundState, message: Confirmation | Unmasking) -> None:
    check_member(state, message.client)
    if message.client not in state.survivors:
        raise FaultyClientError(message.client, "it is not among the survivors")
    if message.plan_digest != state.certified.digest or message.roster_digest != state.frozen_digest:
        raise FaultyClientError(message.client, "it signed for another plan or roster")
    if message.survivors_digest != state.survivors_digest:
        raise FaultyClientError(message.client, "it signed another set of survivors")


def _confirmed_enough(state: MaskingRoundState) -> bool:
    """Whether the quorum is there, and those who confirmed hold a threshold of every sharer's shares."""
    if len(state.confirmations) < state.quorum:
        return False
    house = state.neighbourhood
    held = house.living(house.members(frozenset(state.confirmations)))
    return bool(np.all(held[house.members(state.sharers)] >= state.threshold))


def grace_over(state: MaskingRoundState, _event: GraceOver) -> MaskingStep:
    """Go on without the survivors that take their time."""
    return _start_unmasking(state) if _confirmed_enough(state) else unchanged(state)


def confirming_deadline(state: MaskingRoundState, event: DeadlinePassed) -> MaskingStep:
    """Go on with those that confirmed in time, or end the round."""
    if event.phase is not Phase.CONFIRMING:
        return unchanged(state)
    if _confirmed_enough(state):
        return _start_unmasking(state)
    missing = named(set(state.survivors) - set(state.confirmations))
    reason = f"too few survivors confirmed the sum: {missing} did not in time"
    return abort(state, reason, len(state.confirmations), state.quorum)


def _start_unmasking(state: MaskingRoundState) -> MaskingStep:
    asking = replace(state, phase=Phase.UNMASKING)
    deadline = SetDeadline(phase=Phase.UNMASKING, seconds=state.spec.deadlines.unmasking_seconds)
    missing = named(set(state.survivors) - set(state.confirmations))
    details: dict[str, str | int | float] = {
        "confirmations": len(state.confirmations),
        "quorum": state.quorum,
        "not_waited_for": missing,
    }
    return stored(asking, deadline, Audit(event="survivors-confirmed", details=details))


def unmasking_received(state: MaskingRoundState, event: UnmaskingReceived) -> MaskingStep:
    """Take a survivor's shares, once; enough of every secret's start the recovery."""
    unmasking = event.unmasking.message
    known = state.unmaskings.get(unmasking.client)
    if known is not None:
        return _repeated(state, known.message, unmasking)
    _check_unmasking(state, unmasking)
    taken = replace(
        state,
        unmaskings={**state.unmaskings, unmasking.client: event.unmasking},
        revealed=_counted(state, unmasking),
    )
    return _consider(taken)


def _counted(state: MaskingRoundState, unmasking: Unmasking) -> npt.NDArray[np.intp]:
    """Return how many shares of each position's secret there are with these."""
    house = state.neighbourhood
    there = np.fromiter((bool(share) for share in unmasking.shares), dtype=np.bool_, count=state.degree)
    counts = np.zeros(len(house.clients), dtype=np.intp) if state.revealed is None else state.revealed.copy()
    counts[house.graph[house.places[unmasking.client]][there]] += 1
    return counts


def _repeated(state: MaskingRoundState, known: Unmasking, unmasking: Unmasking) -> MaskingStep:
    if known != unmasking:
        raise ConflictError(f"client {unmasking.client} has revealed other shares")
    return unchanged(state)


def _check_unmasking(state: MaskingRoundState, unmasking: Unmasking) -> None:
    client = unmasking.client
    _check_survivor(state, unmasking)
    if client not in state.confirmations:
        raise FaultyClientError(client, "it reveals shares, and has not confirmed the survivors")
    try:
        verify_revealed(unmasking.shares, state.degree)
    except MessageError as error:
        raise FaultyClientError(client, error.reason) from error


def _consider(state: MaskingRoundState) -> MaskingStep:
    """Recover, wait, or give up, by the shares that are there and those that may still come."""
    if state.unmasking:
        return stored(state)
    if _revealed_enough(state):
        return stored(replace(state, unmasking=True), UnmaskSum())
    if state.closing or len(state.unmaskings) == len(state.survivors):
        return abort(state, _too_few_shares(state), len(state.unmaskings), len(state.survivors))
    return stored(state)


def _revealed_enough(state: MaskingRoundState) -> bool:
    return not _short_of_shares(state)


def _short_of_shares(state: MaskingRoundState) -> tuple[ClientId, ...]:
    """Return the sharers of whose secrets fewer than a threshold of shares are there."""
    counts, house = state.revealed, state.neighbourhood
    if counts is None:
        return state.sharers
    return tuple(client for client in state.sharers if counts[house.places[client]] < state.threshold)


def _too_few_shares(state: MaskingRoundState) -> str:
    owners, missing = named(_short_of_shares(state)), named(set(state.survivors) - set(state.unmaskings))
    if missing:
        return f"too few shares to take the masks off, of {owners}: {missing} did not reveal theirs in time"
    guilty = _who_kept_back(state)
    if guilty:
        return f"too few shares to take the masks off: {named(guilty)} dealt or revealed shares that are worth nothing"
    return f"too few shares to take the masks off, of {owners}: others revealed none of theirs"


def _who_kept_back(state: MaskingRoundState) -> tuple[ClientId, ...]:
    """Name whose empty places are its own doing: more of them than clients can be corrupt, whether it dealt or revealed."""
    house = state.neighbourhood
    sharers = {house.places[client] for client in state.sharers}
    empty = [
        (owner, house.places[client])
        for client, one in state.unmaskings.items()
        for owner, share in zip(house.graph[house.places[client]].tolist(), one.message.shares, strict=True)
        if not share and owner in sharers
    ]
    most_corrupt = 2 * state.threshold - state.degree - 1
    return tuple(house.clients[place] for place in sorted(proven(empty, most_corrupt)))


def unmasking_deadline(state: MaskingRoundState, event: DeadlinePassed) -> MaskingStep:
    """Wait for nobody any more."""
    return _consider(replace(state, closing=True)) if event.phase is Phase.UNMASKING else unchanged(state)


def sum_unmasked(state: MaskingRoundState, event: SumUnmasked) -> MaskingStep:
    """Publish the mean of the survivors, unless it weighs too little."""
    if not state.unmasking:
        return unchanged(state)
    done = replace(state, unmasking=False)
    reason = too_light(done, event.total_weight, weight_error(state))
    if reason is not None:
        return abort(done, reason)
    result = result_of(
        done, total_weight=event.total_weight, mean_digest=event.mean_digest, mean_bytes=event.mean_bytes
    )
    details: dict[str, str | int | float] = {
        "total_weight": event.total_weight,
        "faulty_clients": named(event.liars),
        "unmaskings": len(done.unmaskings),
    }
    return published(done, result, details)


def weight_error(state: MaskingRoundState) -> float:
    """Return how far a total weight may be off, in the callers' units: each contribution is rounded by less than one step."""
    spec, parameters = state.spec, state.spec.masking_parameters
    return len(state.survivors) * parameters.step * spec.max_weight / spec.clip


def unmasking_failed(state: MaskingRoundState, event: UnmaskingFailed) -> MaskingStep:
    """Wait for other shares where they may help, else end the round."""
    if not state.unmasking:
        return unchanged(state)
    failed = replace(state, unmasking=False)
    audit = Audit(event="unmasking-failed", details={"reason": event.reason})
    if not event.can_wait:
        return abort(failed, event.reason)
    if len(state.unmaskings) > event.used:
        again = _consider(failed)
        return replace(again, effects=(*again.effects, audit))
    waiting = not state.closing and len(state.unmaskings) < len(state.survivors)
    return stored(failed, audit) if waiting else abort(failed, event.reason)
