"""The arms of a job and of a round that run ``masking`` (``docs/protocol.md``, section 10)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from secagg.deadlines import Deadlines
from secagg.digests import Canonical
from secagg.ids import NONCE_BYTES
from secagg.plan_checks import require, require_positive


@dataclass(frozen=True, kw_only=True)
class MaskingJob:
    """The arm of a job that runs ``masking``.

    Attributes:
        value_bits: bits of a quantised value; a sum has a few more, 32 at the most.
        precision: largest error of a coordinate of the mean, in units of clip.
        corrupt_fraction: share of a roster's clients that may be in league with the coordinator.
        dropout_fraction: share of a roster's clients that may vanish, and the round is published all the same.
    """

    NAME: ClassVar = "masking"
    value_bits: int = 20
    precision: float = 1e-4
    corrupt_fraction: float = 0.05
    dropout_fraction: float = 0.1

    def __post_init__(self) -> None:
        require(1 <= self.value_bits <= 31, f"value_bits {self.value_bits}: choose 1 to 31")
        require_positive(self.precision, "precision")
        for name in ("corrupt_fraction", "dropout_fraction"):
            value = getattr(self, name)
            require(math.isfinite(value) and 0 <= value < 0.5, f"{name} {value}: choose 0 or more, below 0.5")

    def extend(self, canonical: Canonical) -> None:
        """Add this arm to a digest."""
        canonical.text(self.NAME).integer(self.value_bits).real(self.precision)
        canonical.real(self.corrupt_fraction).real(self.dropout_fraction)

    @staticmethod
    def seconds(deadlines: Deadlines) -> float:
        """Return the longest life of a round."""
        phases = ("open", "sharing", "uploading", "confirming", "unmasking")
        return float(sum(getattr(deadlines, f"{phase}_seconds") for phase in phases))


@dataclass(frozen=True, kw_only=True)
class MaskingRound:
    """The arm of a round that runs ``masking``. ``nonce``: 32 random bytes, so that no two rounds have one plan digest."""

    nonce: bytes

    def __post_init__(self) -> None:
        require(len(self.nonce) == NONCE_BYTES, f"the nonce of a round must have {NONCE_BYTES} bytes")

    def extend(self, canonical: Canonical) -> None:
        """Add this arm to a digest."""
        canonical.text(MaskingJob.NAME).data(self.nonce)
