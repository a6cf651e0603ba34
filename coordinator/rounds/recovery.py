"""From c0 and the holders' answers to the mean on disk: block by block, in an executor (``docs/protocol.md``, 6.5)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import BinaryIO, Final

import numpy as np
import numpy.typing as npt

from coordinator.contracts import BlobStore
from he.accumulate import ResidueAccumulator
from he.ciphertext import half_chunk_bytes
from he.errors import FaultyShareError, HEError
from he.packing import unpack_mean
from he.parameters import Parameters
from he.recover import open_block
from secagg.ids import Digest, HolderId
from secagg.plan import JobSpec, RoundPlan
from secagg.roles.coordinator.events import OpeningFailed, SumOpened

BLOCK_CHUNKS: Final = 16
_PART_BYTES: Final = 1024 * 1024
Floats = npt.NDArray[np.float64]
Residues = npt.NDArray[np.uint32]


@dataclass(frozen=True, kw_only=True)
class SpooledAnswer:
    """A holder's partial decryption on disk: all chunks of uint32 (L, N), little-endian."""

    holder: HolderId
    blob: str


class _UnopenedError(Exception):
    """The answers that are left do not open the sum."""

    def __init__(self, reason: str, *, suspects: tuple[int, ...], can_wait: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.suspects = suspects
        self.can_wait = can_wait


class SumRecovery:
    """One attempt at opening a sum. Memory: one vector of float64 and a block of each answer.

    Args:
        plan: the round.
        total: the sum of all c0.
        answers: of at least t distinct holders of the round's group.
    """

    def __init__(self, plan: RoundPlan, total: ResidueAccumulator, answers: tuple[SpooledAnswer, ...]) -> None:
        self._plan = plan
        self._parameters: Parameters = plan.parameters
        self._total = total
        self._answers = answers
        self._liars: list[int] = []

    def open(self, blobs: BlobStore, mean_blob: str) -> SumOpened | OpeningFailed:
        """Open the sum and write the mean; blocks for as long as it takes."""
        try:
            vector = self._vector(blobs)
            mean, total_weight = _mean(self._plan.spec, vector)
        except _UnopenedError as error:
            return OpeningFailed(
                reason=error.reason,
                can_wait=error.can_wait,
                liars=self._names(self._liars),
                suspects=self._names(error.suspects),
            )
        digest, size = write_mean(blobs, mean_blob, self._plan.spec, mean)
        return SumOpened(total_weight=total_weight, mean_digest=digest, mean_bytes=size, liars=self._names(self._liars))

    def _names(self, numbers: list[int] | tuple[int, ...]) -> tuple[HolderId, ...]:
        return tuple(self._plan.ckks.group.holders[number - 1] for number in sorted(set(numbers)))

    def _vector(self, blobs: BlobStore) -> Floats:
        parameters = self._parameters
        out = np.empty(parameters.chunks * parameters.slots)
        with ExitStack() as stack:
            files = {
                self._plan.ckks.group.index(answer.holder): stack.enter_context(blobs.open(answer.blob))
                for answer in self._answers
            }
            for start in range(0, parameters.chunks, BLOCK_CHUNKS):
                stop = min(start + BLOCK_CHUNKS, parameters.chunks)
                opened = self._block(start, stop, files)
                out[start * parameters.slots : stop * parameters.slots] = opened
        return out[: parameters.values]

    def _block(self, start: int, stop: int, files: dict[int, BinaryIO]) -> Floats:
        """Open chunks ``start`` to ``stop``, leaving named liars out from here on."""
        c0 = self._total.block(start, stop)
        blocks = {number: _read_block(file, self._parameters, start, stop) for number, file in files.items()}
        while True:
            try:
                return open_block(self._parameters, c0, blocks)
            except FaultyShareError as error:
                self._drop(error, files, blocks)
            except HEError as error:
                raise _UnopenedError(str(error), suspects=(), can_wait=False) from error

    def _drop(self, error: FaultyShareError, files: dict[int, BinaryIO], blocks: dict[int, Residues]) -> None:
        if not error.certain:
            raise _UnopenedError(str(error), suspects=error.holders, can_wait=True) from error
        self._liars.extend(error.holders)
        if len(blocks) - len(error.holders) < self._parameters.threshold:
            raise _UnopenedError(str(error), suspects=(), can_wait=True) from error
        for number in error.holders:
            del files[number]
            del blocks[number]


def _read_block(file: BinaryIO, parameters: Parameters, start: int, stop: int) -> Residues:
    size = half_chunk_bytes(parameters)
    file.seek(start * size)
    data = file.read((stop - start) * size)
    shape = (stop - start, len(parameters.data_primes), parameters.degree)
    return np.frombuffer(data, dtype="<u4").reshape(shape).astype(np.uint32, copy=False)


def _mean(spec: JobSpec, vector: Floats) -> tuple[dict[str, npt.NDArray[np.generic]], float]:
    try:
        return unpack_mean(vector, spec.layout, spec.clip, spec.max_weight)
    except HEError as error:
        raise _UnopenedError(str(error), suspects=(), can_wait=False) from error


def write_mean(
    blobs: BlobStore, name: str, spec: JobSpec, mean: Mapping[str, npt.NDArray[np.generic]]
) -> tuple[Digest, int]:
    """Write every tensor in the order of the plan, little-endian in its own dtype; return SHA-256 and bytes."""
    hashed = hashlib.sha256()

    def parts() -> Iterator[bytes]:
        for tensor in spec.tensors:
            array = np.ascontiguousarray(mean[tensor.name])
            flat = array.astype(array.dtype.newbyteorder("<"), copy=False).reshape(-1).view(np.uint8)
            for start in range(0, flat.size, _PART_BYTES):
                part = flat[start : start + _PART_BYTES].tobytes()
                hashed.update(part)
                yield part

    size = blobs.write(name, parts())
    return Digest(hashed.digest()), size
