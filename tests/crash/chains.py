"""Which points a coordinator dies at in one round, one after the other, in the order in which the round comes by them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import pytest

from tests.crash import ckks_scenarios as ckks
from tests.crash import masking_scenarios as masking
from tests.crash.crash_house import DATABASES, CrashHouse, Database

Scenario = Callable[[CrashHouse, Sequence[str], pytest.MonkeyPatch], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class Chain:
    """One round, and where its coordinator dies."""

    scenario: Scenario
    points: tuple[str, ...]

    @property
    def name(self) -> str:
        protocol = self.scenario.__module__.rpartition(".")[2].partition("_")[0]
        return f"{protocol}-{self.scenario.__name__}-{self.points[-1]}"


def _chain(scenario: Scenario, *points: str) -> Chain:
    return Chain(scenario=scenario, points=points)


def three(event: str) -> tuple[str, str, str]:
    """Return the three points of an event."""
    return (f"{event}.storing", f"{event}.stored", f"{event}.done")


# In turn: a chain's database is its place's.
CHAINS = (
    _chain(
        masking.plain,
        "open.storing",
        "WaitForRound.answering",
        "JoinReceived.stored",
        "SharesReceived.done",
        "UploadVector.answering",
        "ConfirmationReceived.storing",
        "end.holders-told",
    ),
    _chain(
        ckks.plain,
        "open.stored",
        "CeremonyBegun.storing",
        "KeyCertified.stored",
        "JoinReceived.done",
        "SealReceived.storing",
        "upload.verified",
        "ApprovalReceived.stored",
        "AnswerReceived.done",
        "SumOpened.storing",
    ),
    _chain(
        ckks.plain,
        "CreateJob.answering",
        "CeremonyBegun.stored",
        "KeyCertified.done",
        "round.recalled",
        "WaitForRoster.answering",
        "UploadVerified.storing",
        "approval.asking",
        "answer.asking",
        "SumOpened.stored",
    ),
    _chain(
        masking.plain,
        "job.created",
        "JoinReceived.storing",
        "SharesReceived.stored",
        # Only who was cut off asks how far it has come.
        "part.appended",
        "GetVectorOffset.answering",
        "VectorVerified.done",
        "UnmaskingReceived.storing",
        "SumUnmasked.stored",
        "end.uploads-deleted",
    ),
    _chain(
        masking.plain,
        "lease.taken",
        "SharesReceived.storing",
        "VectorVerified.stored",
        "answer.repeating",
        "ConfirmationReceived.done",
        "unmasked",
        "SumUnmasked.done",
    ),
    _chain(
        ckks.plain,
        "ceremony.asking",
        "CeremonyBegun.done",
        "round.resumed",
        "seal.asking",
        "SealReceived.stored",
        "UploadHalves.answering",
        "UploadVerified.done",
        "ApprovalReceived.storing",
        "AnswerReceived.stored",
        "SumOpened.done",
    ),
    _chain(
        ckks.plain,
        "KeyCertified.storing",
        "SealReceived.done",
        "part.appended",
        "GetUploadOffsets.answering",
        "UploadVerified.stored",
        "ApprovalReceived.done",
        "answer.spooled",
        "AnswerReceived.storing",
        "mean.written",
        "end.closed",
    ),
    _chain(
        masking.plain,
        "WatchRounds.answering",
        "WaitForShares.answering",
        "WaitForSurvivors.answering",
        "ConfirmationReceived.stored",
        "WaitForConfirmations.answering",
        "UnmaskingReceived.stored",
        "WaitForResult.answering",
    ),
    _chain(
        masking.plain,
        "VectorVerified.storing",
        "UnmaskingReceived.done",
        "SumUnmasked.storing",
        "job.completed",
        "DownloadMean.answering",
    ),
    _chain(masking.departing, "DeadlinePassed.stored", "late.thrown-away", *three("GraceOver")[:2]),
    _chain(masking.refused, "UploadRefused.storing", "upload.discarded"),
    _chain(ckks.refused, "UploadRefused.stored"),
    _chain(masking.refused, "UploadRefused.done"),
    _chain(masking.garbled_shares, *three("UnmaskingFailed")[:2]),
    _chain(ckks.liar, "OpeningFailed.done"),
    _chain(masking.garbled_shares, "UnmaskingFailed.done"),
    _chain(ckks.silent_holder, *three("HolderSilent")[:2], *three("HolderLost")[:2]),
    _chain(ckks.silent_holder, "HolderSilent.done", "HolderLost.done"),
    _chain(ckks.liar, "GraceOver.done", *three("OpeningFailed")[:2]),
    _chain(ckks.no_key, "KeyFailed.storing", "KeyFailed.stored"),
    _chain(ckks.no_key, "KeyFailed.done"),
    _chain(masking.few, "DeadlinePassed.storing"),
    _chain(ckks.few, "DeadlinePassed.done"),
    _chain(masking.lost_vector, "VectorVerified.done", "CancelRequested.storing", "CancelRequested.stored"),
    _chain(masking.unreadable, "SharesReceived.stored", "round.unreadable"),
    _chain(masking.asked_twice, "answer.kept"),
    _chain(masking.purged, "purge.blobs-deleted", "purge.receipt-kept"),
    _chain(ckks.lost_half, "ApprovalReceived.stored", "CancelRequested.done"),
)


def database_of(place: int) -> Database:
    """Return the database of a chain by its place among the others."""
    return DATABASES[place % len(DATABASES)]


MASKING_ONLY = ("Shares", "Vector", "Confirmation", "Unmask", "SumUnmasked", "WaitForSurvivors", "unmasked", "late")
CKKS_ONLY = ("Ceremony", "ceremony", "Key", "Seal", "seal", "UploadVerified", "UploadHalves", "GetUploadOffsets")
CKKS_ONLY += ("Approval", "approval", "AnswerReceived", "answer.asking", "answer.spooled", "SumOpened")
BEFORE = {
    "round.recalled": "JoinReceived.stored",
    "round.resumed": "JoinReceived.stored",
    "answer.repeating": "JoinReceived.stored",
    "GetUploadOffsets.answering": "part.appended",
    "GetVectorOffset.answering": "part.appended",
}
"""A point that only a round comes by in which something died before, and where."""


def matrix() -> list[tuple[Chain, Database]]:
    """Return every point alone, in each protocol that comes by it and on each database; rare events with what brings them."""
    plain = {point for chain in CHAINS if chain.scenario in (masking.plain, ckks.plain) for point in chain.points}
    single = [
        _chain(scenario, *filter(None, (BEFORE.get(point), point)))
        for scenario, others in ((masking.plain, CKKS_ONLY), (ckks.plain, MASKING_ONLY))
        for point in sorted(plain)
        if not any(word in point for word in others)
    ]
    rare = [chain for chain in CHAINS if chain.scenario not in (masking.plain, ckks.plain)]
    return [(chain, database) for chain in (*single, *rare) for database in DATABASES]
