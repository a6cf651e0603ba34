"""SEAL's negacyclic NTT modulo one prime as two matrix products, exact in float64 (BLAS).

The transform of length N = rows·columns mixes rows, multiplies by twiddles and mixes columns.
Operands are integers held in float64; one that is too wide for a product is split into two limbs
of 14 bits, and the matrix of its high limb carries the factor 2^14. Output order is SEAL's:
position i holds the value at psi^(2·bitreverse(i)+1), psi the smallest primitive 2N-th root of
unity.

Bounds, for a prime p below 2^28 and at most 128 rows or columns: matrices are centred, at most
2^27; limbs at most 2^14; so a product of both limbs is below 2 · 128 · 2^14 · 2^27 = 2^49, and
one with unsplit operands up to `SMALL` below 128 · 2^16 · 2^27 = 2^50. All are below 2^53: exact.

Source: docs/protocol.md, section "Parameters" (DESIGN 4.1); `benchmarks/` holds the measurement.
"""

import math
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Residues = npt.NDArray[np.uint32]

SMALL: Final = 1 << 16
"""Largest magnitude that `Transform.forward_small` takes."""

LIMB: Final = 1 << 14
_ROUNDER: Final = 1.5 * 2.0**52 * LIMB  # x + _ROUNDER rounds x to a multiple of LIMB
_LINE_BYTES: Final = 64
_ONE_PRODUCT_LIMIT: Final = 1 << 27  # centred factors below this have products below 2^53


def aligned(*shape: int) -> Floats:
    """Uninitialised memory on a cache line: vector loads across lines cost half of the speed."""
    size = math.prod(shape) * np.dtype(np.float64).itemsize
    raw = np.empty(size + _LINE_BYTES, dtype=np.uint8)
    start = -raw.ctypes.data % _LINE_BYTES
    return raw[start : start + size].view(np.float64).reshape(shape)


class Workspace:
    """Scratch memory for batches of k polynomials; of one thread at a time."""

    def __init__(self, chunks: int, degree: int) -> None:
        """Reserve four arrays float64 (chunks, degree), of which two are the limbs."""
        self.limbs: Floats = aligned(2, chunks, degree)
        self.low: Floats = self.limbs[1]
        self.scratch: Floats = aligned(chunks, degree)
        self.mixed: Floats = aligned(chunks, degree)


