"""The retention rule: of an old round a signed receipt is left, with number, phase and times (``docs/protocol.md``, section 12)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from coordinator.contracts import (
    BlobStore,
    Clock,
    ContributionRecord,
    EventRecord,
    PurgeReceipt,
    RoundRecord,
    RoundStore,
    mean_prefix,
    upload_prefix,
)
from secagg import codec, faults, labels
from secagg.digests import Canonical
from secagg.errors import CertificateError, MessageError, SecAggError
from secagg.identity import read_certificate
from secagg.ids import Digest, JobId, RoundNumber
from secagg.messages.masking import MaskedUpload
from secagg.messages.retention import PurgedRound
from secagg.messages.round import Phase, Result, Upload
from secagg.plan import MaskingRound
from secagg.signing import SignedMessage, Signer

DAY_SECONDS: Final = 86_400.0
MOST_FAILURES: Final = 10
"""Of rounds that cannot be purged; with more, it is the store that is at fault."""
_PAGE: Final = 50
_ABSENT: Final = Digest(b"")

OnFailure = Callable[[JobId, RoundNumber, SecAggError], object]


@dataclass(frozen=True, kw_only=True)
class RetentionRule:
    """How long things stay. ``record_days``: rounds' records, 0 for ever; ``request_days``: answers to repeated calls."""

    record_days: int
    request_days: int


class Purger:
    """Purges rounds of one store; safe to use beside a coordinator, and beside another purger.

    Args:
        store: jobs and rounds.
        blobs: means, and what was uploaded.
        signer: the coordinator's, for receipts.
        clock: seconds since the epoch.
    """

    def __init__(self, *, store: RoundStore, blobs: BlobStore, signer: Signer, clock: Clock) -> None:
        self._store = store
        self._blobs = blobs
        self._signer = signer
        self._clock = clock

    def before(self, days: int) -> float:
        """Return the time, in seconds since the epoch, before which a round must have ended to be due."""
        return self._clock() - days * DAY_SECONDS

    def due(self, days: int, limit: int) -> list[tuple[JobId, RoundNumber]]:
        """Return at most ``limit`` rounds that ended more than ``days`` ago and are not purged, oldest first."""
        return self._store.ended_before(self.before(days), limit)

    def purged_rounds(self, days: int, on_failure: OnFailure) -> Iterator[PurgedRound]:
        """Purge every round that is due, oldest first, one for each step; what cannot be purged stays and is told.

        Args:
            days: the rule.
            on_failure: told of a round that could not be purged, and why.

        Raises:
            StorageError: the store does not say which rounds are due.
            SecAggError: the last cause, when more than :data:`MOST_FAILURES` rounds could not be purged.
        """
        failed: set[tuple[JobId, RoundNumber]] = set()
        while due := [one for one in self.due(days, _PAGE + len(failed)) if one not in failed]:
            for job, round in due:
                try:
                    purged = self.purge(job, round, days)
                except SecAggError as error:
                    failed.add((job, round))
                    on_failure(job, round, error)
                    if len(failed) > MOST_FAILURES:
                        raise
                else:
                    if purged is not None:
                        yield purged

    def purge(self, job: JobId, round: RoundNumber, days: int) -> PurgedRound | None:
        """Delete what is kept of a round and leave a receipt; None when somebody else has purged it.

        Raises:
            StorageError: something could not be deleted; to be tried again.
            WrongPhaseError: the round has not ended and been cleaned up.
        """
        purged = self.statement(job, round, days)
        if purged is None:
            return None
        self._verify_signer(purged.purged_at)
        # Blobs first: what a kill leaves behind here is found again, for the round is still due.
        self._blobs.delete_prefix(mean_prefix(job, round))
        self._blobs.delete_prefix(upload_prefix(job, round))
        faults.reach("purge.blobs-deleted")
        content = codec.signed_to_bytes(codec.sign(purged, self._signer))
        self._store.purge_round(PurgeReceipt(job=job, round=round, at=purged.purged_at, content=content))
        faults.reach("purge.receipt-kept")
        return purged

    def _verify_signer(self, at: float) -> None:
        """A receipt outside the dates of its certificate would not hold; and a clock that says so may be wrong."""
        certificate = read_certificate(self._signer.certificate)
        if not certificate.not_valid_before_utc.timestamp() <= at <= certificate.not_valid_after_utc.timestamp():
            advice = "Check the clock, or have the certificate renewed with `secagg pki renew`; nothing was deleted"
            raise CertificateError("the coordinator's own certificate does not count now", next_step=advice)

    def purge_requests(self, days: int) -> int:
        """Delete the answers to calls of more than ``days`` ago; return how many."""
        return self._store.purge_requests(self.before(days))

    def purge_trail(self, days: int) -> int:
        """Delete the lines of the audit trail of more than ``days`` ago that name who made a job; return how many."""
        return self._store.purge_trail(self.before(days))

    def statement(self, job: JobId, round: RoundNumber, days: int) -> PurgedRound | None:
        """Return what a receipt says of a round as it is stored now; None for one that is purged."""
        record = self._store.round(job, round)
        if record.status.purged:
            return None
        return statement_of(record, self._store.events(job, round), days=days, at=self._clock())


