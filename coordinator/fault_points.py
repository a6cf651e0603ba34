"""Where a coordinator stores, sends or acknowledges something: every place at which :func:`secagg.faults.reach` may be told to kill it."""

from __future__ import annotations

from typing import Final

from coordinator.rounds.kept_events import KEPT_EVENTS
from secagg.roles.coordinator.events import CancelRequested, KeyFailed, SumOpened, SumUnmasked

ENDING_EVENTS: Final = (KeyFailed, SumOpened, SumUnmasked, CancelRequested)
"""Events that are not kept, for a round ends with them."""
MOMENTS: Final = ("storing", "stored", "done")
"""Of an event: before it is stored, once it is and nothing was sent, and once all is on its way and nobody was answered."""

EVENT_POINTS: Final = tuple(
    f"{event.__name__}.{moment}" for event in (*KEPT_EVENTS, *ENDING_EVENTS) for moment in MOMENTS
)
ANSWERED_METHODS: Final = (
    "WaitForRound",
    "WaitForRoster",
    "GetUploadOffsets",
    "UploadHalves",
    "WaitForResult",
    "DownloadMean",
    "WaitForShares",
    "GetVectorOffset",
    "UploadVector",
    "WaitForSurvivors",
    "WaitForConfirmations",
    "CreateJob",
    "WatchRounds",
)
"""Calls whose answer is no event's; the others are answered once their event is done, or as they were before."""
OTHER_POINTS: Final = (
    *(f"{method}.answering" for method in ANSWERED_METHODS),
    "job.created",
    "lease.taken",
    "open.storing",
    "open.stored",
    "ceremony.asking",
    "seal.asking",
    "part.appended",
    "upload.verified",
    "upload.discarded",
    "answer.repeating",
    "answer.kept",
    "late.thrown-away",
    "approval.asking",
    "answer.asking",
    "answer.spooled",
    "unmasked",
    "mean.written",
    "end.holders-told",
    "end.uploads-deleted",
    "end.closed",
    "job.completed",
    "round.recalled",
    "round.resumed",
    "round.unreadable",
    "purge.blobs-deleted",
    "purge.receipt-kept",
)
COORDINATOR_POINTS: Final = (*EVENT_POINTS, *OTHER_POINTS)
