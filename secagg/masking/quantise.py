"""From real coordinates to integers and back: clip, then round at random, so that the mean of many is right.

A coordinate x in -clip..clip stands at u = (x + clip)/(2·clip)·(2^v - 1) on a grid of 2^v points and goes to the point below
or above u, above with probability u - floor(u) (``docs/protocol.md``, section "Masking").

Source: Bonawitz et al. 2017, section 4, for sums of integers; stochastic rounding as in Suresh et al. 2017, section 2.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from secagg.errors import UsageError

Words = npt.NDArray[np.uint32]
Floats = npt.NDArray[np.float64]
Fixed = npt.NDArray[np.uint64]

_NOISE_BITS: Final = 32
_BLOCK_VALUES: Final = 1 << 15
"""Coordinates that are rounded at a time: what is in between stays in the second-level cache, at less than half the time."""


class Noise(Protocol):
    """What the rounding needs of a mask stream."""

    def words(self, start: int, count: int) -> Words:
        """Return words number ``start`` to ``start + count - 1`` of an endless uniform uint32 stream."""


def quantise(vector: Floats, *, clip: float, value_bits: int, noise: Noise, start: int = 0) -> Words:
    """Round a chunk, float64 (L,), to integers from 0 to 2^value_bits - 1, uint32 (L,).

    Coordinate i takes word ``start + i`` of ``noise``, so chunks give what the whole vector gives. What is beyond ±clip,
    infinity too, is clipped. The result is less than 1 + 2^-20 from u. Its expectation is u but for the grain of the noise,
    which loses less than 2^-32 of a step, and for the float64 arithmetic of u, 2^-50 of clip. ``clip`` and
    ``value_bits`` are those of checked :class:`MaskingParameters`.

    Raises :class:`UsageError` on NaN, and on anything but a float64 vector.
    """
    if vector.dtype != np.float64 or vector.ndim != 1:
        message = f"quantise takes a float64 vector, not {vector.dtype} of shape {vector.shape}"
        raise UsageError(message)
    if np.isnan(vector).any():
        message = f"coordinate {start + int(np.isnan(vector).argmax())} is not a number: check the update for NaN"
        raise UsageError(message)
    values = np.empty(len(vector), dtype=np.uint32)
    scaled = np.empty(min(len(vector), _BLOCK_VALUES))
    fixed = np.empty(len(scaled), dtype=np.uint64)
    for begin in range(0, len(vector), _BLOCK_VALUES):
        part = vector[begin : begin + _BLOCK_VALUES]
        count = len(part)
        steps = _scaled(part, clip, value_bits, scaled[:count], fixed[:count])
        steps += noise.words(start + begin, count)
        steps >>= np.uint64(_NOISE_BITS)
        values[begin : begin + count] = steps
    return values


def _scaled(part: Floats, clip: float, value_bits: int, scaled: Floats, fixed: Fixed) -> Fixed:
    """Return u of each coordinate with 32 bits behind the point, uint64, in ``fixed``."""
    np.clip(part, -clip, clip, out=scaled)
    scaled += clip
    scaled /= 2 * clip
    # Exact: at most 31 bits, shifted. The quotient is 1 or less, so that the sum with the noise stays inside 63 bits.
    scaled *= ((1 << value_bits) - 1) << _NOISE_BITS
    np.copyto(fixed, scaled, casting="unsafe")
    return fixed


def dequantise_sum(total: npt.NDArray[Any], *, contributors: int, clip: float, value_bits: int) -> Floats:
    """Return the sum of what ``contributors`` clients quantised: uint32 or uint64 (L,) to float64 (L,).

    A total above contributors·(2^value_bits - 1), which no honest clients reach, gives a sum beyond contributors·clip.
    Raises :class:`UsageError` on other dtypes, whose values could be negative.
    """
    if total.dtype not in (np.uint32, np.uint64):
        message = f"dequantise_sum takes uint32 or uint64, not {total.dtype}"
        raise UsageError(message)
    levels = (1 << value_bits) - 1
    # Twice the total less the middle is a whole number, exact in float64: one product, one rounding.
    values = total.astype(np.float64)
    values *= 2
    values -= contributors * levels
    values *= clip / levels
    return values
