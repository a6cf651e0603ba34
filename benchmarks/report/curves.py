"""Lines of plots: medians along one number of the case, while everything else of it stays."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

from benchmarks.records import Measurement
from benchmarks.report.tables import case_text, common_case

FOLLOWING = frozenset({"shares", "threshold"})
"""What the number of clients decides needs no words of its own."""
MOST_CURVES = 6
"""More cannot be told apart; the tables have them all."""


class Curve(NamedTuple):
    """Points of one line, ascending."""

    name: str
    x: list[float]
    y: list[float]


def curves(
    measurements: Sequence[Measurement],
    along: str,
    figure: Callable[[Measurement], float | None] = lambda one: one.median,
) -> list[Curve]:
    """What has one point only is no curve. Of too many, those with the most points are kept."""
    points: defaultdict[Hashable, list[Measurement]] = defaultdict(list)
    for one in measurements:
        if along in one.case and figure(one) is not None:
            points[_key(one, along)].append(one)
    groups = [sorted(found, key=lambda one: one.case[along]) for found in points.values() if len(found) > 1]
    kept = sorted(groups, key=len, reverse=True)[:MOST_CURVES]
    names = _names([found[0] for found in kept], along)
    return [
        Curve(name, [float(one.case[along]) for one in found], [figure(one) or 0.0 for one in found])
        for name, found in zip(names, kept, strict=True)
    ]


def _key(one: Measurement, along: str) -> Hashable:
    apart = {along} | (FOLLOWING if along == "clients" else frozenset())
    rest = sorted((name, str(value)) for name, value in one.case.items() if name not in apart)
    return one.work, one.contestant, tuple(rest)


def _names(firsts: Sequence[Measurement], along: str) -> list[str]:
    """By what tells the lines apart: the contestant always, work and the rest of the case where they differ."""
    shared, works = common_case([one.case for one in firsts]), {one.work for one in firsts}
    names = []
    for one in firsts:
        own = {
            name: value for name, value in one.case.items() if name not in shared and name not in FOLLOWING | {along}
        }
        parts = [one.contestant, one.work if len(works) > 1 else "", case_text(own)]
        names.append(", ".join(filter(None, parts)))
    return names
