"""A round at the coordinator from its key to its uploads."""

from __future__ import annotations

import pytest

from secagg import transcript
from secagg.errors import (
    ConflictError,
    FaultyClientError,
    FaultyKeyHolderError,
    LateError,
    PlanError,
)
from secagg.ids import HolderId
from secagg.messages.round import HolderStatus, HolderVerdict, Phase
from secagg.roles.coordinator.effects import (
    AskApprovals,
    AskSeals,
    DeleteUploads,
    EndHolders,
)
from secagg.roles.coordinator.events import (
    DeadlinePassed,
    KeyFailed,
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
    lose,
    seal,
    upload,
    world_in,
)

QUORUM, THRESHOLD = 4, 3


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
        (asked,) = world.asked(AskSeals)
        assert isinstance(asked, AskSeals)
        assert [one.message.client for one in asked.roster.joins] == sorted(CLIENTS)
        assert asked.roster.seals == ()
        assert asked.holders == HOLDERS

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


class TestSealing:
    def test_a_quorum_of_seals_shows_the_roster_and_takes_uploads(self) -> None:
        world = world_in(Phase.FROZEN).sealed(HOLDERS[1:4])
        assert world.state.phase is Phase.FROZEN
        world.sealed(HOLDERS[:1])
        assert world.state.phase is Phase.UPLOADING
        assert [one.message.holder for one in world.state.roster.seals] == list(HOLDERS[:4])

    def test_one_holders_seal_counts_once(self) -> None:
        world = world_in(Phase.FROZEN).sealed(HOLDERS[:3])
        before = world.state
        world.sealed(HOLDERS[:3])
        assert world.state is before

    @pytest.mark.parametrize(
        "changes", [{"roster_digest": digest("x")}, {"key_id": digest("x")}, {"holder": HolderId("foreign")}]
    )
    def test_a_wrong_seal_is_refused(self, changes: dict[str, object]) -> None:
        world = world_in(Phase.FROZEN)
        with pytest.raises(FaultyKeyHolderError):
            world.happens(seal(world.state, **{"holder": HOLDERS[0], **changes}))  # type: ignore[arg-type]
        assert world.state.seals == {}

    def test_too_few_holders_left_abort_before_anybody_uploads(self) -> None:
        world = lose(world_in(Phase.FROZEN).sealed(HOLDERS[:2]), HOLDERS[3])
        assert world.state.phase is Phase.FROZEN
        lose(world, HOLDERS[4])
        assert world.state.phase is Phase.ABORTED
        assert (world.state.have, world.state.need) == (3, 4)
        assert "holder-4 is unreachable" in world.state.reason

    def test_a_seal_is_not_lost_with_its_holder(self) -> None:
        world = world_in(Phase.FROZEN).sealed(HOLDERS[:3])
        before = world.state
        lose(world, *HOLDERS[:3])
        assert world.state is before

    def test_the_deadline_aborts_below_the_quorum(self) -> None:
        world = world_in(Phase.FROZEN).sealed(HOLDERS[:3])
        world.happens(DeadlinePassed(phase=Phase.FROZEN))
        assert world.state.phase is Phase.ABORTED
        assert (world.state.have, world.state.need) == (3, 4)
        assert "seals of the roster" in world.state.reason

    @pytest.mark.parametrize("verdict", [HolderVerdict.UNREACHABLE, HolderVerdict.SUSPECT, HolderVerdict.FAULTY])
    def test_who_did_not_seal_may_approve_unless_it_is_proven_faulty(self, verdict: HolderVerdict) -> None:
        world = lose(world_in(Phase.FROZEN), HOLDERS[4], verdict=verdict).sealed()
        for client in CLIENTS:
            world.happens(upload(world.state, client))
        world.happens(approval(world.state, HOLDERS[4]))
        assert (HOLDERS[4] in world.state.approvals) == (verdict is not HolderVerdict.FAULTY)


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
        world.sealed()
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
