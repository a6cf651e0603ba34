"""What encodings round off, and how much of it an opening shows.

Who composes the answers to whole integers sees the sum of the clients' encodings, and noise. An
opening tells the sum alone only if that sum follows from the sum of the values. It does where each
client rounds its values to a grid: from there on all is linear in whole numbers. A slot packing
rounds the embedding of each client's vector to float64, which depends on that vector alone; what is
rounded off shows as far as smudging does not hide it.

Source: docs/protocol.md, sections 7 and 7.2; docs/adr/0015-values-in-coefficients.md.
"""

import math
from typing import TYPE_CHECKING, Final

from he.errors import ParameterError

if TYPE_CHECKING:
    from he.parameters import Parameters

VALUE_BITS: Final = 40
"""A value at clip is 2^40 steps of the grid, or up to half of that less: 16 bits beyond float32's
own 24, and the sum of 2^13 clients is still a float64."""

DISTANCE_FACTOR: Final = 0.55
"""Total variation of one shifted sum of four uniform words, for each deviation of the shift."""

MIN_ENCODING_BITS: Final = 20
"""Plans whose encodings would show within less than 2^-20 are refused."""

_FLOAT_UNIT: Final = 2.0**-53
_EMBEDDING_UNITS: Final = 4.0
"""Euclidean norm of what float64 rounds off one chunk, in units of 2^-53 · largest slot · scale: up
to 2.3 was measured, in our encoder and in SEAL's, with N = 4096 and 8192; it grows as sqrt(log N)."""


def grid_bits(parameters: "Parameters") -> int:
    """Return g: in packing "coefficients" values are rounded to multiples of 2^-g.

    The finest that keeps |value|·2^g within 2^40 for every value within clip, and the scale a multiple of 2^g.
    """
    fraction, exponent = math.frexp(parameters.clip)
    clip_bits = exponent - (fraction == 0.5)  # clip <= 2^clip_bits, the least such
    scale_bits = math.frexp(parameters.scale)[1] - 1
    return min(scale_bits, VALUE_BITS - clip_bits)


def grid_deviation(parameters: "Parameters", contributors: int) -> float:
    """Return the deviation, at most, that the grid gives one value of a sum: half a step for each contributor."""
    if parameters.packing != "coefficients":
        return 0.0
    return math.sqrt(contributors) * math.ldexp(0.5, -grid_bits(parameters))


def encoding_distance(parameters: "Parameters") -> float:
    """Return how far what encodings round off moves an opening, at most, in total variation.

    Two ways in which max_clients may make up one sum differ by twice as many encodings. What each of
    them rounds off is, over all chunks, a vector of the norm given above, times sqrt(chunks).
    """
    if parameters.packing == "coefficients":
        return 0.0
    chunk = _EMBEDDING_UNITS * _FLOAT_UNIT * parameters.entry_bound * parameters.scale
    shift = 2 * parameters.max_clients * math.sqrt(parameters.chunks) * chunk
    return DISTANCE_FACTOR * shift / parameters.smudging_deviation


def check_encoding(parameters: "Parameters") -> None:
    """Raise `ParameterError` where what encodings round off would lie open."""
    distance = encoding_distance(parameters)
    if distance > 2.0**-MIN_ENCODING_BITS:
        raise ParameterError(
            f"packing is {parameters.packing!r}, with which an opening of {parameters.name} shows how the values of"
            f" single clients were rounded (smudging hides that by less than {MIN_ENCODING_BITS} bits):"
            " take packing coefficients"
        )
