"""A vector under encryption: two halves of canonical residues, checked before they count."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Self

import numpy as np

from he.errors import CiphertextError, FormatError
from he.parameters import Parameters
from he.ring import Residues
from he.seal_format import SealCiphertext, parms_id, read_ciphertext, write_ciphertext
from he.tenseal_format import VectorBytes, read_vector, write_vector


@dataclass(frozen=True, eq=False)
class Ciphertext:
    """Size-2 CKKS ciphertexts of one vector, all at the data level and at the plan's scale.

    `c0` and `c1` are uint32 (chunks, L, N), NTT form, SEAL's orders of primes and positions.
    Raises `CiphertextError` on another shape or dtype; `verify` judges the residues.
    """

    parameters: Parameters
    c0: Residues
    c1: Residues

    def __post_init__(self) -> None:
        expected = (self.parameters.chunks, *_chunk_shape(self.parameters))
        for half in (self.c0, self.c1):
            if half.shape != expected or half.dtype != np.uint32:
                raise CiphertextError(f"half is {half.dtype} {half.shape}, not uint32 {expected}")

    @property
    def values(self) -> int:
        """Length of the encrypted vector."""
        return self.parameters.values

    def verify(self) -> None:
        """Raise `CiphertextError` unless both halves may count as a contribution."""
        verify_half(self.parameters, self.c0)
        verify_half(self.parameters, self.c1)

    @classmethod
    def from_tenseal(cls, parameters: Parameters, data: bytes) -> Self:
        """Read a serialised `CKKSVector` and verify it.

        Raises `FormatError` on bytes that are no `CKKSVector`, `CiphertextError` on one that
        must not count.
        """
        vector = read_vector(data, max_chunks=parameters.chunks)
        if vector.sizes != _chunk_sizes(parameters) or vector.scale != parameters.scale:
            raise CiphertextError(f"vector is not {parameters.values} values at scale {parameters.scale:g}")
        c0, c1 = (np.empty((parameters.chunks, *_chunk_shape(parameters)), dtype=np.uint32) for _ in range(2))
        for index, chunk in enumerate(vector.ciphertexts):
            c0[index], c1[index] = chunk_from_seal(parameters, chunk)
        return cls(parameters, c0, c1)

    def to_tenseal(self) -> bytes:
        """Serialise as a `CKKSVector` that `tenseal.ckks_vector_from` loads.

        Of values in coefficients TenSEAL adds and decrypts vectors, but what it decodes, slots, has no meaning.
        """
        chunks = tuple(chunk_to_seal(self.parameters, c0, c1) for c0, c1 in zip(self.c0, self.c1, strict=True))
        sizes = _chunk_sizes(self.parameters)
        return write_vector(VectorBytes(sizes=sizes, ciphertexts=chunks, scale=self.parameters.scale))


def chunk_from_seal(parameters: Parameters, data: bytes | memoryview) -> tuple[Residues, Residues]:
    """Halves uint32 (L, N) of one SEAL ciphertext, verified; see `Ciphertext.from_tenseal`."""
    # room for what SEAL itself can make (size 3, key level), so that it is named and not just cut
    read = read_ciphertext(data, max_words=3 * len(parameters.key_primes) * parameters.degree)
    _verify_members(parameters, read)
    if (read.polynomials >= np.array(parameters.data_primes, dtype=np.uint64)[:, None]).any():
        raise CiphertextError("a residue is not below its prime")
    halves = read.polynomials.astype(np.uint32)
    verify_half(parameters, halves)
    return halves[0], halves[1]


def chunk_to_seal(parameters: Parameters, c0: Residues, c1: Residues) -> bytes:
    """SEAL's bytes of one chunk, from halves uint32 (L, N)."""
    return write_ciphertext(
        SealCiphertext(
            parms_id=parms_id(parameters.degree, parameters.data_primes),
            ntt_form=True,
            scale=parameters.scale,
            correction_factor=1,
            polynomials=np.stack([c0, c1]).astype(np.uint64),
        )
    )


def half_chunk_bytes(parameters: Parameters) -> int:
    """Bytes on the wire of one chunk of one half."""
    return 4 * len(parameters.data_primes) * parameters.degree


def chunk_to_bytes(chunk: Residues) -> bytes:
    """Wire form of one chunk of one half (L, N): little-endian uint32 in C order."""
    return chunk.astype("<u4", copy=False).tobytes()


def chunk_from_bytes(parameters: Parameters, data: bytes | memoryview) -> Residues:
    """One chunk of one half, uint32 (L, N), verified; a read-only view of the bytes if it can be.

    Raises `FormatError` on a wrong length, `CiphertextError` on residues that must not count.
    """
    if len(data) != half_chunk_bytes(parameters):
        raise FormatError(f"chunk of {len(data)} bytes, not {half_chunk_bytes(parameters)}")
    chunk = np.frombuffer(data, dtype="<u4").reshape(_chunk_shape(parameters)).astype(np.uint32, copy=False)
    verify_half(parameters, chunk)
    return chunk


def verify_half(parameters: Parameters, half: Residues) -> None:
    """Raise `CiphertextError` unless `half`, uint32 (..., L, N), may count.

    Residues must lie below their primes, and no polynomial may vanish modulo a prime: a zero c1
    is transparent, and neither half of an honest encryption ever has one.
    """
    if half.dtype != np.uint32 or half.shape[-2:] != _chunk_shape(parameters):
        raise CiphertextError(f"half is {half.dtype} {half.shape}, not uint32 (..., {_chunk_shape(parameters)})")
    largest = half.max(axis=-1)
    # 0 wraps to the largest uint32: one comparison for both ends of the range
    if (largest - np.uint32(1) < _limits(parameters.data_primes)).all():
        return
    if largest.all():
        raise CiphertextError("a residue is not below its prime")
    raise CiphertextError("transparent: a polynomial is zero")


@lru_cache(maxsize=16)
def _limits(primes: tuple[int, ...]) -> Residues:
    return np.array(primes, dtype=np.uint32) - np.uint32(1)


def _verify_members(parameters: Parameters, read: SealCiphertext) -> None:
    size, *level = read.polynomials.shape
    if size != 2:
        raise CiphertextError(f"ciphertext of {size} polynomials, not 2")
    if tuple(level) != _chunk_shape(parameters):
        raise CiphertextError(f"ciphertext at level {level}, not {_chunk_shape(parameters)}")
    if read.parms_id != parms_id(parameters.degree, parameters.data_primes):
        raise CiphertextError("ciphertext was made under other encryption parameters")
    if not read.ntt_form or read.correction_factor != 1:
        raise CiphertextError("ciphertext is not in CKKS's NTT form")
    if read.scale != parameters.scale:
        raise CiphertextError(f"ciphertext has scale {read.scale:g}, not {parameters.scale:g}")


def _chunk_shape(parameters: Parameters) -> tuple[int, int]:
    return len(parameters.data_primes), parameters.degree


def _chunk_sizes(parameters: Parameters) -> tuple[int, ...]:
    """Slots in use of each chunk: TenSEAL's notion of a vector's sizes. A value in a coefficient shows in all slots."""
    if parameters.packing == "coefficients":
        return (parameters.slots,) * parameters.chunks
    full = parameters.chunks - 1
    rest = parameters.values - full * parameters.chunk_values
    values_per_slot = parameters.chunk_values // parameters.slots
    return (*[parameters.slots] * full, -(-rest // values_per_slot))
