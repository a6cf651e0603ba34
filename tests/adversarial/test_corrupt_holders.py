"""What corrupt key holders can do to the *correctness* of a sum (docs/threat-model.md, "What a key holder can do").

Nothing here opens an update. These tests carry out what the threat model concedes; the day on which one of them fails, the
threat model is wrong and has to change.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from he import keygen
from he.ceremony import HolderSecrets, draw, public_a
from he.ciphertext import Ciphertext
from he.errors import FaultyShareError
from he.keygen import generate
from he.partial import Partial, partially_decrypt
from he.recover import recover
from he.ring import Residues, key_ring_for, ring_for
from tests.encryption_material import encrypt_once
from tests.he_material import preset_parameters

PARAMETERS = preset_parameters("ckks-4096", values=2048)
RING = ring_for(PARAMETERS)
HONEST, FRAMED, COLLUDING = (1, 2), 3, (4, 5)
CONTEXT = bytes(range(32))
TOLERANCE = 8 * PARAMETERS.value_error(1)

Floats = npt.NDArray[np.float64]


@pytest.fixture(scope="module")
def truth() -> Floats:
    return np.random.default_rng(5).uniform(-0.5, 0.5, PARAMETERS.values)


@pytest.fixture(scope="module")
def opening(truth: Floats) -> tuple[Ciphertext, dict[int, Partial]]:
    """A ciphertext, and the answers of all five holders, of whom two add what they agreed on."""
    public_key, shares = generate(PARAMETERS, randomness=bytes(32))
    total = encrypt_once(public_key, truth)
    answers = {share.holder: partially_decrypt(share, total) for share in shares}
    for holder in COLLUDING:
        answers[holder] = replace(answers[holder], values=RING.add(answers[holder].values, bent_by(holder)))
    return total, answers


def the_shift() -> Floats:
    """What the colluders add to every value of the sum."""
    return np.full(PARAMETERS.values, 0.25)


def bent_by(holder: int) -> Residues:
    """A polynomial of degree t-1 = 2 that holds the shift at zero and vanishes at both honest holders, taken at `holder`."""
    factor = (holder - HONEST[0]) * (holder - HONEST[1]) // (HONEST[0] * HONEST[1])
    padding = PARAMETERS.degree - PARAMETERS.values
    coefficients = [int(x) for x in np.pad(the_shift(), (0, padding)) * PARAMETERS.scale]  # beyond 64 bits
    residues = [[factor * x % prime for x in coefficients] for prime in PARAMETERS.data_primes]
    return RING.forward(np.array([residues], dtype=np.uint32))


def test_two_colluding_holders_of_five_shift_the_blame_and_the_sum(
    opening: tuple[Ciphertext, dict[int, Partial]], truth: Floats
) -> None:
    """Of m answers, floor((m - t)/2) liars are named for certain, and no more: here one."""
    total, answers = opening
    with pytest.raises(FaultyShareError) as raised:
        recover(total, [*answers.values()])
    assert (raised.value.holders, raised.value.certain) == ((FRAMED,), True)
    without = [one for holder, one in answers.items() if holder != FRAMED]
    assert np.abs(recover(total, without) - truth - the_shift()).max() < TOLERANCE


def test_two_colluding_holders_among_t_plus_one_are_not_detected(
    opening: tuple[Ciphertext, dict[int, Partial]], truth: Floats
) -> None:
    total, answers = opening
    opened = recover(total, [answers[holder] for holder in (*HONEST, *COLLUDING)])
    assert np.abs(opened - truth - the_shift()).max() < TOLERANCE


def test_one_colluder_alone_bends_nothing_unseen(opening: tuple[Ciphertext, dict[int, Partial]]) -> None:
    total, answers = opening
    with pytest.raises(FaultyShareError):
        recover(total, [answers[holder] for holder in (*HONEST, FRAMED, COLLUDING[0])])


def test_with_exactly_t_answers_a_plausible_shift_is_not_noticed(
    opening: tuple[Ciphertext, dict[int, Partial]], truth: Floats
) -> None:
    total, answers = opening
    opened = recover(total, [answers[holder] for holder in (*HONEST, COLLUDING[0])])
    assert np.abs(opened - truth - the_shift()).max() < TOLERANCE


@pytest.mark.parametrize(("bits", "garbled"), [(20, False), (55, True)])
def test_a_large_part_of_the_secret_key_passes_the_trial(truth: Floats, bits: int, garbled: bool) -> None:
    """The trial proves that b and the shares belong together, not that the key is small: its noise may garble the sum."""
    drawn = [draw(PARAMETERS, holder, bytes([holder]) * 32, CONTEXT) for holder in range(1, 6)]
    drawn[0] = with_large_secret(drawn[0], bits)
    public_key, shares = keygen._finish(PARAMETERS, CONTEXT, drawn)
    total = encrypt_once(public_key, truth)
    opened = recover(total, [partially_decrypt(share, total) for share in shares])
    assert bool(np.abs(opened - truth).max() > 2 * TOLERANCE) is garbled


def with_large_secret(secrets: HolderSecrets, bits: int) -> HolderSecrets:
    """Add a polynomial of this many bits to s_1, and deal and publish accordingly."""
    ring = key_ring_for(PARAMETERS)
    large = np.random.default_rng(1).integers(-(1 << bits), 1 << bits, PARAMETERS.degree)
    excess = ring.forward(ring.reduce(large))
    opening = ring.subtract(secrets.opening, ring.multiply(public_a(PARAMETERS, CONTEXT), excess))
    polynomial = secrets.polynomial.copy()
    polynomial[0] = ring.add(polynomial[0], excess)
    return replace(secrets, opening=opening, polynomial=polynomial)
