"""The client's machine: every phase with every event, and what no order of events may bring about."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from secagg.errors import SecAggError, WrongPhaseError
from secagg.roles.client import rules
from secagg.roles.client.events import (
    BuildKey,
    CiphertextReady,
    CkksEvent,
    DeliverResult,
    Effect,
    Fail,
    JoinRefused,
    PlanOffered,
    ResultPublished,
    RosterFrozen,
    RoundEnded,
    SendJoin,
    SendUpload,
    UploadAccepted,
)
from secagg.roles.client.state import ClientPhase
from tests.client_material import ALICE, BOB, CAROL, READY, offer, published, roster_of, start, state_in

EVENTS: dict[type, Any] = {
    PlanOffered: offer,
    CiphertextReady: lambda: READY,
    JoinRefused: JoinRefused,
    RosterFrozen: lambda: RosterFrozen(roster=roster_of(ALICE, BOB, CAROL)),
    UploadAccepted: UploadAccepted,
    ResultPublished: published,
    RoundEnded: lambda: RoundEnded(reason="over"),
}
_P = ClientPhase
CKKS_PHASES = (_P.OFFERED, _P.KEY_CHECKED, _P.JOINED, _P.UPLOADING, _P.WAITING, _P.DONE, _P.FAILED)
LEGAL = {
    (_P.OFFERED, PlanOffered): _P.KEY_CHECKED,
    (_P.KEY_CHECKED, CiphertextReady): _P.JOINED,
    (_P.JOINED, JoinRefused): _P.OFFERED,
    (_P.JOINED, RosterFrozen): _P.UPLOADING,
    (_P.JOINED, RoundEnded): _P.FAILED,
    (_P.UPLOADING, UploadAccepted): _P.WAITING,
    (_P.UPLOADING, RoundEnded): _P.FAILED,
    (_P.WAITING, ResultPublished): _P.DONE,
    (_P.WAITING, RoundEnded): _P.FAILED,
}


def test_the_table_above_knows_every_event() -> None:
    assert set(EVENTS) == set(get_args(CkksEvent))


@pytest.mark.parametrize("phase", CKKS_PHASES)
@pytest.mark.parametrize("kind", list(EVENTS))
def test_every_phase_with_every_event(phase: ClientPhase, kind: type) -> None:
    state, event = state_in(phase), EVENTS[kind]()
    shown = repr(state)
    target = LEGAL.get((phase, kind))
    if target is None:
        with pytest.raises(WrongPhaseError, match=f"{kind.__name__} cannot happen in phase {phase.value}"):
            rules.step(state, event)
    else:
        step = rules.step(state, event)
        assert step.state.phase is target
        assert len(step.effects) == 1
    assert repr(state) == shown


class AnyOrder(RuleBasedStateMachine):
    """Whatever arrives in whatever order."""

    def __init__(self) -> None:
        super().__init__()
        self.state = start()
        self.done: list[Effect] = []

    @rule(kind=st.sampled_from(list(EVENTS)))
    def happens(self, kind: type) -> None:
        try:
            step = rules.step(self.state, EVENTS[kind]())
        except SecAggError:
            # Only a refusal: the driver would raise it, and the state is what it was.
            return
        self.state = step.state
        self.done.extend(step.effects)

    @invariant()
    def an_update_is_uploaded_at_most_once(self) -> None:
        assert sum(isinstance(effect, SendUpload) for effect in self.done) <= 1

    @invariant()
    def nothing_is_uploaded_that_was_not_committed_to(self) -> None:
        kinds = [type(effect) for effect in self.done]
        if SendUpload in kinds:
            before = kinds[: kinds.index(SendUpload)]
            assert before.index(BuildKey) < before.index(SendJoin)

    @invariant()
    def an_end_is_an_end(self) -> None:
        ends = [place for place, effect in enumerate(self.done) if isinstance(effect, (DeliverResult, Fail))]
        assert ends in ([], [len(self.done) - 1])


TestAnyOrder = AnyOrder.TestCase
