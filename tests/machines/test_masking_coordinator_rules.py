"""A masking round at the coordinator: what it refuses of whom, what is harmless, and how it goes on or ends at a deadline."""

from __future__ import annotations

from typing import Any

import pytest

from secagg.errors import ConflictError, FaultyClientError, LateError, PlanError, SecAggError, WrongPhaseError
from secagg.ids import ClientId
from secagg.masking.planner import Numbers
from secagg.messages.round import Phase
from secagg.roles.coordinator.events import (
    DeadlinePassed,
    Event,
    UploadRefused,
)
from secagg.roles.coordinator.masking import sharing
from secagg.roles.coordinator.masking.uploading import check_vector
from tests.machines import masking_events as make
from tests.masking_material import (
    ALICE,
    BOB,
    CAROL,
    CLIENTS,
    DAVE,
    ERIN,
    FRANK,
    GRACE,
    OTHER,
    QUORUM,
    STRANGER,
    Round,
    finished,
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


class TestJoining:
    def test_the_last_place_freezes_the_roster(self) -> None:
        state = make.joined().state
        assert state.phase is Phase.SHARING
        assert state.roster.clients == CLIENTS

    def test_again_is_harmless_and_something_else_a_conflict(self) -> None:
        round = make.joined(SIX)
        harmless(round, make.join(ALICE))
        refused(round, make.join(ALICE, share_key=OTHER), ConflictError, "alice has joined with another")
        frozen = make.joined()
        harmless(frozen, make.join(ALICE))
        refused(frozen, make.join(ALICE, seed_commitment=OTHER), ConflictError, "alice")

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"plan_digest": OTHER}, "another plan"),
            ({"mask_key": bytes(32)}, "no secret can be agreed"),
            ({"share_key": b"\x01" + bytes(31)}, "no secret can be agreed"),
            ({"mask_key": finished().state.joins[BOB].message.mask_key}, "copy"),
            ({"mask_key": finished().state.joins[BOB].message.share_key}, "copy"),
            ({"share_key": finished().state.joins[BOB].message.mask_key}, "copy"),
            ({"share_key": finished().state.joins[ALICE].message.mask_key}, "copy"),
        ],
    )
    def test_what_no_honest_client_signs_is_refused(self, changes: dict[str, Any], words: str) -> None:
        refused(make.joined((BOB,)), make.join(ALICE, **changes), FaultyClientError, words)

    def test_who_comes_late_is_told(self) -> None:
        round = passed(make.joined(SIX), Phase.OPEN)
        assert round.state.phase is Phase.SHARING
        refused(round, make.join(GRACE), LateError, "grace is not in it")

    def test_too_few_end_the_round(self) -> None:
        state = passed(make.joined(CLIENTS[:3]), Phase.OPEN).state
        assert (state.phase, state.have, state.need) == (Phase.ABORTED, 3, 4)
        assert "alice, bob, carol" in state.reason


class TestSharing:
    def test_again_is_harmless_and_something_else_a_conflict(self) -> None:
        for round in (make.shared(SIX), make.shared()):
            harmless(round, make.shares(round.state, ALICE))
            refused(round, make.shares(round.state, ALICE, sealed=(b"",) * 6), ConflictError, "other shares")

    @pytest.mark.parametrize(
        ("client", "changes", "words"),
        [
            (STRANGER, {}, "not in the frozen roster"),
            (ALICE, {"plan_digest": OTHER}, "another plan"),
            (ALICE, {"roster_digest": OTHER}, "another roster"),
            (ALICE, {"sealed": (b"",) * 6}, "not 88 bytes"),
            (ALICE, {"sealed": (b"",) * 5}, "5 shares, and has 6 neighbours"),
            (ALICE, {"sealed": (b"",) * 7}, "7 shares"),
        ],
    )
    def test_what_no_honest_client_signs_is_refused(
        self, client: ClientId, changes: dict[str, Any], words: str
    ) -> None:
        round = make.joined()
        refused(round, make.shares(round.state, client, **changes), FaultyClientError, words)

    def test_who_shares_late_has_dropped_out(self) -> None:
        round = passed(make.shared(FIVE), Phase.SHARING)
        assert round.state.sharers == FIVE
        refused(round, make.shares(round.state, GRACE), LateError, "grace has dropped out")
        refused(round, make.vector(round.state, GRACE), LateError, "did not share its secrets in time")

    def test_too_few_end_the_round_and_are_named(self) -> None:
        state = passed(make.shared(FOUR), Phase.SHARING).state
        assert (state.phase, state.need) == (Phase.ABORTED, QUORUM)
        assert "erin, frank, grace did not" in state.reason

    def test_only_what_sharers_sealed_to_a_client_is_handed_to_it(self) -> None:
        round = passed(make.shared(FIVE), Phase.SHARING)
        sealed = round.state.sealed_to(ALICE)
        assert set(sealed) == {BOB, CAROL, DAVE, ERIN}
        assert sealed[BOB] == make.sealed_pair(BOB, 0)
        assert round.state.sealed_to(GRACE) == {}
        assert round.state.sealed_to(STRANGER) == {}


