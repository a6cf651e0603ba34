"""Ciphertexts that wait on disk, two halves of each client: held against what was signed, and added up.

Everything here blocks; the asyncio side calls it in an executor.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import BinaryIO, Final

import numpy as np

from coordinator.contracts import BlobStore, upload_prefix
from coordinator.streams import MAX_PART_BYTES, Part, Spool, UploadKey
from he.accumulate import ResidueAccumulator
from he.ciphertext import chunk_from_bytes, half_chunk_bytes
from he.errors import HEError
from he.parameters import Parameters
from he.ring import Residues
from secagg.errors import FaultyClientError, StorageError, WrongPhaseError
from secagg.ids import ClientId, Digest, HolderId, JobId, RoundNumber
from secagg.messages.round import Half, Upload
from secagg.transcript import CiphertextRoot

__all__ = ["MAX_PART_BYTES", "UploadKey", "UploadPart", "UploadSpool", "answer_blob", "read_chunks"]

_HALVES: Final = (Half.C0, Half.C1)
_STRETCH_CHUNKS: Final = 64
"""Chunks of the sum that are in memory at a time: 3 MiB with ckks-4096."""


@dataclass(frozen=True, kw_only=True)
class UploadPart:
    """At most 1 MiB of one half. ``digest``: SHA-256 of ``data``."""

    half: Half
    offset: int
    data: bytes
    digest: bytes


def answer_blob(job: JobId, round: RoundNumber, holder: HolderId, token: int) -> str:
    """Return a new name for the blob of a holder's partial decryption.

    ``token``: of the lease under which it is fetched. No name comes twice, so that a process that lost its lease, or one that
    runs on a copied data directory, spoils nothing.
    """
    return f"{upload_prefix(job, round)}/answers/{token}/{holder}-{secrets.token_hex(8)}"


class UploadSpool:
    """The ciphertexts of all rounds.

    Args:
        blobs: where the bytes lie.
        max_bytes: bound of all reservations together, those of other streams in the same spool included.
    """

    def __init__(self, blobs: BlobStore, *, max_bytes: int) -> None:
        self._blobs = blobs
        self.streams = Spool(blobs, max_bytes=max_bytes)

    @property
    def reserved_bytes(self) -> int:
        """Bytes that begun uploads may take on disk."""
        return self.streams.reserved_bytes

    def reserve(self, key: UploadKey, half_bytes: int, *, clients: int = 1) -> None:
        """Set aside the space of both halves, as :meth:`Spool.reserve`."""
        self.streams.reserve(key, {half.value: half_bytes for half in _HALVES}, clients=clients)

    def recall(self, job: JobId, round: RoundNumber, half_bytes: int, *, clients: int) -> None:
        """Set aside again what a round had, as :meth:`Spool.recall`."""
        self.streams.recall(job, round, {half.value: half_bytes for half in _HALVES}, clients=clients)

    def chunk_digests(self, key: UploadKey, parameters: Parameters) -> tuple[bytes, ...]:
        """Return the SHA-256 of each chunk of a c1 that was verified before."""
        root = CiphertextRoot()
        with closing(self._blobs.open(key.blob(Half.C1.value))) as file:
            for chunk in read_chunks(file, parameters):
                root.add(chunk)
        return root.digests

    def sizes(self, key: UploadKey) -> dict[Half, int]:
        """Return how many bytes of each half have arrived."""
        return {half: self.streams.size(key, half.value) for half in _HALVES}

    def append(self, key: UploadKey, part: UploadPart) -> int:
        """Add a part at the end of its half, as :meth:`Spool.append`."""
        return self.streams.append(
            key, Part(stream=part.half.value, offset=part.offset, data=part.data, digest=part.digest)
        )

    def discard(self, key: UploadKey) -> None:
        """Forget one client's upload."""
        self.streams.discard(key)

    def delete_round(self, job: JobId, round: RoundNumber) -> None:
        """Forget everything that was sent in a round."""
        self.streams.delete_round(job, round)

    def verify(self, key: UploadKey, parameters: Parameters, upload: Upload) -> tuple[bytes, ...]:
        """Recompute both roots and check every residue, chunk by chunk, and put the bytes on disk.

        Returns:
            The SHA-256 of each chunk of c1: none may stand twice in a round.

        Raises:
            WrongPhaseError: not all bytes have arrived; the client may go on.
            FaultyClientError: the bytes are not what the client signed, or must not count.
            StorageError: what is there can be read in part only.
        """
        self._check_complete(key, parameters)
        self._check_root(key, Half.C0, upload.root_c0, parameters)
        digests = self._check_root(key, Half.C1, upload.root_c1, parameters)
        if len(set(digests)) != len(digests):
            raise FaultyClientError(key.client, "a chunk of its c1 stands twice")
        return digests

    def _check_complete(self, key: UploadKey, parameters: Parameters) -> None:
        expected = parameters.chunks * half_chunk_bytes(parameters)
        for half, size in self.sizes(key).items():
            if size != expected:
                message = f"{half.value} of client {key.client} has {size} of {expected} bytes"
                raise WrongPhaseError(message, next_step="Send the rest, then complete the upload")

    def _check_root(self, key: UploadKey, half: Half, signed: Digest, parameters: Parameters) -> tuple[bytes, ...]:
        root = CiphertextRoot()
        with closing(self._blobs.open(key.blob(half.value))) as file:
            for index, chunk in enumerate(_all_chunks(file, parameters)):
                root.add(chunk)
                try:
                    chunk_from_bytes(parameters, chunk)
                except HEError as error:
                    raise FaultyClientError(key.client, f"chunk {index} of its {half.value}: {error}") from error
        if not hmac.compare_digest(root.digest(), signed):
            raise FaultyClientError(key.client, f"the root of its {half.value} is not the one that it signed")
        self._blobs.sync(key.blob(half.value))
        return root.digests

    def total(
        self, job: JobId, round: RoundNumber, parameters: Parameters, clients: tuple[ClientId, ...]
    ) -> SpooledSum:
        """Return the sum of the c0 of these clients, each verified before; added up when it is asked for."""
        blobs = [UploadKey(job=job, round=round, client=client).blob(Half.C0.value) for client in clients]
        return SpooledSum(self._blobs, blobs, parameters)


