"""Encrypting a vector chunk by chunk under the collective key."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from he.ciphertext import Ciphertext, chunk_from_seal
from he.errors import UpdateError
from he.parameters import Parameters
from he.public_key import PublicKey
from he.ring import Residues
from he.tenseal_engine import Engine
from he.tenseal_format import read_vector

_CLIP_SLACK = 1 + 1e-9


class Encryptor:
    """Encrypts vectors of `parameters.values` entries within the clip bound."""

    def __init__(self, public_key: PublicKey) -> None:
        """Load the key into TenSEAL (about 0.1 s). Raises `HEError` when SEAL refuses it."""
        self.parameters: Parameters = public_key.parameters
        self._engine = Engine(public_key.to_tenseal())

    def encrypt(self, vector: npt.ArrayLike) -> Ciphertext:
        """Encrypt real numbers (values,), an array or a list, as a whole; see `encrypt_chunks`."""
        shape = (self.parameters.chunks, len(self.parameters.data_primes), self.parameters.degree)
        c0, c1 = np.empty(shape, dtype=np.uint32), np.empty(shape, dtype=np.uint32)
        for index, halves in enumerate(self.encrypt_chunks(vector)):
            c0[index], c1[index] = halves
        return Ciphertext(self.parameters, c0, c1)

    def encrypt_chunks(self, vector: npt.ArrayLike) -> Iterator[tuple[Residues, Residues]]:
        """Yield (c0, c1), each uint32 (L, N), for each chunk of N/2 values; one at a time in memory.

        The last chunk is filled with zeros. Raises `UpdateError`, before the first chunk, on
        another length, on entries beyond the clip bound and on NaN.
        """
        numbers = np.asarray(vector)
        self._verify(numbers)
        return self._chunks(numbers)

    def _chunks(self, vector: npt.NDArray[Any]) -> Iterator[tuple[Residues, Residues]]:
        slots = np.empty(self.parameters.slots, dtype=np.float64)
        for start in range(0, len(vector), len(slots)):
            part = vector[start : start + len(slots)]
            slots[: len(part)] = part
            slots[len(part) :] = 0
            yield self._encrypt_chunk(slots)

    def _encrypt_chunk(self, slots: npt.NDArray[np.float64]) -> tuple[Residues, Residues]:
        chunk = read_vector(self._engine.encrypt(slots), max_chunks=1).ciphertexts[0]
        return chunk_from_seal(self.parameters, chunk)

    def _verify(self, vector: npt.NDArray[Any]) -> None:
        if vector.dtype.kind not in "fiu":
            raise UpdateError(f"vector of {vector.dtype}: pass real numbers")
        if vector.shape != (self.parameters.values,):
            raise UpdateError(f"vector of shape {vector.shape}; the plan has {self.parameters.values} values")
        bound = self.parameters.clip * _CLIP_SLACK
        # NaN fails both comparisons
        if not (vector.max() <= bound and vector.min() >= -bound):
            raise UpdateError(f"an entry is not within the clip bound {self.parameters.clip:g}: clip the update first")
