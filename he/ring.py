"""Residue arithmetic and SEAL's negacyclic NTT in numpy.

The transform of length N = rows·columns is a matrix product, a twiddle product and a second
matrix product. Constant matrices are split into halves of 14 bits, so that float64 (BLAS)
products of residues below 2^28 stay below 2^53 and are exact. Output order is SEAL's: position i
holds the value at psi^(2·bitreverse(i)+1), psi the smallest primitive 2N-th root of unity.

Source: docs/protocol.md, section "Parameters" (DESIGN 4.1); `benchmarks/` holds the measurement.
"""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from he.parameters import Parameters

Residues = npt.NDArray[np.uint32]
Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_HALF_BITS = 14
_ONE_PRODUCT_LIMIT = 1 << 27  # centred factors below this have products below 2^53
_BATCH_BYTES = 1 << 17  # of float64 coefficients: with both halves this stays inside the L2 cache


class Ring:
    """Arithmetic modulo several primes on arrays of shape (..., len(primes), N), uint32.

    Every argument holds canonical residues in [0, p); every result is a new canonical array.
    Raises `ValueError` on another shape or dtype: a programming error, never a peer's bytes.
    """

    def __init__(self, degree: int, primes: tuple[int, ...]) -> None:
        """Tabulate the transforms: `degree` N a power of two, each prime 1 modulo 2N, < 2^28."""
        self.degree = degree
        self.primes = primes
        self._column = np.array(primes, dtype=np.uint32)[:, None]
        self._transforms = tuple(_Transform(degree, prime) for prime in primes)

    def forward(self, a: Residues) -> Residues:
        """Coefficients (..., L, N) to evaluations in SEAL's order."""
        return self._apply(a, [transform.forward for transform in self._transforms])

    def inverse(self, a: Residues) -> Residues:
        """Turn evaluations (..., L, N) in SEAL's order back into coefficients."""
        return self._apply(a, [transform.inverse for transform in self._transforms])

    def multiply(self, a: Residues, b: Residues) -> Residues:
        """Product position by position; in NTT form that of polynomials. Shapes broadcast."""
        self._check(a)
        self._check(b)
        product = np.empty(np.broadcast_shapes(a.shape, b.shape), dtype=np.uint32)
        for index, prime in enumerate(self.primes):
            wide = np.multiply(a[..., index, :], b[..., index, :], dtype=np.uint64)
            # a scalar divisor: numpy divides by it with multiplications
            wide -= wide // np.uint64(prime) * np.uint64(prime)
            product[..., index, :] = wide
        return product

    def add(self, a: Residues, b: Residues) -> Residues:
        """Sum modulo each prime. Shapes broadcast."""
        self._check(a)
        self._check(b)
        total: Residues = a + b  # below 2^29
        # wraps to a huge number where the sum is already reduced
        reduced: Residues = np.minimum(total, total - self._column)
        return reduced

    def subtract(self, a: Residues, b: Residues) -> Residues:
        """Difference modulo each prime. Shapes broadcast."""
        self._check(a)
        self._check(b)
        difference: Residues = a - b
        reduced: Residues = np.minimum(difference, difference + self._column)
        return reduced

    def negate(self, a: Residues) -> Residues:
        """Negative modulo each prime."""
        return self.subtract(np.zeros_like(a), a)

    def reduce(self, a: npt.NDArray[np.integer]) -> Residues:
        """Canonical residues (..., L, N) of integers (..., N) of any integer dtype."""
        wide = a.astype(np.uint64 if a.dtype == np.uint64 else np.int64, copy=False)
        out = np.empty((*a.shape[:-1], len(self.primes), self.degree), dtype=np.uint32)
        for index, prime in enumerate(self.primes):
            out[..., index, :] = np.mod(wide, wide.dtype.type(prime))
        return out

    def _apply(self, a: Residues, steps: list[Callable[[Floats], Floats]]) -> Residues:
        self._check(a)
        flat = a.reshape(-1, len(self.primes), self.degree)
        out = np.empty(flat.shape, dtype=np.uint32)
        batch = max(1, _BATCH_BYTES // (8 * self.degree))
        for index, step in enumerate(steps):
            for start in range(0, len(flat), batch):
                block = flat[start : start + batch, index].astype(np.float64)
                out[start : start + batch, index] = step(block)
        return out.reshape(a.shape)

    def _check(self, a: Residues) -> None:
        if a.dtype != np.uint32 or a.shape[-2:] != (len(self.primes), self.degree):
            expected = f"uint32 (..., {len(self.primes)}, {self.degree})"
            raise ValueError(f"expected {expected}, not {a.dtype} {a.shape}")


class _Transform:
    """Both directions of the NTT modulo one prime, on float64 batches of shape (k, N)."""

    def __init__(self, degree: int, prime: int) -> None:
        self._rows = 1 << (degree.bit_length() - 1) // 2
        self._columns = degree // self._rows
        self._reducer = _Reducer(prime)
        powers = _powers(smallest_root(degree, prime), 2 * degree, prime)
        by_row, twiddles, by_column = self._matrices(powers)
        self._row_step = self._reducer.halve(by_row, axis=0)
        self._column_step = self._reducer.halve(by_column, axis=1)
        self._twiddles = self._reducer.centred(twiddles).astype(np.float64)

        by_row, twiddles, by_column = self._matrices(powers[-np.arange(2 * degree)])
        scaled = by_row.T * pow(degree, -1, prime) % prime
        self._inverse_row_step = self._reducer.halve(scaled, axis=0)
        self._inverse_column_step = self._reducer.halve(by_column.T, axis=1)
        self._inverse_twiddles = self._reducer.centred(twiddles).astype(np.float64)

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

    def forward(self, a: Floats) -> Floats:
        x = self._mix_rows(self._row_step, a.reshape(-1, self._rows, self._columns))
        x = self._reducer.multiply(x, self._twiddles)
        x = self._mix_columns(x, self._column_step)
        return self._reducer.canonical(x).reshape(a.shape)

    def inverse(self, a: Floats) -> Floats:
        x = self._mix_columns(a.reshape(-1, self._rows, self._columns), self._inverse_column_step)
        x = self._reducer.multiply(x, self._inverse_twiddles)
        x = self._mix_rows(self._inverse_row_step, x)
        return self._reducer.canonical(x).reshape(a.shape)

    def _mix_rows(self, halves: Floats, x: Floats) -> Floats:
        both = np.matmul(halves, x)
        return self._reducer.join(both[:, : self._rows], both[:, self._rows :])

    def _mix_columns(self, x: Floats, halves: Floats) -> Floats:
        both = np.matmul(x.reshape(-1, self._columns), halves)
        joined = self._reducer.join(both[:, : self._columns], both[:, self._columns :])
        return joined.reshape(x.shape)


class _Reducer:
    """Exact arithmetic modulo one prime below 2^28 in float64."""

    def __init__(self, prime: int) -> None:
        self._prime = float(prime)
        self._inverse = 1.0 / prime

    def centred(self, matrix: Integers) -> Integers:
        return matrix - np.where(matrix > self._prime / 2, int(self._prime), 0)

    def halve(self, matrix: Integers, axis: int) -> Floats:
        """Stack high and low halves of the centred residues along `axis`."""
        centred = self.centred(matrix)
        high = (centred + (1 << _HALF_BITS - 1)) >> _HALF_BITS
        stacked = np.concatenate([high, centred - (high << _HALF_BITS)], axis=axis)
        return np.ascontiguousarray(stacked, dtype=np.float64)

    def join(self, high: Floats, low: Floats) -> Floats:
        """high·2^14 + low, reduced to [-p/2, p/2]; consumes both."""
        self._centre(high)
        high *= 1 << _HALF_BITS
        high += low
        return self._centre(high)

    def multiply(self, x: Floats, factors: Floats) -> Floats:
        """Product of two centred arrays; consumes `x`."""
        if self._prime < _ONE_PRODUCT_LIMIT:
            x *= factors
            return self._centre(x)
        high = np.rint(x / (1 << _HALF_BITS))
        low = x - high * (1 << _HALF_BITS)
        return self.join(high * factors, low * factors)

    def canonical(self, x: Floats) -> Floats:
        """[-p/2, p/2] to [0, p), in place."""
        x += (x < 0) * self._prime
        return x

    def _centre(self, x: Floats) -> Floats:
        quotient = x * self._inverse
        np.rint(quotient, out=quotient)
        quotient *= self._prime
        x -= quotient
        return x


def _powers(root: int, count: int, prime: int) -> Integers:
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
    odd_powers = _powers(root, 2 * degree, prime)[1::2]
    return int(odd_powers.min())


@lru_cache(maxsize=16)
def _ring(degree: int, primes: tuple[int, ...]) -> Ring:
    return Ring(degree, primes)


def ring_for(parameters: Parameters) -> Ring:
    """Return the ring of ciphertexts: the data primes."""
    return _ring(parameters.degree, parameters.data_primes)


def key_ring_for(parameters: Parameters) -> Ring:
    """Return the ring of keys: the data primes and the special prime."""
    return _ring(parameters.degree, parameters.key_primes)
