"""The rings that we use: degrees, SEAL's primes for them, and the 128-bit table.

Source: docs/protocol.md, section "Parameters" (DESIGN 4.1).
"""

import math
from dataclasses import dataclass
from typing import Final

from he.errors import ParameterError

MAX_MODULUS_BITS: Final = {2048: 54, 4096: 109, 8192: 218, 16384: 438}
"""Largest log2 of the key modulus at 128-bit security, ternary secrets.

Source: HomomorphicEncryption.org security standard (2018), table 1.
"""


@dataclass(frozen=True, kw_only=True)
class Moduli:
    """A ring: polynomial degree N and SEAL's primes for it, in SEAL's order."""

    degree: int
    data_primes: tuple[int, ...]
    special_prime: int


PRESET_MODULI: Final = {
    "ckks-4096": Moduli(
        degree=4096,
        data_primes=(134012929, 134111233, 134176769),
        special_prime=268369921,
    ),
    "ckks-8192": Moduli(
        degree=8192,
        data_primes=(132825089, 133251073, 133513217, 133611521, 133644289, 133857281),
        special_prime=268369921,
    ),
}

LARGEST_PRESET: Final = "ckks-8192"


def check_moduli(degree: int, data_primes: tuple[int, ...], special_prime: int) -> None:
    """Raise `ParameterError` unless SEAL and the 128-bit table both accept this ring."""
    if degree not in MAX_MODULUS_BITS:
        raise ParameterError(f"degree is {degree}, must be one of {sorted(MAX_MODULUS_BITS)}")
    primes = (*data_primes, special_prime)
    if not data_primes or len(set(primes)) != len(primes):
        raise ParameterError("primes must be distinct, with at least one for data")
    for prime in data_primes:
        _check_prime(prime, degree, bits=27)
    _check_prime(special_prime, degree, bits=28)
    bits = math.prod(primes).bit_length()
    if bits > MAX_MODULUS_BITS[degree]:
        raise ParameterError(
            f"primes of {bits} bits exceed the {MAX_MODULUS_BITS[degree]} that degree {degree}"
            " allows at 128-bit security: use fewer primes"
        )


def _check_prime(prime: int, degree: int, *, bits: int) -> None:
    if prime >> bits or prime % (2 * degree) != 1 or not _is_prime(prime):
        raise ParameterError(f"{prime} is not a prime below 2^{bits} that is 1 modulo {2 * degree}")


def _is_prime(number: int) -> bool:
    """Miller-Rabin with the bases that decide every number below 2^31."""
    odd, twos = number - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    return all(_passes(number, base, odd, twos) for base in (2, 3, 5, 7))


def _passes(number: int, base: int, odd: int, twos: int) -> bool:
    powers = (pow(base, odd << shift, number) for shift in range(twos))
    return pow(base, odd, number) == 1 or any(power == number - 1 for power in powers)
