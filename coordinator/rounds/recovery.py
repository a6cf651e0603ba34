"""From c0 and the holders' answers to the mean on disk: block by block, in an executor (``docs/protocol.md``, 6.5)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import BinaryIO, Final, Protocol

import numpy as np
import numpy.typing as npt

from coordinator.contracts import BlobStore
from coordinator.rounds.mean_file import SumFile, sum_on_disk
from he.ciphertext import half_chunk_bytes
from he.errors import FaultyShareError, HEError
from he.parameters import Parameters
from he.recover import open_block
from secagg.ids import HolderId
from secagg.plan import RoundPlan
from secagg.roles.coordinator.events import OpeningFailed, SumOpened

BLOCK_CHUNKS: Final = 16
Floats = npt.NDArray[np.float64]
Residues = npt.NDArray[np.uint32]


class SumOfHalves(Protocol):
    """The sum of all c0."""

    def block(self, start: int, stop: int) -> Residues:
        """Return its chunks start to stop (exclusive), reduced: uint32 (stop - start, L, N)."""


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
    """One attempt at opening a sum. Memory: a block of the sum and of each answer, whatever the length of the vector.

    Args:
        plan: the round.
        total: the sum of all c0.
        answers: of at least t distinct holders of the round's group.
    """

    def __init__(self, plan: RoundPlan, total: SumOfHalves, answers: tuple[SpooledAnswer, ...]) -> None:
        self._plan = plan
        self._parameters: Parameters = plan.parameters
        self._total = total
        self._answers = answers
        self._liars: list[int] = []

    def open(self, blobs: BlobStore) -> SumOpened | OpeningFailed:
        """Open the sum and write the mean; blocks for as long as it takes."""
        spec, round = self._plan.spec, self._plan.round
        try:
            with sum_on_disk(blobs, spec.job, round) as opened:
                for values in self._vector(blobs):
                    opened.append(values)
                return self._published(opened)
        except _UnopenedError as error:
            return OpeningFailed(
                reason=error.reason,
                can_wait=error.can_wait,
                liars=self._names(self._liars),
                suspects=self._names(error.suspects),
            )

    def _published(self, opened: SumFile) -> SumOpened:
        try:
            total_weight, digest, size = opened.write_mean(self._plan.spec, self._plan.round)
        except HEError as error:
            raise _UnopenedError(str(error), suspects=(), can_wait=False) from error
        return SumOpened(total_weight=total_weight, mean_digest=digest, mean_bytes=size, liars=self._names(self._liars))

    def _names(self, numbers: list[int] | tuple[int, ...]) -> tuple[HolderId, ...]:
        return tuple(self._plan.ckks.group.holders[number - 1] for number in sorted(set(numbers)))

    def _vector(self, blobs: BlobStore) -> Iterator[Floats]:
        """Yield the opened sum in blocks, without the padding of the last chunk."""
        parameters = self._parameters
        with ExitStack() as stack:
            files = {
                self._plan.ckks.group.index(answer.holder): stack.enter_context(blobs.open(answer.blob))
                for answer in self._answers
            }
            for start in range(0, parameters.chunks, BLOCK_CHUNKS):
                stop = min(start + BLOCK_CHUNKS, parameters.chunks)
                yield self._block(start, stop, files)[: parameters.values - start * parameters.chunk_values]

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
