"""What the two protocols of the demo differ in: who is asked, what the job says, and what every party insists on."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from secagg.errors import UsageError
from secagg.ids import HolderId
from secagg.masking.planner import Numbers, plan_numbers
from secagg.messages.round import RoundStatus
from secagg.plan import CkksJob, JobSpec, MaskingJob, quorum_for

PRECISION = 8e-5
"""Of the mean, in units of the clip bound, for the smallest sum that may be published."""
CORRUPT_FRACTION = 0.05
VALUE_BITS = 20
"""Sums of 64 clients have 26 bits, 3.25 bytes a value; a step of the grid is 2e-6 of the clip bound."""
FRACTION_DIGITS = 4
"""A share of drop-outs is cut, never rounded up: a sixth of 60 clients are 10 and not 11."""


@dataclass(frozen=True, kw_only=True)
class CkksOptions:
    """How the demo runs ``ckks``. ``dead_holders``: killed after round 1."""

    NAME: ClassVar = CkksJob.NAME
    holders: int = 5
    threshold: int = 3
    dead_holders: int = 0

    def __post_init__(self) -> None:
        require(self.dead_holders >= 0, f"--dead-holders {self.dead_holders}: choose 0 or more")
        alive, least = self.holders - self.dead_holders, max(3, self.threshold)
        require(alive >= least, f"--dead-holders {self.dead_holders} of {self.holders}: at least {least} must be left")

    @property
    def holder_names(self) -> tuple[HolderId, ...]:
        """The key holders' names."""
        return tuple(HolderId(f"holder-{i}") for i in range(1, self.holders + 1))

    @property
    def dying_holders(self) -> tuple[HolderId, ...]:
        """The names of the key holders that are killed after round 1."""
        return self.holder_names[self.holders - self.dead_holders :]

    @property
    def quorum(self) -> int:
        """Approvals that each key holder wants to see."""
        return quorum_for(self.holders, self.threshold - 1)

    def arms(self, least: int, _left: int, _clients: int) -> Iterator[tuple[int, CkksJob]]:
        """Yield what a job may say, the best first, with its fewest contributors."""
        # The small ring is precise enough for all that the demo's options allow; where it is not, the large one is.
        for preset in ("ckks-4096", "ckks-8192"):
            yield least, self._arm(preset)

    def _arm(self, preset: str) -> CkksJob:
        return CkksJob(
            preset=preset,
            precision=PRECISION,
            holders=self.holder_names,
            threshold=self.threshold,
            corrupt_holders=self.threshold - 1,
            min_holders=self.holders - self.dead_holders,
        )

    def policy(self) -> dict[str, object]:
        """Return what clients and key holders insist on, as keys of ``[policy]``."""
        return {
            "holders": [*self.holder_names],
            "min_holders": self.holders - self.dead_holders,
            "min_threshold": self.threshold,
            "min_corrupt_holders": self.threshold - 1,
        }

    def figures(self, spec: JobSpec) -> dict[str, Any]:
        """Return what ``--json`` tells of this protocol."""
        return {
            "preset": spec.ckks.preset,
            "packing": spec.ckks.packing,
            "holders": self.holders,
            "threshold": self.threshold,
            "quorum": self.quorum,
            "dead_holders": self.dead_holders,
        }

    def round_figures(self, status: RoundStatus) -> dict[str, Any]:
        """Return what ``--json`` tells of one round of this protocol."""
        return {"holders": {one.holder: one.verdict.value for one in status.holders}}


@dataclass(frozen=True, kw_only=True)
class MaskingOptions:
    """How the demo runs ``masking``: the clients do it among themselves, so there is nothing to choose."""

    NAME: ClassVar = MaskingJob.NAME
    holder_names: ClassVar[tuple[HolderId, ...]] = ()
    dying_holders: ClassVar[tuple[HolderId, ...]] = ()

    def arms(self, least: int, left: int, clients: int) -> Iterator[tuple[int, MaskingJob]]:
        """Yield what a job may say, the best first, with its fewest contributors: few enough may not bear the drop-outs."""
        share = math.floor((clients - left) / clients * 10**FRACTION_DIGITS) / 10**FRACTION_DIGITS
        for contributors in range(least, left + 1):
            yield (
                contributors,
                MaskingJob(
                    value_bits=VALUE_BITS,
                    precision=PRECISION,
                    corrupt_fraction=CORRUPT_FRACTION,
                    dropout_fraction=share,
                ),
            )

    def policy(self) -> dict[str, object]:
        """Return what clients insist on, as keys of ``[policy]``."""
        return {"protocols": [self.NAME], "min_corrupt_fraction": CORRUPT_FRACTION}

    def figures(self, spec: JobSpec) -> dict[str, Any]:
        """Return what ``--json`` tells of this protocol; the numbers are those of the full roster."""
        numbers = numbers_of(spec)
        return {
            "holders": 0,
            "threshold": numbers.threshold,
            "quorum": numbers.quorum,
            "neighbours": numbers.neighbours,
            "bits_per_value": spec.masking_parameters.sum_bits,
        }

    def round_figures(self, status: RoundStatus) -> dict[str, Any]:
        """Return what ``--json`` tells of one round of this protocol: how many clients did each step."""
        return {"shared": status.shared, "confirmed": status.approvals, "revealed": status.answers}


ProtocolOptions = CkksOptions | MaskingOptions


def numbers_of(spec: JobSpec) -> Numbers:
    """Return k, t and q of a masking job's full roster."""
    return plan_numbers(
        spec.max_clients,
        corrupt_fraction=spec.masking.corrupt_fraction,
        dropout_fraction=spec.masking.dropout_fraction,
        min_contributors=spec.min_contributors,
    )


def require(holds: bool, message: str) -> None:  # noqa: FBT001 - reads as an assertion
    """Raise :class:`UsageError` with this message unless something holds."""
    if not holds:
        raise UsageError(message)
