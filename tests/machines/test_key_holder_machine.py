"""Every phase of a key holder's machines against every event: what is not in the tables is refused and changes nothing."""

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, get_args

import pytest

from secagg.errors import WrongPhaseError
from secagg.ids import Digest, HolderId
from secagg.policy import HolderPolicy
from secagg.roles.key_holder import ceremony, opening
from secagg.roles.key_holder.events import (
    BeginCeremony,
    BlameAsked,
    CeremonyEnded,
    CeremonyEvent,
    CommitmentsReceived,
    DealingsReceived,
    HellosReceived,
    SeedAsked,
    TrialsReceived,
)
from secagg.roles.key_holder.opening import OpeningEvent, OpeningPhase, OpeningState
from secagg.roles.key_holder.state import CeremonyPhase, CeremonyState, Ended
from tests.holder_material import (
    HolderRoom,
    ceremony_plan,
    contributor,
    job_spec,
    random_key_id,
    request_of,
    round_plan,
)
from tests.machines.test_key_holder_ceremony import wrong_answer

NORTH, EAST = HolderId("north"), HolderId("east")
_P, _O = CeremonyPhase, OpeningPhase
_BEGUN = {_P.GREETED, _P.COMMITTED, _P.DEALT, _P.TRIED}
CEREMONY_MOVES: dict[type, set[CeremonyPhase]] = {
    BeginCeremony: {_P.NEW, *_BEGUN},
    HellosReceived: _BEGUN,
    CommitmentsReceived: _BEGUN - {_P.GREETED},
    DealingsReceived: {_P.DEALT, _P.TRIED},
    TrialsReceived: {_P.TRIED, _P.CERTIFIED},
    SeedAsked: {_P.TRIED, _P.DEAD},
    BlameAsked: {_P.DEAD},
    CeremonyEnded: set(_P),
}
OPENING_MOVES: dict[type, set[OpeningPhase]] = {
    opening.RosterOffered: {_O.CERTIFIED, _O.APPROVED, _O.ANSWERED},
    opening.ApprovalOffered: {_O.CERTIFIED, _O.APPROVED, _O.ANSWERED},
    opening.ApprovalAsked: {_O.CERTIFIED, _O.APPROVED, _O.ANSWERED},
    opening.DecryptionAsked: {_O.CERTIFIED, _O.APPROVED, _O.ANSWERED},
    opening.SumLost: {_O.CERTIFIED, _O.APPROVED, _O.ANSWERED},
    opening.RoundEnded: set(_O),
    opening.Expired: set(_O),
}


@cache
def ceremony_states() -> dict[CeremonyPhase, CeremonyState]:
    """Return north's state in every phase."""
    states: dict[CeremonyPhase, CeremonyState] = {_P.ENDED: Ended()}
    room = HolderRoom(plan=ceremony_plan(job_spec()))
    states[_P.NEW] = room.states[NORTH]
    room.greet()
    states[_P.GREETED] = room.states[NORTH]
    runs: list[Callable[[HolderRoom], object]] = [
        HolderRoom.commit,
        HolderRoom.deal,
        HolderRoom.try_key,
        HolderRoom.certify,
    ]
    for run in runs:
        fresh = HolderRoom(plan=room.plan)
        run(fresh)
        states[fresh.states[NORTH].phase] = fresh.states[NORTH]
    dead = HolderRoom(plan=room.plan)
    wrong_answer(dead, EAST, NORTH)
    dead.try_key()
    dead.open_seeds()
    states[_P.DEAD] = dead.states[NORTH]
    return states


@cache
def empty_event(kind: type) -> Any:
    """Return an event of the kind that says nothing; a legal move may refuse it, but not as out of phase."""
    contents: dict[str, object] = {"plan": ceremony_plan(job_spec()), "seed": bytes(32)}
    return kind(**{one.name: contents.get(one.name, ()) for one in fields(kind)})


def test_the_states_are_of_every_phase() -> None:
    assert set(ceremony_states()) == set(CeremonyPhase)
    assert {type(state).phase for state in ceremony_states().values()} == set(CeremonyPhase)


def test_the_table_names_every_event() -> None:
    assert set(CEREMONY_MOVES) == set(get_args(CeremonyEvent))
    assert set(OPENING_MOVES) == set(get_args(OpeningEvent))


@pytest.mark.parametrize("kind", CEREMONY_MOVES, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("phase", list(CeremonyPhase), ids=lambda phase: phase.value)
def test_a_ceremony_allows_these_moves_and_no_others(phase: CeremonyPhase, kind: type) -> None:
    state, event = ceremony_states()[phase], empty_event(kind)
    before = dict(vars(state))
    refusal: Exception | None = None
    try:
        ceremony.step(state, event)
    except Exception as error:  # noqa: BLE001 - a legal move may find the empty event wrong
        refusal = error
    assert isinstance(refusal, WrongPhaseError) == (phase not in CEREMONY_MOVES[kind])
    assert dict(vars(state)) == before


def opening_event(kind: type) -> Any:
    plan = ceremony_plan(job_spec())
    made = round_plan(plan, KEY_ID)
    request = request_of(made, [contributor(made, "alice", seed=1)])
    contents = {
        "plan": made,
        "roster": request.roster,
        "request": request,
        "computed": (),
        "key_id": KEY_ID,
        "request_digest": Digest(bytes(32)),
        "approvals": (),
    }
    return kind(**{one.name: contents[one.name] for one in fields(kind)})


KEY_ID = random_key_id()


@pytest.mark.parametrize("kind", OPENING_MOVES, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("phase", list(OpeningPhase), ids=lambda phase: phase.value)
def test_an_opening_allows_these_moves_and_no_others(phase: OpeningPhase, kind: type) -> None:
    state = OpeningState(
        holder=NORTH, policy=HolderPolicy(), ceremony=ceremony_plan(job_spec()), key_id=KEY_ID, phase=phase
    )
    before = dict(vars(state))
    refusal: Exception | None = None
    try:
        opening.step(state, opening_event(kind))
    except Exception as error:  # noqa: BLE001 - a legal move may find the event wrong
        refusal = error
    unread = kind is opening.DecryptionAsked and phase is OpeningPhase.CERTIFIED
    assert isinstance(refusal, WrongPhaseError) == (phase not in OPENING_MOVES[kind] or unread)
    assert dict(vars(state)) == before


def test_states_are_frozen() -> None:
    for state in ceremony_states().values():
        assert is_dataclass(state)
        with pytest.raises(AttributeError):
            setattr(state, "phase", None)  # noqa: B010 - what is tried is what mypy forbids
