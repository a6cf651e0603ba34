"""Shamir sharing and the code behind it, for any size, any polynomial and any lie within reach."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from he.sharing import agreeing_chunks, evaluate, lagrange_at, locate, value_at_zero

PRIMES = (134012929, 134111233, 268369921)

sizes = st.integers(3, 9).flatmap(lambda n: st.tuples(st.just(n), st.integers(2, n)))


def polynomial(threshold: int, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return np.stack([generator.integers(0, p, (threshold, 1, 4), dtype=np.uint32) for p in PRIMES], axis=2)


def answers_of(size: tuple[int, int], seed: int) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    holders, threshold = size
    shared = polynomial(threshold, seed)
    return shared[0], {holder: evaluate(shared, holder, PRIMES) for holder in range(1, holders + 1)}


@given(size=sizes, seed=st.integers(0, 2**32), data=st.data())
def test_any_t_or_more_open_and_agree(size: tuple[int, int], seed: int, data: st.DataObject) -> None:
    secret, points = answers_of(size, seed)
    chosen = data.draw(st.lists(st.sampled_from(sorted(points)), min_size=size[1], unique=True))
    value, agree = value_at_zero({point: points[point] for point in chosen}, size[1], PRIMES)
    assert np.array_equal(value, secret)
    assert agree.all()


@given(size=sizes, seed=st.integers(0, 2**32), data=st.data())
def test_evaluation_agrees_with_integers(size: tuple[int, int], seed: int, data: st.DataObject) -> None:
    shared = polynomial(size[1], seed)
    point = data.draw(st.integers(1, 9))
    value = evaluate(shared, point, PRIMES)
    for index, prime in enumerate(PRIMES):
        exact = sum(row.astype(object) * point**power for power, row in enumerate(shared[:, :, index]))
        assert (exact % prime == value[:, index]).all()


@given(size=sizes, seed=st.integers(0, 2**32), data=st.data())
def test_sharing_is_linear(size: tuple[int, int], seed: int, data: st.DataObject) -> None:
    holders, threshold = size
    one, other = polynomial(threshold, seed), polynomial(threshold, seed + 1)
    column = np.array(PRIMES, dtype=np.uint32)[:, None]
    for holder in range(1, holders + 1):
        apart = (evaluate(one, holder, PRIMES) + evaluate(other, holder, PRIMES)) % column
        assert np.array_equal(evaluate((one + other) % column, holder, PRIMES), apart)


@given(size=sizes, seed=st.integers(0, 2**32), data=st.data())
def test_lies_within_reach_are_named_and_beyond_it_seen(size: tuple[int, int], seed: int, data: st.DataObject) -> None:
    holders, threshold = size
    _, points = answers_of(size, seed)
    most = holders - threshold
    liars = data.draw(st.lists(st.integers(1, holders), max_size=most, unique=True))
    for liar in liars:
        points[liar] = points[liar].copy()
        points[liar][0, liar % 3, liar % 4] ^= 1
    assert agreeing_chunks(points, threshold, PRIMES).all() == (not liars)
    if len(liars) <= most // 2:
        assert locate(points, threshold, PRIMES) == tuple(sorted(liars))


@given(points=st.lists(st.integers(1, 100), min_size=1, max_size=9, unique=True), at=st.integers(0, 100))
def test_weights_reproduce_every_power(points: list[int], at: int) -> None:
    weights = lagrange_at(points, at, 101)
    for power in range(len(points)):
        total = sum(weight * point**power for weight, point in zip(weights, points, strict=True))
        assert total % 101 == at**power % 101
