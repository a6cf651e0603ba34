from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from secagg.digests import Canonical
from secagg.errors import PlanError
from secagg.labels import MASKED_UPLOAD
from secagg.masking.parameters import DEFAULT_VALUE_BITS, MaskingParameters
from secagg.masking.quantise import dequantise_sum, quantise

Words = npt.NDArray[np.uint32]
Floats = npt.NDArray[np.float64]


def some(**changes: float) -> MaskingParameters:
    fields: dict[str, float] = {"values": 101, "max_clients": 1000, "clip": 1.0, "value_bits": 20}
    return MaskingParameters(**(fields | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("max_clients", "value_bits"),
    [(1, 1), (1, 31), (2, 31), (3, 1), (3, 30), (64, 16), (64, 26), (1000, 20), (1000, 22), (1500, 21)],
)
def test_the_sum_of_the_largest_roster_just_fits(max_clients: int, value_bits: int) -> None:
    parameters = some(max_clients=max_clients, value_bits=value_bits)
    largest = max_clients * (2**value_bits - 1)
    assert largest < 2**parameters.sum_bits, "the sum of everybody's largest value does not wrap"
    assert largest >= 2 ** (parameters.sum_bits - 1), "and no bit is sent in vain"
    modulus = (1 << parameters.sum_bits) - 1
    total = np.zeros(1, dtype=np.uint32)
    for _ in range(max_clients):
        total = (total + np.uint32(parameters.levels)) & np.uint32(modulus)
    back = dequantise_sum(total, contributors=max_clients, clip=1.0, value_bits=value_bits)
    assert back[0] == pytest.approx(max_clients, rel=1e-15)


@pytest.mark.parametrize(("max_clients", "value_bits"), [(1000, 23), (1500, 31), (5, 30), (2**31, 2), (3, 31)])
def test_a_sum_beyond_32_bits_is_refused_and_both_ways_out_lead_out(max_clients: int, value_bits: int) -> None:
    with pytest.raises(PlanError) as caught:
        some(max_clients=max_clients, value_bits=value_bits)
    words = str(caught.value).replace(",", "").split()
    numbers = [int(word.rstrip(".")) for word in words if word.rstrip(".").isdigit()]
    bits, clients = numbers[-2:]
    for changes in ({"value_bits": bits}, {"max_clients": clients}):
        some(**({"max_clients": max_clients, "value_bits": value_bits} | changes))
    for changes in ({"value_bits": bits + 1}, {"max_clients": clients + 1}):
        with pytest.raises(PlanError):
            some(**({"max_clients": max_clients, "value_bits": value_bits} | changes))


def test_a_roster_that_no_bits_fit_is_told_its_size_alone() -> None:
    with pytest.raises(PlanError, match="the most: lower max_clients to 4,294,967,295"):
        some(max_clients=2**33, value_bits=1)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"values": 0}, "values"),
        ({"max_clients": 0}, "max_clients"),
        ({"value_bits": 0}, "value_bits is 0"),
        ({"value_bits": 32}, "value_bits is 32"),
        ({"value_bits": -1}, "value_bits"),
        ({"clip": 0.0}, "clip"),
        ({"clip": -1.0}, "clip"),
        ({"clip": float("nan")}, "clip"),
        ({"clip": float("inf")}, "clip"),
        ({"clip": 1e300}, "clip"),
    ],
)
def test_a_number_that_cannot_be_is_refused_by_name(change: dict[str, float], named: str) -> None:
    with pytest.raises(PlanError, match=named):
        some(**change)


