"""Shamir sharing of ring elements, residue by residue, and the Reed-Solomon view of its answers.

Shares of one polynomial of degree t-1 are words of a Reed-Solomon code. Everything here is an
exact linear map over arrays of shape (k, L, N), uint32, canonical: L primes, k chunks. Points are
holder numbers, 1 or more; zero, where the secret is, is never a holder.

Source: Shamir 1979; McEliece and Sarwate 1981; docs/protocol.md, section "Opening the sum".
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import combinations
from typing import Final

import numpy as np
import numpy.typing as npt

Residues = npt.NDArray[np.uint32]
Floats = npt.NDArray[np.float64]

_HALF_BITS: Final = 14


def lagrange_at(points: Sequence[int], at: int, prime: int) -> tuple[int, ...]:
    """Weights w modulo `prime` with sum w[i]·f(points[i]) = f(at), for deg f < len(points).

    Raises `ValueError` when points repeat or fall outside 1..prime-1.
    """
    _check_points(points, prime)
    weights = []
    for point in points:
        others = [other for other in points if other != point]
        numerator = _product([at - other for other in others], prime)
        denominator = _product([point - other for other in others], prime)
        weights.append(numerator * pow(denominator, -1, prime) % prime)
    return tuple(weights)


def evaluate(polynomial: Residues, point: int, primes: Sequence[int]) -> Residues:
    """Value at `point` of a polynomial over the ring: (t, L, N), constant first, to (L, N)."""
    _check_points([point], min(primes))
    column = np.array(primes, dtype=np.uint64)[:, None]
    value = np.zeros(polynomial.shape[1:], dtype=np.uint64)
    for coefficient in polynomial[::-1]:
        value *= np.uint64(point)
        value += coefficient
        value %= column
    return value.astype(np.uint32)


def value_at_zero(
    answers: Mapping[int, Residues], threshold: int, primes: Sequence[int]
) -> tuple[Residues, npt.NDArray[np.bool_]]:
    """Interpolate holders' answers, each (k, L, N), at zero, and check that they agree.

    Returns the value (k, L, N) that the `threshold` lowest points give, and for every chunk
    whether all answers lie on one polynomial of degree below `threshold`, bool (k,): trivially
    true for exactly `threshold` answers.
    """
    points = sorted(answers)
    _check_enough(points, threshold)
    combination = _opening(tuple(points), threshold, tuple(primes))
    first = answers[points[0]]
    value = np.empty_like(first)
    agree = np.empty(len(first), dtype=np.bool_)
    for chunk in range(len(first)):
        rows = combination([answers[point][chunk] for point in points])
        value[chunk] = rows[0]
        agree[chunk] = not rows[1:].any()
    return value, agree


def agreeing_chunks(answers: Mapping[int, Residues], threshold: int, primes: Sequence[int]) -> npt.NDArray[np.bool_]:
    """Tell for every chunk whether the answers (k, L, N) are one codeword; bool (k,)."""
    return value_at_zero(answers, threshold, primes)[1]


def locate(answers: Mapping[int, Residues], threshold: int, primes: Sequence[int]) -> tuple[int, ...]:
    """Name the fewest holders without whom the answers (k, L, N) agree; () if none or beyond reach.

    Decodes up to floor((m - threshold)/2) wrong answers of m. Within that number the result is
    unique: two explanations share `threshold` untouched answers, hence one polynomial. Every
    residue is compared exactly, without random projection.
    """
    points = sorted(answers)
    _check_enough(points, threshold)
    reach = (len(points) - threshold) // 2
    for count in range(reach + 1):
        for liars in combinations(points, count):
            others = {point: answers[point] for point in points if point not in liars}
            if _all_agree(others, threshold, primes):
                return liars
    return ()


def _all_agree(answers: Mapping[int, Residues], threshold: int, primes: Sequence[int]) -> bool:
    """As `agreeing_chunks(...).all()`, but a wrong guess is over after its first wrong chunk."""
    chunks = len(next(iter(answers.values())))
    return all(
        agreeing_chunks(
            {point: block[chunk : chunk + 1] for point, block in answers.items()},
            threshold,
            primes,
        ).all()
        for chunk in range(chunks)
    )


@lru_cache(maxsize=256)
def _opening(points: tuple[int, ...], threshold: int, primes: tuple[int, ...]) -> "_Combination":
    return _Combination([_opening_rows(points, threshold, prime) for prime in primes], primes)


def _opening_rows(points: Sequence[int], threshold: int, prime: int) -> list[list[int]]:
    """Weights of the value at zero, then the parity checks of the code."""
    opening = [*lagrange_at(points[:threshold], 0, prime)] + [0] * (len(points) - threshold)
    return [opening, *_parity_checks(points, threshold, prime)]


def _parity_checks(points: Sequence[int], threshold: int, prime: int) -> list[list[int]]:
    """The dual code's basis v_i·x_i^r, r < m - threshold, with v_i = 1/prod (x_i - x_k)."""
    dual = [pow(_product([point - other for other in points if other != point], prime), -1, prime) for point in points]
    return [
        [weight * pow(point, power, prime) % prime for weight, point in zip(dual, points, strict=True)]
        for power in range(len(points) - threshold)
    ]


