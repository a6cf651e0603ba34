"""How many threads can compute at a time."""

from __future__ import annotations

import os


def usable_cores() -> int:
    """Return the cores that this process may run on, where the system tells (Linux), and else those of the machine."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
