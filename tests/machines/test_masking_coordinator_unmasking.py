"""CONFIRMING and UNMASKING at the coordinator: what it refuses of whom, and how the sum comes about or the round ends."""

from __future__ import annotations

from typing import Any

import pytest

from secagg.errors import ConflictError, FaultyClientError, SecAggError
from secagg.ids import ClientId
from secagg.messages.round import Phase
from secagg.roles.coordinator.effects import DeleteUploads, PublishResult, SetDeadline, SetGrace, UnmaskSum
from secagg.roles.coordinator.events import (
    DeadlinePassed,
    Event,
    GraceOver,
    SumUnmasked,
    UnmaskingFailed,
)
from tests.machines import masking_events as make
from tests.masking_material import (
    ALICE,
    CLIENTS,
    ERIN,
    FRANK,
    GRACE,
    MEAN,
    OTHER,
    QUORUM,
    SPEC,
    STRANGER,
    THRESHOLD,
    UNMASKED,
    Round,
)

SIX, FIVE, FOUR = CLIENTS[:6], CLIENTS[:5], CLIENTS[:4]


def refused(round: Round, event: Event, error: type[SecAggError], words: str) -> None:
    """A refusal names its reason, and changes nothing."""
    before, shown = round.state, repr(round.state)
    with pytest.raises(error, match=words):
        round.happens(event)
    assert round.state is before
    assert repr(before) == shown


def harmless(round: Round, event: Event) -> None:
    before = round.state
    round.happens(event)
    assert round.state is before
    assert round.effects == ()


def passed(round: Round, phase: Phase) -> Round:
    round.happens(DeadlinePassed(phase=phase))
    return round


class TestConfirming:
    def test_again_is_harmless_and_something_else_a_conflict(self) -> None:
        for round in (make.confirmed(SIX), make.confirmed()):
            harmless(round, make.confirmation(round.state, ALICE))
            other = make.confirmation(round.state, ALICE, survivors_digest=OTHER)
            refused(round, other, ConflictError, "confirmed something else")

    @pytest.mark.parametrize(
        ("client", "changes", "words"),
        [
            (STRANGER, {}, "not in the frozen roster"),
            (GRACE, {}, "not among the survivors"),
            (ALICE, {"plan_digest": OTHER}, "another plan or roster"),
            (ALICE, {"roster_digest": OTHER}, "another plan or roster"),
            (ALICE, {"survivors_digest": OTHER}, "another set"),
        ],
    )
    def test_what_no_honest_client_signs_is_refused(
        self, client: ClientId, changes: dict[str, Any], words: str
    ) -> None:
        round = passed(make.uploaded(SIX), Phase.UPLOADING)
        refused(round, make.confirmation(round.state, client, **changes), FaultyClientError, words)

    def test_a_quorum_waits_a_little_for_the_others_and_then_goes_on(self) -> None:
        round = make.confirmed(FOUR)
        assert round.state.phase is Phase.CONFIRMING
        harmless(round, GraceOver())
        round.happens(make.confirmation(round.state, ERIN))
        assert len(round.asked(SetGrace)) == 1
        round.happens(make.confirmation(round.state, FRANK))
        assert round.asked(SetGrace) == []
        round.happens(GraceOver())
        assert round.state.phase is Phase.UNMASKING
        assert set(round.state.confirmations) == set(SIX)

    def test_all_of_them_are_waited_for_no_longer(self) -> None:
        round = make.confirmed()
        assert round.state.phase is Phase.UNMASKING
        assert [effect.phase for effect in round.asked(SetDeadline)] == [Phase.UNMASKING]

    def test_too_few_end_the_round_and_are_named(self) -> None:
        state = passed(make.confirmed(FOUR), Phase.CONFIRMING).state
        assert (state.phase, state.have, state.need) == (Phase.ABORTED, 4, QUORUM)
        assert "erin, frank, grace did not" in state.reason

    def test_a_quorum_at_the_deadline_goes_on(self) -> None:
        round = passed(make.confirmed(FIVE), Phase.CONFIRMING)
        assert round.state.phase is Phase.UNMASKING

    def test_who_confirms_late_may_still_reveal(self) -> None:
        round = passed(make.confirmed(FIVE), Phase.CONFIRMING)
        refused(round, make.unmasking(round.state, GRACE), FaultyClientError, "has not confirmed")
        round.happens(make.confirmation(round.state, GRACE))
        harmless(round, make.confirmation(round.state, GRACE))
        round.happens(make.unmasking(round.state, GRACE))
        assert set(round.state.unmaskings) == {GRACE}


def unmasking_of(*clients: ClientId) -> Round:
    round = make.confirmed()
    for client in clients:
        round.happens(make.unmasking(round.state, client))
    return round


