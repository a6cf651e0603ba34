"""The ceremony's steps: what they promise, and what hostile messages get."""

from dataclasses import replace

import numpy as np
import pytest

from he.ceremony import (
    Dealing,
    TrialAnswer,
    assemble,
    blame,
    collective_b,
    commitment,
    deal,
    draw,
    hpke_private_key,
    nonce,
    opening_from_bytes,
    public_a,
    seed_commitment,
    trial_answer,
    trial_bound,
    verify_trial,
)
from he.errors import CeremonyError, FormatError
from he.public_key import PublicKey
from he.ring import key_ring_for
from he.sharing import lagrange_at
from he.smudging import smudging_subsets
from tests.ceremony_room import CeremonyRoom, tell
from tests.he_material import small_parameters

PARAMETERS = small_parameters(holders=5, threshold=3)
CONTEXT = bytes(range(32))
SEED = b"s" * 32


@pytest.fixture(scope="module")
def room() -> CeremonyRoom:
    return CeremonyRoom(PARAMETERS, 1)


def test_an_honest_ceremony_passes_its_trial(room: CeremonyRoom) -> None:
    room.answer_trial()
    room.verify()


@pytest.mark.parametrize(("holders", "threshold"), [(3, 2), (3, 3), (4, 2), (6, 4), (9, 2), (9, 5), (9, 9)])
def test_every_size_passes_its_trial(holders: int, threshold: int) -> None:
    room = CeremonyRoom(small_parameters(holders=holders, threshold=threshold), 2)
    room.answer_trial()
    room.verify()


