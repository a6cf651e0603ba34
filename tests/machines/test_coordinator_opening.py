"""A round at the coordinator from approval to its end."""

from __future__ import annotations

import pytest

from secagg.errors import (
    FaultyKeyHolderError,
)
from secagg.ids import HolderId
from secagg.messages.round import HolderVerdict, Phase
from secagg.roles.coordinator.effects import (
    AskDecryption,
    DeleteUploads,
    EndHolders,
    OpenSum,
    PublishResult,
    SetGrace,
)
from secagg.roles.coordinator.events import (
    DeadlinePassed,
    GraceOver,
    HolderSilent,
    OpeningFailed,
    SumOpened,
)
from tests.machines.coordinator_events import (
    CLIENTS,
    HOLDERS,
    OPENED,
    PLAN,
    SPEC,
    World,
    answer,
    approval,
    digest,
    lose,
)

QUORUM, THRESHOLD = 4, 3


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
