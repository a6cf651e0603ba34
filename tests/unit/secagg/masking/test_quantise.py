from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from secagg.errors import UsageError
from secagg.masking.quantise import dequantise_sum, quantise
from secagg.masking.stream import MaskStream

Words = npt.NDArray[np.uint32]


def noise(seed: int) -> MaskStream:
    return MaskStream(seed.to_bytes(32, "little"))


class Constant:
    """A stream of one word: the lowest rounds down always, the highest up whenever there is anything to round."""

    def __init__(self, word: int) -> None:
        self.word = word

    def words(self, start: int, count: int) -> Words:
        return np.full(count, self.word, dtype=np.uint32)


DOWN, UP = Constant(0), Constant(2**32 - 1)


def spread(clip: float, count: int = 1001) -> npt.NDArray[np.float64]:
    return np.random.default_rng(5).uniform(-clip, clip, count)


@pytest.mark.parametrize("value_bits", [1, 2, 8, 20, 31])
@pytest.mark.parametrize("clip", [1.0, 0.1, 3e-7, 1e9, 1e-100, 1e100])
def test_the_ends_stay_ends_however_it_rounds(value_bits: int, clip: float) -> None:
    levels = 2**value_bits - 1
    ends = np.array([-clip, clip, -2 * clip, 2 * clip, -np.inf, np.inf])
    for stream in (DOWN, UP, noise(1)):
        assert quantise(ends, clip=clip, value_bits=value_bits, noise=stream).tolist() == [0, levels] * 3
    inside = np.nextafter(ends[:2], 0)
    for stream in (DOWN, UP):
        rounded = quantise(inside, clip=clip, value_bits=value_bits, noise=stream)
        assert rounded.max() <= levels, "nothing is rounded beyond the last grid point"


@pytest.mark.parametrize("value_bits", [1, 8, 20, 31])
def test_a_coordinate_moves_by_less_than_a_step(value_bits: int) -> None:
    clip, step = 2.5, 5.0 / (2**value_bits - 1)
    vector = spread(clip)
    for stream in (DOWN, UP, noise(2)):
        rounded = quantise(vector, clip=clip, value_bits=value_bits, noise=stream)
        back = dequantise_sum(rounded, contributors=1, clip=clip, value_bits=value_bits)
        assert np.abs(back - vector).max() < step * (1 + 2**-20)


def test_grid_points_stay_where_they_are() -> None:
    grid = dequantise_sum(np.arange(256, dtype=np.uint32), contributors=1, clip=1.0, value_bits=8)
    assert grid[0] == -1.0
    assert grid[-1] == 1.0
    nearly = quantise(grid, clip=1.0, value_bits=8, noise=Constant(2**31))
    np.testing.assert_array_equal(nearly, np.arange(256))


def test_rounding_is_unbiased_over_many_seeds() -> None:
    """A z-test of every coordinate at once: rounding half the time, or to the nearest, is off by hundreds of sigma."""
    vector = np.concatenate([spread(1.0, 500), [0.0, 1e-3, -1e-3]])
    levels, seeds = 15, 4000
    exact = (vector + 1) / 2 * levels
    share = exact - np.floor(exact)
    total = np.zeros(len(vector))
    for seed in range(seeds):
        total += quantise(vector, clip=1.0, value_bits=4, noise=noise(seed))
    sigma = np.sqrt(share * (1 - share) * seeds)
    z = (total - exact * seeds) / np.maximum(sigma, 1.0)
    assert np.abs(z).max() < 4.5
    assert abs(z.sum()) / np.sqrt(len(z)) < 4.5, "no common drift either"


def test_it_rounds_up_as_often_as_the_fraction_says_to_the_last_bit_of_the_noise() -> None:
    # u = 0.25 on a grid of two points: the upper quarter of the words goes up.
    quarter = np.array([-0.5])
    for word, expected in ((3 * 2**30 - 1, 0), (3 * 2**30, 1)):
        assert quantise(quarter, clip=1.0, value_bits=1, noise=Constant(word)).tolist() == [expected]


def test_chunks_give_what_the_whole_vector_gives() -> None:
    vector, stream = spread(1.0), noise(3)
    whole = quantise(vector, clip=1.0, value_bits=20, noise=stream)
    chunks = [
        quantise(vector[at : at + 137], clip=1.0, value_bits=20, noise=stream, start=at) for at in range(0, 1001, 137)
    ]
    np.testing.assert_array_equal(np.concatenate(chunks), whole)
    assert whole.dtype == np.uint32
    shifted = quantise(vector, clip=1.0, value_bits=20, noise=stream, start=1)
    assert (shifted != whole).any(), "each coordinate has noise of its own"


def test_the_vector_is_left_as_it_was() -> None:
    vector = np.array([5.0, -0.3])
    quantise(vector, clip=1.0, value_bits=20, noise=DOWN)
    assert vector.tolist() == [5.0, -0.3]


@pytest.mark.parametrize("dtype", [np.uint32, np.uint64])
def test_a_sum_of_quantised_vectors_is_the_sum_of_the_vectors(dtype: type) -> None:
    vectors = np.random.default_rng(6).uniform(-2, 2, (50, 300))
    total: npt.NDArray[np.uint64] = np.zeros(300, dtype=dtype)
    for seed, vector in enumerate(vectors):
        total += quantise(vector, clip=2.0, value_bits=20, noise=noise(seed))
    got = dequantise_sum(total, contributors=50, clip=2.0, value_bits=20)
    assert got.dtype == np.float64
    step = 4.0 / (2**20 - 1)
    assert np.abs(got - vectors.sum(axis=0)).max() < 6 * step * np.sqrt(50 / 4), "errors of 50 roundings, not of bias"


def test_an_absurd_total_is_a_number_all_the_same() -> None:
    garbled = dequantise_sum(np.array([2**64 - 1], dtype=np.uint64), contributors=3, clip=1.0, value_bits=8)
    assert garbled[0] > 3.0


def test_nan_is_refused_and_where_it_is_said() -> None:
    with pytest.raises(UsageError, match="coordinate 12 is not a number"):
        quantise(np.array([0.0, 1.0, np.nan]), clip=1.0, value_bits=8, noise=DOWN, start=10)


def test_other_arrays_are_refused() -> None:
    others: list[npt.NDArray[Any]] = [np.zeros(3, dtype=np.float32), np.zeros((3, 1)), np.zeros(3, dtype=np.int64)]
    for vector in others:
        with pytest.raises(UsageError, match="float64"):
            quantise(vector, clip=1.0, value_bits=8, noise=DOWN)
    with pytest.raises(UsageError, match="int64"):
        dequantise_sum(np.zeros(3, dtype=np.int64), contributors=1, clip=1.0, value_bits=8)


def test_an_empty_chunk_is_empty() -> None:
    assert len(quantise(np.zeros(0), clip=1.0, value_bits=8, noise=noise(1))) == 0
