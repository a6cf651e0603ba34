"""What the opened integers say beyond the sum.

The mean of a round tells the sum alone. A coordinator that composes the answers to whole integers also sees the sum of
the encodings. On a grid that is the encoding of the sum. Were each client's values rounded by themselves, as the
embedding of slots is to float64, then what is rounded off would depend on the single vectors, and smudging is sized for the
noise of the ciphertexts: with ckks-8192 the true split of the sum alone fits.
"""

from __future__ import annotations

import math
from functools import cache
from itertools import product

import numpy as np
import numpy.typing as npt
import pytest

from he.accumulate import Accumulator
from he.decode import coefficients
from he.encrypt import ENGINES, Encryptor
from he.errors import ParameterError
from he.keygen import generate
from he.parameters import PRESET_NAMES, Parameters, preset
from he.partial import partially_decrypt
from he.plaintext import encoder_for
from he.recover import open_block
from he.ring import ring_for
from he.sharing import value_at_zero
from tests.he_material import draw_key, encrypted

Whole = npt.NDArray[np.object_]

UNIT = 1 / 64
MOST = 12
"""Each client counts something, two counts from 0 to this; its vector has them in units, and its weight, which is 1."""

FIRST_COUNTS, SECOND_COUNTS = (9, 4), (3, 10)
SOME = 64
"""Coefficients to compare, of thousands."""


def vector(counts: tuple[int, ...], unit: float) -> np.ndarray:
    return np.append(np.array(counts) * unit, 1.0)


class Unproven(Parameters):
    """Numbers that `Parameters` and `Encryptor` refuse."""

    def __post_init__(self) -> None:
        """Prove nothing."""

    def verify_encoding(self) -> None:
        """Let it pass."""


def parameters_for(name: str, packing: str) -> Parameters:
    proven = preset(name, values=3, max_clients=8, holders=3, threshold=2)
    if packing == proven.packing:
        return proven
    fields = {field: getattr(proven, field) for field in Parameters.__dataclass_fields__}
    return Unproven(**(fields | {"packing": packing, "scale": proven.scale / 2}))


def encoding(parameters: Parameters, counts: tuple[int, ...], unit: float) -> Whole:
    """The plaintext that an honest client makes of its counts: anybody can."""
    values = np.zeros((1, parameters.chunk_values))
    values[0, : len(counts) + 1] = vector(counts, unit)
    encoder = encoder_for(parameters)
    parts, out, scratch = encoder.parts(values), *np.empty((2, 1, parameters.degree))
    rows = [encoder.reduce(parts, prime, out, scratch)[0].copy() for prime in parameters.data_primes]
    return whole_coefficients(parameters, np.array(rows).astype(np.int64))


