"""The transform in float64: exact at its bounds, whichever path an operand takes."""

import numpy as np
import pytest

from he.moduli import PRESET_MODULI
from he.ntt import LIMB, SMALL, Modulus, Transform, Workspace, aligned, split

DATA_PRIME = PRESET_MODULI["ckks-4096"].data_primes[-1]
SPECIAL_PRIME = PRESET_MODULI["ckks-4096"].special_prime
each_prime = pytest.mark.parametrize("prime", [DATA_PRIME, SPECIAL_PRIME], ids=["27 bits", "28 bits"])
CHUNKS, DEGREE = 3, 4096


def forward_exactly(x: np.ndarray, prime: int) -> np.ndarray:
    """NTT of (k, N) integers by butterflies on Python's own integers: slow, and of another design."""
    transform = Transform(DEGREE, prime, 1)
    root = transform.root
    blocks = x.astype(object)[:, None, :]
    powers = [pow(root, power, prime) for power in range(DEGREE)]
    exponent = [DEGREE // 2]
    while blocks.shape[2] > 1:
        half = blocks.shape[2] // 2
        twist = np.array([powers[e] for e in exponent], dtype=object)[None, :, None]
        low, high = blocks[:, :, :half], blocks[:, :, half:] * twist
        blocks = np.stack([(low + high) % prime, (low - high) % prime], axis=2).reshape(len(x), -1, half)
        exponent = [e for old in exponent for e in (old // 2, old // 2 + DEGREE // 2)]
    return blocks[:, :, 0]


def canonical(modulus: Modulus, x: np.ndarray) -> np.ndarray:
    out = np.empty(x.shape, dtype=np.uint32)
    modulus.canonical(modulus.centre(x, np.empty_like(x)), np.empty_like(x), out)
    return out


def signs(bound: int) -> np.ndarray:
    """All at +bound, all at -bound, and a random mixture: sums are as large as they can be."""
    mixed = np.random.default_rng(1).choice([-1.0, 1.0], DEGREE)
    return np.stack([np.ones(DEGREE), -np.ones(DEGREE), mixed]) * bound


@each_prime
def test_every_path_is_exact_at_its_bound(prime: int) -> None:
    transform, work = Transform(DEGREE, prime, CHUNKS), Workspace(CHUNKS, DEGREE)
    modulus = transform.modulus
    for bound, forward in ((SMALL, transform.forward_small), (1 << 28, transform.forward), (1, transform.forward)):
        x = signs(bound)
        assert np.array_equal(canonical(modulus, forward(x, work).copy()), forward_exactly(x.astype(np.int64), prime))


@each_prime
def test_inverse_takes_what_is_not_reduced(prime: int) -> None:
    transform, work = Transform(DEGREE, prime, CHUNKS), Workspace(CHUNKS, DEGREE)
    for bound in (prime // 2 + 4, 1 << 28):
        x = signs(bound)
        evaluated = canonical(transform.modulus, transform.inverse(x.copy(), work).copy())
        back = forward_exactly(evaluated.astype(np.int64), prime)
        assert np.array_equal(back, x.astype(np.int64) % prime)


@each_prime
def test_small_and_general_path_are_the_same_map(prime: int) -> None:
    transform, work = Transform(DEGREE, prime, CHUNKS), Workspace(CHUNKS, DEGREE)
    x = np.random.default_rng(2).integers(-21, 22, (CHUNKS, DEGREE)).astype(np.float64)
    small = canonical(transform.modulus, transform.forward_small(x, work).copy())
    assert np.array_equal(small, canonical(transform.modulus, transform.forward(x, work).copy()))


@each_prime
def test_scaled_rows_multiply_on_the_way(prime: int) -> None:
    transform, work = Transform(DEGREE, prime, CHUNKS), Workspace(CHUNKS, DEGREE)
    x = signs(1 << 27)
    for constant in (1, -1, prime // 2, 12345):
        limbs = split(x, np.empty((2, CHUNKS, DEGREE)))
        scaled = canonical(
            transform.modulus, transform.forward_limbs(limbs, work, transform.scaled_rows(constant)).copy()
        )
        expected = forward_exactly(x.astype(np.int64), prime) * constant % prime
        assert np.array_equal(scaled, expected)


@each_prime
def test_products_are_exact_at_the_largest_factors(prime: int) -> None:
    modulus = Modulus(prime)
    edges = np.array([prime // 2 + 4, prime // 2, prime // 2 - 1, 1, 0, -1, -(prime // 2), -(prime // 2) - 4])
    x, factors = (grid.reshape(-1) for grid in np.meshgrid(edges, edges))
    prepared = modulus.factors(factors, chunks=2)
    for start in (0, 1):
        operand = np.stack([x, -x])[start:].astype(np.float64)
        product = modulus.multiply(operand.copy(), prepared, np.empty_like(operand), np.empty_like(operand))
        assert np.abs(product).max() <= prime // 2 + 4
        expected = operand.astype(np.int64).astype(object) * factors % prime
        assert np.array_equal(product.astype(np.int64) % prime, expected)


@each_prime
def test_centring_is_exact_up_to_the_mantissa(prime: int) -> None:
    top = (1 << 53) - 1
    near = np.arange(-3, 4)
    x = np.concatenate(
        [[top, -top], near, prime + near, prime // 2 + near, prime * (top // prime) + near, -top + near[4:]]
    )
    centred = Modulus(prime).centre(x.astype(np.float64), np.empty(len(x)))
    assert np.abs(centred).max() <= prime // 2 + 4
    assert np.array_equal(centred.astype(np.int64) % prime, x % prime)
    out = np.empty(len(x), dtype=np.uint32)
    Modulus(prime).canonical(centred, np.empty(len(x)), out)
    assert np.array_equal(out, x % prime)


def test_limbs_are_small_and_add_up() -> None:
    x = np.concatenate([np.arange(-(1 << 15), 1 << 15), [1 << 28, -(1 << 28), (1 << 27) + LIMB // 2]]).astype(
        np.float64
    )
    high, low = split(x[None], np.empty((2, 1, len(x))))
    assert np.array_equal(high + low, x[None])
    assert not (high % LIMB).any()
    assert np.abs(low).max() <= LIMB / 2


def test_memory_starts_on_a_cache_line() -> None:
    for length in (1, 3, 1000):
        array = aligned(2, length)
        assert (array.shape, array.dtype, array.ctypes.data % 64) == ((2, length), np.float64, 0)
