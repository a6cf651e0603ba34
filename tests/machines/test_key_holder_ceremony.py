"""Ceremonies of key holders' machines, with liars (docs/protocol.md, section 4)."""

import secrets
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from he.errors import CeremonyError
from secagg.errors import (
    FaultyCoordinatorError,
    FaultyKeyHolderError,
    PlanError,
    PolicyError,
    WrongPhaseError,
)
from secagg.ids import HolderId, KeyId
from secagg.messages.ceremony import Dealing, Hello, KeyCommitment, SeedOpening, Trial
from secagg.policy import HolderPolicy
from secagg.roles.key_holder import ceremony
from secagg.roles.key_holder.events import (
    BeginCeremony,
    BlameAsked,
    CeremonyEnded,
    CeremonyEvent,
    CommitmentsReceived,
    DealingsReceived,
    HellosReceived,
    Reply,
    SealShare,
    SeedAsked,
    TrialsReceived,
)
from secagg.roles.key_holder.state import CeremonyPhase, Certified, Committed, Dead, New, Tried
from tests.holder_material import HolderRoom, ceremony_plan, job_spec, signed, with_changes
from tests.machines.ceremony_lies import (
    EAST,
    LIES,
    NORTH,
    SIZES,
    SOUTH,
    other_message,
    room_of,
    wrong_answer,
    wrong_share,
    wrong_split,
)


@pytest.mark.parametrize(("holders", "threshold"), SIZES)
def test_honest_holders_vouch_for_one_key(holders: int, threshold: int) -> None:
    room = room_of(holders, threshold)
    statements = [reply.message for reply in room.certify()]
    assert len({with_changes(one, holder=NORTH) for one in statements}) == 1
    assert {state.phase for state in room.states.values()} == {CeremonyPhase.CERTIFIED}


def test_a_share_is_stored_before_the_key_is_vouched_for() -> None:
    room = room_of()
    trials = room.try_key()
    step = ceremony.step(room.states[NORTH], TrialsReceived(trials=trials))
    assert [type(effect) for effect in step.effects] == [SealShare, Reply]
    assert isinstance(step.effects[0], SealShare)
    assert step.effects[0].share.key_id == step.state.key_id


def test_no_secret_shows_in_a_state() -> None:
    room = room_of()
    room.try_key()
    state = room.states[NORTH]
    assert isinstance(state, Tried)
    assert repr(state.seed) not in repr(state)
    assert "seed=" not in repr(state)


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize(("holders", "threshold"), SIZES)
def test_a_lie_kills_the_key_and_names_the_liar(
    lie: Callable[[HolderRoom, HolderId, HolderId], None], holders: int, threshold: int
) -> None:
    room = room_of(holders, threshold)
    lie(room, EAST, NORTH)
    trials = room.try_key()
    for holder in room.holders:
        with pytest.raises(CeremonyError):
            room.tell(holder, TrialsReceived(trials=trials))
    verdicts = room.blame(room.open_seeds())
    assert verdicts == dict.fromkeys(room.holders, (EAST,))


@pytest.mark.parametrize("lie", LIES)
def test_a_liar_that_keeps_its_seed_gets_no_honest_holder_named(
    lie: Callable[[HolderRoom, HolderId, HolderId], None],
) -> None:
    room = room_of(5, 3)
    lie(room, EAST, NORTH)
    room.try_key()
    openings = room.open_seeds([holder for holder in room.holders if holder != EAST])
    for liars in room.blame(openings).values():
        assert set(liars) <= {EAST}


def test_a_wrong_seed_is_named() -> None:
    room = room_of()
    wrong_answer(room, EAST, NORTH)
    room.lies[SOUTH, SeedOpening] = lambda reply: Reply(message=with_changes(reply.message, seed=bytes(32)))
    room.try_key()
    assert room.blame(room.open_seeds())[NORTH] == (EAST, SOUTH)


def test_a_seed_is_never_opened_of_a_key_that_was_vouched_for() -> None:
    room = room_of()
    room.certify()
    trials = room.trials()
    bad = with_changes(trials[1].trial.message, answer_digest=b"", complaint="of everything")
    failing = (trials[0], with_changes(trials[1], trial=signed(bad), answer=b""), trials[2])
    for shown in (trials, failing):
        with pytest.raises(WrongPhaseError):
            room.tell(NORTH, SeedAsked(trials=shown))
    assert isinstance(room.states[NORTH], Certified)
    assert not hasattr(room.states[NORTH], "seed")


def test_a_seed_is_not_opened_while_the_trial_succeeds() -> None:
    room = room_of()
    trials = room.try_key()
    with pytest.raises(FaultyCoordinatorError, match="succeeded"):
        room.tell(NORTH, SeedAsked(trials=trials))


