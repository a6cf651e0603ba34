"""The merge law: however contributions are split over accumulators, the sum is the same."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from he.accumulate import Accumulator
from tests.he_material import random_ciphertext, small_parameters

PARAMETERS = small_parameters(values=100, max_clients=40)
CONTRIBUTIONS = [random_ciphertext(PARAMETERS, seed) for seed in range(40)]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.permutations(range(4)))
def test_merge_equals_one_by_one(places: list[int], order: list[int]) -> None:
    alone = Accumulator(PARAMETERS)
    shards = [Accumulator(PARAMETERS) for _ in range(4)]
    for contribution, place in zip(CONTRIBUTIONS, places, strict=False):
        alone.add(contribution)
        shards[place].add(contribution)
    merged = shards[order[0]]
    for index in order[1:]:
        merged.merge(shards[index])
    assert merged.contributions == len(places)
    assert np.array_equal(merged.finish().c0, alone.finish().c0)
    assert np.array_equal(merged.finish().c1, alone.finish().c1)


@given(st.integers(1, 40))
def test_sum_is_that_of_integers(count: int) -> None:
    total = Accumulator(PARAMETERS)
    for contribution in CONTRIBUTIONS[:count]:
        total.add(contribution)
    wide = sum(contribution.c1.astype(np.int64) for contribution in CONTRIBUTIONS[:count])
    assert np.array_equal(total.finish().c1, wide % PARAMETERS.data_primes[0])
