"""The coordinator's machine: every phase with every event, and what no order of events may bring about."""

from __future__ import annotations

import itertools
from typing import get_args

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from secagg import transcript
from secagg.errors import (
    ConflictError,
    FaultyClientError,
    FaultyKeyHolderError,
    LateError,
    PlanError,
    SecAggError,
    WrongPhaseError,
)
from secagg.ids import ClientId, HolderId
from secagg.messages.round import HolderStatus, HolderVerdict, Phase
from secagg.roles.coordinator import rules
from secagg.roles.coordinator.effects import (
    AbortRound,
    AskApprovals,
    AskDecryption,
    DeleteUploads,
    EndHolders,
    OpenSum,
    PublishResult,
    PublishRoster,
    SetGrace,
    StoreRound,
)
from secagg.roles.coordinator.events import (
    AnswerReceived,
    CancelRequested,
    DeadlinePassed,
    Event,
    GraceOver,
    HolderLost,
    HolderSilent,
    KeyFailed,
    OpeningFailed,
    RosterPublished,
    SumOpened,
    UploadRefused,
)
from tests.machines.coordinator_events import (
    CLIENTS,
    HOLDERS,
    KEY_ID,
    PLAN,
    SPEC,
    STRANGER,
    World,
    approval,
    certified,
    digest,
    join,
    upload,
)

QUORUM, THRESHOLD = 4, 3
OPENED = SumOpened(total_weight=3.0, mean_digest=digest("mean"), mean_bytes=40)


def world_in(phase: Phase) -> World:
    world = World()
    match phase:
        case Phase.OPEN:
            world.opened()
        case Phase.FROZEN:
            world.opened()
            for client in CLIENTS:
                world.happens(join(client))
        case Phase.UPLOADING:
            world.uploading()
        case Phase.APPROVING:
            world.approving()
        case Phase.DECRYPTING:
            world.decrypting()
        case Phase.PUBLISHED:
            answer(world.decrypting(), *HOLDERS[:4])
            world.happens(OPENED)
        case Phase.ABORTED:
            world.uploading().happens(CancelRequested(reason="test"))
    return world


def answer(world: World, *holders: HolderId) -> World:
    for holder in holders:
        world.happens(AnswerReceived(holder=holder))
    return world


def lose(world: World, *holders: HolderId, verdict: HolderVerdict = HolderVerdict.UNREACHABLE) -> World:
    for holder in holders:
        world.happens(HolderLost(holder=holder, verdict=verdict, reason="test"))
    return world


