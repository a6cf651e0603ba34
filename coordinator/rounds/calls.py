"""What the round driver asks of one key holder, whatever carries it (``docs/protocol.md``, sections 4 to 6)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from secagg.ids import Digest, HolderId, KeyId
from secagg.messages.ceremony import (
    DealingBundle,
    Hello,
    KeyCommitment,
    KeyStatement,
    SeedOpening,
    TrialBundle,
    Verdict,
)
from secagg.messages.round import Approval, FrozenRoster, PartialStatement, RosterSeal, Upload
from secagg.messages.signed import Authenticated
from secagg.plan import CeremonyPlan, RoundPlan


@dataclass(frozen=True, kw_only=True)
class ContributorPart:
    """Whole chunks of one contributor's c1; ``contributor`` counts the uploads of the request from 0."""

    contributor: int
    first_chunk: int
    data: bytes


@dataclass(frozen=True, kw_only=True)
class ApprovalRequest:
    """What a holder is shown before it approves; the c1 follow in parts."""

    plan: RoundPlan
    roster: FrozenRoster
    uploads: tuple[Authenticated[Upload], ...]


@dataclass(frozen=True, kw_only=True)
class DecryptionRequest:
    """What a holder is shown before it answers."""

    key_id: KeyId
    request_digest: Digest
    approvals: tuple[Authenticated[Approval], ...]


class KeyHolderCalls(Protocol):
    """One key holder, and how a call of it may fail.

    Every method may raise:

    * ``UnreachableError``: it did not answer, which proves nothing;
    * ``FaultyKeyHolderError``: it answered with something that is not its signed message;
    * ``RemoteError``: it refused; ``__cause__`` is the error that it named, which proves nothing either.
    """

    @property
    def holder(self) -> HolderId:
        """Its name."""

    async def begin_ceremony(self, plan: CeremonyPlan, *, timeout_seconds: float) -> Authenticated[Hello]:
        """Step 4.2."""

    async def commit_key(
        self, ceremony: Digest, hellos: Sequence[Authenticated[Hello]], *, timeout_seconds: float
    ) -> Authenticated[KeyCommitment]:
        """Step 4.3."""

    async def deal_shares(
        self, ceremony: Digest, commitments: Sequence[Authenticated[KeyCommitment]], *, timeout_seconds: float
    ) -> DealingBundle:
        """Step 4.4."""

    async def try_key(
        self, ceremony: Digest, dealings: Sequence[DealingBundle], *, timeout_seconds: float
    ) -> TrialBundle:
        """Step 4.5; the dealings carry what is sealed to this holder."""

    async def certify_key(
        self, ceremony: Digest, trials: Sequence[TrialBundle], *, timeout_seconds: float
    ) -> tuple[Authenticated[KeyStatement], bytes]:
        """Step 4.6: the statement, and the sum of all b_i."""

    async def open_seed(
        self, ceremony: Digest, trials: Sequence[TrialBundle], *, timeout_seconds: float
    ) -> Authenticated[SeedOpening]:
        """Step 4.7."""

    async def lay_blame(
        self,
        ceremony: Digest,
        openings: Sequence[Authenticated[SeedOpening]],
        dealings: Sequence[DealingBundle],
        *,
        timeout_seconds: float,
    ) -> Authenticated[Verdict]:
        """Step 4.8; the dealings carry everything that was sealed."""

    async def seal_roster(
        self, plan: RoundPlan, roster: FrozenRoster, *, timeout_seconds: float
    ) -> Authenticated[RosterSeal]:
        """Step 5.4."""

    async def approve(
        self, request: ApprovalRequest, parts: AsyncIterator[ContributorPart], *, timeout_seconds: float
    ) -> Authenticated[Approval]:
        """Steps 6.1 and 6.2."""

    def decrypt(
        self, request: DecryptionRequest, *, timeout_seconds: float
    ) -> AsyncIterator[bytes | Authenticated[PartialStatement]]:
        """Steps 6.3 and 6.4: the answer in parts, then the statement."""

    async def end_round(self, ceremony: Digest, *, timeout_seconds: float) -> None:
        """Step 6.6: destroy the share."""
