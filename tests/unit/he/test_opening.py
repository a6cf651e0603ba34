"""From answers to the sum: any t open it, t-1 do not, and a wrong answer is seen and named."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import combinations, islice
from random import Random

import numpy as np
import pytest
import tenseal

from he.accumulate import Accumulator
from he.ciphertext import Ciphertext
from he.decode import coefficients
from he.errors import CiphertextError, FaultyShareError, FormatError, HEError, ImplausibleSumError
from he.key_share import KeyShare
from he.keygen import generate
from he.parameters import PACKINGS, Parameters, preset
from he.partial import Partial, answer_block, partially_decrypt
from he.public_key import PublicKey
from he.recover import AnswersError, open_block, recover
from he.ring import ring_for
from he.sharing import lagrange_at
from tests.he_material import encrypted

SIZES = [(3, 2), (5, 3), (9, 5)]
VALUES = 6000
CLIENTS = 3


class Opened:
    """A key, a sum of three vectors under it, and every holder's answer."""

    def __init__(self, name: str, holders: int, threshold: int, security_bits: int = 40) -> None:
        self.parameters: Parameters = preset(
            name,
            values=VALUES,
            max_clients=CLIENTS,
            holders=holders,
            threshold=threshold,
            security_bits=security_bits,
        )
        self.public_key: PublicKey
        self.shares: tuple[KeyShare, ...]
        self.public_key, self.shares = generate(self.parameters, randomness=bytes([holders]) * 32)
        vectors = np.random.default_rng(holders).uniform(-1, 1, (CLIENTS, VALUES))
        self.expected = vectors.sum(axis=0)
        accumulator = Accumulator(self.parameters)
        for vector in vectors:
            accumulator.add(encrypted(self.public_key, vector))
        self.total: Ciphertext = accumulator.finish()
        self.answers = [partially_decrypt(share, self.total) for share in self.shares]

    def error(self, vector: np.ndarray) -> np.ndarray:
        return vector - self.expected


@cache
def opened(holders: int, threshold: int) -> Opened:
    return Opened("ckks-4096", holders, threshold)


def bent(answer: Partial, chunk: int = 0, by: int = 1) -> Partial:
    """The answer with one coefficient position in NTT form changed."""
    values = answer.values.copy()
    values[chunk, 1, 9] = (int(values[chunk, 1, 9]) + by) % answer.parameters.data_primes[1]
    return replace(answer, values=values)


def some_subsets(holders: int, size: int) -> list[tuple[int, ...]]:
    every = list(combinations(range(holders), size))
    return Random(1).sample(every, min(len(every), 20))


@pytest.mark.parametrize(("holders", "threshold"), SIZES)
def test_every_set_of_t_opens_the_same_bits(holders: int, threshold: int) -> None:
    case = opened(holders, threshold)
    first = recover(case.total, case.answers)
    assert first.shape == (VALUES,)
    assert first.dtype == np.float64
    for chosen in some_subsets(holders, threshold):
        again = recover(case.total, [case.answers[index] for index in chosen])
        assert again.tobytes() == first.tobytes()


@pytest.mark.parametrize(("holders", "threshold"), SIZES)
def test_the_error_of_the_sum_is_what_the_budget_predicts(holders: int, threshold: int) -> None:
    case = opened(holders, threshold)
    error = case.error(recover(case.total, case.answers))
    predicted = case.parameters.value_error(CLIENTS)
    assert predicted / 2 < error.std() < predicted * 2
    assert np.abs(error).max() < 8 * predicted