class _Combination:
    """r linear combinations of m arrays (L, N), with constants of their own for each prime.

    Constants are centred and split into halves of 14 bits: products with residues below 2^28,
    summed over at most 9 holders, stay below 2^46, so float64 matrix products are exact.
    """

    def __init__(self, matrices: Sequence[Sequence[Sequence[int]]], primes: Sequence[int]) -> None:
        self._primes = primes
        self._halves = [
            split_constants(np.array(matrix, dtype=np.int64), prime)
            for matrix, prime in zip(matrices, primes, strict=True)
        ]

    def __call__(self, arrays: Sequence[Residues]) -> Residues:
        """Combine m arrays (L, N) into (r, L, N)."""
        rows = len(self._halves[0]) // 2
        out = np.empty((rows, *arrays[0].shape), dtype=np.uint32)
        operand = np.empty((len(arrays), arrays[0].shape[-1]), dtype=np.float64)
        for index, (halves, prime) in enumerate(zip(self._halves, self._primes, strict=True)):
            for row, array in zip(operand, arrays, strict=True):
                row[:] = array[index]
            product = halves @ operand
            out[:, index] = join_product(product[:rows], product[rows:], prime)
        return out


def split_constants(matrix: npt.NDArray[np.int64], prime: int) -> Floats:
    """Stack the high and the low halves of centred constants below 2^28: (r, m) to (2r, m)."""
    centred = matrix - prime * (matrix > prime // 2)
    high = (centred + (1 << (_HALF_BITS - 1))) >> _HALF_BITS
    return np.concatenate([high, centred - (high << _HALF_BITS)]).astype(np.float64)


def join_product(high: Floats, low: Floats, prime: int) -> Residues:
    """Residues, uint32, of high·2^14 + low, both integers below 2^53; spoils `high`."""
    _centre(high, prime)
    high *= 1 << _HALF_BITS
    high += low
    _centre(high, prime)
    signed = high.astype(np.int32).view(np.uint32)
    # a negative number is huge as uint32, until the prime is added
    residues: Residues = np.minimum(signed, signed + np.uint32(prime))
    return residues


def _centre(values: Floats, prime: int) -> None:
    """Reduce float64 integers to [-prime/2, prime/2], in place."""
    quotient = values * (1 / prime)
    np.rint(quotient, out=quotient)
    quotient *= prime
    values -= quotient


def _check_points(points: Sequence[int], prime: int) -> None:
    if len(set(points)) != len(points) or not all(0 < point < prime for point in points):
        message = f"points must be distinct and from 1 to {prime - 1}, not {tuple(points)}"
        raise ValueError(message)


def _check_enough(points: Sequence[int], threshold: int) -> None:
    if len(points) < threshold:
        message = f"{len(points)} answers cannot open what takes {threshold}"
        raise ValueError(message)


def _product(factors: Sequence[int], prime: int) -> int:
    product = 1
    for factor in factors:
        product = product * factor % prime
    return product
