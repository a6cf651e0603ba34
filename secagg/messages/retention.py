"""What the coordinator says of a round whose record it deleted (``docs/protocol.md``, section 12)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from secagg.ids import Digest, JobId, RoundNumber

LATEST_SECONDS: Final = 253_402_300_799.0
"""The last second of the year 9999: what comes later is no date."""


@dataclass(frozen=True, kw_only=True)
class PurgedRound:
    """The receipt of a purge: ids, counts, times and digests, no client's name.

    Attributes:
        job: whose round.
        round: its number, which is never used again.
        published: whether it was published; otherwise it was aborted.
        ended_at: seconds since the epoch.
        purged_at: seconds since the epoch.
        record_days: the rule under which it was purged.
        plan_digest: as signatures cover it; empty where the round ended before it had a plan.
        roster_digest: as signatures cover it; empty where nobody had signed one.
        result_digest: SHA-256 of the payload of the signed result; empty where none was published.
        mean_digest: SHA-256 of the mean, as in the result; empty likewise.
        contributions: how many clients the record named.
        contributions_digest: over the clients' messages, states and reasons.
        holders: how many key holders it named.
        holders_digest: over what they signed and what was found of them.
        audit_lines: lines of the audit trail.
        audit_digest: over those lines.

    Raises:
        ValueError: a time that is no date.
    """

    job: JobId
    round: RoundNumber
    published: bool
    ended_at: float
    purged_at: float
    record_days: int
    plan_digest: Digest
    roster_digest: Digest
    result_digest: Digest
    mean_digest: Digest
    contributions: int
    contributions_digest: Digest
    holders: int
    holders_digest: Digest
    audit_lines: int
    audit_digest: Digest

    def __post_init__(self) -> None:
        # NaN fails both comparisons.
        if not all(0 <= at <= LATEST_SECONDS for at in (self.ended_at, self.purged_at)):
            raise ValueError("a time of a receipt is no date")
