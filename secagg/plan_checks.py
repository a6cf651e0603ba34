"""How a plan proves itself: checks that raise :class:`PlanError` naming the number to change."""

from __future__ import annotations

import math
import re

from secagg.errors import PlanError

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


def check_name(name: str, what: str) -> None:
    """Raise :class:`PlanError` unless ``name`` can stand in a certificate, a file name and a log."""
    if not _NAME.fullmatch(name):
        message = f"{what} {name[:80]!r}: use 1 to 63 of a-z, 0-9 and '-', and start with a letter or a digit"
        raise PlanError(message)


def require(holds: bool, message: str) -> None:  # noqa: FBT001 - reads as an assertion
    """Raise :class:`PlanError` with this message unless something holds."""
    if not holds:
        raise PlanError(message)


def require_positive(value: float, what: str) -> None:
    """Raise :class:`PlanError` unless a number is finite and above 0."""
    require(math.isfinite(value) and value > 0, f"{what} is {value}: it must be a finite number above 0")
