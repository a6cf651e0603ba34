"""When it is worth trying again, told to who meets a bound: an estimate, never a promise."""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil
from typing import Final

LONGEST_SECONDS: Final = 30
"""No hint is longer: what is estimated from so little may be wrong, and a place that is free must not stay empty."""
WAITING_CALL_SECONDS: Final = 5
"""Calls that wait end by themselves within 30 seconds, at different times."""


def seconds_until_free(held_for: Iterable[float]) -> int:
    """Return when to come back for something of which others hold all there is.

    Who has held it for long ends first, but how long it takes is not known here: after half as long again. So those who wait
    try a few times in all, however long an upload or a round takes, and lose a third of the time at the most.

    Args:
        held_for: seconds for which each holds it already.

    Returns:
        Whole seconds, from 1 to :data:`LONGEST_SECONDS`.
    """
    return min(max(ceil(max(held_for, default=0.0) / 2), 1), LONGEST_SECONDS)
