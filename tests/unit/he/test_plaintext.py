"""Rounded encodings as residues: exact at the largest coefficient that a plan allows."""

import numpy as np
import pytest

from he.parameters import preset
from he.plaintext import PlaintextReducer


@pytest.mark.parametrize("packing", ["real", "complex"])
@pytest.mark.parametrize("clip", [1.0, 1e-6, 100.0])
@pytest.mark.parametrize("name", ["ckks-4096", "ckks-8192"])
def test_residues_are_those_of_the_rounded_integers(name: str, clip: float, packing: str) -> None:
    parameters = preset(name, values=5, max_clients=1, holders=3, threshold=2, clip=clip, packing=packing)
    largest = parameters.slot_bound * parameters.scale
    coefficients = np.random.default_rng(1).uniform(-1, 1, (2, 64)) * largest
    coefficients[:, :6] = [largest, -largest, largest * (1 + 1e-9), 0.0, 2.5, -0.5]
    unit = max(1, 2 ** (int(largest).bit_length() + 1 - 78))
    expected = [round(coefficient / unit) * unit for coefficient in coefficients.reshape(-1).tolist()]
    reducer = PlaintextReducer(parameters)
    rounded = reducer.round(coefficients.copy())
    assert np.abs(rounded[0]).max() <= 2**52
    assert np.abs(rounded[1]).max() <= 2**25
    for prime in parameters.data_primes:
        out, scratch = np.empty((2, 2, 64))
        reduced = reducer.reduce(rounded, prime, out, scratch)
        assert np.abs(reduced).max() <= prime // 2 + 4
        assert (reduced.reshape(-1).astype(np.int64) % prime).tolist() == [value % prime for value in expected]
