"""How long a piece of work takes: the fastest of a few repetitions, for what else the machine does only adds to it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

BUDGET_SECONDS: Final = 0.1
"""For the repetitions of one figure."""
FEWEST: Final = 3
_MOST: Final = 50
_LEAST_SECONDS: Final = 1e-7
"""A clock may stand still for so long."""


def seconds_of(work: Callable[[], object], *, parts: int = 1, elapsed: bool = False) -> float:
    """Return the seconds of one of the ``parts`` that the work consists of.

    Seconds of this process's cores, which do not count while others have them; ``elapsed``: of the clock on the wall, for what
    several threads do at a time, or a disk.
    """
    clock = time.perf_counter if elapsed else time.process_time
    found: list[float] = []
    while len(found) < FEWEST or (sum(found) < BUDGET_SECONDS and len(found) < _MOST):
        begun = clock()
        work()
        found.append(clock() - begun)
    return max(min(found), _LEAST_SECONDS) / parts


def in_lanes(work: Callable[[int], object], places: Iterable[int], lanes: int) -> None:
    """Do the work at every place, so many at a time."""
    with ThreadPoolExecutor(lanes) as pool:
        for _ in pool.map(work, places):
            pass


def line_through(low: tuple[int, float], high: tuple[int, float]) -> tuple[float, float]:
    """Return what a time has of its own, and what each of a count adds: both a little above 0, whatever was measured."""
    (few, short), (many, long) = low, high
    each = max((long - short) / (many - few), 1e-12)
    return max(short - few * each, 1e-9), each
