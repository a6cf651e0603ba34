"""Reading c1 in order, verifying it and adding it up."""

import numpy as np
import pytest

from he.ciphertext import chunk_to_bytes
from secagg.errors import FaultyCoordinatorError
from secagg.ids import ClientId
from secagg.key_holder.contributions import ContributionReader
from tests.holder_material import Contributor, ceremony_plan, contributor, job_spec, random_key_id, round_plan

PLAN = round_plan(ceremony_plan(job_spec()), random_key_id())
PARAMETERS = PLAN.parameters
ALICE, BOB = (contributor(PLAN, name, seed=seed) for seed, name in enumerate(("alice", "bob")))


def reader() -> ContributionReader:
    return ContributionReader(PARAMETERS, [ClientId("alice"), ClientId("bob")])


def feed(to: ContributionReader, place: int, one: Contributor, *, per_part: int) -> None:
    for first in range(0, PARAMETERS.chunks, per_part):
        data = b"".join(chunk_to_bytes(chunk) for chunk in one.c1[first : first + per_part])
        to.add(contributor=place, first_chunk=first, data=data)


@pytest.mark.parametrize("per_part", [1, 2, 3])
def test_the_sum_and_the_roots_are_those_of_what_was_read(per_part: int) -> None:
    made = reader()
    feed(made, 0, ALICE, per_part=per_part)
    feed(made, 1, BOB, per_part=per_part)
    computed, total = made.finish()
    assert computed == (ALICE.half, BOB.half)
    primes = np.array(PARAMETERS.data_primes, dtype=np.uint64)[:, None]
    expected = (ALICE.c1.astype(np.uint64) + BOB.c1) % primes
    assert np.array_equal(total.block(0, PARAMETERS.chunks), expected)
    assert np.array_equal(total.block(1, 2), expected[1:2])


@pytest.mark.parametrize(
    ("place", "first", "data"),
    [
        (1, 0, chunk_to_bytes(ALICE.c1[0])),
        (0, 1, chunk_to_bytes(ALICE.c1[0])),
        (0, 0, b""),
        (0, 0, chunk_to_bytes(ALICE.c1[0])[:-4]),
        (0, 0, b"".join(map(chunk_to_bytes, [*ALICE.c1, ALICE.c1[0]]))),
        (0, 0, bytes(len(chunk_to_bytes(ALICE.c1[0])))),
        (0, 0, b"\xff" * len(chunk_to_bytes(ALICE.c1[0]))),
    ],
)
def test_what_is_not_next_or_must_not_count_is_the_coordinators_fault(place: int, first: int, data: bytes) -> None:
    with pytest.raises(FaultyCoordinatorError):
        reader().add(contributor=place, first_chunk=first, data=data)


def test_nobody_comes_after_the_last() -> None:
    made = reader()
    feed(made, 0, ALICE, per_part=3)
    feed(made, 1, BOB, per_part=3)
    with pytest.raises(FaultyCoordinatorError, match="out of order"):
        made.add(contributor=2, first_chunk=0, data=chunk_to_bytes(ALICE.c1[0]))


def test_a_sum_of_less_than_everybody_is_not_made() -> None:
    made = reader()
    feed(made, 0, ALICE, per_part=3)
    made.add(contributor=1, first_chunk=0, data=chunk_to_bytes(BOB.c1[0]))
    with pytest.raises(FaultyCoordinatorError, match="1 of 2"):
        made.finish()