@pytest.mark.parametrize(
    ("name", "packing"), [*(("ckks-4096", packing) for packing in PACKINGS), ("ckks-8192", "coefficients")]
)
def test_both_engines_vectors_open_with_the_error_that_the_plan_says(name: str, packing: str) -> None:
    values = 3 * 2048 + 1  # an odd number: in complex packing the last slot in use holds one value
    plan = preset(name, values=values, max_clients=CLIENTS, holders=5, threshold=3, packing=packing)
    public_key, shares = generate(plan, randomness=b"c" * 32)
    vectors = np.random.default_rng(4).uniform(-1, 1, (CLIENTS, values))
    accumulator = Accumulator(plan)
    for vector, engine in zip(vectors, ("numpy", "tenseal", "numpy"), strict=True):
        accumulator.add(encrypted(public_key, vector, engine=engine))
    total = accumulator.finish()
    answers = [partially_decrypt(share, total) for share in shares[:3]]
    error = recover(total, answers) - vectors.sum(axis=0)
    padded = open_block(plan, total.c0, {answer.holder: answer.values for answer in answers})
    assert padded.shape == (plan.chunks * plan.chunk_values,)
    # the plan gives the grid, where it counts, half a step each: a deviation of step / sqrt(12) at random
    least = 0.5 if name == "ckks-8192" else 0.9
    for part in (error[0::2], error[1::2]):
        assert least * plan.value_error(CLIENTS) < part.std() < plan.value_error(CLIENTS) * 1.1
        assert np.abs(part).max() < 8 * plan.value_error(CLIENTS)


@pytest.mark.parametrize("security_bits", [40, 75])
def test_with_more_primes_the_error_is_that_of_the_grid(security_bits: int) -> None:
    case = Opened("ckks-8192", 5, 3, security_bits)
    assert (case.parameters.smudging_word_bits > 62) == (security_bits == 75)
    error = case.error(recover(case.total, case.answers[2:]))
    assert np.abs(error).max() <= CLIENTS * 2.0**-41
    assert case.parameters.value_error(CLIENTS) == pytest.approx(CLIENTS**0.5 * 2.0**-41)


@pytest.mark.parametrize(("holders", "threshold"), SIZES)
def test_fewer_than_t_are_refused(holders: int, threshold: int) -> None:
    case = opened(holders, threshold)
    for chosen in some_subsets(holders, threshold - 1):
        with pytest.raises(AnswersError, match="it takes"):
            recover(case.total, [case.answers[index] for index in chosen])


@pytest.mark.parametrize(("holders", "threshold"), SIZES)
def test_what_fewer_than_t_compute_is_unrelated_to_the_sum(holders: int, threshold: int) -> None:
    case = opened(holders, threshold)
    truth = coefficients(case.parameters, interpolated(case, range(threshold))).reshape(-1)
    assert np.abs(truth).max() < case.parameters.coefficient_bound
    quarter = case.parameters.data_modulus / 8
    for chosen in islice(some_subsets(holders, threshold - 1), 5):
        guess = coefficients(case.parameters, interpolated(case, chosen)).reshape(-1)
        # uniform modulo Q: half within the middle half, and not correlated with the truth
        assert abs((np.abs(guess) < 2 * quarter).mean() - 0.5) < 0.03
        assert abs(np.corrcoef(guess, truth)[0, 1]) < 0.05


def interpolated(case: Opened, chosen: Sequence[int]) -> np.ndarray:
    """c0 plus what Lagrange gives at zero, whatever the number of answers."""
    points = [case.answers[index].holder for index in chosen]
    value = np.zeros_like(case.total.c0)
    for level, prime in enumerate(case.parameters.data_primes):
        weights = lagrange_at(points, 0, prime)
        arrays = [case.answers[index].values[:, level].astype(np.uint64) for index in chosen]
        summed = sum(
            array * np.uint64(weight) % np.uint64(prime) for array, weight in zip(arrays, weights, strict=True)
        )
        value[:, level] = summed % np.uint64(prime)
    return ring_for(case.parameters).add(case.total.c0, value)


def test_a_second_answer_is_byte_identical_and_reads_back() -> None:
    case = opened(5, 3)
    first = case.answers[1].to_bytes()
    restored = KeyShare.from_bytes(case.parameters, case.shares[1].to_bytes())
    assert partially_decrypt(restored, case.total).to_bytes() == first
    read = Partial.from_bytes(case.parameters, first)
    assert (read.holder, read.threshold, read.key_id) == (2, 3, case.shares[1].key_id)
    assert read.to_bytes() == first


