"""What clients of a masking round are answered: who has dropped out and why, whose confirmations they see, and what comes too late."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coordinator.masking_answers import confirmations_for, dropped_out, is_settled
from secagg.errors import LateError
from secagg.ids import ClientId
from secagg.messages.round import Phase
from secagg.roles.client.masking.events import SendConfirmation, SendUnmasking
from secagg.roles.coordinator.events import CancelRequested, DeadlinePassed, UploadRefused
from secagg.roles.neighbourhood import Neighbourhood
from tests.masking_material import ALICE, BOB, CAROL, CLIENTS, QUORUM, STRANGER, UNMASKED, Round, moved, round_in


@pytest.mark.parametrize("phase", [Phase.OPEN, Phase.ABORTED])
def test_nobody_has_dropped_out_before_the_roster_or_of_a_round_that_ended_for_all(phase: Phase) -> None:
    assert dropped_out(round_in(phase).state, STRANGER) is None


@pytest.mark.parametrize("phase", [Phase.SHARING, Phase.UPLOADING, Phase.CONFIRMING, Phase.UNMASKING, Phase.PUBLISHED])
def test_who_is_in_has_not_dropped_out_and_a_stranger_never_was_in(phase: Phase) -> None:
    state = round_in(phase).state
    assert [dropped_out(state, client) for client in CLIENTS] == [None] * len(CLIENTS)
    assert dropped_out(state, STRANGER) == "it is not in the frozen roster"


def test_the_reason_is_the_step_that_was_missed() -> None:
    round = Round().shared(CLIENTS[1:])
    round.happens(DeadlinePassed(phase=Phase.SHARING))
    assert "did not share its secrets in time" in str(dropped_out(round.state, ALICE))
    round = Round().masked()
    round.happens(UploadRefused(client=BOB, reason="its vector does not unpack"))
    assert dropped_out(round.state, BOB) == "its vector was refused: its vector does not unpack"
    assert dropped_out(round.state, CAROL) is None
    for client in set(CLIENTS) - {BOB, CAROL}:
        round.happens(round.vector(client))
    round.happens(DeadlinePassed(phase=Phase.UPLOADING))
    assert round.state.phase is Phase.CONFIRMING
    assert dropped_out(round.state, CAROL) == "its vector did not arrive in time"
    assert dropped_out(round.state, BOB) == "its vector was refused: its vector does not unpack"


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_sees_all_its_neighbours_and_a_quorum_of_others(client: ClientId) -> None:
    state = round_in(Phase.UNMASKING).state
    shown = [one.message.client for one in confirmations_for(state, client)]
    assert shown == sorted(set(CLIENTS) - {client})
    assert len(shown) >= QUORUM


def test_few_neighbours_are_filled_up_to_a_quorum_with_others() -> None:
    state = round_in(Phase.UNMASKING).state
    # The complete graph makes everybody a neighbour; with two of them each, the quorum needs others.
    house = Neighbourhood.of(state.frozen_digest, state.clients, degree=2, threshold=2, quorum=QUORUM)
    thin = replace(state, degree=2, house=house)
    for client in CLIENTS:
        near = set(thin.neighbourhood.neighbours_of(client))
        shown = [one.message.client for one in confirmations_for(thin, client)]
        assert near <= set(shown)
        assert client not in shown
        assert len(shown) == len(set(shown)) == QUORUM


@pytest.mark.parametrize("kind", [SendConfirmation, SendUnmasking])
def test_after_the_end_a_repetition_is_harmless_and_all_else_is_late(kind: type) -> None:
    running = Round().unmasking_begun()
    message = running.message(ALICE, kind).message
    assert not is_settled(running.state, message)
    ended = moved(running, UNMASKED).state
    assert is_settled(ended, message)
    with pytest.raises(LateError, match="over"):
        is_settled(ended, replace(message, survivors_digest=bytes(32)))


def test_an_unmasking_that_an_aborted_round_never_had_is_late() -> None:
    round = Round().ready_to_unmask()
    round.happens(CancelRequested(reason="test"))
    with pytest.raises(LateError):
        is_settled(round.state, round.message(ALICE, SendUnmasking).message)