def statement_of(record: RoundRecord, trail: list[EventRecord], *, days: int, at: float) -> PurgedRound:
    """Return what the receipt of a record says.

    Args:
        record: of a round that ended.
        trail: its lines of the audit trail.
        days: the rule.
        at: now, seconds since the epoch.
    """
    status = record.status
    signed, result = _signed_result(record)
    return PurgedRound(
        job=status.job,
        round=status.round,
        published=status.phase is Phase.PUBLISHED,
        ended_at=status.phase_started.get(status.phase, 0.0),
        purged_at=at,
        record_days=days,
        plan_digest=_ABSENT if status.plan is None else status.plan.digest,
        roster_digest=_signed_roster(record) if result is None else result.roster_digest,
        result_digest=_ABSENT if signed is None else Digest(sha256(signed.payload).digest()),
        mean_digest=_ABSENT if result is None else result.mean_digest,
        contributions=len(record.contributions),
        contributions_digest=contributions_digest(record),
        holders=len({one.holder for one in status.holders} | {one.holder for one in record.holders}),
        holders_digest=holders_digest(record),
        audit_lines=len(trail),
        audit_digest=audit_digest(trail),
    )


def _signed_result(record: RoundRecord) -> tuple[SignedMessage | None, Result | None]:
    """Return the signed result and what it says; None where there is none, or it was damaged: the rule holds all the same."""
    if record.result is not None:
        with suppress(MessageError):
            signed = codec.signed_from_bytes(record.result)
            return signed, codec.unverified(signed, Result)
    return None, None


def _signed_roster(record: RoundRecord) -> Digest:
    """Return the roster digest of a round without a result: that of its first upload."""
    plan = record.status.plan
    masks = plan is not None and isinstance(plan.protocol, MaskingRound)
    kind: type[MaskedUpload | Upload] = MaskedUpload if masks else Upload
    for one in record.contributions:
        if one.upload is not None:
            with suppress(MessageError):
                return codec.unverified(codec.signed_from_bytes(one.upload), kind).roster_digest
    return _ABSENT


def contributions_digest(record: RoundRecord) -> Digest:
    """Return SHA-256 over each client's name, state, signed messages and the reason of its refusal, by name."""
    canonical = Canonical(labels.PURGED_CONTRIBUTIONS)
    canonical.items(sorted(record.contributions, key=lambda one: one.client), _write_contribution)
    return Digest(canonical.sha256())


def _write_contribution(canonical: Canonical, one: ContributionRecord) -> None:
    canonical.text(one.client).text(one.state.value).data(one.join)
    canonical.data(one.upload or b"").data(one.confirmation or b"").text(one.reason)


def holders_digest(record: RoundRecord) -> Digest:
    """Return SHA-256 over what was found of each key holder, and over what each signed."""
    canonical = Canonical(labels.PURGED_HOLDERS)
    canonical.items(
        record.status.holders, lambda inner, one: inner.text(one.holder).text(one.verdict.value).text(one.reason)
    )
    canonical.items(
        record.holders,
        lambda inner, one: inner.text(one.holder).data(one.approval or b"").data(one.statement or b""),
    )
    return Digest(canonical.sha256())


def audit_digest(trail: list[EventRecord]) -> Digest:
    """Return SHA-256 over each line's event, details (JSON with sorted keys) and time, oldest first."""
    canonical = Canonical(labels.PURGED_AUDIT)
    canonical.items(
        trail,
        lambda inner, one: inner.text(one.event).text(json.dumps(dict(one.details), sort_keys=True)).real(one.at),
    )
    return Digest(canonical.sha256())