class SpooledSum:
    """The sum of some c0, added up stretch by stretch as it is read: memory of one stretch, whatever their number and length.

    Args:
        blobs: where they lie.
        names: of their blobs.
        parameters: of the plan.
    """

    def __init__(self, blobs: BlobStore, names: Sequence[str], parameters: Parameters) -> None:
        self._blobs = blobs
        self._names = tuple(names)
        self._parameters = parameters
        self._first = 0
        self._stretch: Residues = np.empty((0, len(parameters.data_primes), parameters.degree), dtype=np.uint32)

    def block(self, start: int, stop: int) -> Residues:
        """Return chunks start to stop (exclusive), reduced: uint32 (stop - start, L, N).

        Raises:
            StorageError: a c0 cannot be read.
            HEError: a c0 is not what was verified.
        """
        if not self._first <= start <= stop <= self._first + len(self._stretch):
            # More than is asked for: a bucket is slow to open a blob.
            after = min(max(stop, start + _STRETCH_CHUNKS), self._parameters.chunks)
            self._first, self._stretch = start, self._added_up(start, after)
        return self._stretch[start - self._first : stop - self._first]

    def _added_up(self, start: int, stop: int) -> Residues:
        accumulator = ResidueAccumulator(self._parameters, chunks=stop - start)
        size = half_chunk_bytes(self._parameters)
        for name in self._names:
            with closing(self._blobs.open(name)) as file:
                file.seek(start * size)
                for index in range(stop - start):
                    accumulator.add_chunk(index, chunk_from_bytes(self._parameters, file.read(size)))
        return accumulator.finish()


def read_chunks(file: BinaryIO, parameters: Parameters) -> Iterator[bytes]:
    """Yield the chunks of one half, each of ``half_chunk_bytes``."""
    size = half_chunk_bytes(parameters)
    while chunk := file.read(size):
        yield chunk


def _all_chunks(file: BinaryIO, parameters: Parameters) -> Iterator[bytes]:
    """Yield every chunk of a half that is complete; :class:`StorageError` when the store shows less of it than it said."""
    read = 0
    for chunk in read_chunks(file, parameters):
        read += len(chunk)
        if len(chunk) == half_chunk_bytes(parameters):
            yield chunk
    if read != parameters.chunks * half_chunk_bytes(parameters):
        raise StorageError("an upload can be read in part only")
