"""What a person may ask of the demo, checked before anything starts."""

from __future__ import annotations

from dataclasses import dataclass

from secagg.demo.model import TENSORS
from secagg.errors import PlanError, UsageError
from secagg.ids import HolderId, JobId
from secagg.plan import CkksJob, Deadlines, JobSpec, quorum_for

CLIP = 1.0
PRECISION = 8e-5
"""Of the mean, in units of the clip bound, for the smallest sum that may be published."""
MAX_CLIENTS = 64
VANISHED_SECONDS = 4.0
"""How long a round waits for clients that vanished, where the demo makes some vanish."""


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """``dropouts``: clients that vanish in each round after its roster is frozen; ``dead_holders``: killed after round 1."""

    clients: int = 8
    holders: int = 5
    threshold: int = 3
    rounds: int = 10
    dropouts: int = 0
    dead_holders: int = 0
    seed: int = 7

    def __post_init__(self) -> None:
        _require(2 <= self.clients <= MAX_CLIENTS, f"--clients {self.clients}: choose 2 to {MAX_CLIENTS}")
        _require(self.rounds >= 1, f"--rounds {self.rounds}: choose 1 or more")
        _require(self.seed >= 0, f"--seed {self.seed}: choose 0 or more")
        _require(self.dropouts >= 0, f"--dropouts {self.dropouts}: choose 0 or more")
        _require(self.dead_holders >= 0, f"--dead-holders {self.dead_holders}: choose 0 or more")
        left = self.clients - self.dropouts
        _require(left >= 2, f"--dropouts {self.dropouts} of {self.clients} clients: at least 2 must be left")
        alive, least = self.holders - self.dead_holders, max(3, self.threshold)
        _require(alive >= least, f"--dead-holders {self.dead_holders} of {self.holders}: at least {least} must be left")
        self.job(max_weight=1.0)

    @property
    def holder_names(self) -> tuple[HolderId, ...]:
        """The key holders' names."""
        return tuple(HolderId(f"holder-{i}") for i in range(1, self.holders + 1))

    @property
    def client_names(self) -> tuple[str, ...]:
        """The clients' names."""
        return tuple(f"client-{i:02}" for i in range(1, self.clients + 1))

    @property
    def quorum(self) -> int:
        """Approvals that each key holder wants to see."""
        return quorum_for(self.holders, self.threshold - 1)

    @property
    def min_contributors(self) -> int:
        """Fewest contributors whose sum may be opened: half of the clients, at least 2, and never more than are left."""
        return max(2, min(self.clients // 2, self.clients - self.dropouts))

    def job(self, *, max_weight: float) -> JobSpec:
        """Return the demo's job; a client's weight is its number of examples. :class:`UsageError` when options do not fit."""
        try:
            return self._job(max_weight, "ckks-4096")
        except PlanError:
            # Many clients or key holders need more precision than the small ring has.
            try:
                return self._job(max_weight, "ckks-8192")
            except PlanError as error:
                raise UsageError(error.reason, next_step="Choose other --holders, --threshold or --clients") from error

    def _job(self, max_weight: float, preset: str) -> JobSpec:
        waiting = VANISHED_SECONDS if self.dropouts else 120.0
        return JobSpec(
            job=JobId("digits"),
            purpose="Demonstrate a secure aggregation on handwritten digits",
            tensors=TENSORS,
            clip=CLIP,
            max_weight=max_weight,
            min_total_weight=max_weight * self.clients / 16,
            min_contributors=self.min_contributors,
            max_clients=self.clients,
            rounds=self.rounds,
            deadlines=Deadlines(uploading_seconds=waiting, open_seconds=120.0),
            protocol=CkksJob(
                preset=preset,
                precision=PRECISION,
                holders=self.holder_names,
                threshold=self.threshold,
                corrupt_holders=self.threshold - 1,
                min_holders=self.holders - self.dead_holders,
            ),
        )


def _require(holds: bool, message: str) -> None:  # noqa: FBT001 - reads as an assertion
    if not holds:
        raise UsageError(message)
