import math
from fractions import Fraction
from itertools import combinations

import pytest

from secagg.errors import UsageError
from secagg.masking.tails import hypergeometric_tail, log2_of, smallest_count

SMALL = [(n, m, d) for n in range(1, 8) for m in range(n + 1) for d in range(n + 1)]
LARGE = [(1500, 75, 114), (1000, 100, 102), (1499, 700, 1400), (300, 300, 40), (201, 0, 50)]


def counted(population: int, marked: int, drawn: int, at_least: int) -> Fraction:
    """Draw in every possible way, the marked ones first in line, and count."""
    draws = [sum(one < marked for one in draw) for draw in combinations(range(population), drawn)]
    return Fraction(sum(count >= at_least for count in draws), len(draws))


def summed(population: int, marked: int, drawn: int, at_least: int) -> Fraction:
    ways = sum(
        math.comb(marked, x) * math.comb(population - marked, drawn - x) for x in range(max(at_least, 0), drawn + 1)
    )
    return Fraction(ways, math.comb(population, drawn))


def test_a_tail_is_what_counting_every_draw_gives() -> None:
    for population, marked, drawn in SMALL:
        for at_least in range(-1, population + 2):
            expected = counted(population, marked, drawn, at_least)
            assert hypergeometric_tail(population, marked, drawn, at_least) == expected


@pytest.mark.parametrize(("population", "marked", "drawn"), LARGE)
def test_a_tail_of_large_numbers_is_exact_and_does_not_tell_marked_from_drawn(
    population: int, marked: int, drawn: int
) -> None:
    for at_least in (0, 1, drawn * marked // population, drawn // 2, drawn, drawn + 1):
        tail = hypergeometric_tail(population, marked, drawn, at_least)
        assert tail == summed(population, marked, drawn, at_least)
        assert tail == hypergeometric_tail(population, drawn, marked, at_least)


@pytest.mark.parametrize("bound", [Fraction(0), Fraction(1, 1 << 120), Fraction(1, 3), Fraction(1, 2), Fraction(1)])
def test_the_smallest_count_is_within_the_bound_and_one_less_is_not(bound: Fraction) -> None:
    for population, marked, drawn in LARGE + SMALL:
        count = smallest_count(population, marked, drawn, bound)
        assert hypergeometric_tail(population, marked, drawn, count) <= bound
        assert count == 0 or hypergeometric_tail(population, marked, drawn, count - 1) > bound


def test_a_bound_that_is_met_exactly_counts_as_met() -> None:
    bound = hypergeometric_tail(50, 10, 12, 6)
    assert smallest_count(50, 10, 12, bound) == 6
    assert smallest_count(50, 10, 12, bound - Fraction(1, 1 << 200)) == 7


@pytest.mark.parametrize(("population", "marked", "drawn"), [(5, 6, 2), (5, 2, 6), (5, -1, 2), (5, 2, -1)])
def test_more_than_there_is_cannot_be_marked_or_drawn(population: int, marked: int, drawn: int) -> None:
    with pytest.raises(UsageError, match="of 5"):
        hypergeometric_tail(population, marked, drawn, 1)


def test_no_count_is_below_a_negative_bound() -> None:
    with pytest.raises(UsageError, match="bound"):
        smallest_count(5, 2, 2, Fraction(-1, 2))


def test_log2_holds_where_floats_end() -> None:
    assert log2_of(Fraction(1, 1 << 5000)) == -5000
    assert log2_of(Fraction(3, 1 << 100)) == pytest.approx(math.log2(3) - 100, abs=1e-12)
    assert log2_of(Fraction(0)) == -math.inf
    assert log2_of(Fraction(1)) == 0