def one_of_each(world: World) -> list[Event]:
    state = world.state
    return [
        certified(),
        KeyFailed(reason="test", holders=()),
        join(STRANGER),
        RosterPublished(),
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
    Phase.KEYING: {"KeyCertified", "KeyFailed", "DeadlinePassed", "CancelRequested"},
    Phase.OPEN: {"JoinReceived", "DeadlinePassed", "CancelRequested"},
    Phase.FROZEN: {"RosterPublished", "CancelRequested"},
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


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("number", range(len(get_args(Event))))
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
    assert {type(event) for event in one_of_each(World())} == set(get_args(Event))


@pytest.mark.parametrize("phase", Phase)
def test_state_is_stored_before_anything_is_sent(phase: Phase) -> None:
    for number in range(len(get_args(Event))):
        world = world_in(phase)
        try:
            world.happens(one_of_each(world)[number])
        except SecAggError:
            continue
        sent = [type(effect) for effect in world.effects if not isinstance(effect, PublishResult)]
        assert not sent or sent[0] is StoreRound


class TestKeying:
    def test_a_key_opens_the_round(self) -> None:
        world = World().opened()
        assert world.state.phase is Phase.OPEN
        assert world.state.plan == PLAN

    def test_a_key_of_another_round_is_refused(self) -> None:
        world = World()
        event = certified()
        other = type(event)(bundle=event.bundle, plan=type(PLAN)(spec=SPEC, round=2, protocol=PLAN.protocol))
        with pytest.raises(PlanError):
            world.happens(other)

    def test_a_key_without_every_statement_is_refused(self) -> None:
        event = certified()
        bundle = type(event.bundle)(plan=event.bundle.plan, hellos=(), b=b"", statements=event.bundle.statements[:4])
        with pytest.raises(PlanError):
            World().happens(type(event)(bundle=bundle, plan=PLAN))

    def test_a_failure_says_who(self) -> None:
        world = World()
        lost = HolderStatus(holder=HOLDERS[1], verdict=HolderVerdict.UNREACHABLE, reason="silent")
        world.happens(KeyFailed(reason="holder-2 is unreachable", holders=(lost,), have=3, need=4))
        assert world.state.phase is Phase.ABORTED
        assert (world.state.have, world.state.need) == (3, 4)
        assert world.state.holders[HOLDERS[1]] == lost
        assert "holder-2" in world.state.reason


class TestJoining:
    def test_the_same_join_again_is_harmless(self) -> None:
        world = World().opened()
        world.happens(join(CLIENTS[0]))
        before = world.state
        world.happens(join(CLIENTS[0]))
        assert world.state is before

    def test_another_join_of_one_client_is_refused(self) -> None:
        world = World().opened()
        world.happens(join(CLIENTS[0]))
        with pytest.raises(ConflictError):
            world.happens(join(CLIENTS[0], commitment=digest("other")))

    def test_a_copied_commitment_is_refused(self) -> None:
        world = World().opened()
        world.happens(join(CLIENTS[0]))
        with pytest.raises(FaultyClientError) as caught:
            world.happens(join(CLIENTS[1], commitment=world.state.joins[CLIENTS[0]].message.commitment))
        assert caught.value.client_id == CLIENTS[1]

    def test_another_plan_is_refused(self) -> None:
        with pytest.raises(FaultyClientError):
            World().opened().happens(join(CLIENTS[0], plan_digest=digest("other")))

    def test_the_last_place_freezes_the_roster(self) -> None:
        world = world_in(Phase.FROZEN)
        (published,) = world.asked(PublishRoster)
        assert isinstance(published, PublishRoster)
        assert [one.message.client for one in published.roster.joins] == sorted(CLIENTS)

    def test_a_client_that_comes_late_is_refused(self) -> None:
        with pytest.raises(LateError):
            World().uploading().happens(join(STRANGER))

    def test_the_deadline_freezes_a_roster_that_is_large_enough(self) -> None:
        world = World().opened()
        for client in CLIENTS[:2]:
            world.happens(join(client))
        world.happens(DeadlinePassed(phase=Phase.OPEN))
        assert world.state.phase is Phase.FROZEN

    def test_the_deadline_aborts_below_the_minimum(self) -> None:
        world = World().opened()
        world.happens(join(CLIENTS[0]))
        world.happens(DeadlinePassed(phase=Phase.OPEN))
        assert world.state.phase is Phase.ABORTED
        assert (world.state.have, world.state.need) == (1, 2)
        assert "alice" in world.state.reason

    def test_a_stale_deadline_does_nothing(self) -> None:
        world = World().uploading()
        before = world.state
        world.happens(DeadlinePassed(phase=Phase.OPEN))
        assert world.state is before


class TestUploading:
    @pytest.mark.parametrize(
        "changes",
        [
            {"plan_digest": digest("x")},
            {"roster_digest": digest("x")},
            {"nonce": digest("x")},
            {"parameters_digest": digest("x")},
            {"level": 1},
            {"scale": 2.0},
            {"chunks": 2},
            {"root_c0": digest("x")},
            {"root_c1": digest("x")},
        ],
    )
    def test_what_does_not_fit_is_refused(self, changes: dict[str, object]) -> None:
        world = World().uploading()
        with pytest.raises(FaultyClientError) as caught:
            world.happens(upload(world.state, CLIENTS[0], **changes))
        assert caught.value.client_id == CLIENTS[0]
        assert not world.state.uploads

    def test_a_c1_that_another_client_uploaded_is_refused(self) -> None:
        world = World().opened()
        copied = digest("c1", CLIENTS[0], "")
        own = {"nonce": digest("nonce", CLIENTS[1]), "root_c0": digest("own c0"), "root_c1": copied}
        made = transcript.ciphertext_commitment(plan_digest=PLAN.digest, key_id=KEY_ID, client=CLIENTS[1], **own)
        for client in CLIENTS:
            world.happens(join(client, commitment=made) if client == CLIENTS[1] else join(client))
        world.happens(RosterPublished())
        world.happens(upload(world.state, CLIENTS[0]))
        with pytest.raises(FaultyClientError, match="copy") as caught:
            world.happens(upload(world.state, CLIENTS[1], **own))
        assert caught.value.client_id == CLIENTS[1]

    def test_a_stranger_is_refused(self) -> None:
        world = World().uploading()
        with pytest.raises(FaultyClientError):
            world.happens(upload(world.state, STRANGER))

    def test_twice_counts_once(self) -> None:
        world = World().uploading()
        event = upload(world.state, CLIENTS[0])
        world.happens(event)
        before = world.state
        world.happens(event)
        assert world.state is before

    def test_something_else_is_refused(self) -> None:
        world = World().uploading()
        world.happens(upload(world.state, CLIENTS[0]))
        with pytest.raises(ConflictError):
            world.happens(upload(world.state, CLIENTS[0], nonce=digest("x")))

    def test_a_refused_client_does_not_count_and_the_round_goes_on(self) -> None:
        world = World().uploading()
        world.happens(UploadRefused(client=CLIENTS[0], reason="transparent"))
        with pytest.raises(FaultyClientError, match="transparent"):
            world.happens(upload(world.state, CLIENTS[0]))
        for client in CLIENTS[1:]:
            world.happens(upload(world.state, client))
        assert world.state.phase is Phase.APPROVING
        assert world.state.contributors == CLIENTS[1:]

    def test_the_deadline_goes_on_with_who_uploaded(self) -> None:
        world = World().uploading()
        for client in CLIENTS[2:]:
            world.happens(upload(world.state, client))
        world.happens(DeadlinePassed(phase=Phase.UPLOADING))
        (asked,) = world.asked(AskApprovals)
        assert isinstance(asked, AskApprovals)
        assert [one.message.client for one in asked.uploads] == list(CLIENTS[2:])

    def test_the_deadline_aborts_below_the_minimum(self) -> None:
        world = World().uploading()
        world.happens(upload(world.state, CLIENTS[0]))
        world.happens(DeadlinePassed(phase=Phase.UPLOADING))
        assert world.state.phase is Phase.ABORTED
        assert "bob, carol, dave" in world.state.reason
        assert world.asked(DeleteUploads)
        assert world.asked(EndHolders)

    def test_a_late_vector_never_counts(self) -> None:
        world = World().uploading()
        for client in CLIENTS[:2]:
            world.happens(upload(world.state, client))
        world.happens(DeadlinePassed(phase=Phase.UPLOADING))
        with pytest.raises(LateError):
            world.happens(upload(world.state, CLIENTS[2]))
        world.happens(upload(world.state, CLIENTS[0]))


class TestApproving:
    def test_the_quorum_starts_the_decryption(self) -> None:
        world = World().decrypting()
        (asked,) = world.asked(AskDecryption)
        assert isinstance(asked, AskDecryption)
        assert asked.holders == HOLDERS[:4]
        assert len(asked.approvals) == QUORUM

    def test_one_holder_counts_once(self) -> None:
        world = World().approving()
        for _ in range(QUORUM):
            world.happens(approval(world.state, HOLDERS[0]))
        assert world.state.phase is Phase.APPROVING

    @pytest.mark.parametrize("changes", [{"key_id": digest("x")}, {"request_digest": digest("x")}])
    def test_another_request_is_refused(self, changes: dict[str, object]) -> None:
        world = World().approving()
        with pytest.raises(FaultyKeyHolderError) as caught:
            world.happens(approval(world.state, HOLDERS[0], **changes))
        assert caught.value.holder_id == HOLDERS[0]

    def test_a_foreign_holder_is_refused(self) -> None:
        world = World().approving()
        with pytest.raises(FaultyKeyHolderError):
            world.happens(approval(world.state, HolderId("foreign")))

    def test_one_lost_holder_is_borne(self) -> None:
        world = lose(World().approving(), HOLDERS[0])
        for holder in HOLDERS[1:]:
            world.happens(approval(world.state, holder))
        assert world.state.phase is Phase.DECRYPTING

    def test_a_silent_holder_may_come_back(self) -> None:
        world = World().approving()
        for holder in HOLDERS[:2]:
            world.happens(HolderSilent(holder=holder, reason="no connection"))
        assert world.state.holders[HOLDERS[0]].verdict is HolderVerdict.UNREACHABLE
        for holder in HOLDERS[:4]:
            world.happens(approval(world.state, holder))
        assert world.state.phase is Phase.DECRYPTING
        assert world.state.holders[HOLDERS[0]].verdict is HolderVerdict.OK

    def test_two_lost_holders_abort_and_are_named(self) -> None:
        world = lose(World().approving(), HOLDERS[0])
        lose(world, HOLDERS[1], verdict=HolderVerdict.SUSPECT)
        assert world.state.phase is Phase.ABORTED
        assert "holder-1 is unreachable" in world.state.reason
        assert "holder-2 is suspect" in world.state.reason
        assert (world.state.have, world.state.need) == (3, QUORUM)

    def test_the_deadline_aborts(self) -> None:
        world = World().approving()
        for holder in HOLDERS[:3]:
            world.happens(approval(world.state, holder))
        world.happens(DeadlinePassed(phase=Phase.APPROVING))
        assert world.state.phase is Phase.ABORTED
        assert "holder-4 is unreachable" in world.state.reason


class TestDecrypting:
    def test_all_answers_open_at_once(self) -> None:
        world = answer(World().decrypting(), *HOLDERS[:4])
        assert world.asked(OpenSum) == [OpenSum(holders=HOLDERS[:4])]

    def test_three_answers_wait_for_the_fourth(self) -> None:
        world = answer(World().decrypting(), *HOLDERS[:3])
        assert not world.asked(OpenSum)
        lose(world, HOLDERS[3])
        assert world.asked(OpenSum) == [OpenSum(holders=HOLDERS[:3])]

    def test_a_late_approval_is_asked_too(self) -> None:
        world = World().decrypting()
        world.happens(approval(world.state, HOLDERS[4]))
        (asked,) = world.asked(AskDecryption)
        assert isinstance(asked, AskDecryption)
        assert asked.holders == (HOLDERS[4],)
        assert len(asked.approvals) == QUORUM

    def test_grace_for_the_fifth(self) -> None:
        world = World().decrypting()
        world.happens(approval(world.state, HOLDERS[4]))
        answer(world, *HOLDERS[:4])
        assert world.asked(SetGrace)
        assert not world.asked(OpenSum)
        world.happens(GraceOver())
        assert world.asked(OpenSum) == [OpenSum(holders=HOLDERS[:4])]

    def test_an_answer_that_was_not_asked_for_is_refused(self) -> None:
        with pytest.raises(FaultyKeyHolderError):
            answer(World().decrypting(), HOLDERS[4])

    def test_suspects_wait_for_a_fifth_answer(self) -> None:
        world = answer(World().decrypting(), *HOLDERS[:4])
        world.happens(OpeningFailed(reason="test", can_wait=True, suspects=HOLDERS[:4]))
        assert world.state.phase is Phase.DECRYPTING
        assert world.state.holders[HOLDERS[0]].verdict is HolderVerdict.SUSPECT
        world.happens(approval(world.state, HOLDERS[4]))
        answer(world, HOLDERS[4])
        assert world.asked(OpenSum) == [OpenSum(holders=HOLDERS)]
        world.happens(SumOpened(total_weight=3.0, mean_digest=digest("mean"), mean_bytes=40, liars=HOLDERS[:1]))
        verdicts = [world.state.holders[holder].verdict for holder in HOLDERS]
        assert verdicts == [HolderVerdict.FAULTY, *[HolderVerdict.OK] * 4]

    def test_suspects_alone_abort_when_nobody_is_left(self) -> None:
        world = World().decrypting()
        answer(lose(world, HOLDERS[4]), *HOLDERS[:4])
        world.happens(OpeningFailed(reason="test", can_wait=True, suspects=HOLDERS[:4]))
        assert world.state.phase is Phase.ABORTED

    def test_a_named_liar_is_left_out(self) -> None:
        world = answer(World().decrypting(), *HOLDERS[:4])
        world.happens(OpeningFailed(reason="test", can_wait=True, liars=(HOLDERS[0],)))
        assert world.asked(OpenSum) == [OpenSum(holders=HOLDERS[1:4])]
        assert world.state.holders[HOLDERS[0]].verdict is HolderVerdict.FAULTY

    def test_what_is_proven_of_a_holder_is_not_taken_back(self) -> None:
        world = answer(World().decrypting(), *HOLDERS[:4])
        world.happens(OpeningFailed(reason="test", can_wait=True, liars=(HOLDERS[0],)))
        later = world.state.with_verdict(HOLDERS[0], HolderVerdict.UNREACHABLE, "gone")
        assert later.holders[HOLDERS[0]].verdict is HolderVerdict.FAULTY

    def test_data_at_fault_aborts(self) -> None:
        world = answer(World().decrypting(), *HOLDERS[:4])
        world.happens(OpeningFailed(reason="some contribution was malformed", can_wait=False))
        assert world.state.phase is Phase.ABORTED
        assert "malformed" in world.state.reason

    def test_too_few_answers_abort(self) -> None:
        world = answer(lose(World().decrypting(), HOLDERS[4], HOLDERS[3]), *HOLDERS[:2])
        lose(world, HOLDERS[2])
        assert world.state.phase is Phase.ABORTED
        assert (world.state.have, world.state.need) == (2, THRESHOLD)

    def test_the_deadline_opens_with_what_is_there(self) -> None:
        world = answer(World().decrypting(), *HOLDERS[:3])
        world.happens(DeadlinePassed(phase=Phase.DECRYPTING))
        assert world.asked(OpenSum) == [OpenSum(holders=HOLDERS[:3])]
        assert world.state.holders[HOLDERS[3]].verdict is HolderVerdict.UNREACHABLE

    def test_the_deadline_aborts_with_too_few(self) -> None:
        world = answer(World().decrypting(), *HOLDERS[:2])
        world.happens(DeadlinePassed(phase=Phase.DECRYPTING))
        assert world.state.phase is Phase.ABORTED

    def test_nothing_is_published_below_the_minimum_weight(self) -> None:
        world = answer(World().decrypting(), *HOLDERS[:4])
        world.happens(SumOpened(total_weight=0.5, mean_digest=digest("mean"), mean_bytes=40))
        assert world.state.phase is Phase.ABORTED
        assert not world.asked(PublishResult)

    def test_a_weight_at_the_minimum_passes_whatever_the_noise(self) -> None:
        world = answer(World().decrypting(), *HOLDERS[:4])
        world.happens(SumOpened(total_weight=1 - 1e-9, mean_digest=digest("mean"), mean_bytes=40))
        assert world.state.phase is Phase.PUBLISHED
        assert world.state.result is not None
        assert world.state.result.total_weight == SPEC.min_total_weight

    def test_the_result_names_the_contributors(self) -> None:
        world = answer(World().decrypting(), *HOLDERS[:4])
        world.happens(OPENED)
        (published,) = world.asked(PublishResult)
        assert isinstance(published, PublishResult)
        assert published.result.contributors == CLIENTS
        assert published.result.plan_digest == PLAN.digest
        assert world.asked(EndHolders)
        assert world.asked(DeleteUploads)


clients = st.sampled_from((*CLIENTS, STRANGER))
holders = st.sampled_from((*HOLDERS, HolderId("foreign")))


class AnyOrder(RuleBasedStateMachine):
    """Events in any order, right and wrong ones; the invariants hold after each."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.published = 0

    def attempt(self, event: Event) -> None:
        before = self.world.state
        try:
            self.world.happens(event)
        except SecAggError:
            assert self.world.state is before
            return
        self.published += len(self.world.asked(PublishResult))
        assert before.phase.ended is False or self.world.state is before

    @rule()
    def key(self) -> None:
        self.attempt(certified())

    @rule(client=clients, other=st.booleans())
    def joins(self, client: ClientId, other: bool) -> None:
        self.attempt(join(client, **({"commitment": commitment_of_alice()} if other else {})))

    @rule()
    def roster(self) -> None:
        self.attempt(RosterPublished())

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
        assert set(state.answered) <= state.asked <= set(state.approvals)

    @invariant()
    def never_below_the_minimum(self) -> None:
        state = self.world.state
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
