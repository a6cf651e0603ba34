"""Laws of the ring that hold for every polynomial."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from he.ring import Residues, Ring, key_ring_for
from tests.he_material import preset_parameters, random_residues

RINGS = [Ring(16, (12289, 40961)), key_ring_for(preset_parameters("ckks-4096"))]
rings = st.sampled_from(RINGS)
seeds = st.integers(0, 1 << 32)


def draw(ring: Ring, seed: int) -> Residues:
    """Uniform residues, with stretches of the extremes 0 and p-1."""
    generator = np.random.default_rng(seed)
    a = random_residues(ring.primes, ring.degree, generator)
    kind = generator.integers(0, 4, ring.degree)
    a[:, kind == 1] = 0
    top = np.array(ring.primes, dtype=np.uint32)[:, None] - np.uint32(1)
    return np.where(kind == 2, top, a)


@given(rings, seeds)
def test_transforms_undo_each_other(ring: Ring, seed: int) -> None:
    a = draw(ring, seed)
    assert np.array_equal(ring.inverse(ring.forward(a)), a)
    assert np.array_equal(ring.forward(ring.inverse(a)), a)


@given(rings, seeds, seeds)
def test_forward_is_linear(ring: Ring, first: int, second: int) -> None:
    a, b = draw(ring, first), draw(ring, second)
    assert np.array_equal(ring.forward(ring.add(a, b)), ring.add(ring.forward(a), ring.forward(b)))


@given(rings, seeds, seeds, seeds)
def test_product_distributes_over_the_sum(ring: Ring, first: int, second: int, third: int) -> None:
    a, b, c = draw(ring, first), draw(ring, second), draw(ring, third)
    assert np.array_equal(ring.multiply(a, ring.add(b, c)), ring.add(ring.multiply(a, b), ring.multiply(a, c)))
    assert np.array_equal(ring.multiply(a, b), ring.multiply(b, a))


@given(rings, seeds)
def test_difference_and_negative(ring: Ring, seed: int) -> None:
    a, b = draw(ring, seed), draw(ring, seed + 1)
    assert np.array_equal(ring.add(ring.subtract(a, b), b), a)
    assert not ring.add(a, ring.negate(a)).any()


@given(st.integers(0, 15))
def test_multiplying_by_x_rotates_with_a_sign(shift: int) -> None:
    ring = RINGS[0]
    a = draw(ring, shift)
    x = np.zeros_like(a)
    x[:, shift] = 1
    rotated = ring.inverse(ring.multiply(ring.forward(a), ring.forward(x)))
    assert np.array_equal(rotated[:, shift:], a[:, : 16 - shift])
    assert np.array_equal(rotated[:, :shift], ring.negate(a)[:, 16 - shift :])
