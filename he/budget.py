"""What numbers a set of CKKS parameters may have; what does not fit names the one to change.

Source: docs/protocol.md, section "Parameters" (DESIGN 4.1).
"""

import math
from typing import TYPE_CHECKING, Final, NoReturn

from he.errors import ParameterError
from he.moduli import LARGEST_PRESET

if TYPE_CHECKING:
    from he.parameters import Parameters

PACKINGS: Final = ("coefficients", "complex", "real")
"""Where values stand: one in each coefficient, or two or one in each slot (in real and imaginary part)."""

MAX_SMUDGING_WORD_BITS: Final = 94
"""Two limbs hold the sum of four words of this width exactly."""

MAX_CLIENTS: Final = 1_000_000
MAX_VALUES: Final = 1 << 31
HOLDER_RANGE: Final = (3, 9)

_BUDGET_SHARE: Final = 7 / 8  # of Q/2: the rest makes a random polynomial recognisable
_SCALE_STEPS: Final = {"coefficients": 1, "complex": 16, "real": 1}
"""Scales from one power of two to the next: complex packing would lose up to half of its precision at one step."""


def largest_scale(draft: "Parameters") -> float:
    """Return the largest scale on the packing's steps that leaves room for all clients, and that SEAL encodes."""
    room = _BUDGET_SHARE * draft.data_modulus / 2 - draft.noise_tail
    signal = draft.max_clients * draft.entry_bound
    scale = min(_step_below(room / signal, draft.packing), _largest_encodable_scale(draft)) if room > 0 else 0.0
    if scale < 1:
        _refuse_room(draft)
    return scale


def _step_below(number: float, packing: str) -> float:
    """Return the largest scale on a step, at most `number`: m·2^k with 1 <= m/steps < 2."""
    fraction, exponent = math.frexp(number)
    steps = 2 * _SCALE_STEPS[packing]
    return math.ldexp(math.floor(fraction * steps) / steps, exponent)


def _largest_encodable_scale(parameters: "Parameters") -> float:
    """SEAL encodes neither scales nor coefficients of as many bits as Q, sign included."""
    bits = parameters.data_modulus.bit_length() - 2
    rounding_slack = 1 - 2.0**-30
    return min(2.0**bits, _step_below(2.0**bits / parameters.entry_bound * rounding_slack, parameters.packing))


def _refuse_room(parameters: "Parameters") -> NoReturn:
    larger = "" if parameters.name == LARGEST_PRESET else f", or take {LARGEST_PRESET}"
    raise ParameterError(
        f"{parameters.name} has no room for {parameters.max_clients} clients of clip"
        f" {parameters.clip:g} with {parameters.values} values and smudging of"
        f" {parameters.security_bits} bits: lower max_clients, clip or values{larger}"
    )


def check_room(parameters: "Parameters") -> None:
    """Raise `ParameterError` unless scale and sum fit the data modulus."""
    if not 1 <= parameters.scale <= _largest_encodable_scale(parameters):
        raise ParameterError(f"scale {parameters.scale!r} does not fit below the data modulus")
    steps = _SCALE_STEPS[parameters.packing]
    if _step_below(parameters.scale, parameters.packing) != parameters.scale:
        raise ParameterError(
            f"scale {parameters.scale!r} is not on one of {steps} steps from a power of two to the next"
        )
    if parameters.coefficient_bound > _BUDGET_SHARE * parameters.data_modulus / 2:
        _refuse_room(parameters)


def check_smudging(parameters: "Parameters") -> None:
    """Raise `ParameterError` unless the smudging hides the noise and can be drawn."""
    if parameters.smudging_word_bits > MAX_SMUDGING_WORD_BITS:
        raise ParameterError(
            f"smudging words of {parameters.smudging_word_bits} bits exceed"
            f" {MAX_SMUDGING_WORD_BITS}: lower security_bits, max_clients or values"
        )
    if parameters.smudging_deviation < parameters.required_smudging_deviation * (1 - 1e-9):
        raise ParameterError(
            f"smudging words of {parameters.smudging_word_bits} bits do not hide the noise"
            f" within 2^-{parameters.security_bits}: raise smudging_word_bits"
        )


def check_counts(parameters: "Parameters") -> None:
    """Raise `ParameterError` when a number that is given, not derived, is out of range."""
    fewest, most = HOLDER_RANGE
    _check_range("values", parameters.values, 1, MAX_VALUES)
    _check_range("max_clients", parameters.max_clients, 1, MAX_CLIENTS)
    _check_range("holders", parameters.holders, fewest, most)
    _check_range("threshold", parameters.threshold, 2, parameters.holders)
    _check_range("security_bits", parameters.security_bits, 1, 128)
    if parameters.packing not in PACKINGS:
        raise ParameterError(f"packing is {parameters.packing!r}, must be one of {', '.join(PACKINGS)}")
    if not (math.isfinite(parameters.clip) and 1e-30 < parameters.clip < 1e30):
        raise ParameterError(f"clip is {parameters.clip!r}, must be positive and finite")


def _check_range(name: str, number: int, low: int, high: int) -> None:
    if not low <= number <= high:
        raise ParameterError(f"{name} is {number}, must be from {low} to {high}")
