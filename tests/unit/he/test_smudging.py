"""The smudging noise: exact, shaped as specified, and wide enough for what it has to hide."""

import math

import numpy as np
import pytest

from he.parameters import Parameters, preset
from he.sampling import derive
from he.smudging import (
    Smudger,
    noise_centre,
    noise_integers,
    noise_key,
    smudging_subsets,
    subset_weight,
    subsets_with,
)
from tests.he_material import random_residues

PRIMES = (134012929, 134111233, 134176769)
KEY_ID = b"k" * 32


def parameters(holders: int = 5, threshold: int = 3, **changes: int) -> Parameters:
    return preset("ckks-4096", values=2000, max_clients=4, holders=holders, threshold=threshold, **changes)


def keys(plan: Parameters, holder: int) -> dict[tuple[int, ...], bytes]:
    subsets = subsets_with(plan.holders, plan.threshold, holder)
    return {subset: derive(bytes(32), b"test", bytes(subset)) for subset in subsets}


def smudger(plan: Parameters, holder: int, key_id: bytes = KEY_ID) -> Smudger:
    own = keys(plan, holder)
    return Smudger(plan, holder=holder, key_id=key_id, subset_keys=own, primes=plan.data_primes)


def c1(plan: Parameters, chunks: int = 2) -> np.ndarray:
    return random_residues(plan.data_primes, plan.degree, np.random.default_rng(3), chunks)


def many_coefficients(word_bits: int) -> np.ndarray:
    """64 polynomials' worth of noise, in units of 2^word_bits: float64 (64, 4096)."""
    drawn = [noise_integers(derive(bytes(32), b"noise", bytes([i])), 4096, word_bits) for i in range(64)]
    return np.array([[value / 2**word_bits for value in row] for row in drawn])


@pytest.mark.parametrize("word_bits", [8, 40, 58, 62, 63, 70, 94])
def test_noise_is_a_centred_sum_of_four_uniform_words(word_bits: int) -> None:
    noise = many_coefficients(word_bits)
    deviation = noise.std()
    assert abs(deviation / math.sqrt((1 - 4.0**-word_bits) / 3) - 1) < 0.01
    assert abs(noise.mean()) < 0.006
    kurtosis = (noise**4).mean() / deviation**4 - 3
    assert abs(kurtosis + 0.3) < 0.03  # Irwin-Hall of four: -6/(5·4)
    assert abs((noise**3).mean() / deviation**3) < 0.03
    assert np.abs(noise).max() <= noise_centre(word_bits) / 2**word_bits <= 2


@pytest.mark.parametrize("word_bits", [58, 70])
def test_noise_follows_the_density_of_irwin_and_hall(word_bits: int) -> None:
    noise = np.sort(many_coefficients(word_bits).reshape(-1))
    grid = np.linspace(-1.9, 1.9, 39)
    below = np.searchsorted(noise, grid) / len(noise)
    expected = [sum((-1) ** k * math.comb(4, k) * max(x + 2 - k, 0) ** 4 for k in range(5)) / 24 for x in grid]
    assert np.abs(below - expected).max() < 0.005  # Kolmogorov-Smirnov: beyond once in 10^5


def test_coefficients_are_independent_of_one_another_and_of_other_keys() -> None:
    noise = many_coefficients(58)
    assert abs(np.corrcoef(noise[0], noise[1])[0, 1]) < 0.08
    assert abs((noise[:, 1:] * noise[:, :-1]).mean() / noise.var()) < 0.01


def test_small_words_reach_the_ends_of_their_range() -> None:
    values = noise_integers(bytes(32), 1 << 14, 1)
    assert set(values) == {-2, -1, 0, 1, 2}


@pytest.mark.parametrize(("holders", "threshold"), [(3, 2), (5, 3), (9, 5), (9, 9), (9, 2)])
def test_the_fast_combination_is_the_exact_one(holders: int, threshold: int) -> None:
    plan = parameters(holders, threshold)
    check_exact(plan, holder=2)


def test_two_limbs_are_combined_exactly_too() -> None:
    plan = preset("ckks-8192", values=2000, max_clients=4, holders=9, threshold=5, security_bits=80)
    assert plan.smudging_word_bits > 62
    check_exact(plan, holder=9)


