"""Shamir's scheme over ring elements: what opens, what stays hidden, what is detected."""

from collections import Counter
from itertools import combinations, product

import numpy as np
import pytest

from he.sharing import agreeing_chunks, evaluate, lagrange_at, locate, value_at_zero

PRIMES = (134012929, 268369921)
SIZES = [(3, 2), (5, 3), (9, 5)]


def shares(holders: int, threshold: int, seed: int, chunks: int = 2) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """A random polynomial's value at zero (chunks, 2, 8), and its value at every holder."""
    generator = np.random.default_rng(seed)
    columns = [generator.integers(0, p, (threshold, chunks, 8), dtype=np.uint32) for p in PRIMES]
    polynomial = np.stack(columns, axis=2)
    return polynomial[0], {holder: evaluate(polynomial, holder, PRIMES) for holder in range(1, holders + 1)}


def altered(block: np.ndarray, chunk: int, index: int = 0) -> np.ndarray:
    other = block.copy()
    other[chunk, 1, index] = (int(other[chunk, 1, index]) + 1) % PRIMES[1]
    return other


@pytest.mark.parametrize(("holders", "threshold"), SIZES)
def test_every_set_of_t_gives_the_same_value(holders: int, threshold: int) -> None:
    secret, points = shares(holders, threshold, 1)
    for chosen in combinations(points, threshold):
        value, agree = value_at_zero({point: points[point] for point in chosen}, threshold, PRIMES)
        assert np.array_equal(value, secret)
        assert agree.all()


@pytest.mark.parametrize(("holders", "threshold"), SIZES)
def test_t_minus_one_are_refused(holders: int, threshold: int) -> None:
    _, points = shares(holders, threshold, 1)
    few = {point: points[point] for point in range(1, threshold)}
    for function in (value_at_zero, agreeing_chunks, locate):
        with pytest.raises(ValueError, match="cannot open"):
            function(few, threshold, PRIMES)


def test_two_of_three_shares_are_independent_of_the_secret_exactly() -> None:
    """All polynomials of degree 2 modulo 7: whatever the secret, two shares take every pair once."""
    for secret in range(7):
        seen: Counter[tuple[int, int]] = Counter()
        for first, second in product(range(7), repeat=2):
            polynomial = np.array([secret, first, second], dtype=np.uint32).reshape(3, 1, 1)
            seen[int(evaluate(polynomial, 2, (7,))[0, 0]), int(evaluate(polynomial, 5, (7,))[0, 0])] += 1
        assert len(seen) == 49
        assert set(seen.values()) == {1}


@pytest.mark.parametrize(("holders", "threshold"), SIZES)
def test_one_wrong_residue_shows_in_its_chunk_among_t_plus_one(holders: int, threshold: int) -> None:
    _, points = shares(holders, threshold, 2)
    for liar in range(1, threshold + 2):
        answers = {point: points[point] for point in range(1, threshold + 2)}
        answers[liar] = altered(points[liar], 1)
        assert agreeing_chunks(answers, threshold, PRIMES).tolist() == [True, False]
        assert locate(answers, threshold, PRIMES) == ()


@pytest.mark.parametrize(("holders", "threshold"), [(5, 3), (9, 5)])
def test_one_liar_is_named_among_t_plus_two(holders: int, threshold: int) -> None:
    _, points = shares(holders, threshold, 3)
    for liar in range(1, threshold + 3):
        answers = {point: points[point] for point in range(1, threshold + 3)}
        answers[liar] = altered(points[liar], 0)
        assert locate(answers, threshold, PRIMES) == (liar,)


def test_two_liars_are_named_among_t_plus_four_even_in_different_chunks() -> None:
    _, points = shares(9, 5, 4)
    for liars in combinations(range(1, 10), 2):
        answers = dict(points)
        for chunk, liar in enumerate(liars):
            answers[liar] = altered(points[liar], chunk)
        assert locate(answers, 5, PRIMES) == liars


def test_liars_beyond_reach_are_detected_and_not_named() -> None:
    _, points = shares(9, 5, 5)
    answers = dict(points) | {liar: altered(points[liar], 0, liar - 1) for liar in (1, 4, 8)}
    assert not agreeing_chunks(answers, 5, PRIMES)[0]
    assert locate(answers, 5, PRIMES) == ()


def test_weights_are_those_of_lagrange() -> None:
    weights = lagrange_at([1, 2, 4], 0, 101)
    assert sum(w * (3 * x * x + 5 * x + 7) for w, x in zip(weights, (1, 2, 4), strict=True)) % 101 == 7
    assert lagrange_at([1, 2, 4], 2, 101) == (0, 1, 0)


@pytest.mark.parametrize("points", [[0, 1], [1, 1], [1, 101], [-1, 2]])
def test_zero_and_repeated_points_are_refused(points: list[int]) -> None:
    with pytest.raises(ValueError, match="distinct"):
        lagrange_at(points, 0, 101)
    with pytest.raises(ValueError, match="distinct"):
        evaluate(np.zeros((2, 1, 4), dtype=np.uint32), 0, (101,))


def test_the_arithmetic_is_exact_at_its_extremes() -> None:
    """Nine answers of p-1 everywhere: the largest sums that the float64 products meet."""
    answers = {h: np.full((1, 2, 8), [[PRIMES[0] - 1], [PRIMES[1] - 1]], dtype=np.uint32) for h in range(1, 10)}
    value, agree = value_at_zero(answers, 9, PRIMES)
    assert agree.all()
    assert np.array_equal(value, answers[1])
