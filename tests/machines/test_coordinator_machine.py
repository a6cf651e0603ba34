"""The coordinator's machine: every phase with every event, and what no order of events may bring about."""

from __future__ import annotations

import itertools
from typing import get_args

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from secagg.errors import (
    SecAggError,
    WrongPhaseError,
)
from secagg.ids import ClientId, HolderId
from secagg.messages.round import HolderVerdict, Phase
from secagg.roles.coordinator import rules
from secagg.roles.coordinator.effects import (
    AbortRound,
    PublishResult,
    StoreRound,
)
from secagg.roles.coordinator.events import (
    AnswerReceived,
    CancelRequested,
    CeremonyBegun,
    CkksEvent,
    DeadlinePassed,
    GraceOver,
    HolderLost,
    HolderSilent,
    KeyFailed,
    OpeningFailed,
    SumOpened,
    UploadRefused,
)
from tests.machines.coordinator_events import (
    CLIENTS,
    HOLDERS,
    KEY_ID,
    OPENED,
    SPEC,
    STRANGER,
    World,
    approval,
    certified,
    digest,
    join,
    lose,
    seal,
    upload,
    world_in,
)

QUORUM, THRESHOLD = 4, 3


def one_of_each(world: World) -> list[CkksEvent]:
    state = world.state
    return [
        CeremonyBegun(attempt=1, holders=HOLDERS),
        certified(),
        KeyFailed(reason="test", holders=()),
        join(STRANGER),
        seal(state, HOLDERS[0]),
        upload(state, STRANGER),
        UploadRefused(client=CLIENTS[0], reason="test"),
        approval(state, HOLDERS[0]),
        HolderSilent(holder=HOLDERS[0], reason="test"),
        HolderLost(holder=HOLDERS[0], verdict=HolderVerdict.UNREACHABLE, reason="test"),
        AnswerReceived(holder=HOLDERS[0]),
        GraceOver(),
        OPENED,
        OpeningFailed(reason="test", can_wait=False),
        DeadlinePassed(phase=state.phase),
        CancelRequested(reason="test"),
    ]


# What may happen when: everything else is refused.
LEGAL = {
    Phase.KEYING: {"CeremonyBegun", "KeyCertified", "KeyFailed", "DeadlinePassed", "CancelRequested"},
    Phase.OPEN: {"JoinReceived", "DeadlinePassed", "CancelRequested"},
    Phase.FROZEN: {"SealReceived", "HolderSilent", "HolderLost", "DeadlinePassed", "CancelRequested"},
    Phase.UPLOADING: {"UploadRefused", "DeadlinePassed", "CancelRequested"},
    Phase.APPROVING: {
        "HolderSilent",
        "UploadRefused",
        "ApprovalReceived",
        "HolderLost",
        "DeadlinePassed",
        "CancelRequested",
    },
    Phase.DECRYPTING: {
        "UploadRefused",
        "ApprovalReceived",
        "HolderSilent",
        "HolderLost",
        "AnswerReceived",
        "GraceOver",
        "SumOpened",
        "OpeningFailed",
        "DeadlinePassed",
        "CancelRequested",
    },
    Phase.PUBLISHED: set(),
    Phase.ABORTED: set(),
}


@pytest.mark.parametrize("phase", LEGAL)
@pytest.mark.parametrize("number", range(len(get_args(CkksEvent))))
def test_every_phase_and_event(phase: Phase, number: int) -> None:
    world = world_in(phase)
    event = one_of_each(world)[number]
    before = world.state
    if type(event).__name__ in LEGAL[phase]:
        world.happens(event)
        return
    with pytest.raises(SecAggError):
        world.happens(event)
    assert world.state is before


def test_the_list_of_events_is_complete() -> None:
    assert {type(event) for event in one_of_each(World())} == set(get_args(CkksEvent))


@pytest.mark.parametrize("phase", LEGAL)
def test_state_is_stored_before_anything_is_sent(phase: Phase) -> None:
    for number in range(len(get_args(CkksEvent))):
        world = world_in(phase)
        try:
            world.happens(one_of_each(world)[number])
        except SecAggError:
            continue
        sent = [type(effect) for effect in world.effects if not isinstance(effect, PublishResult)]
        assert not sent or sent[0] is StoreRound


clients = st.sampled_from((*CLIENTS, STRANGER))
holders = st.sampled_from((*HOLDERS, HolderId("foreign")))