def test_who_is_left_with_too_few_neighbours_that_shared_is_left_out_and_so_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a ring of two neighbours with t = 2, one gap unravels it all: each that is left out leaves others alone."""
    ring = Numbers(clients=7, corrupt=1, dropped=0, neighbours=2, threshold=2, quorum=4)
    monkeypatch.setattr(sharing, "plan_numbers", lambda *_, **__: ring)
    whole = make.shared()
    assert whole.state.sharers == CLIENTS
    state = passed(make.shared(SIX), Phase.SHARING).state
    assert state.phase is Phase.ABORTED
    assert "grace did not" in state.reason


class TestUploading:
    def test_again_is_harmless_and_something_else_a_conflict(self) -> None:
        for round in (make.uploaded(SIX), make.uploaded()):
            harmless(round, make.vector(round.state, ALICE))
            other = make.vector(round.state, ALICE, vector_digest=OTHER)
            refused(round, other, ConflictError, "uploaded something else")

    @pytest.mark.parametrize(
        ("client", "changes", "words"),
        [
            (STRANGER, {}, "not in the frozen roster"),
            (ALICE, {"plan_digest": OTHER}, "another plan"),
            (ALICE, {"roster_digest": OTHER}, "another roster"),
            (ALICE, {"sharers_digest": OTHER}, "other sharers"),
            (ALICE, {"vector_bytes": 1}, "has 1 bytes"),
        ],
    )
    def test_what_no_honest_client_signs_is_refused(
        self, client: ClientId, changes: dict[str, Any], words: str
    ) -> None:
        round = make.shared()
        refused(round, make.vector(round.state, client, **changes), FaultyClientError, words)

    def test_the_driver_can_ask_before_the_first_byte(self) -> None:
        before, upload = make.joined().state, make.vector(make.shared().state, ALICE).upload.message
        with pytest.raises(WrongPhaseError, match="sharers are not published"):
            check_vector(before, upload)
        assert not check_vector(make.shared().state, upload)
        assert check_vector(make.uploaded((ALICE,)).state, upload)

    def test_a_late_vector_is_thrown_away_however_complete(self) -> None:
        round = passed(make.uploaded(SIX), Phase.UPLOADING)
        assert round.state.survivors == SIX
        for _ in range(2):
            refused(round, make.vector(round.state, GRACE), LateError, "closed")
            for client in SIX:
                if round.state.phase is Phase.CONFIRMING:
                    round.happens(make.confirmation(round.state, client))
        assert round.state.phase is Phase.UNMASKING

    def test_a_refused_vector_is_that_of_a_client_that_dropped_out(self) -> None:
        round = make.uploaded(SIX)
        round.happens(UploadRefused(client=GRACE, reason="other bytes"))
        assert round.state.phase is Phase.CONFIRMING
        assert round.state.survivors == SIX
        assert round.state.refused == {GRACE: "other bytes"}
        harmless(round, UploadRefused(client=BOB, reason="too late"))

    def test_who_was_refused_is_so_for_this_round(self) -> None:
        round = make.shared()
        round.happens(UploadRefused(client=GRACE, reason="other bytes"))
        refused(round, make.vector(round.state, GRACE), FaultyClientError, "other bytes")
        harmless(round, UploadRefused(client=GRACE, reason="again"))
        refused(round, UploadRefused(client=STRANGER, reason="test"), FaultyClientError, "roster")

    def test_the_refusal_of_no_sharer_neither_ends_the_uploads_nor_keeps_them_open(self) -> None:
        round = passed(make.shared(SIX), Phase.SHARING)
        round.happens(UploadRefused(client=GRACE, reason="it has no vector in this round"))
        for client in FIVE:
            round.happens(make.vector(round.state, client))
        assert round.state.phase is Phase.UPLOADING
        round.happens(make.vector(round.state, FRANK))
        assert round.state.phase is Phase.CONFIRMING

    def test_a_counted_vector_is_not_refused_afterwards(self) -> None:
        round = make.uploaded((ALICE,))
        harmless(round, UploadRefused(client=ALICE, reason="test"))

    def test_too_few_end_the_round_and_are_named(self) -> None:
        state = passed(make.uploaded(FOUR), Phase.UPLOADING).state
        assert (state.phase, state.have, state.need) == (Phase.ABORTED, 4, QUORUM)
        assert "erin, frank, grace did not upload" in state.reason

    def test_nobody_survives_whose_secrets_nobody_could_open(self) -> None:
        """Five of seven are a quorum; of the seven sharers' neighbours four or five are left, which is a threshold."""
        round = passed(make.uploaded(FIVE), Phase.UPLOADING)
        assert round.state.phase is Phase.CONFIRMING
        assert round.state.survivors == FIVE


def unmasking_of(*clients: ClientId) -> Round:
    round = make.confirmed()
    for client in clients:
        round.happens(make.unmasking(round.state, client))
    return round


@pytest.mark.parametrize("phase", [Phase.OPEN, Phase.SHARING, Phase.UPLOADING, Phase.CONFIRMING, Phase.UNMASKING])
def test_the_deadline_of_another_phase_is_without_effect(phase: Phase) -> None:
    rounds = {
        Phase.OPEN: make.joined(SIX),
        Phase.SHARING: make.shared(SIX),
        Phase.UPLOADING: make.uploaded(SIX),
        Phase.CONFIRMING: make.confirmed(SIX),
        Phase.UNMASKING: unmasking_of(ALICE),
    }
    for other in set(rounds) - {phase}:
        harmless(rounds[phase], DeadlinePassed(phase=other))


def test_a_roster_that_no_graph_serves_ends_the_round(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object, **__: object) -> None:
        raise PlanError("lower dropout_fraction")

    monkeypatch.setattr(sharing, "plan_numbers", none)
    state = make.joined().state
    assert state.phase is Phase.ABORTED
    assert "lower dropout_fraction" in state.reason
