"""A round that is gone on with: whatever was asked and has not come is asked again, and what comes twice counts once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pytest

from coordinator.rounds.kept_events import KEPT_EVENTS
from secagg.errors import SecAggError
from secagg.messages.round import Phase
from secagg.roles.coordinator import rules
from secagg.roles.coordinator.effects import (
    AskApprovals,
    AskDecryption,
    AskSeals,
    Effect,
    OpenSum,
    SetDeadline,
    SetGrace,
    UnmaskSum,
)
from secagg.roles.coordinator.events import (
    AnswerReceived,
    ApprovalReceived,
    CancelRequested,
    ConfirmationReceived,
    GraceOver,
    HolderLost,
    JoinReceived,
    KeyFailed,
    OpeningFailed,
    SealReceived,
    SharesReceived,
    SumOpened,
    SumUnmasked,
    UnmaskingFailed,
    UnmaskingReceived,
    UploadVerified,
    VectorVerified,
)
from secagg.roles.coordinator.masking.rules import MASKING
from secagg.roles.coordinator.resuming import phase_seconds, resumed
from secagg.roles.coordinator.state import CkksRoundState, RoundState
from tests.machines.coordinator_walks import Taken, bare, walks

ENDING = {KeyFailed, SumOpened, SumUnmasked, CancelRequested}
COUNTED_ONCE = (
    JoinReceived,
    SealReceived,
    UploadVerified,
    ApprovalReceived,
    AnswerReceived,
    HolderLost,
    SharesReceived,
    VectorVerified,
    ConfirmationReceived,
    UnmaskingReceived,
)


def asked(effects: Iterable[Effect]) -> set[tuple[str, str]]:
    """Return what effects have done by others, each by its kind and by whom."""
    found: set[tuple[str, str]] = set()
    for effect in effects:
        match effect:
            case AskSeals() | AskApprovals() | AskDecryption():
                found |= {(type(effect).__name__, holder) for holder in effect.holders}
            case OpenSum() | UnmaskSum():
                found.add((type(effect).__name__, ""))
            case SetGrace():
                found.add(("SetGrace", ""))
    return found


class Debts:
    """What a round asked for and has not got, by its effects and events alone."""

    def __init__(self) -> None:
        self.owed: set[tuple[str, str]] = set()

    def take(self, taken: Taken) -> None:
        event, state = taken.event, taken.after
        match event:
            case SealReceived():
                self.owed.discard(("AskSeals", event.seal.message.holder))
            case ApprovalReceived():
                self.owed.discard(("AskApprovals", event.approval.message.holder))
            case AnswerReceived():
                self.owed.discard(("AskDecryption", event.holder))
            case SumOpened() | OpeningFailed():
                self.owed.discard(("OpenSum", ""))
            case SumUnmasked() | UnmaskingFailed():
                self.owed.discard(("UnmaskSum", ""))
            case GraceOver():
                self.owed.discard(("SetGrace", ""))
        if taken.before is not None and taken.before.phase is not state.phase:
            self.owed -= {one for one in self.owed if one[0] in ("AskSeals", "SetGrace")}
        self.owed |= asked(taken.effects)
        if isinstance(state, CkksRoundState):
            self.owed -= {one for one in self.owed if one[1] in state.lost}


@pytest.mark.parametrize("masks", [False, True])
def test_what_is_owed_is_asked_for_again_and_nothing_else(*, masks: bool) -> None:
    seen: Counter[tuple[Phase, str]] = Counter()
    for steps in walks(masks=masks):
        debts = Debts()
        for taken in steps:
            debts.take(taken)
            if taken.after.phase.ended:
                break
            again = asked(resumed(taken.after))
            # A grace too many only asks whether enough is there.
            grace = {("SetGrace", "")}
            assert again - grace == debts.owed - grace
            assert debts.owed & grace <= again or taken.after.opening  # type: ignore[attr-defined]
            seen.update((taken.after.phase, what) for what, _ in debts.owed)
    if masks:
        assert {(Phase.CONFIRMING, "SetGrace"), (Phase.UNMASKING, "UnmaskSum")} <= set(seen)
    else:
        expected = {
            (Phase.FROZEN, "AskSeals"),
            (Phase.APPROVING, "AskApprovals"),
            (Phase.DECRYPTING, "AskApprovals"),
            (Phase.DECRYPTING, "AskDecryption"),
            (Phase.DECRYPTING, "OpenSum"),
            (Phase.DECRYPTING, "SetGrace"),
        }
        assert expected <= set(seen)


def test_what_is_asked_again_is_what_was_asked() -> None:
    """The same roster, the same uploads, a quorum of the same request: nobody ever signs another one."""
    for steps in walks(masks=False):
        said: dict[type, set[object]] = {AskSeals: set(), AskApprovals: set(), AskDecryption: set()}
        for taken in steps:
            for effect in (*taken.effects, *([] if taken.after.phase.ended else resumed(taken.after))):
                match effect:
                    case AskSeals():
                        joins = tuple(one.message for one in effect.roster.joins)
                        said[AskSeals].add((effect.roster.plan_digest, joins))
                    case AskApprovals():
                        uploads = tuple(one.message for one in effect.uploads)
                        said[AskApprovals].add((effect.request_digest, uploads))
                    case AskDecryption():
                        said[AskDecryption] |= {one.message.request_digest for one in effect.approvals}
                        assert len(effect.approvals) == 4
        assert all(len(words) <= 1 for words in said.values())


@pytest.mark.parametrize("masks", [False, True])
def test_what_comes_twice_counts_once(*, masks: bool) -> None:
    """It came before the coordinator died, and comes again as it is asked for again, however late."""
    for steps in walks(masks=masks):
        before: list[Taken] = []
        for taken in steps:
            before += [taken] if isinstance(taken.event, COUNTED_ONCE) else []
            for earlier in before[-4:]:
                if not taken.after.phase.ended:
                    assert again(taken.after, earlier) in (None, taken.after), type(earlier.event).__name__


def again(state: RoundState, earlier: Taken) -> RoundState | None:
    """Return the state after an event that comes again; None where it is refused."""
    assert earlier.event is not None
    try:
        step = rules.step(state, earlier.event)
    except SecAggError:
        return None
    # Taken off the list of the lost when uploads began, a holder may be lost a second time.
    if isinstance(earlier.event, HolderLost) and step.effects:
        assert earlier.after.phase is not state.phase
        return None
    assert step.effects == ()
    after: RoundState = step.state
    return after


@pytest.mark.parametrize("masks", [False, True])
def test_the_same_events_make_the_same_state(*, masks: bool) -> None:
    for steps in walks(masks=masks):
        state = steps[0].after
        for taken in steps[1:]:
            assert taken.event is not None
            state = rules.step(state, taken.event).state
        assert bare(state) == bare(steps[-1].after)


@pytest.mark.parametrize("masks", [False, True])
def test_every_phase_lasts_as_long_after_a_restart(*, masks: bool) -> None:
    """What a phase may take is what its own deadline said as it began."""
    phases = set()
    for steps in walks(masks=masks):
        for taken in steps:
            for effect in taken.effects:
                if isinstance(effect, SetDeadline) and not taken.after.phase.ended:
                    assert effect.phase is taken.after.phase
                    assert phase_seconds(taken.after) == effect.seconds
                    phases.add(effect.phase)
    assert len(phases) == (5 if masks else 6)


def test_every_event_after_which_a_round_can_run_is_kept() -> None:
    known = {event for _, event in (*rules.CKKS.moves, *MASKING.moves)}
    assert set(KEPT_EVENTS) == known - ENDING
    assert len(KEPT_EVENTS) == len(set(KEPT_EVENTS))
    seen: set[type] = set()
    for masks in (False, True):
        for steps in walks(masks=masks):
            for taken in steps:
                if taken.event is not None and not taken.after.phase.ended:
                    seen.add(type(taken.event))
    assert seen == set(KEPT_EVENTS)