class AnyOrder(RuleBasedStateMachine):
    """Events in any order, right and wrong ones; the invariants hold after each."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.published = 0

    def attempt(self, event: CkksEvent) -> None:
        before = self.world.state
        try:
            self.world.happens(event)
        except SecAggError:
            assert self.world.state is before
            return
        self.published += len(self.world.asked(PublishResult))
        assert before.phase.ended is False or self.world.state is before

    @rule(attempt=st.integers(1, 3))
    def ceremony(self, attempt: int) -> None:
        before = self.world.state.attempt
        self.attempt(CeremonyBegun(attempt=attempt, holders=HOLDERS[attempt - 1 :]))
        assert self.world.state.attempt >= before

    @rule()
    def key(self) -> None:
        self.attempt(certified())

    @rule(client=clients, other=st.booleans())
    def joins(self, client: ClientId, other: bool) -> None:
        self.attempt(join(client, **({"commitment": commitment_of_alice()} if other else {})))

    @rule(holder=holders, other=st.booleans())
    def seals(self, holder: HolderId, other: bool) -> None:
        self.attempt(seal(self.world.state, holder, **({"roster_digest": digest("other")} if other else {})))

    @rule(client=clients, other=st.booleans())
    def uploads(self, client: ClientId, other: bool) -> None:
        self.attempt(upload(self.world.state, client, **({"root_c1": digest("other")} if other else {})))

    @rule(client=clients)
    def refused(self, client: ClientId) -> None:
        self.attempt(UploadRefused(client=client, reason="test"))

    @rule(phase=st.sampled_from([phase for phase in Phase if not phase.ended]))
    def deadline(self, phase: Phase) -> None:
        self.attempt(DeadlinePassed(phase=phase))

    @rule(holder=holders, other=st.booleans())
    def approves(self, holder: HolderId, other: bool) -> None:
        self.attempt(approval(self.world.state, holder, **({"key_id": digest("other")} if other else {})))

    @rule(holder=holders)
    def silent(self, holder: HolderId) -> None:
        self.attempt(HolderSilent(holder=holder, reason="test"))

    @rule(holder=holders, verdict=st.sampled_from(HolderVerdict))
    def lost(self, holder: HolderId, verdict: HolderVerdict) -> None:
        self.attempt(HolderLost(holder=holder, verdict=verdict, reason="test"))

    @rule(holder=holders)
    def answers(self, holder: HolderId) -> None:
        self.attempt(AnswerReceived(holder=holder))

    @rule()
    def grace(self) -> None:
        self.attempt(GraceOver())

    @precondition(lambda self: self.world.state.opening)
    @rule(weight=st.sampled_from([0.0, 0.5, 1.0, 4.0, float("nan")]), liar=st.booleans())
    def opened(self, weight: float, liar: bool) -> None:
        liars = tuple(sorted(self.world.state.usable))[:1] if liar else ()
        self.attempt(SumOpened(total_weight=weight, mean_digest=digest("mean"), mean_bytes=40, liars=liars))

    @precondition(lambda self: self.world.state.opening)
    @rule(named=st.booleans(), can_wait=st.booleans())
    def failed(self, named: bool, can_wait: bool) -> None:
        usable = tuple(sorted(self.world.state.usable))
        liars, suspects = (usable[:1], ()) if named else ((), usable)
        self.attempt(OpeningFailed(reason="test", can_wait=can_wait, liars=liars, suspects=suspects))

    @invariant()
    def counts(self) -> None:
        state = self.world.state
        assert set(state.uploads) <= set(state.joins) <= set(CLIENTS) | {STRANGER}
        assert len(state.joins) <= SPEC.max_clients
        assert not set(state.uploads) & set(state.refused)
        commitments = [one.message.commitment for one in state.joins.values()]
        assert len(set(commitments)) == len(commitments)
        assert set(state.approvals) <= set(HOLDERS)
        assert {one.message.roster_digest for one in state.seals.values()} <= {state.roster_digest}
        assert set(state.answered) <= state.asked <= set(state.approvals)

    @invariant()
    def never_below_the_minimum(self) -> None:
        state = self.world.state
        if state.uploads or state.phase in (Phase.UPLOADING, Phase.APPROVING, Phase.DECRYPTING, Phase.PUBLISHED):
            assert len(state.roster.seals) == QUORUM
        if state.phase in (Phase.APPROVING, Phase.DECRYPTING, Phase.PUBLISHED):
            assert len(state.uploads) >= SPEC.min_contributors
        if state.phase in (Phase.DECRYPTING, Phase.PUBLISHED):
            assert len(state.approvals) >= QUORUM
        if state.opening:
            assert len(state.failed_with) >= THRESHOLD
        if state.result is not None:
            assert state.result.total_weight > 1 - 1e-3
            assert state.result.contributors == state.contributors

    @invariant()
    def one_end(self) -> None:
        assert self.published <= 1
        if self.world.state.phase is Phase.ABORTED:
            assert self.world.state.reason
            assert self.published == 0


def commitment_of_alice() -> bytes:
    return join(CLIENTS[0]).join.message.commitment


TestAnyOrder = AnyOrder.TestCase


def test_an_abort_says_so_once() -> None:
    for phase in (one for one in Phase if not one.ended):
        world = world_in(phase)
        world.happens(CancelRequested(reason="the coordinator was stopped"))
        assert [type(one) for one in world.effects].count(AbortRound) == 1
        with pytest.raises(WrongPhaseError):
            rules.step(world.state, CancelRequested(reason="again"))


def test_every_set_of_lost_holders_ends_the_same_in_any_order() -> None:
    for first, second in itertools.permutations(HOLDERS, 2):
        world = lose(World().approving(), first, second)
        assert world.state.phase is Phase.ABORTED


def test_the_key_id_stands_in_the_approvals() -> None:
    assert approval(World().approving().state, HOLDERS[0]).approval.message.key_id == KEY_ID
