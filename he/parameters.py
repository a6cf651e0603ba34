"""CKKS parameters that prove their own budget: security, overflow, smudging and precision.

Source: docs/protocol.md, section "Parameters" (DESIGN 4.1).
"""

import math
import struct
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Final

from he.budget import PACKINGS, check_counts, check_room, check_smudging, largest_scale
from he.errors import ParameterError
from he.moduli import PRESET_MODULI, check_moduli
from he.rounding import DISTANCE_FACTOR, check_encoding, encoding_distance, grid_bits, grid_deviation

__all__ = ["PACKINGS", "PRESET_NAMES", "Parameters", "fit", "preset"]

_TAIL_DEVIATIONS: Final = 8.0  # beyond which honest noise does not show once in 2^50 coefficients
_DIGEST_LABEL: Final = b"secagg he parameters v1\0"

PRESET_NAMES: Final = tuple(PRESET_MODULI)


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """Everything that two parties must agree on to add and open CKKS ciphertexts.

    `values` is the length of one client's vector, `clip` the largest magnitude of an entry,
    `packing` one of `PACKINGS`, `scale` what entries are multiplied by (in steps: `he.budget`),
    `smudging_word_bits` the width w of the four uniform words whose sum is one smudging
    coefficient. Raises `ParameterError`.
    """

    name: str
    values: int
    max_clients: int
    holders: int
    threshold: int
    clip: float
    packing: str
    security_bits: int
    degree: int
    data_primes: tuple[int, ...]
    special_prime: int
    scale: float
    smudging_word_bits: int

    def __post_init__(self) -> None:
        """Prove the numbers: what does not fit raises with the number to change."""
        check_counts(self)
        check_moduli(self.degree, self.data_primes, self.special_prime)
        check_smudging(self)
        check_room(self)

    def verify_encoding(self) -> None:
        """Raise `ParameterError` where an opening would show how single clients' values were rounded.

        Nobody encrypts under such parameters. They can be made, so that what an older version kept is still read.
        """
        check_encoding(self)

    @property
    def slots(self) -> int:
        """Complex slots of one chunk: N/2."""
        return self.degree // 2

    @property
    def chunk_values(self) -> int:
        """Values held by one chunk: N, one in each coefficient or two in each slot; N/2 in real packing."""
        return self.slots if self.packing == "real" else self.degree

    @property
    def entry_bound(self) -> float:
        """Largest magnitude of an honest coefficient or slot: clip, or sqrt(2)·clip of x + i·y with both at clip.

        No coefficient of an embedding, a mean over the slots and their conjugates, exceeds that of the slots.
        """
        return math.sqrt(2) * self.clip if self.packing == "complex" else self.clip

    @property
    def chunks(self) -> int:
        """Ciphertexts that one vector of `values` entries takes."""
        return -(-self.values // self.chunk_values)

    @property
    def key_primes(self) -> tuple[int, ...]:
        """Data primes, then the special prime: the moduli of public keys and shares in transit."""
        return (*self.data_primes, self.special_prime)

    @cached_property
    def data_modulus(self) -> int:
        """Q, the product of the data primes."""
        return math.prod(self.data_primes)

    def noise_deviation(self, contributors: int) -> float:
        """Deviation of one coefficient's noise in a sum of fresh ciphertexts.

        SEAL's modulus switch leaves rounding only: variance (1 + N·2n/3)/12 per ciphertext.
        """
        secret_variance = 2 * self.holders / 3
        return math.sqrt(contributors * (1 + self.degree * secret_variance) / 12)

    @property
    def required_smudging_deviation(self) -> float:
        """Deviation that hides the noise of `max_clients` sums within 2^-security_bits."""
        opened_coefficients = self.degree * self.chunks
        hidden = math.sqrt(opened_coefficients) * self.noise_deviation(self.max_clients)
        return DISTANCE_FACTOR * hidden * 2.0**self.security_bits

    @property
    def hidden_bits(self) -> float:
        """-log2 of the distance within which an opening hides what the sum of the values does not tell.

        In packing "coefficients" (values as rounded to the grid) that is the ciphertexts' noise alone, hence
        `security_bits` or more. In a slot packing each client's encoding rounds something off, which counts for more.
        """
        noise = 2.0**-self.security_bits * self.required_smudging_deviation / self.smudging_deviation
        return -math.log2(noise + encoding_distance(self))

    @property
    def grid_bits(self) -> int:
        """Steps of the grid in one unit of the vector, as a power of two; of packing "coefficients" alone."""
        return grid_bits(self)

    @property
    def smudging_deviation(self) -> float:
        """Deviation of one subset's smudging coefficient: four w-bit words, 2^w/sqrt(3).

        One alone must suffice, since t-1 corrupt holders know all subsets' keys but one.
        """
        return 2.0**self.smudging_word_bits / math.sqrt(3)

    @property
    def smudging_subsets(self) -> int:
        """Number of subsets of n-t+1 holders, each with a smudging key."""
        return math.comb(self.holders, self.threshold - 1)

    @property
    def total_smudging_deviation(self) -> float:
        """Deviation of one opened coefficient's smudging, over all subsets together."""
        return math.sqrt(self.smudging_subsets) * self.smudging_deviation

    def opening_deviation(self, contributors: int) -> float:
        """Deviation of noise and smudging together in one opened coefficient."""
        return math.hypot(self.noise_deviation(contributors), self.total_smudging_deviation)

    def value_error(self, contributors: int) -> float:
        """Return the deviation of one value of the opened sum, in the units of the vector.

        A value in a coefficient has that coefficient's error, and the grid's. In a slot N independent ones
        meet, sum e_k·zeta^(k·j). Its real part is sum e_k·cos(pi·k·j/N), its imaginary part the same with
        sin; for odd j the squares of either sum to N/2: both parts have the variance N/2 · var(e).
        """
        met = 1 if self.packing == "coefficients" else self.degree / 2
        opening = math.sqrt(met) * self.opening_deviation(contributors) / self.scale
        return math.hypot(opening, grid_deviation(self, contributors))

    def mean_error(self, contributors: int, total_weight: float) -> float:
        """Return the deviation, at most, of one entry of the weighted mean.

        `total_weight` is the sum of weights in units of `max_weight`. The weight coordinate
        w·clip carries the same error as the entries, hence the factor sqrt(2) at |mean| = clip.
        """
        return math.sqrt(2) * self.value_error(contributors) / total_weight

    @property
    def coefficient_bound(self) -> float:
        """Largest magnitude of an honest opened coefficient; at most 7/8 of Q/2."""
        return self.max_clients * self.entry_bound * self.scale + self.noise_tail

    @property
    def noise_tail(self) -> float:
        """Largest magnitude of noise and smudging in an honest opened coefficient."""
        return _TAIL_DEVIATIONS * self.opening_deviation(self.max_clients)

    def digest(self) -> bytes:
        """SHA-256 (32 bytes) over every number, little-endian; the name is not part of it.

        Real packing adds nothing, as before there was another: rounds outlive an upgrade. The grid
        follows from clip and scale.
        """
        head = struct.pack(
            "<QQQQdQQdQQ",
            self.values,
            self.max_clients,
            self.holders,
            self.threshold,
            self.clip,
            self.security_bits,
            self.degree,
            self.scale,
            self.smudging_word_bits,
            len(self.data_primes),
        )
        primes = struct.pack(f"<{len(self.key_primes)}Q", *self.key_primes)
        packing = b"" if self.packing == "real" else self.packing.encode()
        return sha256(_DIGEST_LABEL + head + primes + packing).digest()


def preset(
    name: str,
    *,
    values: int,
    max_clients: int,
    holders: int,
    threshold: int,
    clip: float = 1.0,
    packing: str = "coefficients",
    security_bits: int = 40,
) -> Parameters:
    """Fit the named preset to a job: the largest scale, the smallest sufficient smudging.

    Raises `ParameterError` when the budget has no solution; the message says what to change.
    """
    if name not in PRESET_MODULI:
        raise ParameterError(f"unknown preset {name!r}: choose one of {', '.join(PRESET_NAMES)}")
    moduli = PRESET_MODULI[name]
    return fit(
        name,
        degree=moduli.degree,
        data_primes=moduli.data_primes,
        special_prime=moduli.special_prime,
        values=values,
        max_clients=max_clients,
        holders=holders,
        threshold=threshold,
        clip=clip,
        packing=packing,
        security_bits=security_bits,
    )


def fit(  # noqa: PLR0913 - one argument for each number that is given, not derived
    name: str,
    *,
    degree: int,
    data_primes: tuple[int, ...],
    special_prime: int,
    values: int,
    max_clients: int,
    holders: int,
    threshold: int,
    clip: float,
    packing: str = "coefficients",
    security_bits: int,
) -> Parameters:
    """Derive scale and smudging width for any ring (tests use small ones); see `preset`."""
    draft = _Draft(
        name=name,
        degree=degree,
        data_primes=data_primes,
        special_prime=special_prime,
        values=values,
        max_clients=max_clients,
        holders=holders,
        threshold=threshold,
        clip=clip,
        packing=packing,
        security_bits=security_bits,
        scale=1.0,
        smudging_word_bits=0,
    )
    return draft.settle()


class _Draft(Parameters):
    """Parameters whose scale and smudging width are still to be derived, hence unproven."""

    def __post_init__(self) -> None:
        check_counts(self)
        check_moduli(self.degree, self.data_primes, self.special_prime)

    def settle(self) -> Parameters:
        fields = {name: getattr(self, name) for name in Parameters.__dataclass_fields__}
        wide = math.log2(self.required_smudging_deviation * math.sqrt(3))
        fields["smudging_word_bits"] = max(math.ceil(wide), 1)
        smudged = _Draft(**fields)
        check_smudging(smudged)
        fields["scale"] = largest_scale(smudged)
        return Parameters(**fields)
