"""What a client wants to see before it reveals a share, and before it takes a result: survivors, confirmations, contributors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from secagg.errors import FaultyCoordinatorError, SecAggError
from secagg.ids import ClientId
from secagg.roles.client import rules
from secagg.roles.client.events import Event
from secagg.roles.client.masking.events import (
    ConfirmationsShown,
    MaskingRosterFrozen,
    SendConfirmation,
    SendUnmasking,
    SharesShown,
    SurvivorsShown,
)
from secagg.roles.client.state import ClientPhase, ClientState
from tests.machines.masking_client_states import published, roster_of, shown, state_in
from tests.masking_material import (
    ALICE,
    BOB,
    CAROL,
    CLIENTS,
    COORDINATOR,
    ERIN,
    FRANK,
    GRACE,
    OTHER,
    STRANGER,
    authenticated,
    finished,
)

_P = ClientPhase


def refuses(phase: ClientPhase, event: Event, words: str) -> None:
    refused_in(state_in(phase), event, words)


def refused_in(state: ClientState, event: Event, words: str) -> None:
    before = repr(state)
    with pytest.raises(FaultyCoordinatorError, match=words):
        rules.step(state, event)
    assert repr(state) == before


def shares_of(*sharers: ClientId) -> SharesShown:
    return SharesShown(sharers=sharers, sealed=finished().state.sealed_to(ALICE))


class TestSurvivors:
    @pytest.mark.parametrize(
        ("survivors", "words"),
        [
            (CLIENTS[1:], "leaves out alice"),
            ((*CLIENTS, STRANGER), "mallory, who cannot be in it"),
            (CLIENTS[::-1], "order"),
            ((ALICE, ALICE, *CLIENTS[1:]), "twice"),
            (CLIENTS[:3], "names 3 clients, at least 4"),
        ],
    )
    def test_survivors_that_are_none(self, survivors: tuple[ClientId, ...], words: str) -> None:
        refuses(_P.VECTOR_COUNTED, SurvivorsShown(survivors=survivors), words)

    def test_a_client_that_did_not_share_cannot_survive(self) -> None:
        state = rules.step(state_in(_P.SHARING), shares_of(*CLIENTS[:6])).state
        for phase in (_P.MASKING, _P.VECTOR_SENT):
            state = rules.step(state, shown(phase)).state
        refused_in(state, SurvivorsShown(survivors=CLIENTS), "grace, who cannot be in it")

    def test_a_second_set_is_not_signed(self) -> None:
        with pytest.raises(SecAggError, match="cannot happen in phase confirming"):
            rules.step(state_in(_P.CONFIRMING), SurvivorsShown(survivors=CLIENTS[:6]))


def confirmations(*clients: ClientId, **changes: object) -> ConfirmationsShown:
    """Return confirmations of these clients, the last one with changes."""
    *most, last = (finished().message(client, SendConfirmation) for client in clients)
    return ConfirmationsShown(confirmations=(*most, authenticated(replace(last.message, **changes))))


class TestConfirmations:
    @pytest.mark.parametrize(
        ("event", "words"),
        [
            (ConfirmationsShown(confirmations=()), "1 clients confirmed the survivors, 5 are due"),
            (confirmations(*CLIENTS[1:4]), "4 clients confirmed the survivors, 5 are due"),
            (confirmations(*CLIENTS[:4]), "4 clients confirmed"),
            (confirmations(BOB, CAROL, ERIN, FRANK, FRANK), "twice"),
            (confirmations(*CLIENTS[1:], client=STRANGER), "no survivor"),
            (confirmations(*CLIENTS[1:], survivors_digest=OTHER), "grace for another plan, roster or set"),
            (confirmations(*CLIENTS[1:], roster_digest=OTHER), "grace for another"),
            (confirmations(*CLIENTS[1:], plan_digest=OTHER), "grace for another"),
        ],
    )
    def test_confirmations_that_are_none(self, event: ConfirmationsShown, words: str) -> None:
        refuses(_P.CONFIRMING, event, words)

    def test_a_quorum_with_ones_own_passes(self) -> None:
        for clients in (CLIENTS[1:5], CLIENTS[:5]):
            step = rules.step(state_in(_P.CONFIRMING), confirmations(*clients))
            assert step.state.phase is _P.REVEALED
            assert isinstance(step.effects[0], SendUnmasking)

    def test_who_did_not_survive_confirms_nothing(self) -> None:
        state = rules.step(state_in(_P.VECTOR_COUNTED), SurvivorsShown(survivors=CLIENTS[:6])).state
        own = state.confirmation  # type: ignore[union-attr]
        signed = tuple(authenticated(replace(own, client=client)) for client in (*CLIENTS[1:4], GRACE))
        refused_in(state, ConfirmationsShown(confirmations=signed), "no survivor")

    def test_a_quorum_without_a_threshold_of_neighbours_is_not_enough(self) -> None:
        """On the complete graph one follows from the other; so here the client is told of a higher threshold."""
        roster = roster_of(threshold=6)
        state = rules.step(state_in(_P.KEYS_SHOWN), MaskingRosterFrozen(roster=roster)).state
        for event in (shares_of(*CLIENTS), shown(_P.MASKING), shown(_P.VECTOR_SENT), shown(_P.VECTOR_COUNTED)):
            state = rules.step(state, event).state
        own = state.confirmation  # type: ignore[union-attr]
        signed = tuple(authenticated(replace(own, client=client)) for client in CLIENTS)
        refused_in(state, ConfirmationsShown(confirmations=signed[:6]), "5 neighbours of alice confirmed .* 6 are due")
        assert rules.step(state, ConfirmationsShown(confirmations=signed)).state.phase is _P.REVEALED


class TestResult:
    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"plan_digest": OTHER}, "another round"),
            ({"roster_digest": OTHER}, "another roster"),
            ({"contributors": CLIENTS[1:]}, "leaves out alice"),
            ({"contributors": CLIENTS[:6]}, "other clients than the survivors"),
            ({"contributors": CLIENTS[:3]}, "sum of 3"),
            ({"contributors": (*CLIENTS, STRANGER)}, "mallory"),
            ({"total_weight": 0.5}, "below"),
            ({"total_weight": float("nan")}, "below"),
            ({"mean_digest": OTHER}, "not the one that it signed"),
            ({"mean_bytes": 4}, "bytes"),
        ],
    )
    def test_a_result_that_is_none(self, changes: dict[str, Any], words: str) -> None:
        refuses(_P.AWAITING_SUM, published(finished(), **changes), words)

    def test_a_result_of_somebody_else(self) -> None:
        event = published(finished())
        other = replace(event, result=replace(event.result, party=replace(COORDINATOR, name="another")))
        refuses(_P.AWAITING_SUM, other, "signed by")

    def test_another_mean_than_the_one_that_was_signed(self) -> None:
        refuses(_P.AWAITING_SUM, replace(published(finished()), mean_digest=OTHER), "not the one that it signed")
