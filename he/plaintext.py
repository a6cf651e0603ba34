"""Encodings, whole coefficients about as wide as Q, as residues in float64.

On the grid a coefficient is q·2^s with |q| <= 2^40: exact, and linear in q, so that a sum of
encodings is the encoding of the sum. A coefficient of an embedding is rounded to M·2^s with |M| < 2^78, where 2^s is
1 or 2 for ckks-4096: finer than float64's own 53 bits. M = high·2^26 + low has |high| <= 2^52, |low| <= 2^25.
"""

import math
from typing import Final, Protocol

import numpy as np

from he.decode import embed
from he.ntt import Floats, Modulus
from he.parameters import Parameters

_MANTISSA_BITS: Final = 78
_LOW_BITS: Final = 26

Parts = tuple[Floats, ...]


class Encoder(Protocol):
    """Encodes values once, and reduces them modulo one prime after another."""

    def parts(self, values: Floats) -> Parts:
        """Integers float64 (k, N) each that make up the encoding of values (k, chunk_values), which are left alone."""

    def reduce(self, parts: Parts, prime: int, out: Floats, scratch: Floats) -> Floats:
        """Centred residues (k, N) modulo a data prime, in `out`."""


class GridEncoder:
    """Values in coefficients: value j of a chunk is coefficient j."""

    def __init__(self, parameters: Parameters) -> None:
        """Fix the grid."""
        self._steps = math.ldexp(1.0, parameters.grid_bits)
        self._shift = math.frexp(parameters.scale)[1] - 1 - parameters.grid_bits
        self._moduli = {prime: Modulus(prime) for prime in parameters.data_primes}

    def parts(self, values: Floats) -> Parts:
        """Round to the grid: |q| <= 2^40, and the billionth that a client may exceed the clip bound by."""
        steps = values * self._steps
        return (np.rint(steps, out=steps),)

    def reduce(self, parts: Parts, prime: int, out: Floats, scratch: Floats) -> Floats:
        """Centred residues (k, N) of q·2^s, in `out`.

        Centred q and 2^s mod p are at most 2^26 + 4 and 2^26: their product is below 2^53, exact.
        """
        modulus = self._moduli[prime]
        np.copyto(out, parts[0])
        modulus.centre(out, scratch)
        out *= modulus.centred_power(2, self._shift)
        return modulus.centre(out, scratch)


class PlaintextReducer:
    """Values in slots: rounds the embeddings of one set of parameters, and reduces them modulo each prime."""

    def __init__(self, parameters: Parameters) -> None:
        """Fix the unit in which coefficients are rounded."""
        self._parameters = parameters
        # the bound of a coefficient, with a bit for the slack of the clip bound and of rounding
        bits = math.frexp(parameters.entry_bound * parameters.scale)[1] + 1
        self._shift = max(0, bits - _MANTISSA_BITS)
        self._moduli = {prime: Modulus(prime) for prime in parameters.data_primes}

    def parts(self, values: Floats) -> Parts:
        """Encode and round: high and low of `round`."""
        return self.round(embed(self._parameters, values))

    def round(self, coefficients: Floats) -> tuple[Floats, Floats]:
        """Split the rounded coefficients (k, N), which are spoiled, into high and low."""
        coefficients *= 2.0**-self._shift
        np.rint(coefficients, out=coefficients)
        high = coefficients * 2.0**-_LOW_BITS
        np.rint(high, out=high)
        # powers of two are exact, and what rint leaves fits float64's mantissa, however large the whole
        high *= 2.0**_LOW_BITS
        coefficients -= high
        high *= 2.0**-_LOW_BITS
        return high, coefficients

    def reduce(self, parts: Parts, prime: int, out: Floats, scratch: Floats) -> Floats:
        """Centred residues (k, N) modulo a data prime, in `out`.

        Centred high and 2^26 mod p are below 2^26, so are low and 2^s mod p: both products are
        at most 2^52, their sum is exact.
        """
        high, low = parts
        modulus = self._moduli[prime]
        np.copyto(out, high)
        modulus.centre(out, scratch)
        out *= modulus.centred_power(2, self._shift + _LOW_BITS)
        np.multiply(low, modulus.centred_power(2, self._shift), out=scratch)
        out += scratch
        return modulus.centre(out, scratch)


def encoder_for(parameters: Parameters) -> Encoder:
    """Return the encoder of a packing."""
    return GridEncoder(parameters) if parameters.packing == "coefficients" else PlaintextReducer(parameters)
