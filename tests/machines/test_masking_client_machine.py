"""A client's machine in a masking round: every phase with every event, what no order may bring about, and what it forgets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import FrozenInstanceError, is_dataclass
from itertools import pairwise
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from secagg.errors import SecAggError, WrongPhaseError
from secagg.ids import ClientId
from secagg.masking.held_shares import HeldShares
from secagg.masking.secrets_of_client import ClientSecrets
from secagg.roles.client import rules
from secagg.roles.client.events import (
    DeliverResult,
    Effect,
    Event,
    Fail,
    JoinRefused,
    PlanOffered,
    ResultPublished,
    RoundEnded,
)
from secagg.roles.client.masking.events import (
    ConfirmationsShown,
    MaskingRosterFrozen,
    SecretsDrawn,
    SendConfirmation,
    SendMaskingJoin,
    SendShares,
    SendUnmasking,
    SendVector,
    SharesShown,
    SurvivorsShown,
    TurnMissed,
    UnmaskingAccepted,
    VectorAccepted,
    VectorMasked,
)
from secagg.roles.client.state import ClientPhase, ClientState
from tests.machines.masking_client_states import shown, state_in
from tests.masking_material import ALICE, CLIENTS, Round, begun, finished

_P = ClientPhase
IN_ORDER = (
    _P.OFFERED,
    _P.PLANNED,
    _P.KEYS_SHOWN,
    _P.SHARING,
    _P.MASKING,
    _P.VECTOR_SENT,
    _P.VECTOR_COUNTED,
    _P.CONFIRMING,
    _P.REVEALED,
    _P.AWAITING_SUM,
    _P.DONE,
)
EVENTS: dict[type, Any] = {type(shown(phase)): lambda phase=phase: shown(phase) for phase in IN_ORDER[:-1]} | {
    JoinRefused: JoinRefused,
    TurnMissed: TurnMissed,
    RoundEnded: lambda: RoundEnded(reason="over"),
}
_STRAIGHT = {(phase, type(shown(phase))): after for phase, after in pairwise(IN_ORDER)}
_ENDS = {(phase, RoundEnded): _P.FAILED for phase in IN_ORDER[2:-1] if phase is not _P.MASKING}
LEGAL = _STRAIGHT | _ENDS | {(_P.KEYS_SHOWN, JoinRefused): _P.OFFERED, (_P.CONFIRMING, TurnMissed): _P.AWAITING_SUM}
SENDS = (SendMaskingJoin, SendShares, SendVector, SendConfirmation, SendUnmasking)


def test_the_tables_know_every_event_of_a_masking_round() -> None:
    assert set(EVENTS) == {
        PlanOffered,
        SecretsDrawn,
        MaskingRosterFrozen,
        SharesShown,
        VectorMasked,
        VectorAccepted,
        SurvivorsShown,
        ConfirmationsShown,
        UnmaskingAccepted,
        ResultPublished,
        JoinRefused,
        TurnMissed,
        RoundEnded,
    }


@pytest.mark.parametrize("phase", [*IN_ORDER, _P.FAILED])
@pytest.mark.parametrize("kind", get_args(Event))
def test_every_phase_with_every_event(phase: ClientPhase, kind: type) -> None:
    state = state_in(phase)
    event = EVENTS[kind]() if kind in EVENTS else kind.__new__(kind)
    before = repr(state)
    target = LEGAL.get((phase, kind))
    if target is None:
        with pytest.raises(WrongPhaseError, match=f"{kind.__name__} cannot happen in phase {phase.value}"):
            rules.step(state, event)
    else:
        step = rules.step(state, event)
        assert step.state.phase is target
        assert len(step.effects) == 1
    assert repr(state) == before


@pytest.mark.parametrize("phase", [*IN_ORDER, _P.FAILED])
def test_states_are_frozen(phase: ClientPhase) -> None:
    with pytest.raises(FrozenInstanceError):
        state_in(phase).policy = None  # type: ignore[union-attr,misc,assignment]


def parts(value: object) -> Iterator[object]:
    """Everything that a state holds, however deep."""
    yield value
    if is_dataclass(value):
        slots = getattr(value, "__slots__", None) or vars(value)
        for name in slots:
            yield from parts(getattr(value, name))
    elif isinstance(value, Mapping):
        for key, one in value.items():
            yield from parts(key)
            yield from parts(one)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for one in value:
            yield from parts(one)


def secrets_in(state: ClientState) -> list[object]:
    return [one for one in parts(state) if isinstance(one, (HeldShares, ClientSecrets))]


@pytest.mark.parametrize("phase", [_P.REVEALED, _P.AWAITING_SUM, _P.DONE, _P.FAILED])
def test_who_has_revealed_holds_neither_secrets_nor_shares(phase: ClientPhase) -> None:
    assert secrets_in(state_in(_P.CONFIRMING))
    assert secrets_in(state_in(phase)) == []


def test_who_missed_its_turn_holds_none_either() -> None:
    step = rules.step(state_in(_P.CONFIRMING), TurnMissed())
    assert secrets_in(step.state) == []
    assert not isinstance(step.effects[0], SENDS)


@pytest.mark.parametrize("phase", IN_ORDER)
def test_no_secret_is_shown(phase: ClientPhase) -> None:
    kept = finished().client_states, state_in(_P.SHARING)
    secrets = kept[1].secrets  # type: ignore[union-attr]
    words = repr(state_in(phase))
    for name in ("mask_private", "share_private", "self_seed", "quantising_key", "dealing_key"):
        secret: bytes = getattr(secrets, name)
        assert repr(secret)[2:-1] not in words
        assert secret.hex() not in words


def test_effects_show_no_key_of_a_mask_and_no_share() -> None:
    sent = finished().sent[ALICE]
    for effect in sent.values():
        for key in (*getattr(getattr(effect, "masks", None), "added", ()), getattr(effect, "noise_key", b"none")):
            assert repr(key)[2:-1] not in repr(effect)
    (share, *_) = sent[SendUnmasking].unmasking.shares
    assert repr(share)[2:-1] not in repr(sent[SendUnmasking])


def said_by(client: ClientId, events: list[Event]) -> list[object]:
    """Return the messages of a client that lives through these events."""
    state, messages = begun(client), []
    for event in events:
        step = rules.step(state, event)
        state = step.state
        messages += [vars(effect) for effect in step.effects if isinstance(effect, SENDS)]
    return messages


@given(until=st.integers(1, len(IN_ORDER) - 1))
def test_who_starts_again_with_what_it_kept_sends_the_same(until: int) -> None:
    events = [shown(phase) for phase in IN_ORDER[:until]]
    first = said_by(ALICE, events)
    assert said_by(ALICE, events) == first
    assert len(first) == sum(
        phase in (_P.PLANNED, _P.KEYS_SHOWN, _P.MASKING, _P.VECTOR_COUNTED, _P.CONFIRMING) for phase in IN_ORDER[:until]
    )


def test_another_seed_shares_nothing_with_the_first() -> None:
    """Whoever lost its seed cannot go on as the same client: its join is another."""
    state = rules.step(begun(), shown(_P.OFFERED)).state
    (one,) = rules.step(state, shown(_P.PLANNED)).effects
    (other,) = rules.step(state, SecretsDrawn(master_seed=bytes(32))).effects
    assert isinstance(one, SendMaskingJoin)
    assert isinstance(other, SendMaskingJoin)
    assert not {one.join.mask_key, one.join.share_key, one.join.seed_commitment} & {
        other.join.mask_key,
        other.join.share_key,
        other.join.seed_commitment,
    }


def test_a_refused_join_goes_on_to_a_later_round_with_nothing_of_this_one() -> None:
    step = rules.step(state_in(_P.KEYS_SHOWN), JoinRefused())
    assert step.state == begun(after_round=1)
    assert secrets_in(step.state) == []


@given(gone=st.sets(st.sampled_from([one for one in CLIENTS if one != ALICE]), max_size=3))
def test_one_kind_of_share_for_each_neighbour(gone: set[ClientId]) -> None:
    """Of a survivor the seed's, of anybody else the mask key's, whichever set is confirmed."""
    round = Round().uploaded([one for one in CLIENTS if one not in gone])
    state = round.client_states[ALICE]
    survivors = tuple(one for one in CLIENTS if one not in gone)
    state = rules.step(state, SurvivorsShown(survivors=survivors)).state
    held = state.held  # type: ignore[union-attr]
    seeds = held.reveal(CLIENTS[1:], CLIENTS)
    keys = held.reveal(CLIENTS[1:], ())
    assert not set(seeds) & set(keys)
    revealed = held.reveal(CLIENTS[1:], survivors)
    for client, share, seed, key in zip(CLIENTS[1:], revealed, seeds, keys, strict=True):
        assert share == (key if client in gone else seed)


class AnyOrder(RuleBasedStateMachine):
    """Whatever arrives in whatever order."""

    def __init__(self) -> None:
        super().__init__()
        self.state = begun()
        self.done: list[Effect] = []

    @rule(kind=st.sampled_from(list(EVENTS)))
    def happens(self, kind: type) -> None:
        self.attempt(EVENTS[kind]())

    @rule(steps=st.integers(1, 6))
    def goes_on(self, steps: int) -> None:
        """Let an honest coordinator show what is due."""
        for _ in range(steps):
            if self.state.phase in IN_ORDER[:-1]:
                self.attempt(shown(self.state.phase))

    @rule(gone=st.sets(st.sampled_from(CLIENTS), max_size=2))
    def survivors(self, gone: set[ClientId]) -> None:
        self.attempt(SurvivorsShown(survivors=tuple(one for one in CLIENTS if one not in gone)))

    def attempt(self, event: Event) -> None:
        try:
            step = rules.step(self.state, event)
        except SecAggError:
            # Only a refusal: the driver would raise it, and the state is what it was.
            return
        self.state = step.state
        self.done.extend(step.effects)

    @invariant()
    def each_message_is_sent_once_and_in_order(self) -> None:
        """A join that was refused is of another round; whatever comes after a join is of that one."""
        kinds = [type(effect) for effect in self.done if isinstance(effect, SENDS)]
        while kinds.count(SendMaskingJoin) > 1:
            assert kinds.pop(0) is SendMaskingJoin
        assert kinds == list(SENDS[: len(kinds)])

    @invariant()
    def an_end_is_an_end(self) -> None:
        ends = [place for place, effect in enumerate(self.done) if isinstance(effect, (DeliverResult, Fail))]
        assert ends in ([], [len(self.done) - 1])


TestAnyOrder = AnyOrder.TestCase
