"""From opened residues to numbers: CRT composition and CKKS's canonical embedding.

Slot i is the polynomial's value at zeta^(3^i), zeta = exp(i·pi/N): SEAL's order of slots.
Source: docs/protocol.md, section "Opening"; Cheon et al. 2017, section 3.2.
"""

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from he.parameters import Parameters
from he.ring import Floats, Residues, ring_for

_GENERATOR = 3
_BATCH_CHUNKS = 16


def coefficients(parameters: Parameters, opened: Residues) -> Floats:
    """Centred integer coefficients, as float64 (k, N), of NTT residues uint32 (k, L, N).

    Exact below 2^52; above, off by a few units in the last place at most.
    """
    residues = ring_for(parameters).inverse(opened)
    out = np.empty((len(residues), parameters.degree))
    for start in range(0, len(residues), _BATCH_CHUNKS):
        block = residues[start : start + _BATCH_CHUNKS]
        out[start : start + _BATCH_CHUNKS] = _compose(block, parameters.data_primes)
    return out


def slots(parameters: Parameters, coefficients: Floats) -> Floats:
    """Values float64 (k, N/2) of the real parts of all slots, in the units of the vector."""
    twist, positions, _ = _embedding(parameters.degree)
    out = np.empty((len(coefficients), parameters.slots))
    for start in range(0, len(coefficients), _BATCH_CHUNKS):
        twisted = coefficients[start : start + _BATCH_CHUNKS] * twist
        # the forward norm leaves numpy's inverse transform without its 1/N
        values = np.fft.ifft(twisted, axis=-1, norm="forward")
        out[start : start + _BATCH_CHUNKS] = values.real[:, positions]
    out /= parameters.scale
    return out


def encode(parameters: Parameters, values: Floats) -> Floats:
    """Coefficients float64 (k, N), scaled but not rounded, of real slot values (k, N/2)."""
    twist, positions, mirrored = _embedding(parameters.degree)
    spectrum = np.empty((len(values), parameters.degree))
    spectrum[:, positions] = values
    spectrum[:, mirrored] = values
    twisted = np.fft.fft(spectrum, axis=-1, norm="forward")
    result: Floats = (twisted * twist.conj()).real * parameters.scale
    return result


def _compose(residues: Residues, primes: tuple[int, ...]) -> Floats:
    """Garner's mixed radix with centred digits: float64 (k, N) from (k, L, N).

    Centred digits keep small values small: no large terms cancel, so float64 sums are accurate.
    """
    digits: list[Floats] = []
    total = np.zeros(residues.shape[:1] + residues.shape[2:])
    weight = 1
    for index, prime in enumerate(primes):
        digit = _centre(residues[:, index].astype(np.float64), prime)
        for earlier, known in zip(primes[:index], digits, strict=True):
            inverse = pow(earlier, -1, prime)
            inverse -= prime if inverse > prime // 2 else 0
            # both factors are below 2^27 and 2^26: the product is exact
            digit = _centre((digit - known) * inverse, prime)
        digits.append(digit)
        total += digit * float(weight)
        weight *= prime
    return total


def _centre(x: Floats, prime: int) -> Floats:
    result: Floats = x - np.rint(x / prime) * prime
    return result


@lru_cache(maxsize=8)
def _embedding(degree: int) -> tuple[npt.NDArray[np.complex128], npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Twist zeta^j (N,), FFT positions of the slots and of their conjugates (N/2,)."""
    twist = np.exp(1j * np.pi * np.arange(degree) / degree)
    exponents = np.ones(degree // 2, dtype=np.intp)
    for index in range(1, degree // 2):
        exponents[index] = exponents[index - 1] * _GENERATOR % (2 * degree)
    return twist, (exponents - 1) // 2, (2 * degree - exponents - 1) // 2
