"""What operators and auditors see of a job."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from secagg.plan import JobSpec


class JobState(Enum):
    """Whether a job still runs rounds."""

    RUNNING = "running"
    COMPLETE = "complete"


@dataclass(frozen=True, kw_only=True)
class JobStatus:
    """A job, how many of its rounds ended in which way, and when it was made (seconds since the epoch)."""

    spec: JobSpec
    state: JobState
    published_rounds: int
    aborted_rounds: int
    created_at: float
