"""The coordinator's machine of a masking round: every phase with every event, and what no order of events may bring about."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any, get_args

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from secagg.errors import LateError, SecAggError, WrongPhaseError
from secagg.ids import ClientId
from secagg.messages.round import Phase
from secagg.roles.coordinator import rules
from secagg.roles.coordinator.effects import AbortRound, PublishResult, StoreRound, UnmaskSum
from secagg.roles.coordinator.events import (
    CancelRequested,
    ConfirmationReceived,
    DeadlinePassed,
    Event,
    GraceOver,
    JoinReceived,
    SharesReceived,
    SumUnmasked,
    UnmaskingFailed,
    UnmaskingReceived,
    UploadRefused,
    VectorVerified,
)
from tests.machines import masking_events as make
from tests.masking_material import (
    ALICE,
    CLIENTS,
    MEAN,
    OTHER,
    QUORUM,
    SPEC,
    STRANGER,
    THRESHOLD,
    UNMASKED,
    Round,
    finished,
    round_in,
)

PHASES = (
    Phase.OPEN,
    Phase.SHARING,
    Phase.UPLOADING,
    Phase.CONFIRMING,
    Phase.UNMASKING,
    Phase.PUBLISHED,
    Phase.ABORTED,
)
MESSAGES: dict[type, Any] = {
    JoinReceived: lambda _: finished().join(ALICE),
    SharesReceived: lambda _: finished().shares(ALICE),
    VectorVerified: lambda _: finished().vector(ALICE),
    UploadRefused: lambda _: UploadRefused(client=ALICE, reason="test"),
    ConfirmationReceived: lambda _: finished().confirmation(ALICE),
    UnmaskingReceived: lambda _: finished().unmasking(ALICE),
    GraceOver: lambda _: GraceOver(),
    SumUnmasked: lambda _: UNMASKED,
    UnmaskingFailed: lambda _: UnmaskingFailed(reason="test", can_wait=False, used=0),
    DeadlinePassed: lambda phase: DeadlinePassed(phase=phase),
    CancelRequested: lambda _: CancelRequested(reason="test"),
}
"""The machine looks at the kind of any other event only."""
_ALWAYS = {JoinReceived, DeadlinePassed, CancelRequested}
_AFTER = {JoinReceived, SharesReceived, VectorVerified}
LEGAL: dict[Phase, set[type]] = {
    Phase.OPEN: _ALWAYS,
    Phase.SHARING: _ALWAYS | {SharesReceived},
    Phase.UPLOADING: _ALWAYS | {SharesReceived, VectorVerified, UploadRefused},
    Phase.CONFIRMING: _ALWAYS | _AFTER | {UploadRefused, ConfirmationReceived, GraceOver},
    Phase.UNMASKING: _ALWAYS
    | _AFTER
    | {UploadRefused, ConfirmationReceived, UnmaskingReceived, SumUnmasked, UnmaskingFailed},
    Phase.PUBLISHED: _AFTER,
    Phase.ABORTED: _AFTER,
}


def event_of(kind: type, phase: Phase) -> Any:
    return MESSAGES[kind](phase) if kind in MESSAGES else kind.__new__(kind)


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("kind", get_args(Event))
def test_every_phase_and_event(phase: Phase, kind: type) -> None:
    round = round_in(phase)
    before, shown = round.state, repr(round.state)
    if kind in LEGAL[phase]:
        if (phase, kind) == (Phase.ABORTED, VectorVerified):
            # It was never counted, so this is no repetition.
            with pytest.raises(LateError):
                round.happens(event_of(kind, phase))
        else:
            round.happens(event_of(kind, phase))
    else:
        with pytest.raises(WrongPhaseError, match=f"{kind.__name__} cannot happen in phase {phase.value}"):
            round.happens(event_of(kind, phase))
        assert round.state is before
    assert repr(before) == shown


@pytest.mark.parametrize("phase", PHASES)
def test_states_are_frozen(phase: Phase) -> None:
    state = round_in(phase).state
    with pytest.raises(FrozenInstanceError):
        state.phase = Phase.OPEN  # type: ignore[misc]


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("kind", list(MESSAGES))
def test_state_is_stored_before_anything_is_sent(phase: Phase, kind: type) -> None:
    round = round_in(phase)
    try:
        round.happens(event_of(kind, phase))
    except SecAggError:
        return
    sent = [type(effect) for effect in round.effects if not isinstance(effect, PublishResult)]
    assert not sent or sent[0] is StoreRound


@pytest.mark.parametrize("phase", PHASES[:5])
def test_an_end_is_an_end(phase: Phase) -> None:
    round = round_in(phase)
    round.happens(CancelRequested(reason="the coordinator was stopped"))
    assert round.state.reason == "the coordinator was stopped"
    assert len(round.asked(AbortRound)) == 1
    with pytest.raises(WrongPhaseError):
        rules.step(round.state, CancelRequested(reason="again"))


def test_nothing_revealed_is_shown_in_a_log() -> None:
    round = Round().unmasking_begun()
    (share, *_) = round.state.unmaskings[ALICE].message.shares
    assert repr(share)[2:-1] not in repr(round.state)
    assert repr(share)[2:-1] not in repr(round.state.unmaskings[ALICE].message)


clients = st.sampled_from((*CLIENTS, STRANGER))
twists = st.sampled_from([{}, {}, {}, {"plan_digest": OTHER}, {"roster_digest": OTHER}])
DELIVERED = {
    Phase.SHARING: make.shares,
    Phase.UPLOADING: make.vector,
    Phase.CONFIRMING: make.confirmation,
    Phase.UNMASKING: make.unmasking,
}


class AnyOrder(RuleBasedStateMachine):
    """Events in any order, right and wrong ones; the invariants hold after each."""

    def __init__(self) -> None:
        super().__init__()
        self.round = Round()
        self.published = 0
        self.unmasking = 0

    def attempt(self, event: Event) -> None:
        before, shown = self.round.state, repr(self.round.state)
        try:
            self.round.happens(event)
        except SecAggError:
            assert self.round.state is before
            assert repr(before) == shown
            return
        self.published += len(self.round.asked(PublishResult))
        self.unmasking += len(self.round.asked(UnmaskSum))
        assert not before.phase.ended or self.round.state is before

    @precondition(lambda self: self.round.state.phase is Phase.OPEN)
    @rule(leave=st.integers(0, 3))
    def most_join(self, leave: int) -> None:
        for client in CLIENTS[leave:]:
            self.attempt(make.join(client))

    @rule(client=clients, copied=st.booleans())
    def joins(self, client: ClientId, copied: bool) -> None:
        self.attempt(make.join(client, **({"share_key": key_of_alice()} if copied else {})))

    @precondition(lambda self: self.round.state.phase in DELIVERED)
    @rule(leave=st.integers(0, 2))
    def most_deliver(self, leave: int) -> None:
        """Let most clients do what the phase is for."""
        phase = self.round.state.phase
        for client in CLIENTS[leave:]:
            self.attempt(DELIVERED[phase](self.round.state, client))

    @rule(client=clients, twist=twists)
    def shares(self, client: ClientId, twist: dict[str, Any]) -> None:
        self.attempt(make.shares(self.round.state, client, **twist))

    @rule(client=clients, twist=twists)
    def uploads(self, client: ClientId, twist: dict[str, Any]) -> None:
        self.attempt(make.vector(self.round.state, client, **twist))

    @rule(client=clients)
    def refused(self, client: ClientId) -> None:
        self.attempt(UploadRefused(client=client, reason="test"))

    @rule(client=clients, twist=twists)
    def confirms(self, client: ClientId, twist: dict[str, Any]) -> None:
        self.attempt(make.confirmation(self.round.state, client, **twist))

    @rule(client=clients, twist=twists, none=st.booleans())
    def reveals(self, client: ClientId, twist: dict[str, Any], none: bool) -> None:
        shares = {"shares": (b"",) * self.round.state.degree} if none else {}
        self.attempt(make.unmasking(self.round.state, client, **twist, **shares))

    @rule(phase=st.sampled_from(PHASES[:5]))
    def deadline(self, phase: Phase) -> None:
        self.attempt(DeadlinePassed(phase=phase))

    @rule()
    def grace(self) -> None:
        self.attempt(GraceOver())

    @rule(weight=st.sampled_from([0.0, 0.5, 1.0, 4.0, float("nan")]))
    def unmasked(self, weight: float) -> None:
        self.attempt(SumUnmasked(total_weight=weight, mean_digest=MEAN, mean_bytes=200))

    @rule(can_wait=st.booleans(), fewer=st.integers(0, 2))
    def failed(self, can_wait: bool, fewer: int) -> None:
        used = max(0, len(self.round.state.unmaskings) - fewer)
        self.attempt(UnmaskingFailed(reason="test", can_wait=can_wait, used=used))

    @invariant()
    def each_is_counted_once_and_only_after_the_step_before(self) -> None:
        state = self.round.state
        assert len(state.joins) <= SPEC.max_clients
        assert set(state.shares) <= set(state.joins)
        assert set(state.sharers) <= set(state.shares)
        assert set(state.uploads) <= set(state.sharers)
        assert not set(state.uploads) & set(state.refused)
        assert set(state.confirmations) <= set(state.survivors) <= set(state.uploads)
        assert set(state.unmaskings) <= set(state.confirmations)
        keys = [key for one in state.joins.values() for key in (one.message.mask_key, one.message.share_key)]
        assert len(set(keys)) == len(keys)

    @invariant()
    def everything_is_of_this_round(self) -> None:
        state = self.round.state
        for said in (state.shares, state.uploads, state.confirmations, state.unmaskings):
            assert {one.message.roster_digest for one in said.values()} <= {state.roster_digest}
        for said in (state.confirmations, state.unmaskings):
            assert {one.message.survivors_digest for one in said.values()} <= {state.survivors_digest}

    @invariant()
    def never_below_minimum_quorum_or_threshold(self) -> None:
        state = self.round.state
        need = max(SPEC.min_contributors, state.quorum)
        if state.phase in (Phase.UPLOADING, Phase.CONFIRMING, Phase.UNMASKING, Phase.PUBLISHED):
            assert len(state.sharers) >= need
        if state.phase in (Phase.CONFIRMING, Phase.UNMASKING, Phase.PUBLISHED):
            assert state.survivors == state.contributors
            assert len(state.survivors) >= need
        if state.phase in (Phase.UNMASKING, Phase.PUBLISHED):
            assert len(state.confirmations) >= state.quorum
        if state.unmasking:
            giving = [one for one in state.unmaskings.values() if any(one.message.shares)]
            assert len(giving) >= state.threshold
        if state.result is not None:
            assert state.result.contributors == state.survivors
            assert state.result.total_weight >= SPEC.min_total_weight

    @invariant()
    def one_end(self) -> None:
        state = self.round.state
        assert self.published == (state.phase is Phase.PUBLISHED)
        assert self.published <= self.unmasking
        assert bool(state.reason) == (state.phase is Phase.ABORTED)


def key_of_alice() -> bytes:
    return finished().state.joins[ALICE].message.mask_key


TestAnyOrder = AnyOrder.TestCase


def test_the_numbers_of_the_material_are_what_the_planner_gives() -> None:
    state = make.joined().state
    assert (state.degree, state.threshold, state.quorum) == (6, THRESHOLD, QUORUM)