def test_a_seed_is_not_opened_without_everybodys_trial() -> None:
    room = room_of()
    wrong_answer(room, EAST, NORTH)
    trials = room.try_key()
    with pytest.raises(FaultyCoordinatorError, match="relayed trials"):
        room.tell(NORTH, SeedAsked(trials=trials[:2]))


def test_a_seed_is_not_opened_for_trials_of_another_key() -> None:
    room = room_of()
    trials = room.try_key()
    foreign = with_changes(trials[1].trial.message, key_id=KeyId(bytes(32)))
    with pytest.raises(FaultyCoordinatorError, match="another key"):
        room.tell(NORTH, SeedAsked(trials=(trials[0], with_changes(trials[1], trial=signed(foreign)), trials[2])))


def test_a_holder_that_opened_its_seed_never_vouches() -> None:
    room = room_of()
    good = room.try_key()
    bad = with_changes(good[1].trial.message, answer_digest=b"", complaint="of everything")
    failing = (good[0], with_changes(good[1], trial=signed(bad), answer=b""), good[2])
    assert isinstance(room.tell(NORTH, SeedAsked(trials=failing)).message, SeedOpening)
    assert isinstance(room.states[NORTH], Dead)
    with pytest.raises(WrongPhaseError):
        room.tell(NORTH, TrialsReceived(trials=good))


@pytest.mark.parametrize("kind", [Hello, KeyCommitment, Dealing, Trial])
def test_who_signs_two_messages_for_one_step_is_named(kind: type) -> None:
    room = room_of()
    room.certify() if kind is Trial else room.try_key()
    if kind is Hello:
        hellos = [signed(room.said[one, Hello].message) for one in room.holders]
        event: CeremonyEvent = HellosReceived(hellos=(hellos[0], signed(other_message(hellos[1].message)), hellos[2]))
    elif kind is KeyCommitment:
        said = [signed(room.said[one, KeyCommitment].message) for one in room.holders]
        event = CommitmentsReceived(commitments=(said[0], signed(other_message(said[1].message)), said[2]))
    elif kind is Dealing:
        bundles = room.own_dealings(NORTH)
        other = with_changes(bundles[1], dealing=signed(other_message(bundles[1].dealing.message)))
        event = DealingsReceived(dealings=(bundles[0], other, bundles[2]))
    else:
        trials = room.trials()
        changed = with_changes(trials[1].trial.message, answer_digest=bytes(32))
        event = TrialsReceived(trials=(trials[0], with_changes(trials[1], trial=signed(changed)), trials[2]))
    with pytest.raises(FaultyKeyHolderError) as raised:
        room.tell(NORTH, event)
    assert raised.value.holder_id == EAST


def test_an_equivocator_that_split_the_others_is_named_when_blame_is_laid() -> None:
    room = room_of()
    wrong_share(room, EAST, NORTH)
    room.try_key()
    openings = room.open_seeds()
    bundles = list(room.bundles([room.said[one, Dealing] for one in room.holders], room.holders))
    bundles[1] = with_changes(bundles[1], dealing=signed(other_message(bundles[1].dealing.message)))
    with pytest.raises(FaultyKeyHolderError) as raised:
        room.tell(NORTH, BlameAsked(openings=openings, dealings=tuple(bundles)))
    assert raised.value.holder_id == EAST


def test_holders_that_were_shown_different_dealings_do_not_vouch() -> None:
    room = room_of()
    room.deal()
    honest = room.own_dealings(NORTH)
    lied = wrong_split(room)
    room.tell(NORTH, DealingsReceived(dealings=honest))
    for holder in (EAST, SOUTH):
        bundles = room.own_dealings(holder)
        shown = tuple(with_changes(one, dealing=lied) if one.dealing.message.holder == EAST else one for one in bundles)
        room.states[EAST] = with_changes(room.states[EAST], dealing=lied.message)
        room.tell(holder, DealingsReceived(dealings=shown))
    with pytest.raises(FaultyCoordinatorError, match="another key"):
        room.tell(NORTH, TrialsReceived(trials=room.trials()))


def test_a_weaker_plan_than_the_policy_is_not_begun() -> None:
    plan = ceremony_plan(job_spec())
    state = New(holder=NORTH, policy=HolderPolicy(min_contributors=3))
    with pytest.raises(PolicyError, match="contributors"):
        ceremony.step(state, BeginCeremony(plan=plan, seed=secrets.token_bytes(32)))


