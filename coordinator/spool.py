"""Ciphertexts that wait on disk, two halves of each client: held against what was signed, and added up.

Everything here blocks; the asyncio side calls it in an executor.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import BinaryIO, Final

from coordinator.contracts import BlobStore, upload_prefix
from coordinator.streams import MAX_PART_BYTES, Part, Spool, UploadKey
from he.accumulate import ResidueAccumulator
from he.ciphertext import chunk_from_bytes, half_chunk_bytes
from he.errors import HEError
from he.parameters import Parameters
from secagg.errors import FaultyClientError, WrongPhaseError
from secagg.ids import ClientId, Digest, HolderId, JobId, RoundNumber
from secagg.messages.round import Half, Upload
from secagg.transcript import CiphertextRoot

__all__ = ["MAX_PART_BYTES", "UploadKey", "UploadPart", "UploadSpool", "answer_blob", "read_chunks"]

_HALVES: Final = (Half.C0, Half.C1)


@dataclass(frozen=True, kw_only=True)
class UploadPart:
    """At most 1 MiB of one half. ``digest``: SHA-256 of ``data``."""

    half: Half
    offset: int
    data: bytes
    digest: bytes


def answer_blob(job: JobId, round: RoundNumber, holder: HolderId) -> str:
    """Return the name of the blob of a holder's partial decryption."""
    return f"{upload_prefix(job, round)}/answers/{holder}"


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

    def reserve(self, key: UploadKey, half_bytes: int) -> None:
        """Set aside the space of both halves, as :meth:`Spool.reserve`."""
        self.streams.reserve(key, {half.value: half_bytes for half in _HALVES})

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
            for index, chunk in enumerate(read_chunks(file, parameters)):
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
    ) -> ResidueAccumulator:
        """Add up the c0 of these clients; memory of one vector, whatever their number."""
        accumulator = ResidueAccumulator(parameters)
        for client in clients:
            key = UploadKey(job=job, round=round, client=client)
            with closing(self._blobs.open(key.blob(Half.C0.value))) as file:
                for index, chunk in enumerate(read_chunks(file, parameters)):
                    accumulator.add_chunk(index, chunk_from_bytes(parameters, chunk))
        return accumulator


def read_chunks(file: BinaryIO, parameters: Parameters) -> Iterator[bytes]:
    """Yield the chunks of one half, each of ``half_chunk_bytes``."""
    size = half_chunk_bytes(parameters)
    while chunk := file.read(size):
        yield chunk
