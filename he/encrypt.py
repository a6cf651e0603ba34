"""Encrypting one vector, block by block, under the collective key.

Source: docs/protocol.md, section 7.2; docs/adr/0014-our-own-encryptor.md.
"""

import struct
from collections.abc import Iterable, Iterator
from mmap import mmap
from typing import Any, Final, NoReturn, Protocol, SupportsIndex

import numpy as np
import numpy.typing as npt

from he.ciphertext import Ciphertext
from he.errors import HEError, UpdateError
from he.numpy_engine import NumpyEngine
from he.parameters import Parameters
from he.public_key import PublicKey
from he.ring import Floats, Residues
from he.sampling import derive

ENGINES: Final = ("numpy", "tenseal")
"""Who encrypts: our own arithmetic, or TenSEAL, the reference. Their ciphertexts add up."""

BLOCK_CHUNKS: Final = 16
"""Chunks of one block, the unit of work of a thread: 1.6 MB of ciphertext with ckks-4096."""

SEED_BYTES: Final = 32

_CLIP_SLACK: Final = 1 + 1e-9


class Engine(Protocol):
    """What encrypts a few full chunks."""

    def encrypt(self, values: Floats, key: bytes) -> tuple[Residues, Residues]:
        """Encrypt float64 (k, chunk_values) to (c0, c1), each uint32 (k, L, N); `key` is drawn for it alone."""


class Encryptor:
    """Encrypts one vector of `parameters.values` entries within the clip bound, every block once.

    All randomness of our own engine comes from the seed: with a second vector under it, the
    difference of the two would lie open. So an encryptor is neither copied nor pickled, and what a
    forked process has encrypted is spent in all. TenSEAL draws its own and does not use the seed.
    """

    def __init__(self, public_key: PublicKey, *, engine: str = "numpy", seed: bytes) -> None:
        """Load the key into the engine; `seed` is 32 bytes of fresh randomness for this vector.

        Raises `HEError` when SEAL refuses the key, or where an opening would show more than the sum
        (`Parameters.verify_encoding`), `ValueError` on another engine or a short seed.
        """
        public_key.parameters.verify_encoding()
        if len(seed) != SEED_BYTES:
            raise ValueError(f"a seed has {SEED_BYTES} bytes, not {len(seed)}")
        self.parameters: Parameters = public_key.parameters
        self._engine = _engine(engine, public_key)
        self._seed = seed
        self._fresh = set(range(self.blocks))
        # anonymous memory that processes forked from this one share: a byte for each block
        self._spent = mmap(-1, self.blocks)

    def __reduce_ex__(self, protocol: SupportsIndex, /) -> NoReturn:
        """Refuse `copy`, `deepcopy` and `pickle`."""
        raise TypeError(
            "an encryptor is not copied: a second vector under its seed would show the difference of the two"
        )

    @property
    def blocks(self) -> int:
        """Blocks that the vector takes, each of `BLOCK_CHUNKS` chunks but the last."""
        return -(-self.parameters.chunks // BLOCK_CHUNKS)

    def block_bounds(self, index: int) -> tuple[int, int]:
        """First chunk of a block and the one behind its last. Raises `IndexError`."""
        if not 0 <= index < self.blocks:
            raise IndexError(f"no block {index} of {self.blocks}")
        start = index * BLOCK_CHUNKS
        return start, min(start + BLOCK_CHUNKS, self.parameters.chunks)

    def encrypt(self, vector: npt.ArrayLike) -> Ciphertext:
        """Encrypt real numbers (values,), an array or a list, as a whole; see `encrypt_blocks`."""
        shape = (self.parameters.chunks, len(self.parameters.data_primes), self.parameters.degree)
        c0, c1 = np.empty(shape, dtype=np.uint32), np.empty(shape, dtype=np.uint32)
        for index, halves in enumerate(self.encrypt_blocks(vector)):
            chunks = slice(*self.block_bounds(index))
            c0[chunks], c1[chunks] = halves
        return Ciphertext(self.parameters, c0, c1)

    def encrypt_blocks(self, vector: npt.ArrayLike) -> Iterator[tuple[Residues, Residues]]:
        """Yield (c0, c1), each uint32 (k, L, N), for each block; one at a time in memory.

        The last chunk is filled with zeros. Raises, before the first block, `UpdateError` on
        another length, on entries beyond the clip bound and on NaN, and `HEError` when this
        encryptor was used before.
        """
        numbers = np.asarray(vector)
        self._verify_shape(numbers)
        self._verify_range(numbers)
        self._use(range(self.blocks))
        return (self._encrypt(numbers, index) for index in range(self.blocks))

    def encrypt_block(self, vector: npt.NDArray[Any], index: int) -> tuple[Residues, Residues]:
        """Encrypt block `index` of `vector` (values,), as `encrypt_blocks` would.

        The result depends on seed, vector and index alone; several threads may work on as many
        blocks. Raises as `encrypt_blocks` does, the entries of this block being looked at.
        """
        self._verify_shape(vector)
        self._verify_range(vector[self._values_of(index)])
        self._use([index])
        return self._encrypt(vector, index)

    def _encrypt(self, vector: npt.NDArray[Any], index: int) -> tuple[Residues, Residues]:
        first, last = self.block_bounds(index)
        values = np.ascontiguousarray(vector[self._values_of(index)], dtype=np.float64)
        missing = (last - first) * self.parameters.chunk_values - len(values)
        if missing:
            values = np.pad(values, (0, missing))
        key = derive(self._seed, b"he encryption block v1", struct.pack("<I", index))
        return self._engine.encrypt(values.reshape(last - first, -1), key)

    def _values_of(self, index: int) -> slice:
        first, last = self.block_bounds(index)
        return slice(first * self.parameters.chunk_values, last * self.parameters.chunk_values)

    def _use(self, indices: Iterable[int]) -> None:
        """Mark blocks as encrypted, which they are once at most."""
        for index in indices:
            try:
                # one step for the interpreter: of two threads, one finds the block
                self._fresh.remove(index)
            except KeyError:
                self._refuse()
            # two processes at the very same moment miss each other: a guard against mistakes, for nothing of ours forks
            if self._spent[index]:
                self._refuse()
            self._spent[index] = 1

    @staticmethod
    def _refuse() -> NoReturn:
        raise HEError("this encryptor has encrypted its vector: every vector takes a fresh seed") from None

    def _verify_shape(self, vector: npt.NDArray[Any]) -> None:
        if vector.dtype.kind not in "fiu":
            raise UpdateError(f"vector of {vector.dtype}: pass real numbers")
        if vector.shape != (self.parameters.values,):
            raise UpdateError(f"vector of shape {vector.shape}; the plan has {self.parameters.values} values")

    def _verify_range(self, entries: npt.NDArray[Any]) -> None:
        bound = self.parameters.clip * _CLIP_SLACK
        # as Python's floats: numpy would round the bound to the type of the entries; NaN fails both comparisons
        if not (float(entries.max()) <= bound and float(entries.min()) >= -bound):
            raise UpdateError(f"an entry is not within the clip bound {self.parameters.clip:g}: clip the update first")


def _engine(name: str, public_key: PublicKey) -> Engine:
    if name not in ENGINES:
        raise ValueError(f"engine is {name!r}, must be one of {', '.join(ENGINES)}")
    if name == "numpy":
        return NumpyEngine(public_key)
    from he.tenseal_engine import TenSealEngine  # noqa: PLC0415 - a native library that few processes need

    return TenSealEngine(public_key)