def test_answers_for_blocks_are_the_answer_for_the_whole() -> None:
    case = opened(5, 3)
    blocks = [answer_block(case.shares[0], case.total.c1[index : index + 1]) for index in range(2)]
    assert np.array_equal(np.concatenate(blocks), case.answers[0].values)
    together = {answer.holder: answer.values[1:] for answer in case.answers}
    block = open_block(case.parameters, case.total.c0[1:], together)
    assert np.array_equal(block[: VALUES - 4096], recover(case.total, case.answers)[4096:])


def test_an_answer_is_smudged() -> None:
    """Without smudging an answer would be c1·S_j: a multiple of c1 would give the same multiple."""
    case = opened(5, 3)
    ring = ring_for(case.parameters)
    bare = ring.multiply(case.total.c1, case.shares[0].secret)
    assert (bare != case.answers[0].values).mean() > 0.99
    doubled = answer_block(case.shares[0], ring.add(case.total.c1, case.total.c1))
    assert (doubled != ring.add(case.answers[0].values, case.answers[0].values)).mean() > 0.99


def test_a_wrong_answer_among_t_casts_suspicion_on_all() -> None:
    case = opened(5, 3)
    with pytest.raises(FaultyShareError) as raised:
        recover(case.total, [*case.answers[:2], bent(case.answers[4])])
    assert (raised.value.holders, raised.value.certain) == ((1, 2, 5), False)


@pytest.mark.parametrize(("holders", "threshold"), SIZES)
def test_a_wrong_answer_among_t_plus_one_is_detected(holders: int, threshold: int) -> None:
    case = opened(holders, threshold)
    for liar in range(threshold + 1):
        answers = case.answers[: threshold + 1]
        answers[liar] = bent(answers[liar], chunk=1)
        with pytest.raises(FaultyShareError) as raised:
            recover(case.total, answers)
        # the rest opens plausibly without the liar only, but two could have plotted this
        assert (raised.value.holders, raised.value.certain) == ((liar + 1,), False)


def test_two_wrong_answers_among_t_plus_one_leave_all_suspect() -> None:
    case = opened(5, 3)
    answers = [bent(case.answers[0]), bent(case.answers[1], by=5), *case.answers[2:4]]
    with pytest.raises(FaultyShareError) as raised:
        recover(case.total, answers)
    assert (raised.value.holders, raised.value.certain) == ((1, 2, 3, 4), False)


def test_a_small_shift_among_t_plus_one_is_detected_but_names_no_single_holder() -> None:
    """A liar that moves its answer by a little stays plausible: detected, and suspect among others."""
    case = opened(3, 2)
    shifted = case.answers[0].values.copy()
    shifted[0] = ring_for(case.parameters).add(shifted[0], np.ones_like(shifted[0]))
    with pytest.raises(FaultyShareError) as raised:
        recover(case.total, [replace(case.answers[0], values=shifted), *case.answers[1:]])
    assert 1 in raised.value.holders
    assert not raised.value.certain


@pytest.mark.parametrize(("holders", "threshold"), [(5, 3), (9, 5)])
def test_a_wrong_answer_among_t_plus_two_is_named_and_the_rest_opens(holders: int, threshold: int) -> None:
    case = opened(holders, threshold)
    for liar in range(threshold + 2):
        answers = case.answers[: threshold + 2]
        answers[liar] = bent(answers[liar])
        with pytest.raises(FaultyShareError) as raised:
            recover(case.total, answers)
        assert (raised.value.holders, raised.value.certain) == ((liar + 1,), True)
        honest = [answer for answer in answers if answer.holder not in raised.value.holders]
        assert np.array_equal(recover(case.total, honest), recover(case.total, case.answers))