def whole_coefficients(parameters: Parameters, residues: np.ndarray) -> Whole:
    """Centred integers (SOME,) by the Chinese remainder theorem, not rounded to float64, of residues (L, N)."""
    modulus, total = parameters.data_modulus, np.zeros(SOME, dtype=object)
    for row, prime in zip(residues, parameters.data_primes, strict=True):
        others = modulus // prime
        total += row[:SOME].astype(object) * (others * pow(others, -1, prime))
    total %= modulus
    return np.where(total > modulus // 2, total - modulus, total)


@cache
def seen(name: str, packing: str, unit: float = UNIT) -> tuple[Parameters, Whole, tuple[int, ...]]:
    """A round of two honest clients, as the coordinator sees it: opened integers, and the sum of the counts."""
    parameters = parameters_for(name, packing)
    public_key, shares = generate(parameters, randomness=bytes(32))
    accumulator = Accumulator(parameters)
    for counts in (FIRST_COUNTS, SECOND_COUNTS):
        accumulator.add(encrypted(public_key, vector(counts, unit)))
    total = accumulator.finish()
    answers = {share.holder: partially_decrypt(share, total).values for share in shares[:2]}
    value, _ = value_at_zero(answers, parameters.threshold, parameters.data_primes)
    ring = ring_for(parameters)
    opened = whole_coefficients(parameters, ring.inverse(ring.add(total.c0, value))[0])
    sums = np.rint(open_block(parameters, total.c0, answers)[:2] / unit).astype(int)
    return parameters, opened, tuple(int(n) for n in sums)


def splits(sums: tuple[int, ...]) -> list[tuple[int, ...]]:
    """All counts of one client that leave the other one possible counts."""
    return [*product(*(range(max(0, n - MOST), min(MOST, n) + 1) for n in sums))]


def rest(sums: tuple[int, ...], split: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(n - m for n, m in zip(sums, split, strict=True))


def distance(name: str, packing: str, split: tuple[int, ...], unit: float = UNIT) -> float:
    """How far the opened integers lie from those of a guess, in deviations of the smudging."""
    parameters, opened, sums = seen(name, packing, unit)
    left = opened - encoding(parameters, split, unit) - encoding(parameters, rest(sums, split), unit)
    return math.sqrt(sum(float(x) ** 2 for x in left) / SOME) / parameters.total_smudging_deviation


def fitting(name: str, packing: str, unit: float = UNIT) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    """All splits of the sum, and those that the opened integers do not rule out."""
    guesses = splits(seen(name, packing, unit)[2])
    assert seen(name, packing, unit)[2] == (12, 14)
    assert FIRST_COUNTS in guesses
    assert len(guesses) > 100
    return guesses, [split for split in guesses if distance(name, packing, split, unit) < 2]


@pytest.mark.parametrize("name", PRESET_NAMES)
def test_a_curious_coordinator_cannot_tell_how_two_clients_made_the_sum(name: str) -> None:
    """Of all splits of the sum none stands out: what is left of the opened integers is the same for each."""
    guesses, fit = fitting(name, "coefficients")
    assert fit == guesses
    assert len({distance(name, "coefficients", split) for split in guesses}) == 1


def test_counts_off_the_grid_are_told_apart_by_their_sum_on_the_grid_alone() -> None:
    """Sixtieths are rounded by the client, which is what it gives away; ckks-8192 opens that sum exactly, and no more."""
    unit = 1 / 60
    parameters, _, sums = seen("ckks-8192", "coefficients", unit)

    def steps(counts: tuple[int, ...]) -> np.ndarray:
        return np.rint(vector(counts, unit) * 2.0**parameters.grid_bits)

    true = steps(FIRST_COUNTS) + steps(SECOND_COUNTS)
    guesses, fit = fitting("ckks-8192", "coefficients", unit)
    assert fit == [split for split in guesses if np.array_equal(steps(split) + steps(rest(sums, split)), true)]


@pytest.mark.parametrize("packing", ["complex", "real"])
def test_with_slots_and_more_primes_it_could(packing: str) -> None:
    """Hence nobody encrypts so: float64 rounds off 2^90 and more, smudging is 2^55."""
    assert fitting("ckks-8192", packing)[1] == [SECOND_COUNTS, FIRST_COUNTS]
    parameters = preset("ckks-8192", values=3, max_clients=8, holders=3, threshold=2, packing=packing)
    key, _ = draw_key(parameters, seed=0)
    for engine in ENGINES:
        with pytest.raises(ParameterError, match="take packing coefficients"):
            Encryptor(key, engine=engine, seed=bytes(32))


def rounded_off(parameters: Parameters) -> float:
    """Euclidean norm, over all coefficients, of what is left between two ways to make one and the same sum."""
    generator = np.random.default_rng(1)
    first, second = generator.uniform(-1, 1, (2, parameters.chunks, parameters.chunk_values))
    swapped = generator.random(first.shape) < 0.5
    halves = [first, second, np.where(swapped, second, first), np.where(swapped, first, second)]
    encoder, scratch = encoder_for(parameters), np.empty((parameters.chunks, parameters.degree))
    parts = [encoder.parts(half) for half in halves]
    left = tuple(a + b - c - d for a, b, c, d in zip(*parts, strict=True))
    residues = [encoder.reduce(left, prime, np.empty_like(scratch), scratch) for prime in parameters.data_primes]
    opened = np.stack(residues, axis=1).astype(np.int64) % np.array(parameters.data_primes)[:, None]
    ring = ring_for(parameters)
    return float(np.linalg.norm(coefficients(parameters, ring.forward(opened.astype(np.uint32)))))


@pytest.mark.parametrize("name", PRESET_NAMES)
def test_nothing_is_rounded_off_on_the_grid(name: str) -> None:
    assert rounded_off(preset(name, values=2 * 8192, max_clients=8, holders=5, threshold=3)) == 0


@pytest.mark.parametrize("packing", ["complex", "real"])
def test_a_plan_tells_how_little_smudging_hides_of_what_slots_round_off(packing: str) -> None:
    """0.55·(norm)/σ of two clients lies within what the plan says for eight, and far beyond what hides the noise."""
    parameters = preset("ckks-4096", values=20 * 4096, max_clients=8, holders=5, threshold=3, packing=packing)
    distance_bits = -math.log2(0.55 * rounded_off(parameters) / parameters.smudging_deviation)
    assert parameters.hidden_bits < distance_bits < parameters.hidden_bits + 8
    assert distance_bits < parameters.security_bits - 8
