"""Exact tails of the hypergeometric distribution, in integers: a float would lose what 2^-100 is about.

`drawn` of `population` are drawn without putting back, `marked` of them are marked, X counts the marked ones drawn:
P[X = x] = C(marked, x)·C(population - marked, drawn - x) / C(population, drawn).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction

from secagg.errors import UsageError


def hypergeometric_tail(population: int, marked: int, drawn: int, at_least: int) -> Fraction:
    """Return P[X >= at_least], exactly. :class:`UsageError` when more is marked or drawn than there is."""
    ways = 0
    for count, term in _terms_downward(population, marked, drawn):
        if count < at_least:
            break
        ways += term
    return Fraction(ways, math.comb(population, drawn))


def smallest_count(population: int, marked: int, drawn: int, bound: Fraction) -> int:
    """Return the least x, 0 or more, with P[X >= x] <= bound. ``bound`` must not be negative: :class:`UsageError`."""
    if bound < 0:
        message = f"no probability is below the bound {bound}: use 0 or more"
        raise UsageError(message)
    most_ways = bound.numerator * math.comb(population, drawn) // bound.denominator
    ways = 0
    for count, term in _terms_downward(population, marked, drawn):
        ways += term
        if ways > most_ways:
            return count + 1
    return 0


def log2_of(probability: Fraction) -> float:
    """Return log2 of a fraction that may be far below the smallest float; -inf for 0."""
    if not probability:
        return -math.inf
    return math.log2(probability.numerator) - math.log2(probability.denominator)


def _terms_downward(population: int, marked: int, drawn: int) -> Iterator[tuple[int, int]]:
    """Yield every possible count and in how many ways it comes about, from the largest count: each term from the last."""
    if not (0 <= marked <= population and 0 <= drawn <= population):
        message = f"{marked} marked and {drawn} drawn of {population}: neither can be below 0 or above {population}"
        raise UsageError(message)
    unmarked = population - marked
    count, least = min(marked, drawn), max(0, drawn - unmarked)
    term = math.comb(marked, count) * math.comb(unmarked, drawn - count)
    while True:
        yield count, term
        if count == least:
            return
        term = term * (count * (unmarked - drawn + count)) // ((marked - count + 1) * (drawn - count + 1))
        count -= 1