class Modulus:
    """Arithmetic modulo a prime below 2^28 on integers in float64. Centred: |x| <= p/2 + 4."""

    def __init__(self, prime: int) -> None:
        """Prepare for one prime."""
        self.prime = prime
        self._inverse = 1.0 / prime
        self._high = float(round(prime / LIMB) * LIMB)
        self._low = prime - self._high

    def centred(self, integers: npt.NDArray[np.integer]) -> Integers:
        """Representatives in [-p/2, p/2], int64, of any integers."""
        reduced = integers.astype(np.int64) % self.prime
        centred: Integers = reduced - self.prime * (reduced > self.prime // 2)
        return centred

    def centred_power(self, base: int, exponent: int) -> int:
        """Representative in [-p/2, p/2] of base^exponent; a negative exponent inverts."""
        power = pow(base, exponent, self.prime)
        return power - self.prime * (power > self.prime // 2)

    def centre(self, x: Floats, scratch: Floats) -> Floats:
        """Reduce |x| < 2^53 in place. The quotient's rounding moves the result by |x|·2^-52, at most."""
        np.multiply(x, self._inverse, out=scratch)
        np.rint(scratch, out=scratch)
        scratch *= self.prime
        x -= scratch
        return x

    def factors(self, residues: npt.NDArray[np.integer], chunks: int) -> tuple[Floats, ...]:
        """Prepare constant factors (N,) for `multiply`, repeated for a batch: numpy broadcasts at half the speed."""
        centred = self.centred(residues).astype(np.float64)
        high = (centred + _ROUNDER) - _ROUNDER
        parts = (centred,) if self.prime < _ONE_PRODUCT_LIMIT else (centred * self._inverse, high, centred - high)
        repeated = tuple(aligned(chunks, len(centred)) for _ in parts)
        for target, part in zip(repeated, parts, strict=True):
            target[:] = part
        return repeated

    def multiply(self, x: Floats, factors: tuple[Floats, ...], out: Floats, scratch: Floats) -> Floats:
        """Centred product of a centred `x`, which is spoiled, and `factors`.

        Below 2^27 the product is below 2^53. For a prime of 28 bits it is not: quotient and
        remainder are taken limb by limb. x·high and q·p_high are multiples of 2^14 below 2^55,
        x·low and q·p_low are below 2^42, their differences smaller still: all exact.
        """
        if len(factors) == 1:
            return self.centre(np.multiply(x, factors[0][: len(x)], out=out), scratch)
        ratio, high, low = (factor[: len(x)] for factor in factors)
        quotient = np.rint(np.multiply(x, ratio, out=scratch), out=scratch)
        np.multiply(x, high, out=out)
        x *= low
        out -= quotient * self._high
        quotient *= self._low
        x -= quotient
        out += x
        return out

    def canonical(self, x: Floats, scratch: Floats, out: Residues) -> None:
        """Centred (k, N) to [0, p), uint32, by way of `scratch`, as large as `x`."""
        words, length = scratch.view(np.int32), x.shape[-1]
        signed, raised = words[..., :length], words[..., length:]
        np.copyto(signed, x, casting="unsafe")
        np.add(signed, np.int32(self.prime), out=raised)
        # a negative number is huge as uint32, until the prime is added
        np.minimum(signed.view(np.uint32), raised.view(np.uint32), out=out)


class Transform:
    """Both directions of the NTT modulo one prime, on float64 batches of shape (k, N).

    Results stand in the workspace's `mixed`, not reduced. An argument may be the workspace's `low`
    limb, which is spoiled, and limbs may be its `limbs`; none of its other arrays.
    """

    def __init__(self, degree: int, prime: int, chunks: int) -> None:
        """Tabulate for batches of up to `chunks`: `degree` N a power of two up to 2^14, prime 1 modulo 2N, < 2^28."""
        self._rows = 1 << (degree.bit_length() - 1) // 2
        self._columns = degree // self._rows
        self.modulus = Modulus(prime)
        self.root = smallest_root(degree, prime)
        powers = powers_of(self.root, 2 * degree, prime)
        self._by_row, twiddles, by_column = self._matrices(powers)
        self._row_matrices = self.scaled_rows(1)
        self._column_matrices = self._halves(by_column)
        self._twiddles = self.modulus.factors(twiddles.reshape(-1), chunks)

        by_row, twiddles, by_column = self._matrices(powers[-np.arange(2 * degree)])
        self._inverse_row_matrices = self._halves(by_row.T * pow(degree, -1, prime) % prime)
        self._inverse_column_matrices = self._halves(by_column.T)
        self._inverse_twiddles = self.modulus.factors(twiddles.reshape(-1), chunks)

    def scaled_rows(self, constant: int) -> Floats:
        """Matrices for `forward_limbs` that multiply by a constant on the way."""
        return self._halves(self._by_row * (constant % self.modulus.prime) % self.modulus.prime)

    def forward_small(self, x: Floats, work: Workspace) -> Floats:
        """Evaluations, below 2^50, of integers |x| <= SMALL."""
        np.matmul(self._row_matrices[1], self._grid(x), out=self._grid(work.mixed[: len(x)]))
        return self._finish_forward(len(x), work)

    def forward(self, x: Floats, work: Workspace) -> Floats:
        """Evaluations, below 2^50, of integers |x| <= 2^28."""
        return self.forward_limbs(split(x, work.limbs[:, : len(x)]), work, self._row_matrices)

    def forward_limbs(self, limbs: Floats, work: Workspace, row_matrices: Floats) -> Floats:
        """As `forward`, of limbs (2, k, N), times the constant of `scaled_rows`, which made the matrices."""
        count = limbs.shape[1]
        self._mix_rows(limbs, row_matrices, work.mixed[:count], work.scratch[:count])
        return self._finish_forward(count, work)

    def inverse(self, x: Floats, work: Workspace) -> Floats:
        """Coefficients, below 2^50, of evaluations |x| <= 2^28."""
        limbs, mixed, scratch = work.limbs[:, : len(x)], work.mixed[: len(x)], work.scratch[: len(x)]
        self._mix_columns(split(x, limbs), self._inverse_column_matrices, mixed, scratch)
        self._twiddle(self.modulus.centre(mixed, scratch), self._inverse_twiddles, limbs, scratch)
        return self._mix_rows(limbs, self._inverse_row_matrices, mixed, scratch)

    def _finish_forward(self, count: int, work: Workspace) -> Floats:
        limbs, mixed, scratch = work.limbs[:, :count], work.mixed[:count], work.scratch[:count]
        self._twiddle(self.modulus.centre(mixed, scratch), self._twiddles, limbs, scratch)
        return self._mix_columns(limbs, self._column_matrices, mixed, scratch)

    def _twiddle(self, x: Floats, factors: tuple[Floats, ...], limbs: Floats, scratch: Floats) -> None:
        """Centred `x`, which is spoiled, times twiddles, split."""
        split(self.modulus.multiply(x, factors, limbs[1], scratch), limbs)

    def _mix_rows(self, limbs: Floats, matrices: Floats, out: Floats, scratch: Floats) -> Floats:
        np.matmul(matrices[0], self._grid(limbs[0]), out=self._grid(out))
        np.matmul(matrices[1], self._grid(limbs[1]), out=self._grid(scratch))
        out += scratch
        return out

    def _mix_columns(self, limbs: Floats, matrices: Floats, out: Floats, scratch: Floats) -> Floats:
        np.matmul(self._grid(limbs[0]), matrices[0], out=self._grid(out))
        np.matmul(self._grid(limbs[1]), matrices[1], out=self._grid(scratch))
        out += scratch
        return out

    def _grid(self, x: Floats) -> Floats:
        """View (k, N) as (k, rows, columns)."""
        return x.reshape(len(x), self._rows, self._columns)

    def _halves(self, matrix: Integers) -> Floats:
        """Matrices of the high and of the low limb, (2, r, c). The high limb itself carries the factor 2^14."""
        halves: Floats = aligned(2, *matrix.shape)
        halves[0] = self.modulus.centred(matrix * LIMB) / LIMB
        halves[1] = self.modulus.centred(matrix)
        return halves

    def _matrices(self, powers: Integers) -> tuple[Integers, Integers, Integers]:
        """Row matrix (r, r), twiddles (r, c), column matrix (c, c), in bit-reversed order."""
        order = len(powers)
        odd = 2 * bit_reversal(self._rows)[:, None] + 1
        columns = np.arange(self._columns)
        by_row = powers[odd * self._columns * np.arange(self._rows) % order]
        twiddles = powers[odd * columns % order]
        reversed_columns = bit_reversal(self._columns)
        by_column = powers[columns[:, None] * 2 * self._rows * reversed_columns % order]
        return by_row, twiddles, by_column


def split(x: Floats, limbs: Floats) -> Floats:
    """Split integers |x| <= 2^28, (k, N), into limbs (2, k, N), whose sum they are.

    The high limb is a multiple of 2^14, the low one at most 2^13. `x` may be the low limb's memory.
    """
    high, low = limbs
    np.add(x, _ROUNDER, out=high)
    high -= _ROUNDER
    np.subtract(x, high, out=low)
    return limbs


def powers_of(root: int, count: int, prime: int) -> Integers:
    """int64 (count or more,): powers of `root` modulo `prime`, from the zeroth."""
    powers = np.ones(1, dtype=np.int64)
    while len(powers) < count:
        powers = np.concatenate([powers, powers * pow(root, len(powers), prime) % prime])
    return powers


def bit_reversal(length: int) -> Integers:
    """int64 (length,): position i holds i with its log2(length) bits reversed."""
    order = np.zeros(1, dtype=np.int64)
    while len(order) < length:
        order = np.concatenate([2 * order, 2 * order + 1])
    return order


def smallest_root(degree: int, prime: int) -> int:
    """Return the smallest primitive 2N-th root of unity, the one that SEAL's NTT uses."""
    root = next(
        candidate
        for base in range(2, prime)
        if pow(candidate := pow(base, (prime - 1) // (2 * degree), prime), degree, prime) == prime - 1
    )
    odd_powers = powers_of(root, 2 * degree, prime)[1::2]
    return int(odd_powers.min())
