"""How often each piece of work is done: seconds in which one piece alone takes a second."""

from __future__ import annotations

from dataclasses import replace
from math import comb

import pytest

from secagg.planning.question import Question
from secagg.planning.seconds import Work, ckks_work, masking_work, transfer_seconds
from tests.unit.secagg.planning.planning_material import counting, free

QUESTION = Question(clients=60, values=9_999, dropout=0.2)
CKKS = QUESTION.ckks_job(holders=7, threshold=4)
CHUNKS = CKKS.parameters(7).chunks


def total(work: Work | None) -> tuple[float, float, float]:
    assert work is not None
    return tuple(sum(part.values()) for part in (work.client, work.coordinator, work.key_holder))  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("piece", "expected"),
    [
        ("encrypt", (CHUNKS, 0, 0)),
        ("encrypt_one_core", (0, 0, 0)),
        ("receive", (0, 60 * CHUNKS, 0)),
        ("holder_add", (0, 0, 60 * CHUNKS)),
        ("partial", (0, 0, CHUNKS)),
        ("partial_subset", (0, 0, CHUNKS * comb(6, 3))),
        ("recover", (0, CHUNKS, 0)),
        ("recover_answer", (0, CHUNKS * 6, 0)),
        ("ceremony", (0, 0, 7)),
    ],
)
def test_pieces_of_a_ckks_round(piece: str, expected: tuple[int, int, int]) -> None:
    assert total(ckks_work(CKKS, counting(ckks=piece))) == expected


def masked(piece: str) -> tuple[float, float, float]:
    return total(masking_work(QUESTION.masking_job(), QUESTION.numbers, counting(masking=piece)))


def test_pieces_of_a_masking_round() -> None:
    numbers = QUESTION.numbers
    k, t, dropped, values = numbers.neighbours, numbers.threshold, numbers.dropped, 10_000
    survivors = 60 - dropped
    assert (k, dropped) == (59, 12)
    between = dropped * survivors
    assert masked("quantise") == (values, 0, 0)
    assert masked("mask") == (values * (k + 1), 0, 0)
    assert masked("receive") == masked("add") == (0, values * survivors, 0)
    assert masked("unmask") == pytest.approx((0, values * (survivors + between), 0))
    assert masked("agree") == pytest.approx((k, between, 0))
    assert masked("seal") == (k, 0, 0)
    assert masked("deal") == (k * t, 0, 0)
    assert masked("recover") == (0, 60 * t, 0)
    assert masked("reopen") == (120, 180, 0)


def test_everybody_verifies_every_join() -> None:
    spec, numbers = QUESTION.masking_job(), QUESTION.numbers
    client, coordinator, _ = total(masking_work(spec, numbers, counting(shared="authenticate")))
    assert client == 60 + 59 + 1
    assert coordinator == 5 * 60
    holders = total(ckks_work(CKKS, counting(shared="authenticate")))
    assert holders[0] == 60 + 2 * 7 + 6 + 1
    assert holders[2] == 3 * 60 + 4 * 7 + 6


def test_every_upload_is_put_on_disk_and_the_sums_and_the_mean() -> None:
    spec, numbers = QUESTION.masking_job(), QUESTION.numbers
    survivors, published = 60 - numbers.dropped, (8 + 4) * 9_999
    half = CHUNKS * 3 * 4096 * 4
    assert total(masking_work(spec, numbers, counting(shared="sync"))) == (0, survivors + 1, 0)
    written = total(masking_work(spec, numbers, counting(shared="write")))
    assert written == (0, survivors * spec.masking_parameters.vector_bytes + published, 0)
    assert total(ckks_work(CKKS, counting(shared="sync"))) == (0, 2 * 60 + 1, 1)
    assert total(ckks_work(CKKS, counting(shared="write"))) == (0, 2 * 60 * half + published, half)
    for work in (ckks_work(CKKS, counting(shared="publish")), masking_work(spec, numbers, counting(shared="publish"))):
        assert total(work) == (0, 9_999, 0)


def test_a_preset_that_was_not_measured_has_no_seconds() -> None:
    assert ckks_work(CKKS, replace(free(), ckks={})) is None


def test_an_upload_takes_its_bits() -> None:
    assert transfer_seconds(24_000_000, 10) == pytest.approx(19.2)
