"""Places at which a process can be told to die, so that tests can kill it exactly there.

Without the test flag in its environment, a process does nothing here. ``SECAGG_TEST_FAULT=POINT`` kills it with SIGKILL when it
reaches the point for the first time, ``POINT:3`` when it does for the third time.
"""

from __future__ import annotations

import os
import signal
from itertools import count
from typing import Final

FLAG: Final = "SECAGG_TEST_FAULT"
HOLDER_POINTS: Final[tuple[str, ...]] = (
    "begin.stored",
    "begin.answering",
    "commit.answering",
    "deal.answering",
    "try.answering",
    "certify.stored",
    "certify.answering",
    "seed.answering",
    "blame.answering",
    "witness.behind",
    "seal.stored",
    "seal.answering",
    "sum.stored",
    "approve.stored",
    "approve.answering",
    "decrypt.answering",
    "decrypt.stating",
    "end.wiped",
    "end.stored",
    "end.answering",
)
"""Where a key holder stores something, or is about to answer."""

_point, _, _times = os.environ.get(FLAG, "").partition(":")
_visits: Final = count(1)


def reach(point: str) -> None:
    """Die here when the test flag says so."""
    if point == _point and next(_visits) == int(_times or "1"):
        os.kill(os.getpid(), signal.SIGKILL)
