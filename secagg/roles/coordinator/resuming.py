"""What a coordinator that was restarted inside a round has to do again: whatever its state owes, and may not have been done.

Every effect may have been carried out before the restart. Holders and clients answer a repetition as they did the first time.
"""

from __future__ import annotations

from secagg.messages.round import Phase
from secagg.roles.coordinator.effects import (
    AskApprovals,
    AskDecryption,
    AskSeals,
    Effect,
    OpenSum,
    SetGrace,
    UnmaskSum,
)
from secagg.roles.coordinator.masking.state import MaskingRoundState
from secagg.roles.coordinator.masking.unmasking import GRACE_SECONDS as CONFIRMING_GRACE_SECONDS
from secagg.roles.coordinator.opening import GRACE_SECONDS as ANSWERING_GRACE_SECONDS
from secagg.roles.coordinator.state import CkksRoundState, RoundState


def resumed(state: RoundState) -> tuple[Effect, ...]:
    """Return the effects that a state still owes; its phase's deadline is the driver's to go on with."""
    if isinstance(state, CkksRoundState):
        return _resumed_ckks(state)
    if isinstance(state, MaskingRoundState):
        return _resumed_masking(state)
    raise AssertionError(f"no machine runs a {type(state).__name__}")


def phase_seconds(state: RoundState) -> float:
    """Return how long the phase of a round that runs may last, from its beginning."""
    limits = state.spec.deadlines
    seconds = {
        Phase.KEYING: limits.keying_seconds,
        Phase.OPEN: limits.open_seconds,
        Phase.FROZEN: limits.approving_seconds,
        Phase.SHARING: limits.sharing_seconds,
        Phase.UPLOADING: limits.uploading_seconds,
        Phase.CONFIRMING: limits.confirming_seconds,
        Phase.UNMASKING: limits.unmasking_seconds,
        Phase.APPROVING: limits.approving_seconds,
        Phase.DECRYPTING: limits.decrypting_seconds,
    }
    return seconds[state.phase]


def _resumed_ckks(state: CkksRoundState) -> tuple[Effect, ...]:
    if state.phase is Phase.FROZEN:
        left = frozenset(state.group.holders) - frozenset(state.seals) - state.lost
        return (AskSeals(roster=state.roster, holders=tuple(sorted(left))),)
    if state.phase is Phase.APPROVING:
        return (_approvals(state),)
    if state.phase is Phase.DECRYPTING:
        return (_approvals(state), *_answers(state))
    return ()


def _approvals(state: CkksRoundState) -> AskApprovals:
    """Ask whoever has not approved; where nobody is left, the uploads are added up all the same."""
    if state.request_digest is None:
        raise AssertionError("nobody approves before the uploads are closed")
    holders = tuple(sorted(state.hesitating))
    return AskApprovals(request_digest=state.request_digest, uploads=state.contributions, holders=holders)


def _answers(state: CkksRoundState) -> tuple[Effect, ...]:
    quorum = tuple(state.approvals.values())[: state.group.quorum]
    asked: tuple[Effect, ...] = ()
    if state.pending:
        asked = (AskDecryption(approvals=quorum, holders=tuple(sorted(state.pending))),)
    if state.opening:
        usable = tuple(holder for holder in state.group.holders if holder in state.usable)
        return (*asked, OpenSum(holders=usable))
    return (*asked, SetGrace(seconds=ANSWERING_GRACE_SECONDS))


def _resumed_masking(state: MaskingRoundState) -> tuple[Effect, ...]:
    if state.phase is Phase.CONFIRMING:
        return (SetGrace(seconds=CONFIRMING_GRACE_SECONDS),)
    if state.phase is Phase.UNMASKING and state.unmasking:
        return (UnmaskSum(),)
    return ()
