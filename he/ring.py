"""Residue arithmetic modulo several primes: canonical uint32 in, canonical uint32 out.

Source: docs/protocol.md, section "Parameters" (DESIGN 4.1); `he.ntt` is the transform.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from he.ntt import Floats, Residues, Transform, Workspace
from he.parameters import Parameters

__all__ = ["Floats", "Residues", "Ring", "batch_chunks", "key_ring_for", "ring_for"]

# of float64 coefficients: most of it stays inside the L2 cache, and threads wait less for the interpreter's lock
_BATCH_BYTES = 1 << 18


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
        self.transforms = tuple(Transform(degree, prime, batch_chunks(degree)) for prime in primes)

    def forward(self, a: Residues) -> Residues:
        """Coefficients (..., L, N) to evaluations in SEAL's order."""
        return self._apply(a, [transform.forward for transform in self.transforms])

    def inverse(self, a: Residues) -> Residues:
        """Turn evaluations (..., L, N) in SEAL's order back into coefficients."""
        return self._apply(a, [transform.inverse for transform in self.transforms])

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

    def _apply(self, a: Residues, steps: Sequence[Callable[[Floats, Workspace], Floats]]) -> Residues:
        self._check(a)
        flat = a.reshape(-1, len(self.primes), self.degree)
        out = np.empty(flat.shape, dtype=np.uint32)
        batch = batch_chunks(self.degree)
        work = Workspace(min(batch, len(flat)), self.degree)
        for start in range(0, len(flat), batch):
            for index, (step, transform) in enumerate(zip(steps, self.transforms, strict=True)):
                target = out[start : start + batch, index]
                source, scratch = work.low[: len(target)], work.scratch[: len(target)]
                np.copyto(source, flat[start : start + batch, index])
                raw, modulus = step(source, work), transform.modulus
                modulus.canonical(modulus.centre(raw, scratch), scratch, target)
        return out.reshape(a.shape)

    def _check(self, a: Residues) -> None:
        if a.dtype != np.uint32 or a.shape[-2:] != (len(self.primes), self.degree):
            expected = f"uint32 (..., {len(self.primes)}, {self.degree})"
            raise ValueError(f"expected {expected}, not {a.dtype} {a.shape}")


def batch_chunks(degree: int) -> int:
    """Polynomials to work on at a time."""
    return max(1, _BATCH_BYTES // (8 * degree))


@lru_cache(maxsize=16)
def _ring(degree: int, primes: tuple[int, ...]) -> Ring:
    return Ring(degree, primes)


def ring_for(parameters: Parameters) -> Ring:
    """Return the ring of ciphertexts: the data primes."""
    return _ring(parameters.degree, parameters.data_primes)


def key_ring_for(parameters: Parameters) -> Ring:
    """Return the ring of keys: the data primes and the special prime."""
    return _ring(parameters.degree, parameters.key_primes)