def check_exact(plan: Parameters, holder: int) -> None:
    block = c1(plan, 1)
    fast = smudger(plan, holder).noise(block)
    exact = {prime: np.zeros(plan.degree, dtype=object) for prime in plan.data_primes}
    for subset, key in keys(plan, holder).items():
        noise = noise_integers(noise_key(key, KEY_ID, block[0]), plan.degree, plan.smudging_word_bits)
        for prime in exact:
            exact[prime] += np.array(noise, dtype=object) * subset_weight(subset, holder, plan.holders, prime)
    for index, (prime, total) in enumerate(exact.items()):
        assert (total % prime == fast[0, index]).all()


def test_the_same_request_gets_the_same_noise_and_any_other_another() -> None:
    plan = parameters()
    block = c1(plan)
    noise = smudger(plan, 2).noise(block)
    assert np.array_equal(noise, smudger(plan, 2).noise(block.copy()))
    other = block.copy()
    other[0, 0, 0] ^= 1
    changed = smudger(plan, 2).noise(other)
    assert (changed[0] != noise[0]).mean() > 0.99
    assert np.array_equal(changed[1], noise[1])
    assert (smudger(plan, 2, key_id=bytes(32)).noise(block) != noise).mean() > 0.99


def test_noise_keys_bind_key_id_level_and_chunk() -> None:
    block = c1(parameters())[0]
    made = {
        noise_key(bytes(32), KEY_ID, block),
        noise_key(b"x" * 32, KEY_ID, block),
        noise_key(bytes(32), bytes(32), block),
        noise_key(bytes(32), KEY_ID, block[:2]),
        noise_key(bytes(32), KEY_ID, block[::-1]),
    }
    assert len(made) == 5


@pytest.mark.parametrize(("holders", "threshold"), [(3, 2), (5, 3), (9, 5), (4, 4)])
def test_the_weights_are_polynomials_of_degree_below_t(holders: int, threshold: int) -> None:
    prime = PRIMES[0]
    for subset in smudging_subsets(holders, threshold):
        assert len(subset) == holders - threshold + 1
        assert subset_weight(subset, 0, holders, prime) == 1
        outside = [holder for holder in range(1, holders + 1) if holder not in subset]
        assert len(outside) == threshold - 1
        assert all(subset_weight(subset, holder, holders, prime) == 0 for holder in outside)


def irwin_hall(x: np.ndarray, power: int) -> np.ndarray:
    """Density (power 3) of the sum of four uniform variables, or its derivative (power 2)."""
    terms = sum((-1) ** k * math.comb(4, k) * np.maximum(x - k, 0) ** power for k in range(5))
    return terms / math.factorial(power)


def test_the_factor_055_covers_the_distance_that_one_shift_makes() -> None:
    """TV <= sqrt(2)·H, H^2 <= sum of h_i^2, h_i^2 = I·(v_i/sd)^2/8: the factor is sqrt(I)/2.

    I is the Fisher information of location at unit variance: 1 for a Gaussian, little more here.
    """
    x = np.linspace(0, 4, 400_001)[10:-10]
    information = np.trapezoid(irwin_hall(x, 2) ** 2 / irwin_hall(x, 3), x) / 3
    assert 1 < information < 1.1
    assert math.sqrt(information) / 2 < 0.55


@pytest.mark.parametrize("shift", [1, 3, 10])
def test_the_factor_055_holds_for_discrete_words_and_whole_shifts(shift: int) -> None:
    """Exact Hellinger distance of the discrete noise, 8-bit words, to itself shifted."""
    word = np.full(256, 1 / 256)
    two = np.convolve(word, word)
    noise = np.concatenate([np.convolve(two, two), np.zeros(shift)])
    squared = 1 - np.sqrt(noise[shift:] * noise[:-shift]).sum()
    deviation = 2**8 / math.sqrt(3)
    assert math.sqrt(2 * squared) < 0.55 * shift / deviation


@pytest.mark.parametrize("values", [2000, 1_000_000])
def test_the_preset_hides_the_whole_opening(values: int) -> None:
    plan = preset("ckks-4096", values=values, max_clients=16, holders=5, threshold=3)
    opened = plan.degree * plan.chunks
    distance = 0.55 * math.sqrt(opened) * plan.noise_deviation(16) / plan.smudging_deviation
    assert 2**-41 < distance <= 2**-40
