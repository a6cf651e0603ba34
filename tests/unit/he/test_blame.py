"""Dead keys name their liar, and nobody else."""

from random import Random

import pytest

from he.ceremony import Verdict, blame, hpke_public_key, seed_commitment
from he.errors import CeremonyError
from he.parameters import Parameters
from tests.ceremony_room import DEALING_LIES, LATE_LIES, CeremonyRoom, tell
from tests.he_material import small_parameters

SIZES = [(3, 2), (5, 3), (9, 5)]


def sized(holders: int, threshold: int) -> Parameters:
    return small_parameters(holders=holders, threshold=threshold)


@pytest.mark.parametrize(("holders", "threshold"), SIZES)
@pytest.mark.parametrize("lie", DEALING_LIES)
def test_a_lie_before_the_trial_kills_the_key_and_names_the_liar(lie: str, holders: int, threshold: int) -> None:
    room = CeremonyRoom(sized(holders, threshold), 7)
    tell(room, lie, 2, 3)
    room.answer_trial()
    with pytest.raises(CeremonyError):
        room.verify()
    assert blame(room.evidence()) == Verdict(liars=(2,), silent=())


def test_a_wrong_trial_answer_kills_the_key_and_names_the_liar() -> None:
    room = CeremonyRoom(sized(5, 3), 8)
    room.answer_trial()
    tell(room, "answer", 4, 1)
    with pytest.raises(CeremonyError):
        room.verify()
    assert blame(room.evidence()).liars == (4,)


@pytest.mark.parametrize("lie", ["share", "secret", "opening", "commitment"])
def test_where_all_must_open_a_lie_still_shows(lie: str) -> None:
    room = CeremonyRoom(sized(4, 4), 9)
    tell(room, lie, 1, 2)
    room.answer_trial()
    with pytest.raises(CeremonyError):
        room.verify()
    assert blame(room.evidence()).liars == (1,)


@pytest.mark.parametrize("lie", ["seed", "hpke_key"])
def test_a_wrong_seed_or_a_foreign_hpke_key_is_named_and_frames_nobody(lie: str) -> None:
    room = CeremonyRoom(sized(5, 3), 10)
    room.answer_trial()
    tell(room, lie, 5, 1)
    assert blame(room.evidence()).liars == (5,)


def test_a_seed_of_another_length_is_a_lie_even_if_committed_to() -> None:
    room = CeremonyRoom(sized(3, 2), 10)
    room.seeds[1] = b"short"
    room.seed_commitments[1] = seed_commitment(1, b"short")
    room.hpke_public_keys[1] = hpke_public_key(1, b"short")
    assert blame(room.evidence()).liars == (1,)


def test_who_was_dealt_a_wrong_share_answers_wrongly_but_is_honest() -> None:
    room = CeremonyRoom(sized(5, 3), 11)
    honest = CeremonyRoom(sized(5, 3), 11)
    tell(room, "share", 1, 4)
    room.answer_trial()
    honest.answer_trial()
    assert room.answers[4] != honest.answers[4]
    assert blame(room.evidence()).liars == (1,)


def test_who_was_dealt_garbage_and_makes_up_an_answer_is_not_proved_a_liar() -> None:
    room = CeremonyRoom(sized(5, 3), 12)
    room.answer_trial()
    tell(room, "garbage", 1, 4)
    assert blame(room.evidence()).liars == (1,)


def test_the_silent_are_no_liars_and_cannot_be_judged() -> None:
    room = CeremonyRoom(sized(5, 3), 13)
    tell(room, "share", 2, 3)
    room.answer_trial()
    del room.seeds[2]
    assert blame(room.evidence()) == Verdict(liars=(), silent=(2,))


def test_the_silent_liar_is_named_for_what_proves_itself() -> None:
    room = CeremonyRoom(sized(5, 3), 14)
    tell(room, "garbage", 2, 3)
    tell(room, "opening", 4, 3)
    del room.seeds[2], room.seeds[4]
    assert blame(room.evidence()) == Verdict(liars=(2, 4), silent=(2, 4))


def test_messages_that_never_arrived_prove_nothing() -> None:
    room = CeremonyRoom(sized(5, 3), 15)
    del room.dealings[2, 3], room.openings[1], room.commitments[4]
    assert blame(room.evidence()) == Verdict(liars=(), silent=())


def test_a_dead_key_always_names_somebody_when_all_seeds_are_open() -> None:
    """Two liars whose lies would cancel still differ from what their seeds give."""
    room = CeremonyRoom(sized(5, 3), 16)
    tell(room, "degree", 2, 0)
    tell(room, "degree", 3, 0)
    room.answer_trial()
    with pytest.raises(CeremonyError):
        room.verify()
    assert blame(room.evidence()).liars == (2, 3)


@pytest.mark.parametrize("seed", range(40))
def test_random_liars_are_named_and_honest_holders_never(seed: int) -> None:
    check_random_liars(seed)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(40, 2000))
def test_many_random_liars_are_named_and_honest_holders_never(seed: int) -> None:
    check_random_liars(seed)


def check_random_liars(seed: int) -> None:
    random = Random(seed)
    holders = random.randint(3, 9)
    threshold = random.randint(2, holders - 1)
    room = CeremonyRoom(sized(holders, threshold), seed)
    liars = random.sample(range(1, holders + 1), random.randint(1, holders - 1))
    for liar in liars:
        victim = random.choice([holder for holder in room.everyone if holder != liar])
        tell(room, random.choice(DEALING_LIES), liar, victim)
    room.answer_trial()
    for liar in random.sample(liars, random.randint(0, len(liars))):
        tell(room, random.choice(LATE_LIES), liar, liar)
    verdict = blame(room.evidence())
    assert set(verdict.liars) <= set(liars)
    assert verdict.liars
    # a lie told to one whose own dealings cannot be opened is the only one that stays unproved
    unopened = {liar for liar in liars if room.hpke_public_keys[liar] == bytes(32) or room.seeds[liar] == bytes(32)}
    if not unopened:
        assert verdict.liars == tuple(sorted(liars))
    assert blame(room.evidence()) == verdict
