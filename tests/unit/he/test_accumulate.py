"""Sums: the same as TenSEAL's and as plain integers, however they are put together."""

import numpy as np
import pytest
import tenseal

from he.accumulate import Accumulator, ResidueAccumulator
from he.ciphertext import Ciphertext
from he.encrypt import ENGINES
from he.errors import CiphertextError, ParameterError
from he.parameters import Parameters
from he.public_key import PublicKey
from he.ring import Residues
from tests.he_material import encrypted, open_alone, preset_parameters, random_ciphertext

Key = tuple[PublicKey, Residues]


def test_sum_equals_tenseals_own_residue_for_residue(key: Key, parameters: Parameters) -> None:
    vectors = np.random.default_rng(9).uniform(-1, 1, (4, 5000))
    ciphertexts = [
        encrypted(key[0], vector, engine=engine) for vector, engine in zip(vectors, ENGINES * 2, strict=True)
    ]
    context = tenseal.context_from(key[0].to_tenseal())
    theirs = tenseal.ckks_vector_from(context, ciphertexts[0].to_tenseal())
    ours = Accumulator(parameters)
    ours.add(ciphertexts[0])
    for ciphertext in ciphertexts[1:]:
        theirs += tenseal.ckks_vector_from(context, ciphertext.to_tenseal())
        ours.add(ciphertext)
    expected = Ciphertext.from_tenseal(parameters, theirs.serialize())
    total = ours.finish()
    assert np.array_equal(total.c0, expected.c0)
    assert np.array_equal(total.c1, expected.c1)
    assert open_alone(total, key[1]) == pytest.approx(vectors.sum(axis=0), abs=1e-11)


def test_many_largest_residues_do_not_overflow() -> None:
    parameters = preset_parameters("ckks-4096", values=10, max_clients=100)
    top = np.array(parameters.data_primes, dtype=np.uint32)[:, None] - np.uint32(1)
    half = np.broadcast_to(top, (1, 3, 4096)).copy()
    total, singly = ResidueAccumulator(parameters), ResidueAccumulator(parameters)
    for count in range(1, 101):
        total.add(half)
        singly.add_chunk(0, half[0])
        expected = count * top.astype(np.int64) % np.array(parameters.data_primes)[:, None]
        if count in (1, 31, 32, 33, 63, 64, 100):
            assert np.array_equal(total.finish()[0], np.broadcast_to(expected, (3, 4096)))
    assert np.array_equal(singly.finish(), total.finish())
    with pytest.raises(ParameterError, match="max_clients"):
        singly.add_chunk(0, half[0])


def test_merging_full_accumulators_does_not_overflow() -> None:
    parameters = preset_parameters("ckks-4096", values=10, max_clients=200)
    half = np.broadcast_to(np.array(parameters.data_primes, dtype=np.uint32)[:, None] - np.uint32(1), (1, 3, 4096))
    total, other = ResidueAccumulator(parameters), ResidueAccumulator(parameters)
    for _ in range(32):
        total.add(half)
        other.add(half)
    total.merge(other)
    total.merge(other)
    primes = np.array(parameters.data_primes)
    assert total.finish()[0, :, 0].tolist() == (96 * (primes - 1) % primes).tolist()
    assert other.contributions == 32


def test_chunks_in_any_order_make_the_same_sum(parameters: Parameters) -> None:
    contributions = [random_ciphertext(parameters, seed) for seed in range(3)]
    whole, pieces = ResidueAccumulator(parameters), ResidueAccumulator(parameters)
    for contribution in contributions:
        whole.add(contribution.c1)
    for index in (2, 0, 1):
        for contribution in contributions:
            pieces.add_chunk(index, contribution.c1[index])
    assert np.array_equal(whole.finish(), pieces.finish())
    assert np.array_equal(whole.block(1, 3), whole.finish()[1:3])


def test_missing_chunks_are_noticed(parameters: Parameters) -> None:
    total = ResidueAccumulator(parameters)
    chunk = random_ciphertext(parameters, seed=1).c0[0]
    total.add_chunk(1, chunk)
    assert total.chunk_contributions.tolist() == [0, 1, 0]
    with pytest.raises(CiphertextError, match="from 0 to 1"):
        total.finish()


def test_nothing_is_no_sum(parameters: Parameters) -> None:
    with pytest.raises(CiphertextError, match="nothing"):
        Accumulator(parameters).finish()


def test_more_than_max_clients_are_refused_and_change_nothing(parameters: Parameters) -> None:
    total = Accumulator(parameters)
    contribution = random_ciphertext(parameters, seed=1)
    for _ in range(parameters.max_clients):
        total.add(contribution)
    before = total.finish()
    with pytest.raises(ParameterError, match="max_clients"):
        total.add(contribution)
    with pytest.raises(ParameterError, match="max_clients"):
        total.merge(total)
    assert total.contributions == parameters.max_clients
    assert np.array_equal(total.finish().c0, before.c0)
    assert np.array_equal(total.finish().c1, before.c1)


@pytest.mark.parametrize("half", ["c0", "c1"])
def test_a_bad_contribution_is_refused_and_changes_nothing(parameters: Parameters, half: str) -> None:
    total = Accumulator(parameters)
    total.add(random_ciphertext(parameters, seed=1))
    before = total.finish()
    bad = random_ciphertext(parameters, seed=2)
    getattr(bad, half)[1, 0, 0] = 0xFFFFFFFF
    with pytest.raises(CiphertextError):
        total.add(bad)
    assert total.contributions == 1
    assert np.array_equal(total.finish().c0, before.c0)
    assert np.array_equal(total.finish().c1, before.c1)


def test_other_parameters_never_mix(parameters: Parameters) -> None:
    other = preset_parameters("ckks-4096", max_clients=9)
    with pytest.raises(CiphertextError):
        Accumulator(parameters).add(random_ciphertext(other, seed=1))
    with pytest.raises(ParameterError):
        Accumulator(parameters).merge(Accumulator(other))


def test_chunks_that_do_not_exist_are_refused(parameters: Parameters) -> None:
    total = ResidueAccumulator(parameters)
    half = random_ciphertext(parameters, seed=1).c0
    for index, chunk in ((3, half[0]), (-1, half[0]), (0, half)):
        with pytest.raises(CiphertextError):
            total.add_chunk(index, chunk)
    for wrong in (half[:2], half[0]):
        with pytest.raises(CiphertextError):
            total.add(wrong)


def test_a_finished_sum_does_not_change_when_more_is_added(parameters: Parameters) -> None:
    total = Accumulator(parameters)
    total.add(random_ciphertext(parameters, seed=1))
    first = total.finish()
    kept = first.c0.copy()
    total.add(random_ciphertext(parameters, seed=2))
    assert np.array_equal(first.c0, kept)
