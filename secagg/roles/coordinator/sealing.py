"""FROZEN: a quorum of holders seals the roster, and only then a client sees it (``docs/protocol.md``, 5.4)."""

from __future__ import annotations

from dataclasses import replace

from secagg.errors import FaultyKeyHolderError
from secagg.messages.round import HolderVerdict, Phase, RosterSeal
from secagg.roles.coordinator.effects import Audit, SetDeadline
from secagg.roles.coordinator.ending import CkksStep, abort, stored, unchanged
from secagg.roles.coordinator.events import DeadlinePassed, HolderLost, SealReceived
from secagg.roles.coordinator.state import CkksRoundState, accounts, named


def seal_received(state: CkksRoundState, event: SealReceived) -> CkksStep:
    """Count a seal; the quorum shows the roster to the clients and takes uploads from now on."""
    seal = event.seal.message
    _check_seal(state, seal)
    if seal.holder in state.seals or seal.holder in state.lost:
        return unchanged(state)
    seals = {**state.seals, seal.holder: event.seal}
    sealed = replace(state, seals=seals).with_verdict(seal.holder, HolderVerdict.OK, "")
    return stored(sealed) if len(seals) < state.group.quorum else _take_uploads(sealed)


def _check_seal(state: CkksRoundState, seal: RosterSeal) -> None:
    holder = seal.holder
    if holder not in state.group.holders:
        raise FaultyKeyHolderError(holder, "it sealed the roster, and does not hold this key")
    if seal.key_id != state.certified.ckks.key_id:
        raise FaultyKeyHolderError(holder, "it sealed the roster for another key")
    if seal.roster_digest != state.roster_digest:
        raise FaultyKeyHolderError(holder, "it sealed another roster")


def _take_uploads(state: CkksRoundState) -> CkksStep:
    # Who was down when the roster was sealed may be up again when the sum is opened; who is proven faulty stays lost.
    faulty = {name for name in state.lost if state.holders[name].verdict is HolderVerdict.FAULTY}
    uploading = replace(state, phase=Phase.UPLOADING, lost=frozenset(faulty))
    deadline = SetDeadline(phase=Phase.UPLOADING, seconds=state.spec.deadlines.uploading_seconds)
    audit = Audit(event="roster-sealed", details={"holders": named(state.seals), "quorum": state.group.quorum})
    return stored(uploading, deadline, audit)


def holder_lost(state: CkksRoundState, event: HolderLost) -> CkksStep:
    """Give up waiting for a holder's seal; end the round when too few are left."""
    if event.holder not in state.group.holders or event.holder in state.lost or event.holder in state.seals:
        return unchanged(state)
    left = state.without(event.holder, event.verdict, event.reason)
    have = len(frozenset(left.group.holders) - left.lost)
    enough = have >= left.group.quorum
    step = stored(left) if enough else _abort(left, "too few key holders can seal the roster", have)
    details = {"holder": event.holder, "verdict": event.verdict.value, "reason": event.reason}
    return replace(step, effects=(*step.effects, Audit(event="holder-lost", details=details)))


def sealing_deadline(state: CkksRoundState, event: DeadlinePassed) -> CkksStep:
    """End the round: the seals did not come in time, and nobody has uploaded."""
    if event.phase is not Phase.FROZEN:
        return unchanged(state)
    late = state
    for holder in sorted(frozenset(state.group.holders) - frozenset(state.seals) - state.lost):
        late = late.without(holder, HolderVerdict.UNREACHABLE, "it did not seal the roster in time")
    return _abort(late, "too few seals of the roster in time", len(state.seals))


def _abort(state: CkksRoundState, reason: str, have: int) -> CkksStep:
    missing = sorted(frozenset(state.group.holders) - frozenset(state.seals))
    return abort(state, f"{reason}: {accounts(state, missing)}", have, state.group.quorum)
