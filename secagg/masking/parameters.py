"""The numbers behind a masked vector: grid, modulus, bytes, and how exact a published mean is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from secagg.digests import Canonical
from secagg.errors import PlanError

MAX_SUM_BITS: Final = 32
"""Masked values are words of 32 bits or fewer."""
MAX_VALUE_BITS: Final = 31
DEFAULT_VALUE_BITS: Final = 20
"""A thousand clients fit into 30 bits, and a mean of theirs, all of full weight, errs by less than clip/250,000."""
SMALLEST_CLIP: Final = 1e-100
LARGEST_CLIP: Final = 1e100
"""Between the two no step vanishes and no sum of clips is infinite."""
_ROUNDING: Final = 2.0**-19
"""What float64 adds to a step, at most. The arithmetic of 31 bits needs 5.5·2^-22: products by the weight 1, the grid 3, the way
back 1, the quotient 0.5."""


def _require(holds: bool, message: str) -> None:  # noqa: FBT001 - reads as an assertion
    if not holds:
        raise PlanError(message)


@dataclass(frozen=True, kw_only=True)
class MaskingParameters:
    """How vectors of ``values`` coordinates, the weight among them, become integers that ``max_clients`` can add up.

    Each coordinate is clipped to ±``clip`` and rounded to ``value_bits`` bits; sums live modulo 2^``sum_bits``.
    Raises :class:`PlanError` naming the number to change when sums could overflow 32 bits.
    """

    values: int
    max_clients: int
    clip: float
    value_bits: int = DEFAULT_VALUE_BITS

    def __post_init__(self) -> None:
        _require(self.values >= 1, f"values is {self.values}: at least the weight is one")
        _require(self.max_clients >= 1, f"max_clients is {self.max_clients}: 1 or more")
        _require(
            SMALLEST_CLIP <= self.clip <= LARGEST_CLIP, f"clip is {self.clip}: choose {SMALLEST_CLIP} to {LARGEST_CLIP}"
        )
        _require(
            1 <= self.value_bits <= MAX_VALUE_BITS, f"value_bits is {self.value_bits}: choose 1 to {MAX_VALUE_BITS}"
        )
        _require(self.sum_bits <= MAX_SUM_BITS, self._overflow())

    def _overflow(self) -> str:
        room = (1 << MAX_SUM_BITS) - 1
        most_bits = (room // self.max_clients + 1).bit_length() - 1
        bits = f"lower value_bits to {most_bits}, or " if most_bits else ""
        return (
            f"the sum of {self.max_clients:,} clients with value_bits {self.value_bits} needs {self.sum_bits} bits and "
            f"{MAX_SUM_BITS} is the most: {bits}lower max_clients to {room // self.levels:,}"
        )

    @property
    def levels(self) -> int:
        """The largest quantised coordinate, 2^value_bits - 1."""
        return (1 << self.value_bits) - 1

    @property
    def step(self) -> float:
        """Distance of two neighbouring grid points, in units of the values."""
        return 2 * self.clip / self.levels

    @cached_property
    def sum_bits(self) -> int:
        """Bits b of a masked coordinate: the sum of ``max_clients`` is below 2^b."""
        return (self.max_clients * self.levels).bit_length()

    @property
    def vector_bytes(self) -> int:
        """Bytes of one masked vector, packed to ``sum_bits`` bits each."""
        return -(-self.values * self.sum_bits // 8)

    @property
    def bytes_per_value(self) -> float:
        """Bytes that a coordinate takes, a fraction of a byte included."""
        return self.sum_bits / 8

    def mean_error(self, total_weight: float) -> float:
        """Return how far a coordinate of a published mean, float64, can be from the true weighted mean, in units of the values.

        Args:
            total_weight: the contributors' true weights, in units of max_weight, together: W.

        A hard bound, for any contributors up to ``max_clients``: K of them. Contributor i sends w_i·x_i and, as the weight's
        coordinate, w_i·clip; N is the true sum of the first, W·clip that of the second, so |N| <= W·clip. Rounding moves each
        coordinate by less than a step s, float64 arithmetic on both sides by less than 2^-19 of a step more, so the sums err
        by e and f, both below E = K·s·(1 + 2^-19). The published clip·(N + e)/(W·clip + f) differs from N/W by

            (W·clip·e - N·f) / (W·(W·clip + f)),

        at most W·clip·2E / (W·(W·clip - E)) = 2E / (W - E/clip). Both E and the bound grow with K. Where W <= E/clip the
        weight itself may vanish: infinity.
        """
        sum_error = self.max_clients * self.step * (1 + _ROUNDING)
        least_weight = total_weight - sum_error / self.clip
        return 2 * sum_error / least_weight if least_weight > 0 else math.inf

    def extend(self, canonical: Canonical) -> None:
        """Add every number to a digest."""
        canonical.integer(self.values).integer(self.max_clients).real(self.clip)
        canonical.integer(self.value_bits).integer(self.sum_bits)

    def proof(self) -> str:
        """Return one line that shows that no sum overflows."""
        product = self.max_clients * self.levels
        return f"{self.max_clients:,} clients x (2^{self.value_bits} - 1) = {product:,} < 2^{self.sum_bits}"