class TestUnmasking:
    def test_again_is_harmless_and_something_else_a_conflict(self) -> None:
        round = unmasking_of(ALICE)
        harmless(round, make.unmasking(round.state, ALICE))
        other = make.unmasking(round.state, ALICE, shares=(b"",) * 6)
        refused(round, other, ConflictError, "revealed other shares")

    @pytest.mark.parametrize(
        ("client", "changes", "words"),
        [
            (STRANGER, {}, "not in the frozen roster"),
            (ALICE, {"plan_digest": OTHER}, "another plan or roster"),
            (ALICE, {"roster_digest": OTHER}, "another plan or roster"),
            (ALICE, {"survivors_digest": OTHER}, "another set"),
            (ALICE, {"shares": (make.SHARE,) * 5}, "5 shares, and has 6 neighbours"),
            (ALICE, {"shares": (*(make.SHARE,) * 5, b"short")}, "36 bytes"),
            (ALICE, {"shares": (*(make.SHARE,) * 5, b"\xff" * 36)}, "below 2"),
            (ALICE, {"shares": (*(make.SHARE,) * 5, make.SHARE * 2)}, "36 bytes"),
        ],
    )
    def test_what_no_honest_client_signs_is_refused(
        self, client: ClientId, changes: dict[str, Any], words: str
    ) -> None:
        round = make.confirmed()
        refused(round, make.unmasking(round.state, client, **changes), FaultyClientError, words)

    def test_a_threshold_of_every_secret_starts_the_recovery_once(self) -> None:
        round = unmasking_of(*CLIENTS[:THRESHOLD])
        assert not round.state.unmasking
        round.happens(make.unmasking(round.state, ERIN))
        assert round.state.unmasking
        assert len(round.asked(UnmaskSum)) == 1
        round.happens(make.unmasking(round.state, FRANK))
        assert round.asked(UnmaskSum) == []

    def test_places_without_a_share_do_not_count(self) -> None:
        round = unmasking_of(*CLIENTS[:THRESHOLD])
        round.happens(make.unmasking(round.state, ERIN, shares=(b"",) * 6))
        assert not round.state.unmasking
        round.happens(make.unmasking(round.state, FRANK))
        assert round.state.unmasking

    def test_the_sum_is_published(self) -> None:
        round = unmasking_of(*FIVE)
        round.happens(UNMASKED)
        assert round.state.phase is Phase.PUBLISHED
        (effect,) = round.asked(PublishResult)
        assert effect.result == round.state.result
        assert effect.result.contributors == CLIENTS
        assert len(round.asked(DeleteUploads)) == 1

    @pytest.mark.parametrize("weight", [0.0, 0.99, float("nan"), float("inf")])
    def test_a_sum_that_weighs_too_little_is_not_published(self, weight: float) -> None:
        round = unmasking_of(*FIVE)
        round.happens(SumUnmasked(total_weight=weight, mean_digest=MEAN, mean_bytes=200))
        assert round.state.phase is Phase.ABORTED
        assert "total weight" in round.state.reason
        assert round.asked(PublishResult) == []

    def test_a_weight_at_the_minimum_but_for_the_rounding_is_the_minimum(self) -> None:
        round = unmasking_of(*FIVE)
        lighter = SPEC.min_total_weight - 6 * SPEC.masking_parameters.step
        round.happens(SumUnmasked(total_weight=lighter, mean_digest=MEAN, mean_bytes=200))
        assert round.state.result is not None
        assert round.state.result.total_weight == SPEC.min_total_weight

    def test_shares_that_fit_not_are_tried_again_with_more(self) -> None:
        round = unmasking_of(*FIVE)
        round.happens(UnmaskingFailed(reason="frank's seed does not open", can_wait=True, used=5))
        assert round.state.phase is Phase.UNMASKING
        assert not round.state.unmasking
        round.happens(make.unmasking(round.state, FRANK))
        assert len(round.asked(UnmaskSum)) == 1

    def test_shares_that_came_during_a_recovery_are_tried_before_a_round_ends(self) -> None:
        """The last ones come, and the time passes, while the first are looked at."""
        round = unmasking_of(*CLIENTS)
        passed(round, Phase.UNMASKING)
        round.happens(UnmaskingFailed(reason="frank's seed does not open", can_wait=True, used=5))
        assert round.state.phase is Phase.UNMASKING
        assert len(round.asked(UnmaskSum)) == 1
        round.happens(UnmaskingFailed(reason="frank's seed does not open", can_wait=True, used=7))
        assert round.state.phase is Phase.ABORTED
        assert round.state.reason == "frank's seed does not open"

    def test_data_that_is_wrong_is_not_tried_again(self) -> None:
        round = unmasking_of(*FIVE)
        round.happens(UnmaskingFailed(reason="the sum is implausible", can_wait=False, used=5))
        assert round.state.phase is Phase.ABORTED

    def test_a_report_of_no_recovery_is_ignored(self) -> None:
        round = unmasking_of(ALICE)
        harmless(round, UNMASKED)
        harmless(round, UnmaskingFailed(reason="test", can_wait=False, used=1))

    def test_too_few_end_the_round_and_are_named(self) -> None:
        state = passed(unmasking_of(*FOUR), Phase.UNMASKING).state
        assert (state.phase, state.have, state.need) == (Phase.ABORTED, 4, 7)
        assert "erin, frank, grace did not reveal" in state.reason
        assert "of alice, bob, carol, dave:" in state.reason

    def test_where_all_revealed_nobody_is_said_to_be_missing(self) -> None:
        """Nobody could open what grace had dealt: it is named, and not those who say so."""
        round = make.confirmed()
        for client in CLIENTS:
            empty = tuple(b"" if client != GRACE and place == 5 else make.SHARE for place in range(6))
            round.happens(make.unmasking(round.state, client, shares=empty))
        assert round.state.phase is Phase.ABORTED
        assert "grace" in round.state.reason
        assert "in time" not in round.state.reason
        assert not any(one in round.state.reason for one in SIX)