def test_b_hides_a_ternary_secret_behind_a_small_error() -> None:
    drawn = draw(PARAMETERS, 2, SEED, CONTEXT)
    ring = key_ring_for(PARAMETERS)
    secret = drawn.polynomial[0]
    error = ring.inverse(ring.add(drawn.opening, ring.multiply(public_a(PARAMETERS, CONTEXT), secret)))
    prime = PARAMETERS.key_primes[0]
    centred = [
        np.where(rows[0] > prime // 2, rows[0].astype(int) - prime, rows[0]) for rows in (ring.inverse(secret), error)
    ]
    assert set(np.unique(centred[0])) == {-1, 0, 1}
    assert 3 < centred[1].std() < 3.5
    assert np.abs(centred[1]).max() <= 21


def test_the_shares_add_up_to_a_sharing_of_the_sum_of_secrets(room: CeremonyRoom) -> None:
    ring = key_ring_for(PARAMETERS)
    shares = {holder: room.share(holder) for holder in (1, 3, 5)}
    for index, prime in enumerate(PARAMETERS.key_primes):
        weights = lagrange_at([*shares], 0, prime)
        opened = sum(w * share.secret[index].astype(object) for w, share in zip(weights, shares.values(), strict=True))
        secret = collective_b(PARAMETERS, [drawn.polynomial[0] for drawn in room.secrets.values()])
        assert (opened % prime == secret[index]).all()
    assert ring.primes == PARAMETERS.key_primes


def test_members_of_a_subset_agree_on_its_key_and_others_do_not_hold_it(room: CeremonyRoom) -> None:
    shares = {holder: room.share(holder) for holder in room.everyone}
    for subset in smudging_subsets(5, 3):
        assert len({shares[member].smudging_keys[subset] for member in subset}) == 1
        assert all(subset not in shares[other].smudging_keys for other in room.everyone if other not in subset)


def test_any_two_of_five_holders_miss_a_smudging_key(room: CeremonyRoom) -> None:
    shares = {holder: room.share(holder) for holder in room.everyone}
    for one in room.everyone:
        for other in range(1, one):
            known = set(shares[one].smudging_keys) | set(shares[other].smudging_keys)
            assert len(set(smudging_subsets(5, 3)) - known) == 1


def test_commitments_bind_holder_and_context() -> None:
    assert seed_commitment(1, SEED) != seed_commitment(2, SEED)
    assert commitment(1, CONTEXT, b"b") != commitment(2, CONTEXT, b"b")
    assert commitment(1, CONTEXT, b"b") != commitment(1, bytes(32), b"b")
    assert len({nonce(1, SEED), nonce(2, SEED), hpke_private_key(1, SEED), hpke_private_key(2, SEED)}) == 4


def test_another_context_draws_everything_anew() -> None:
    one, other = (draw(PARAMETERS, 1, SEED, context) for context in (CONTEXT, bytes(32)))
    assert not np.array_equal(one.polynomial[0], other.polynomial[0])
    assert not np.array_equal(one.polynomial[1], other.polynomial[1])
    assert not np.array_equal(public_a(PARAMETERS, CONTEXT), public_a(PARAMETERS, bytes(32)))
    assert one.smudging_part((1, 2, 3)) != other.smudging_part((1, 2, 3))


def test_a_has_no_zero_in_which_a_wrong_share_could_hide() -> None:
    assert public_a(PARAMETERS, CONTEXT).all()


@pytest.mark.parametrize("holder", [0, 6, -1])
def test_nobody_outside_one_to_n_takes_part(holder: int) -> None:
    with pytest.raises(FormatError):
        draw(PARAMETERS, holder, SEED, CONTEXT)
    with pytest.raises(FormatError):
        deal(draw(PARAMETERS, 1, SEED, CONTEXT), holder)
    with pytest.raises(FormatError):
        TrialAnswer.from_bytes(PARAMETERS, b"", holder=holder)


def test_a_short_seed_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        draw(PARAMETERS, 1, b"short", CONTEXT)


def test_a_dealing_reads_back_and_nothing_else_does(room: CeremonyRoom) -> None:
    data = room.dealings[2, 4]
    read = Dealing.from_bytes(PARAMETERS, data, sender=2, receiver=4)
    assert read.to_bytes() == data
    for sender, receiver in ((2, 5), (4, 2), (0, 4), (2, 0), (2, 6)):
        with pytest.raises(FormatError):
            Dealing.from_bytes(PARAMETERS, data, sender=sender, receiver=receiver)


def test_hostile_dealings_are_refused(room: CeremonyRoom) -> None:
    data = room.dealings[2, 4]
    first_subset = 8 + 4 * len(PARAMETERS.key_primes) * PARAMETERS.degree
    for hostile in (
        b"",
        data[:-1],
        data + b"\0",
        b"XXXX" + data[4:],
        data[:6] + b"\x03" + data[7:],
        data[:8] + b"\xff\xff\xff\xff" + data[12:],
        data[:first_subset] + bytes([1, 2, 5]) + data[first_subset + 3 :],
    ):
        with pytest.raises(FormatError):
            Dealing.from_bytes(PARAMETERS, hostile, sender=2, receiver=4)


def test_hostile_openings_and_answers_are_refused(room: CeremonyRoom) -> None:
    opening = room.openings[1]
    for hostile in (b"", opening[:-4], b"\xff" * len(opening)):
        with pytest.raises(FormatError):
            opening_from_bytes(PARAMETERS, hostile)
    room.answer_trial()
    answer = room.answers[1]
    for hostile in (b"", answer[:-4], answer[:5] + b"\xff" * (len(answer) - 5), room.answers[2]):
        with pytest.raises(FormatError):
            TrialAnswer.from_bytes(PARAMETERS, hostile, holder=1)


def test_a_share_takes_exactly_one_dealing_of_everyone(room: CeremonyRoom) -> None:
    dealings = [deal(room.secrets[sender], 1) for sender in room.everyone]
    foreign = [*dealings[:4], deal(room.secrets[5], 2)]
    for wrong in (dealings[:4], [*dealings, dealings[0]], [*dealings[:4], dealings[0]], foreign):
        with pytest.raises(CeremonyError):
            assemble(PARAMETERS, 1, room.context, wrong)


def test_the_trial_needs_everybody(room: CeremonyRoom) -> None:
    answers = [trial_answer(room.share(holder), room.key_id) for holder in room.everyone]
    for wrong in (answers[:4], [*answers[:4], replace(answers[4], holder=7)]):
        with pytest.raises(CeremonyError, match="all 5 holders"):
            verify_trial(room.public_key, wrong)


def test_a_consistent_key_that_opens_to_large_noise_is_dead(room: CeremonyRoom) -> None:
    """The answers agree, but the public key is not theirs: only the opening shows it."""
    answers = [trial_answer(room.share(holder), room.key_id) for holder in room.everyone]
    verify_trial(room.public_key, answers)
    b = room.public_key.b.copy()
    b[0, 0] = (int(b[0, 0]) + 1) % PARAMETERS.key_primes[0]
    with pytest.raises(CeremonyError, match="small noise"):
        verify_trial(PublicKey(PARAMETERS, room.public_key.a, b), answers)


def test_the_trial_bound_leaves_no_chance_to_a_random_opening() -> None:
    modulus = PARAMETERS.data_modulus * PARAMETERS.special_prime
    assert 2 * trial_bound(PARAMETERS) / modulus < 1 / 2


def test_the_trial_answers_carry_smudging_bound_to_the_transcript(room: CeremonyRoom) -> None:
    share = room.share(1)
    one, other = (trial_answer(share, key_id) for key_id in (bytes(32), room.key_id))
    assert not np.array_equal(one.values, other.values)


def frame(room: CeremonyRoom, expected_key_id: bytes) -> None:
    """Holder 1 deals 3 a wrong smudging part, and a wrong share that cancels it under that key id.

    It has waited for everyone's dealings, so it knows the key of {1, 2, 3}, true and forged.
    """
    ring, honest = key_ring_for(PARAMETERS), room.share(3)
    tell(room, "smudging_part", 1, 3)
    forged = room.share(3)
    true, wrong = (trial_answer(share, expected_key_id).values for share in (honest, forged))
    a = public_a(PARAMETERS, room.context)
    inverse = np.stack([[pow(int(x), -1, p) for x in row] for row, p in zip(a, ring.primes, strict=True)])
    correction = ring.multiply(ring.subtract(true, wrong), inverse.astype(np.uint32))
    dealing = Dealing.from_bytes(PARAMETERS, room.dealings[1, 3], sender=1, receiver=3)
    room.dealings[1, 3] = replace(dealing, share=ring.add(dealing.share, correction)).to_bytes()


def test_a_dealer_who_knows_the_smudging_beforehand_could_frame_another() -> None:
    """Why the key id must hash every dealing: with an id known before, the trial would pass."""
    room = CeremonyRoom(PARAMETERS, 3)
    frame(room, bytes(32))
    verify_trial(room.public_key, [trial_answer(room.share(holder), bytes(32)) for holder in room.everyone])


def test_the_transcript_in_the_key_id_leaves_nothing_to_fit_a_lie_to() -> None:
    room = CeremonyRoom(PARAMETERS, 3)
    frame(room, bytes(32))
    room.answer_trial()
    with pytest.raises(CeremonyError):
        room.verify()
    assert blame(room.evidence()).liars == (1,)


def test_secrets_have_no_repr(room: CeremonyRoom) -> None:
    shown = [repr(x) for x in (room.secrets[1], deal(room.secrets[1], 2), room.share(1), room.evidence())]
    assert all("array" not in text and "seed" not in text and "smudging" not in text for text in shown)
