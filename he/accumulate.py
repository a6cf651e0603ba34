"""Adding contributions: uint32 sums at memory speed, reduced only when they might overflow.

`merge(a, b)` equals adding one by one, so that sums may be sharded freely. The result is
TenSEAL's own, residue for residue.
"""

from typing import Final, NoReturn, Self

import numpy as np
import numpy.typing as npt

from he.ciphertext import Ciphertext, verify_half
from he.errors import CiphertextError, ParameterError
from he.parameters import Parameters
from he.ring import Residues

_UINT32_MAX: Final = (1 << 32) - 1
_MERGE_CHUNKS: Final = 64


class ResidueAccumulator:
    """Sum of one half (c0 or c1) of the contributions, or of a stretch of it, uint32 (chunks, L, N).

    Chunks may come singly and in any order; every chunk must have been added equally often.
    Not safe for use by several threads: give each its own and `merge`.
    """

    def __init__(self, parameters: Parameters, *, chunks: int | None = None) -> None:
        """Reserve `chunks * half_chunk_bytes(parameters)` bytes, for a stretch of so many chunks or for all of them."""
        self.parameters = parameters
        self.chunks = parameters.chunks if chunks is None else chunks
        self._total = np.zeros((self.chunks, len(parameters.data_primes), parameters.degree), dtype=np.uint32)
        self._contributions = np.zeros(self.chunks, dtype=np.int64)
        # how many canonical residues the uint32 of a chunk may hold by now
        self._load = np.zeros(self.chunks, dtype=np.int64)
        self._capacity = _UINT32_MAX // (max(parameters.data_primes) - 1)

    @property
    def contributions(self) -> int:
        """Contributions in every chunk. Raises `CiphertextError` when some chunks have more."""
        fewest, most = int(self._contributions.min()), int(self._contributions.max())
        if fewest != most:
            raise CiphertextError(f"chunks hold from {fewest} to {most} contributions")
        return most

    @property
    def chunk_contributions(self) -> npt.NDArray[np.int64]:
        """Contributions in each chunk, a new array int64 (chunks,)."""
        return self._contributions.copy()

    def add_chunk(self, index: int, chunk: Residues) -> None:
        """Verify and add one chunk uint32 (L, N) at position `index`; see `add`."""
        if not 0 <= index < self.chunks or chunk.ndim != 2:
            raise CiphertextError(f"no chunk {index} of {chunk.ndim} dimensions here")
        verify_half(self.parameters, chunk)
        if self._contributions[index] >= self.parameters.max_clients:
            self._refuse()
        if self._load[index] >= self._capacity:
            self._reduce(slice(index, index + 1))
        self._contributions[index] += 1
        self._load[index] += 1
        total = self._total[index]
        np.add(total, chunk, out=total)

    def add(self, half: Residues) -> None:
        """Verify and add one half uint32 (chunks, L, N).

        Raises `CiphertextError` if it must not count, `ParameterError` beyond `max_clients`
        contributions. The sum is then as it was.
        """
        if len(half) != self.chunks or half.ndim != 3:
            raise CiphertextError(f"half of shape {half.shape}, not of {self.chunks} chunks")
        verify_half(self.parameters, half)
        self._make_room(np.ones(len(half), dtype=np.int64))
        self._total += half

    def merge(self, other: Self) -> None:
        """Add all that `other` holds; `other` keeps its value."""
        if (other.parameters, other.chunks) != (self.parameters, self.chunks):
            raise ParameterError("sums under different parameters cannot be merged")
        self._make_room(other.chunk_contributions)
        for start in range(0, self.chunks, _MERGE_CHUNKS):
            self._total[start : start + _MERGE_CHUNKS] += other.block(start, start + _MERGE_CHUNKS)

    def block(self, start: int, stop: int) -> Residues:
        """Reduced chunks start to stop (exclusive), a new array uint32 (stop - start, L, N)."""
        self._reduce(slice(start, stop))
        return self._total[start:stop].copy()

    def finish(self) -> Residues:
        """Canonical sum, a new array uint32 (chunks, L, N); the accumulator may go on adding.

        Raises `CiphertextError` when nothing was added or chunks are missing somewhere.
        """
        if self.contributions == 0:
            raise CiphertextError("nothing was added")
        return self.block(0, self.chunks)

    def _make_room(self, contributions: npt.NDArray[np.int64]) -> None:
        """Count `contributions` (chunks,) and leave room for one canonical residue in each chunk."""
        counts = self._contributions + contributions
        if counts.max() > self.parameters.max_clients:
            self._refuse()
        if self._load.max() >= self._capacity:
            self._reduce(slice(None))
        self._contributions = counts
        self._load += 1

    def _refuse(self) -> NoReturn:
        raise ParameterError(f"more than max_clients = {self.parameters.max_clients} contributions")

    def _reduce(self, where: slice) -> None:
        total = self._total[where]
        for index, prime in enumerate(self.parameters.data_primes):
            row = total[:, index]
            row -= row // np.uint32(prime) * np.uint32(prime)
        self._load[where] = np.minimum(self._load[where], 1)


class Accumulator:
    """Sum of whole ciphertexts; see `ResidueAccumulator` for one half of them."""

    def __init__(self, parameters: Parameters) -> None:
        """Reserve two halves of `chunks * half_chunk_bytes(parameters)` bytes."""
        self.parameters = parameters
        self._c0 = ResidueAccumulator(parameters)
        self._c1 = ResidueAccumulator(parameters)

    @property
    def contributions(self) -> int:
        """Number of ciphertexts added so far, merged ones included."""
        return self._c1.contributions

    def add(self, ciphertext: Ciphertext) -> None:
        """Verify and add. Raises `CiphertextError` or `ParameterError`, the sum being as it was."""
        if ciphertext.parameters != self.parameters:
            raise CiphertextError("ciphertext was made under other parameters")
        verify_half(self.parameters, ciphertext.c1)  # before c0 counts
        self._c0.add(ciphertext.c0)
        self._c1.add(ciphertext.c1)

    def merge(self, other: Self) -> None:
        """Add all that `other` holds; `other` keeps its value."""
        self._c0.merge(other.halves[0])
        self._c1.merge(other.halves[1])

    @property
    def halves(self) -> tuple[ResidueAccumulator, ResidueAccumulator]:
        """The accumulators of c0 and c1."""
        return self._c0, self._c1

    def finish(self) -> Ciphertext:
        """Canonical sum of all. Raises `CiphertextError` when nothing was added."""
        return Ciphertext(self.parameters, self._c0.finish(), self._c1.finish())
