"""OPEN and SHARING: keys, the roster with its graph, and who has shared its secrets (``docs/protocol.md``, 10.1 to 10.3)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from secagg import transcript
from secagg.errors import ConflictError, FaultyClientError, LateError, MessageError, PlanError
from secagg.ids import ClientId
from secagg.masking.agreement import verify_public_key
from secagg.masking.planner import plan_numbers
from secagg.masking.shamir import SEALED_PAIR_BYTES
from secagg.messages.masking import MaskingJoin, Shares
from secagg.messages.round import Phase
from secagg.roles.coordinator.effects import Audit, SetDeadline
from secagg.roles.coordinator.ending import abort, stored, unchanged
from secagg.roles.coordinator.events import DeadlinePassed, JoinReceived, SharesReceived
from secagg.roles.coordinator.joining import close_roster, enter
from secagg.roles.coordinator.masking.state import MaskingRoundState, MaskingStep
from secagg.roles.coordinator.state import named
from secagg.roles.neighbourhood import Neighbourhood


def join_received(state: MaskingRoundState, event: JoinReceived) -> MaskingStep:
    """Enter a client with its keys; the last place taken freezes the roster."""
    return enter(state, event, check=_check_join, freeze=_freeze)


def _check_join(state: MaskingRoundState, join: MaskingJoin) -> None:
    if join.plan_digest != state.certified.digest:
        raise FaultyClientError(join.client, "its join is for another plan")
    keys = {join.mask_key, join.share_key}
    try:
        for key in keys:
            verify_public_key(key)
    except MessageError as error:
        raise FaultyClientError(join.client, error.reason) from error
    if len(keys) < 2 or any(keys & {other.message.mask_key, other.message.share_key} for other in state.joins.values()):
        raise FaultyClientError(join.client, "a key of its join is a copy of another key")


def open_deadline(state: MaskingRoundState, event: DeadlinePassed) -> MaskingStep:
    """Freeze the roster when enough clients joined in time."""
    return close_roster(state, event, freeze=_freeze)


def _freeze(state: MaskingRoundState) -> MaskingStep:
    masking, spec = state.spec.masking, state.spec
    try:
        numbers = plan_numbers(
            len(state.joins),
            corrupt_fraction=masking.corrupt_fraction,
            dropout_fraction=masking.dropout_fraction,
            min_contributors=spec.min_contributors,
        )
    except PlanError as error:
        return abort(state, f"no graph serves a roster of {len(state.joins)}: {error.reason}")
    numbered = replace(state, degree=numbers.neighbours, threshold=numbers.threshold, quorum=numbers.quorum)
    digest = transcript.masking_roster_digest(numbered.roster)
    house = Neighbourhood.of(
        digest,
        numbered.clients,
        degree=numbers.neighbours,
        threshold=numbers.threshold,
        quorum=numbers.quorum,
    )
    frozen = replace(numbered, phase=Phase.SHARING, roster_digest=digest, house=house)
    details: dict[str, str | int | float] = {
        "clients": numbers.clients,
        "roster": digest.hex(),
        "neighbours": numbers.neighbours,
        "threshold": numbers.threshold,
        "quorum": numbers.quorum,
    }
    deadline = SetDeadline(phase=Phase.SHARING, seconds=spec.deadlines.sharing_seconds)
    return stored(frozen, deadline, Audit(event="roster-frozen", details=details))


def shares_received(state: MaskingRoundState, event: SharesReceived) -> MaskingStep:
    """Take a client's sealed shares, once; the last ones end the phase."""
    shares = event.shares.message
    if _is_repetition(state, shares):
        return unchanged(state)
    _check_shares(state, shares)
    taken = replace(state, shares={**state.shares, shares.client: event.shares})
    return _close(taken) if len(taken.shares) == len(taken.joins) else stored(taken)


def _is_repetition(state: MaskingRoundState, shares: Shares) -> bool:
    known = state.shares.get(shares.client)
    # Sealing is deterministic, so a client that sends its shares again sends the same bytes.
    if known is not None and known.message != shares:
        raise ConflictError(f"client {shares.client} has sent other shares")
    return known is not None


def _check_shares(state: MaskingRoundState, shares: Shares) -> None:
    check_member(state, shares.client)
    if shares.plan_digest != state.certified.digest:
        raise FaultyClientError(shares.client, "its shares are for another plan")
    if shares.roster_digest != state.frozen_digest:
        raise FaultyClientError(shares.client, "its shares are signed for another roster")
    if len(shares.sealed) != state.degree:
        raise FaultyClientError(
            shares.client, f"it sealed {len(shares.sealed)} shares, and has {state.degree} neighbours"
        )
    if any(len(sealed) != SEALED_PAIR_BYTES for sealed in shares.sealed):
        raise FaultyClientError(shares.client, f"a pair of shares that it sealed has not {SEALED_PAIR_BYTES} bytes")


def check_member(state: MaskingRoundState, client: ClientId) -> None:
    """Raise :class:`FaultyClientError` unless the client is in the roster."""
    if client not in state.joins:
        raise FaultyClientError(client, "it is not in the frozen roster")


def shares_late(state: MaskingRoundState, event: SharesReceived) -> MaskingStep:
    """Answer a repetition; refuse everything else."""
    shares = event.shares.message
    if _is_repetition(state, shares):
        return unchanged(state)
    raise LateError(f"the shares of round {state.round} are closed, client {shares.client} has dropped out of it")


def sharing_deadline(state: MaskingRoundState, event: DeadlinePassed) -> MaskingStep:
    """Go on with those that shared in time."""
    return _close(state) if event.phase is Phase.SHARING else unchanged(state)


def _close(state: MaskingRoundState) -> MaskingStep:
    sharers = _well_connected(state)
    have, need = len(sharers), max(state.spec.min_contributors, state.quorum)
    if have < need:
        return abort(state, f"too few clients shared their secrets: {_absence(state, sharers)}", have, need)
    digest = transcript.sharers_digest(state.frozen_digest, sharers)
    closed = replace(state, phase=Phase.UPLOADING, sharers=sharers, sharers_digest=digest)
    deadline = SetDeadline(phase=Phase.UPLOADING, seconds=state.spec.deadlines.uploading_seconds)
    details: dict[str, str | int | float] = {"sharers": have, "dropped": named(set(state.joins) - set(sharers))}
    return stored(closed, deadline, Audit(event="shares-closed", details=details))


def _absence(state: MaskingRoundState, sharers: tuple[ClientId, ...]) -> str:
    """Say who sent no shares, and who did and has too few neighbours left."""
    silent = set(state.joins) - set(state.shares)
    lonely = set(state.shares) - set(sharers)
    words = [f"{named(silent)} did not in time"] if silent else []
    if lonely:
        words.append(f"{named(lonely)} did, and have fewer than {state.threshold} neighbours that did")
    return "; ".join(words)


def _well_connected(state: MaskingRoundState) -> tuple[ClientId, ...]:
    """Return the most clients of which each has a threshold of neighbours among them: the secrets of no other could be opened."""
    house = state.neighbourhood
    members = house.members(frozenset(state.shares))
    while True:
        kept = members & (house.living(members) >= state.threshold)
        if np.array_equal(kept, members):
            return tuple(client for client, is_in in zip(house.clients, kept.tolist(), strict=True) if is_in)
        members = kept
