"""Which of many Shamir shares are wrong: Berlekamp–Welch decoding over GF(2^31 - 1).

m shares of one secret with threshold t lie on a polynomial of degree t - 1, but for the wrong ones. Of up to
floor((m - t)/2) wrong ones each is found. Source: Welch and Berlekamp, US patent 4,633,470 (1986); Gemmell and Sudan 1992.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from secagg.masking.shamir import PRIME
from secagg.masking.stream import Words

_P: Final = np.uint64(PRIME)
Residues = npt.NDArray[np.uint64]


def fitting_shares(points: Words, values: Words, threshold: int) -> npt.NDArray[np.bool_] | None:
    """Return shares that lie on the one polynomial that most of them lie on, or None where there is no such polynomial.

    Args:
        points: uint32 (m,), distinct, from 1 to p - 1.
        values: uint32 (m,), below p: one residue of each share.
        threshold: t.

    Returns:
        bool (m,). Where no more than floor((m - t)/2) values are wrong: t or more right ones, and none of the wrong.
    """
    errors = (len(points) - threshold) // 2
    if errors < 0:
        return None
    # Q(x) = y·E(x) at every point, E monic of degree `errors`, Q of degree below t + errors: linear in their coefficients.
    x, y = points.astype(np.uint64), values.astype(np.uint64)
    powers = _powers(x, threshold + errors)
    located = powers[:, :errors] * y[:, None] % _P
    right = _power(x, errors) * y % _P
    solution = _solved(np.hstack([powers, _P - located]), right)
    if solution is None:
        return None
    locator = np.append(solution[threshold + errors :], np.uint64(1))
    fits: npt.NDArray[np.bool_] = _evaluated(locator, x) != 0
    return fits


def _powers(x: Residues, count: int) -> Residues:
    columns = np.ones((len(x), count), dtype=np.uint64)
    for power in range(1, count):
        columns[:, power] = columns[:, power - 1] * x % _P
    return columns


def _power(x: Residues, exponent: int) -> Residues:
    return _powers(x, exponent + 1)[:, exponent]


def _evaluated(coefficients: Residues, x: Residues) -> Residues:
    values = np.zeros(len(x), dtype=np.uint64)
    for coefficient in coefficients[::-1]:
        values = (values * x + coefficient) % _P
    return values


def _solved(matrix: Residues, right: Residues) -> Residues | None:
    """Return a solution of matrix · z = right modulo p, free unknowns 0; None where there is none. Gauss and Jordan, row by row."""
    rows = np.hstack([matrix, right[:, None]]) % _P
    unknowns = matrix.shape[1]
    pivots: list[int] = []
    for column in range(unknowns):
        top = len(pivots)
        below = np.flatnonzero(rows[top:, column])
        if len(below) == 0:
            continue
        rows[[top, top + below[0]]] = rows[[top + below[0], top]]
        rows[top] = rows[top] * np.uint64(pow(int(rows[top, column]), PRIME - 2, PRIME)) % _P
        factors = rows[:, column].copy()
        factors[top] = 0
        rows = (rows + (_P - factors)[:, None] * rows[top]) % _P
        pivots.append(column)
        if len(pivots) == len(rows):
            break
    if np.any(rows[len(pivots) :, unknowns]):
        return None
    solution = np.zeros(unknowns, dtype=np.uint64)
    solution[pivots] = rows[: len(pivots), unknowns]
    return solution