def test_a_plan_without_this_holder_is_not_begun() -> None:
    state = New(holder=HolderId("stranger"), policy=HolderPolicy())
    with pytest.raises(PlanError, match="stranger"):
        ceremony.step(state, BeginCeremony(plan=ceremony_plan(job_spec()), seed=secrets.token_bytes(32)))


def test_another_plan_for_a_begun_ceremony_is_refused() -> None:
    room = room_of()
    room.greet()
    other = ceremony_plan(job_spec(), round=2)
    with pytest.raises(PlanError, match="another plan"):
        room.tell(NORTH, BeginCeremony(plan=other, seed=secrets.token_bytes(32)))


def test_every_step_repeated_gets_the_same_answer() -> None:
    room = room_of()
    hellos = room.greet()
    assert room.tell(NORTH, BeginCeremony(plan=room.plan, seed=secrets.token_bytes(32))).message == hellos[0].message
    for kind, event in _history(room):
        assert room.tell(NORTH, event).message == room.tell(NORTH, event).message, kind


def _history(room: HolderRoom) -> Iterator[tuple[str, CeremonyEvent]]:
    """Run a ceremony for everybody and hand north's events over again after each step."""
    hellos = tuple(signed(room.said[one, Hello].message) for one in room.holders)
    yield "hellos", HellosReceived(hellos=hellos)
    for holder in (EAST, SOUTH):
        room.tell(holder, HellosReceived(hellos=hellos))
    commitments = tuple(signed(room.said[one, KeyCommitment].message) for one in room.holders)
    yield "commitments", CommitmentsReceived(commitments=commitments)
    for holder in (EAST, SOUTH):
        room.tell(holder, CommitmentsReceived(commitments=commitments))
    yield "dealings", DealingsReceived(dealings=room.own_dealings(NORTH))
    for holder in (EAST, SOUTH):
        room.tell(holder, DealingsReceived(dealings=room.own_dealings(holder)))
    yield "trials", TrialsReceived(trials=room.trials())


def test_sealing_is_not_repeated() -> None:
    room = room_of()
    commitments = room.commit()
    first = room.tell(NORTH, CommitmentsReceived(commitments=commitments))
    assert room.tell(NORTH, CommitmentsReceived(commitments=commitments)).sealed == first.sealed


def test_the_end_drops_every_secret() -> None:
    room = room_of()
    room.try_key()
    ended = ceremony.step(room.states[NORTH], CeremonyEnded())
    assert vars(ended.state) == {}


def test_the_shares_open_the_key_that_was_vouched_for() -> None:
    room = room_of()
    trials = room.try_key()
    state = room.states[NORTH]
    assert isinstance(state, Committed)
    steps_taken = [ceremony.step(room.states[one], TrialsReceived(trials=trials)) for one in room.holders]
    shares = [effect.share for taken in steps_taken for effect in taken.effects if isinstance(effect, SealShare)]
    assert [share.holder for share in shares] == [1, 2, 3]
    assert len({bytes(share.key_id) for share in shares}) == 1
    assert not np.array_equal(shares[0].secret, shares[1].secret)


def test_an_opening_is_repeated_and_a_second_trial_named() -> None:
    room = room_of()
    wrong_answer(room, EAST, NORTH)
    trials = room.try_key()
    first = room.tell(NORTH, SeedAsked(trials=trials))
    assert room.tell(NORTH, SeedAsked(trials=trials)).message == first.message
    other = signed(with_changes(trials[1].trial.message, answer_digest=bytes(32)))
    with pytest.raises(FaultyKeyHolderError) as raised:
        room.tell(NORTH, SeedAsked(trials=(trials[0], with_changes(trials[1], trial=other), trials[2])))
    assert raised.value.holder_id == EAST


def test_blame_is_not_laid_on_parts_that_were_altered_on_the_way() -> None:
    room = room_of()
    wrong_answer(room, EAST, NORTH)
    room.try_key()
    openings = room.open_seeds()
    bundles = list(room.bundles([room.said[one, Dealing] for one in room.holders], room.holders))
    bundles[2] = with_changes(bundles[2], sealed={**bundles[2].sealed, EAST: b"altered"})
    with pytest.raises(FaultyCoordinatorError, match="was altered"):
        room.tell(NORTH, BlameAsked(openings=openings, dealings=tuple(bundles)))


def test_a_repeat_with_ones_own_message_altered_is_the_coordinators_fault() -> None:
    room = room_of()
    room.commit()
    hellos = [signed(room.said[one, Hello].message) for one in room.holders]
    hellos[0] = signed(other_message(hellos[0].message))
    with pytest.raises(FaultyCoordinatorError, match="came back"):
        room.tell(NORTH, HellosReceived(hellos=tuple(hellos)))
