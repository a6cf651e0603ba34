"""Encodings as residues: exact at the largest coefficient that a plan allows, and linear on the grid."""

import numpy as np
import pytest

from he.parameters import PACKINGS, preset
from he.plaintext import GridEncoder, PlaintextReducer, encoder_for

CLIPS = [1.0, 1e-6, 100.0]
each_clip = pytest.mark.parametrize("clip", CLIPS)
each_preset = pytest.mark.parametrize("name", ["ckks-4096", "ckks-8192"])


@each_clip
@pytest.mark.parametrize("packing", ["real", "complex"])
def test_residues_are_those_of_the_rounded_integers(clip: float, packing: str) -> None:
    parameters = preset("ckks-4096", values=5, max_clients=1, holders=3, threshold=2, clip=clip, packing=packing)
    largest = parameters.entry_bound * parameters.scale
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


@each_clip
@each_preset
def test_on_the_grid_residues_are_those_of_whole_multiples_of_the_scale(name: str, clip: float) -> None:
    parameters = preset(name, values=5, max_clients=1, holders=3, threshold=2, clip=clip)
    values = np.random.default_rng(1).uniform(-1, 1, (2, 64)) * clip
    step = 2.0**-parameters.grid_bits
    values[:, :6] = [clip, -clip, clip * (1 + 1e-9), 0.0, 0.49 * step, -0.51 * step]
    kept, encoder = values.copy(), GridEncoder(parameters)
    steps = encoder.parts(values)
    whole = [round(value / step) for value in values.reshape(-1).tolist()]
    assert steps[0].reshape(-1).tolist() == whole
    assert whole[4:6] == [0, -1]
    assert max(map(abs, whole)) <= 2**40 * (1 + 1e-9) + 1
    assert np.array_equal(values, kept)
    multiple = int(parameters.scale) >> parameters.grid_bits
    for prime in parameters.data_primes:
        out, scratch = np.empty((2, 2, 64))
        reduced = encoder.reduce(steps, prime, out, scratch)
        assert np.abs(reduced).max() <= prime // 2 + 4
        assert (reduced.reshape(-1).astype(np.int64) % prime).tolist() == [q * multiple % prime for q in whole]


@pytest.mark.parametrize("packing", PACKINGS)
def test_only_coefficients_stand_on_the_grid(packing: str) -> None:
    parameters = preset("ckks-4096", values=5, max_clients=1, holders=3, threshold=2, packing=packing)
    assert isinstance(encoder_for(parameters), GridEncoder) == (packing == "coefficients")