def test_two_liars_among_t_plus_four_are_named() -> None:
    case = opened(9, 5)
    answers = [bent(answer) if answer.holder in (3, 8) else answer for answer in case.answers]
    with pytest.raises(FaultyShareError) as raised:
        recover(case.total, answers)
    assert (raised.value.holders, raised.value.certain) == ((3, 8), True)


def test_a_sum_beyond_the_bound_is_the_clients_doing() -> None:
    case = opened(5, 3)
    c0 = case.total.c0.copy()
    c0[1, 0, 0] ^= 1
    wrong = Ciphertext(case.parameters, c0, case.total.c1)
    for count in (4, 5):
        with pytest.raises(ImplausibleSumError):
            recover(wrong, case.answers[:count])
    with pytest.raises(FaultyShareError) as raised:
        recover(wrong, case.answers[:3])
    assert not raised.value.certain


def test_answers_that_do_not_belong_together_are_refused() -> None:
    case = opened(5, 3)
    one, two, three = case.answers[:3]
    for wrong in (
        [],
        [one, two, two],
        [one, two, three, three],
        [one, two, replace(three, holder=0)],
        [one, two, replace(three, holder=6)],
        [one, two, replace(three, threshold=2)],
        [one, two, replace(three, key_id=bytes(32))],
    ):
        with pytest.raises(AnswersError):
            recover(case.total, wrong)
    assert issubclass(AnswersError, HEError)


def test_a_malformed_answer_names_its_holder() -> None:
    case = opened(5, 3)
    high = case.answers[1].values.copy()
    high[0, 0, 0] = case.parameters.data_primes[0]
    for values in (high, case.answers[1].values[:1], case.answers[1].values.astype(np.uint64)):
        answers = [case.answers[0], replace(case.answers[1], values=values), case.answers[2]]
        with pytest.raises(FaultyShareError) as raised:
            recover(case.total, answers)
        assert (raised.value.holders, raised.value.certain) == ((2,), True)


def test_a_holder_does_not_answer_what_is_no_sum() -> None:
    case = opened(5, 3)
    share, c1 = case.shares[0], case.total.c1
    zero = c1.copy()
    zero[1] = 0
    high = c1.copy()
    high[0, 1, 7] = case.parameters.data_primes[1]
    for wrong in (zero, high, c1[0], c1[:, :2], c1.astype(np.uint64)):
        with pytest.raises(CiphertextError):
            answer_block(share, wrong)
    other = preset("ckks-4096", values=VALUES, max_clients=CLIENTS + 1, holders=5, threshold=3)
    with pytest.raises(CiphertextError):
        partially_decrypt(share, Ciphertext(other, case.total.c0, c1))


def test_hostile_answers_are_refused() -> None:
    case = opened(5, 3)
    data = case.answers[0].to_bytes()
    for hostile in (
        b"",
        data[:37],
        data[:-4],
        data + b"\0\0\0\0",
        b"XXXX" + data[4:],
        data[:4] + b"\0" + data[5:],
        data[:4] + b"\x06" + data[5:],
        data[:5] + b"\x02" + data[6:],
        data[:-4] + b"\xff\xff\xff\xff",
    ):
        with pytest.raises(FormatError):
            Partial.from_bytes(case.parameters, hostile)


def test_whoever_has_only_tenseal_can_take_part() -> None:
    plan = preset("ckks-4096", values=2048, max_clients=CLIENTS, holders=5, threshold=3, packing="real")
    public_key, shares = generate(plan, randomness=b"t" * 32)
    theirs, ours = np.random.default_rng(9).uniform(-1, 1, (2, 2048))
    context = tenseal.context_from(public_key.to_tenseal())
    assert not context.is_private()
    data = tenseal.ckks_vector(context, theirs.tolist()).serialize()
    accumulator = Accumulator(plan)
    accumulator.add(Ciphertext.from_tenseal(plan, data))
    accumulator.add(encrypted(public_key, ours))
    total = accumulator.finish()
    opened_sum = recover(total, [partially_decrypt(share, total) for share in shares[1:4]])
    assert np.abs(opened_sum - theirs - ours).max() < 8 * plan.value_error(2)
