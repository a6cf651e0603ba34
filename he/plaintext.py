"""Encodings, real coefficients about as wide as Q, as residues in float64.

A coefficient is rounded to M·2^s with an integer |M| < 2^78, where 2^s is 1 or 2 for ckks-4096:
finer than float64's own 53 bits. M = high·2^26 + low has |high| <= 2^52 and |low| <= 2^25.
"""

import math
from typing import Final

import numpy as np

from he.ntt import Floats, Modulus
from he.parameters import Parameters

_MANTISSA_BITS: Final = 78
_LOW_BITS: Final = 26


class PlaintextReducer:
    """Rounds the encodings of one set of parameters, and reduces them modulo one prime after another."""

    def __init__(self, parameters: Parameters) -> None:
        """Fix the unit in which coefficients are rounded."""
        # the bound of a coefficient, with a bit for the slack of the clip bound and of rounding
        bits = math.frexp(parameters.slot_bound * parameters.scale)[1] + 1
        self._shift = max(0, bits - _MANTISSA_BITS)
        self._moduli = {prime: Modulus(prime) for prime in parameters.data_primes}

    def round(self, coefficients: Floats) -> tuple[Floats, Floats]:
        """Split the rounded coefficients (k, N), which are spoiled, into high and low."""
        coefficients *= 2.0**-self._shift
        np.rint(coefficients, out=coefficients)
        high = np.rint(coefficients * 2.0**-_LOW_BITS)
        # what rint leaves fits float64's mantissa, however large the whole
        coefficients -= high * 2.0**_LOW_BITS
        return high, coefficients

    def reduce(self, rounded: tuple[Floats, Floats], prime: int, out: Floats, scratch: Floats) -> Floats:
        """Centred residues (k, N) modulo a data prime, in `out`.

        Centred high and 2^26 mod p are below 2^26, so are low and 2^s mod p: both products are
        at most 2^52, their sum is exact.
        """
        high, low = rounded
        modulus = self._moduli[prime]
        np.copyto(out, high)
        modulus.centre(out, scratch)
        out *= modulus.centred_power(2, self._shift + _LOW_BITS)
        np.multiply(low, modulus.centred_power(2, self._shift), out=scratch)
        out += scratch
        return modulus.centre(out, scratch)
