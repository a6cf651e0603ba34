"""The mean that a masking round publishes, over many seeds: right on average, and never further off than the plan says."""

import hashlib

import numpy as np

from he.packing import Layout, pack, unpack_mean
from secagg.masking.parameters import MaskingParameters
from secagg.masking.quantise import dequantise_sum, quantise
from secagg.masking.stream import MaskStream

SEEDS = 4000
VALUES = 40
CLIP = 1.5
WEIGHTS = (1.0, 0.3, 0.75, 0.5)
LAYOUT = Layout(names=("w",), shapes=((VALUES,),), dtypes=("float64",))
PARAMETERS = MaskingParameters(values=VALUES + 1, max_clients=len(WEIGHTS), clip=CLIP, value_bits=8)


def published(vectors: list[np.ndarray], seed: int) -> np.ndarray:
    """Return the mean, float64 (VALUES,), that these packed vectors give with one seed's rounding."""
    total = np.zeros(VALUES + 1, dtype=np.uint32)
    for place, vector in enumerate(vectors):
        noise = MaskStream(hashlib.sha256(f"{seed}/{place}".encode()).digest())
        total += quantise(vector, clip=CLIP, value_bits=PARAMETERS.value_bits, noise=noise)
    assert int(total.max()) < 2**PARAMETERS.sum_bits
    sums = dequantise_sum(total, contributors=len(vectors), clip=CLIP, value_bits=PARAMETERS.value_bits)
    mean, _ = unpack_mean(sums, LAYOUT, CLIP, 1.0)
    return mean["w"].astype(np.float64)


def test_the_published_mean_is_unbiased_and_within_the_plans_bound() -> None:
    draws = np.random.default_rng(20261126)
    updates = [draws.uniform(-CLIP, CLIP, VALUES) for _ in WEIGHTS]
    # At the ends and in the middle of the range, too.
    updates[0][:3], updates[1][:3] = [CLIP, -CLIP, 0.0], [CLIP, -CLIP, 0.0]
    vectors = [
        pack({"w": update}, weight, layout=LAYOUT, clip=CLIP, max_weight=1.0)[0]
        for update, weight in zip(updates, WEIGHTS, strict=True)
    ]
    true = np.average(updates, axis=0, weights=WEIGHTS)
    means = np.stack([published(vectors, seed) for seed in range(SEEDS)])
    assert np.abs(means - true).max() <= PARAMETERS.mean_error(sum(WEIGHTS))
    # One seed is off by far more than what is looked for below.
    assert np.abs(means[0] - true).max() > 20 * means.std(axis=0).max() / np.sqrt(SEEDS)
    standard_error = means.std(axis=0) / np.sqrt(SEEDS)
    assert np.all(np.abs(means.mean(axis=0) - true) <= 5 * standard_error + 1e-12)
