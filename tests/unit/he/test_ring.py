"""NTT and residue arithmetic against plain integer arithmetic."""

import numpy as np
import pytest

from he.ntt import bit_reversal, smallest_root
from he.ring import Residues, Ring, key_ring_for, ring_for
from tests.he_material import preset_parameters, random_residues

TINY = Ring(16, (12289, 40961))
LARGE = key_ring_for(preset_parameters("ckks-4096"))


def evaluate(coefficients: list[int], at: int, prime: int) -> int:
    value = 0
    for coefficient in reversed(coefficients):
        value = (value * at + coefficient) % prime
    return value


def negacyclic(a: list[int], b: list[int], prime: int) -> list[int]:
    out = [0] * len(a)
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            sign = 1 if i + j < len(a) else -1
            out[(i + j) % len(a)] = (out[(i + j) % len(a)] + sign * x * y) % prime
    return out


def draw(ring: Ring, *lead: int, seed: int = 0) -> Residues:
    return random_residues(ring.primes, ring.degree, np.random.default_rng(seed), *lead)


def extremes(ring: Ring) -> Residues:
    """All residues at p-1: the largest intermediate values that can occur."""
    top = np.array(ring.primes, dtype=np.uint32)[:, None] - np.uint32(1)
    return np.broadcast_to(top, (len(ring.primes), ring.degree)).copy()


@pytest.mark.parametrize("ring", [TINY, LARGE], ids=["tiny", "ckks-4096"])
def test_forward_evaluates_at_odd_powers_in_bit_reversed_order(ring: Ring) -> None:
    for a in (draw(ring), extremes(ring)):
        values = ring.forward(a)
        order = bit_reversal(ring.degree)
        for index, prime in enumerate(ring.primes):
            root = smallest_root(ring.degree, prime)
            for position in {0, 1, 5, ring.degree // 2, ring.degree - 1}:
                at = pow(root, int(2 * order[position] + 1), prime)
                assert values[index, position] == evaluate(a[index].tolist(), at, prime)


@pytest.mark.parametrize("lead", [(), (1,), (37,), (2, 3)])
def test_inverse_undoes_forward_in_batches_of_any_shape(lead: tuple[int, ...]) -> None:
    a = draw(LARGE, *lead)
    assert np.array_equal(LARGE.inverse(LARGE.forward(a)), a)
    assert np.array_equal(LARGE.forward(LARGE.inverse(a)), a)


def test_largest_residues_survive_the_transform() -> None:
    a = extremes(LARGE)
    assert np.array_equal(LARGE.inverse(LARGE.forward(a)), a)
    assert np.array_equal(LARGE.forward(LARGE.inverse(a)), a)


def test_multiply_in_ntt_form_is_the_negacyclic_product() -> None:
    a, b = draw(TINY, seed=1), draw(TINY, seed=2)
    product = TINY.inverse(TINY.multiply(TINY.forward(a), TINY.forward(b)))
    for index, prime in enumerate(TINY.primes):
        assert product[index].tolist() == negacyclic(a[index].tolist(), b[index].tolist(), prime)


def test_arithmetic_agrees_with_python_integers() -> None:
    a, b = draw(LARGE, 2, seed=3), draw(LARGE, 2, seed=4)
    a[0], b[0] = extremes(LARGE), extremes(LARGE)
    b[1, :, :5] = 0
    primes = np.array(LARGE.primes, dtype=object)[:, None]
    wide_a, wide_b = a.astype(object), b.astype(object)
    assert np.array_equal(LARGE.add(a, b), (wide_a + wide_b) % primes)
    assert np.array_equal(LARGE.subtract(a, b), (wide_a - wide_b) % primes)
    assert np.array_equal(LARGE.multiply(a, b), (wide_a * wide_b) % primes)
    assert np.array_equal(LARGE.negate(b), -wide_b % primes)


def test_shapes_broadcast() -> None:
    a, b = draw(TINY, 3), draw(TINY)
    assert np.array_equal(TINY.multiply(a, b)[2], TINY.multiply(a[2], b))
    assert np.array_equal(TINY.add(b, a)[1], TINY.add(a[1], b))


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.uint64])
def test_reduce_takes_any_integer(dtype: type) -> None:
    limits = np.iinfo(dtype)
    a = np.array([limits.min, limits.max, 0, 1] * 4, dtype=dtype)
    reduced = TINY.reduce(np.stack([a, a]))
    assert reduced.shape == (2, 2, 16)
    assert reduced.dtype == np.uint32
    for index, prime in enumerate(TINY.primes):
        assert reduced[1, index].tolist() == [int(x) % prime for x in a]


def test_wrong_shape_or_dtype_is_a_programming_error() -> None:
    a = draw(TINY)
    for wrong in (a.astype(np.int64), a[:1], a[:, :8]):
        for call in (TINY.forward, TINY.inverse, TINY.negate, lambda x: TINY.add(a, x), lambda x: TINY.multiply(x, a)):
            with pytest.raises(ValueError, match="expected uint32"):
                call(wrong)


def test_rings_are_built_once() -> None:
    ours = preset_parameters("ckks-4096")
    assert ring_for(ours) is ring_for(preset_parameters("ckks-4096", values=7))
    assert ring_for(ours).primes == ours.data_primes
    assert key_ring_for(ours).primes == ours.key_primes
