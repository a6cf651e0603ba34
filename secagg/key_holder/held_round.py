"""What a key holder has in memory of one round, and how much it takes on."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from he.key_share import KeyShare
from secagg.errors import WrongPhaseError
from secagg.ids import Digest
from secagg.key_holder.sums import KeptSum
from secagg.roles.key_holder.opening import OpeningState
from secagg.roles.key_holder.state import CeremonyState


@dataclass(kw_only=True)
class HeldRound:
    """One ceremony and, once it is certified, the use of its key.

    Attributes:
        ceremony_digest: which ceremony.
        begun_at, expires_at: seconds since the epoch.
        ceremony: where the ceremony stands; `Ended` after a restart, when only the key is left of it.
        opening: the use of the key, once it is certified.
        share: this holder's share of the key, until it is destroyed.
        total: the sum of c1 that was approved, on disk.
        stepping: held for one step of either machine.
        approving: held while contributions are read.
    """

    ceremony_digest: Digest
    begun_at: float
    expires_at: float
    ceremony: CeremonyState
    opening: OpeningState | None = None
    share: KeyShare | None = field(default=None, repr=False)
    total: KeptSum | None = None
    stepping: asyncio.Lock = field(default_factory=asyncio.Lock)
    approving: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def key(self) -> OpeningState:
        """The use of the key; `WrongPhaseError` before it is certified."""
        if self.opening is None:
            raise WrongPhaseError("this key is not certified")
        return self.opening


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much a key holder takes on.

    Attributes:
        max_rounds: rounds under way at a time.
        max_sums: sums at a time, in memory while they are added up and on disk from then on.
        max_round_seconds: the longest life of a round.
        slack_seconds: how long after its last deadline a share is kept: clocks differ, and the coordinator's own end may
            be on its way.
        retention_seconds: how long the ledger tells of a key that is destroyed.
    """

    max_rounds: int
    max_sums: int
    max_round_seconds: float
    slack_seconds: float = 60.0
    retention_seconds: float = 365 * 86_400.0
