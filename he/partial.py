"""A holder's answer: its share of the sum's decryption, smudged, and nothing that was not asked for.

Source: docs/protocol.md, section "Opening the sum" (DESIGN 4.4).
"""

import struct
from dataclasses import dataclass
from typing import Final, Self

import numpy as np

from he.ciphertext import Ciphertext, verify_half
from he.errors import CiphertextError, FormatError
from he.key_share import KEY_ID_BYTES, KeyShare, check_holder
from he.parameters import Parameters
from he.residues import Residues, residues_from_bytes, residues_to_bytes
from he.ring import ring_for
from he.smudging import Smudger

_MAGIC: Final = b"HEP1"
_HEADER: Final = struct.Struct(f"<4sBB{KEY_ID_BYTES}s")  # magic, holder, threshold, key id
_BATCH_CHUNKS: Final = 4  # with ckks-4096 every array of a batch stays below 200 KB


@dataclass(frozen=True, kw_only=True, eq=False)
class Partial:
    """The answer of `holder` (1..n) for a whole vector: uint32 (chunks, L, N), NTT form. Public."""

    parameters: Parameters
    holder: int
    threshold: int
    key_id: bytes
    values: Residues

    def to_bytes(self) -> bytes:
        """Encode canonically: equal answers are equal bytes."""
        header = _HEADER.pack(_MAGIC, self.holder, self.threshold, self.key_id)
        return header + residues_to_bytes(self.values)

    @classmethod
    def from_bytes(cls, parameters: Parameters, data: bytes) -> Self:
        """Decode what `to_bytes` made under the same parameters. Raises `FormatError`."""
        if len(data) < _HEADER.size:
            raise FormatError("an answer is longer than this")
        magic, holder, threshold, key_id = _HEADER.unpack_from(data)
        if magic != _MAGIC or threshold != parameters.threshold:
            raise FormatError("these bytes are not an answer under these parameters")
        check_holder(parameters, holder)
        values = residues_from_bytes(
            memoryview(data)[_HEADER.size :],
            parameters.data_primes,
            parameters.chunks,
            degree=parameters.degree,
        )
        return cls(
            parameters=parameters,
            holder=holder,
            threshold=threshold,
            key_id=key_id,
            values=values,
        )


def partially_decrypt(share: KeyShare, total: Ciphertext) -> Partial:
    """Answer for the whole sum. Raises `CiphertextError` as `answer_block` does.

    A second call gives the very same bytes.
    """
    if total.parameters != share.parameters:
        raise CiphertextError("the sum was made under other parameters than the key share")
    return Partial(
        parameters=share.parameters,
        holder=share.holder,
        threshold=share.parameters.threshold,
        key_id=share.key_id,
        values=answer_block(share, total.c1),
    )


def answer_block(share: KeyShare, c1_block: Residues) -> Residues:
    """d_j = c1·S_j + sum f_A(j)·r_A for every chunk of c1: uint32 (k, L, N) to (k, L, N).

    Raises `CiphertextError` on another shape or dtype, on residues that are not canonical, and
    on a zero polynomial. Whether this c1 *may* be answered is for the caller to have decided.
    """
    if c1_block.ndim != 3:
        raise CiphertextError(f"c1 has {c1_block.ndim} dimensions, not (chunks, primes, degree)")
    verify_half(share.parameters, c1_block)
    smudger = Smudger(
        share.parameters,
        holder=share.holder,
        key_id=share.key_id,
        subset_keys=share.smudging_keys,
        primes=share.parameters.data_primes,
    )
    ring = ring_for(share.parameters)
    answer = np.empty_like(c1_block)
    for start in range(0, len(c1_block), _BATCH_CHUNKS):
        batch = c1_block[start : start + _BATCH_CHUNKS]
        noise = ring.forward(smudger.noise(batch))
        answer[start : start + _BATCH_CHUNKS] = ring.add(ring.multiply(batch, share.secret), noise)
    return answer