def test_bytes_are_bits_rounded_up_once() -> None:
    parameters = some()
    assert parameters.sum_bits == 30
    assert parameters.vector_bytes == -(-101 * 30 // 8) == 379
    assert parameters.bytes_per_value == 3.75
    assert some(max_clients=4096, value_bits=20).vector_bytes == 404


def test_the_proof_shows_the_numbers() -> None:
    assert some().proof() == "1,000 clients x (2^20 - 1) = 1,048,575,000 < 2^30"


def test_every_number_is_in_the_digest() -> None:
    def digest(parameters: MaskingParameters) -> bytes:
        canonical = Canonical(MASKED_UPLOAD)
        parameters.extend(canonical)
        return canonical.sha256()

    changes: list[dict[str, float]] = [{}, {"values": 102}, {"max_clients": 999}, {"clip": 1.5}, {"value_bits": 19}]
    assert len({digest(some(**change)) for change in changes}) == len(changes)
    assert digest(some()) == digest(replace(some()))


class Chosen:
    """A stream with words that an adversary picked, one for each coordinate."""

    def __init__(self, words: Words) -> None:
        self._words = words

    def words(self, start: int, count: int) -> Words:
        return self._words[start : start + count]


def published(vectors: Floats, weights: Floats, noise: Words, parameters: MaskingParameters) -> Floats:
    """What a round publishes: each client sends weight·x and weight·clip, both rounded as ``noise`` says."""
    clip, bits, values = parameters.clip, parameters.value_bits, vectors.shape[1]
    total = np.zeros(values + 1, dtype=np.uint64)
    for vector, weight in zip(vectors, weights, strict=True):
        sent = np.append(weight * vector, weight * clip)
        total += quantise(sent, clip=clip, value_bits=bits, noise=Chosen(noise))
    sums = dequantise_sum(total, contributors=len(weights), clip=clip, value_bits=bits)
    mean: Floats = clip * sums[:-1] / sums[-1]
    return mean


@pytest.mark.parametrize("value_bits", [2, 4, 8, 16, 20, 26])
@pytest.mark.parametrize("clip", [1.0, 0.37])
def test_no_rounding_moves_a_mean_beyond_the_bound(value_bits: int, clip: float) -> None:
    """All coordinates up or down, the weight the other way or the same; at the ends of the range and within."""
    rng = np.random.default_rng(value_bits)
    parameters = some(max_clients=40, value_bits=value_bits, clip=clip)
    for least in (1.0, 0.5, 0.05):
        weights = rng.uniform(least, 1.0, 40)
        vectors = rng.uniform(-clip, clip, (40, 100))
        vectors[:, :20], vectors[:, 20:40] = clip, -clip
        truth = weights @ vectors / weights.sum()
        bound = parameters.mean_error(float(weights.sum()))
        for up, weight_up in ((0, 0), (0, 1), (1, 0), (1, 1)):
            noise = np.full(101, up * (2**32 - 1), dtype=np.uint32)
            noise[-1] = weight_up * (2**32 - 1)
            assert np.abs(published(vectors, weights, noise, parameters) - truth).max() <= bound


def test_the_worst_case_reaches_the_bound() -> None:
    """Every weight, and every coordinate near -clip, stands just below a grid point and is rounded down."""
    parameters = some(max_clients=30, value_bits=12)
    step, sliver = parameters.step, parameters.step * 1e-3
    grid_point = -1 + 4000 * step
    weight = grid_point - sliver
    vectors = np.full((30, 1), (-grid_point + step - sliver) / weight)
    weights = np.full(30, weight)
    error = abs(published(vectors, weights, np.zeros(2, dtype=np.uint32), parameters) - vectors[0, 0])[0]
    bound = parameters.mean_error(float(weights.sum()))
    assert 0.99 * bound < error <= bound


def test_fewer_contributors_than_the_largest_roster_stay_within_the_bound_too() -> None:
    parameters = some(max_clients=40, value_bits=10)
    vectors = np.random.default_rng(1).uniform(-1, 1, (7, 50))
    weights = np.linspace(0.3, 1.0, 7)
    truth = weights @ vectors / weights.sum()
    for word in (0, 2**32 - 1):
        noise = np.full(51, word, dtype=np.uint32)
        error = np.abs(published(vectors, weights, noise, parameters) - truth).max()
        assert error <= parameters.mean_error(float(weights.sum()))


def test_a_weight_that_rounding_could_swallow_has_no_bound() -> None:
    parameters = some(max_clients=1000, value_bits=4)
    assert parameters.mean_error(100.0) == float("inf")
    assert parameters.mean_error(1000.0) < float("inf")
    assert some().mean_error(500.0) < some().mean_error(400.0)


def test_the_default_is_fine_enough_for_a_thousand() -> None:
    parameters = some(value_bits=DEFAULT_VALUE_BITS)
    assert parameters.sum_bits <= 30
    assert parameters.mean_error(1000.0) < 1 / 250_000
