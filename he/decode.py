"""From opened residues to numbers: CRT composition, and values in coefficients or, by CKKS's canonical embedding, in slots.

Slot i is the polynomial's value at zeta^(3^i), zeta = exp(i·pi/N): SEAL's order of slots.
Source: docs/protocol.md, section 7.1; Cheon et al. 2017, section 3.2.
"""

from dataclasses import dataclass
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


def decode(parameters: Parameters, coefficients: Floats) -> Floats:
    """Values float64 (k, chunk_values), in the units of the vector, of coefficients (k, N)."""
    if parameters.packing == "coefficients":
        # a power of two: nothing is rounded
        return coefficients / parameters.scale
    return slots(parameters, coefficients)


def slots(parameters: Parameters, coefficients: Floats) -> Floats:
    """Values of a slot packing, float64 (k, chunk_values), of coefficients (k, N).

    Real packing reads the real part of every slot; complex packing the real part of slot j as
    value 2j and its imaginary part as value 2j + 1.
    """
    embedding = _embedding(parameters.degree)
    out = np.empty((len(coefficients), parameters.chunk_values))
    half = parameters.slots
    for start in range(0, len(coefficients), _BATCH_CHUNKS):
        block = coefficients[start : start + _BATCH_CHUNKS]
        folded = np.empty((len(block), half), dtype=np.complex128)
        folded.real, folded.imag = block[:, :half], block[:, half:]
        folded *= embedding.twist / parameters.scale
        # the forward norm leaves numpy's inverse transform without its 2/N
        values = np.take(np.fft.ifft(folded, axis=-1, norm="forward"), embedding.point_of_slot, axis=-1)
        if parameters.packing == "complex":
            values.imag *= embedding.sign_of_slot
            out[start : start + _BATCH_CHUNKS] = values.view(np.float64)
        else:
            out[start : start + _BATCH_CHUNKS] = values.real
    return out


def embed(parameters: Parameters, values: Floats) -> Floats:
    """Coefficients float64 (k, N), scaled but not rounded, of values (k, chunk_values) in slots; see `slots`."""
    embedding = _embedding(parameters.degree)
    if parameters.packing == "complex":
        points = np.take(values.view(np.complex128), embedding.slot_of_point, axis=-1)
        points.imag *= embedding.sign_of_point
    else:
        points = np.take(values, embedding.slot_of_point, axis=-1).astype(np.complex128)
    folded = np.fft.fft(points, axis=-1, norm="forward")
    del points  # as large as what is made of it
    folded *= embedding.twist.conj() * parameters.scale
    return np.concatenate([folded.real, folded.imag], axis=-1)


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


@dataclass(frozen=True, kw_only=True, eq=False)
class _Embedding:
    """The permutation between slots and the points of an FFT of half the degree.

    Point k is the value at zeta^(4k+1). The exponent of slot j is 3^j, or, where that is 3 modulo
    4, minus it: the slot is then the conjugate of its point, and its sign -1. With N/2 points,
    zeta^(4k+1) to the power N/2 is i: coefficients n and n + N/2 fold into one complex number.
    """

    twist: npt.NDArray[np.complex128]
    point_of_slot: npt.NDArray[np.intp]
    slot_of_point: npt.NDArray[np.intp]
    sign_of_slot: Floats
    sign_of_point: Floats


@lru_cache(maxsize=8)
def _embedding(degree: int) -> _Embedding:
    half = degree // 2
    exponents = np.array([pow(_GENERATOR, slot, 2 * degree) for slot in range(half)], dtype=np.intp)
    mirrored = exponents % 4 == 3
    point_of_slot = np.where(mirrored, 2 * degree - exponents, exponents) // 4
    slot_of_point = np.argsort(point_of_slot)
    sign_of_slot = np.where(mirrored, -1.0, 1.0)
    return _Embedding(
        twist=np.exp(1j * np.pi * np.arange(half) / degree),
        point_of_slot=point_of_slot,
        slot_of_point=slot_of_point,
        sign_of_slot=sign_of_slot,
        sign_of_point=sign_of_slot[slot_of_point],
    )
