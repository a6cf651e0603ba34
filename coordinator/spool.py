"""Uploads that wait on disk: appended in order, resumable, never larger than the plan allows, gone after the round.

Everything here blocks; the asyncio side calls it in an executor.
"""

from __future__ import annotations

import hashlib
import hmac
import threading
from collections.abc import Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass
from typing import BinaryIO, Final

from coordinator.contracts import BlobStore, upload_prefix
from he.accumulate import ResidueAccumulator
from he.ciphertext import chunk_from_bytes, half_chunk_bytes
from he.errors import HEError
from he.parameters import Parameters
from secagg.errors import BusyError, FaultyClientError, UsageError, WrongPhaseError
from secagg.ids import ClientId, Digest, HolderId, JobId, RoundNumber
from secagg.messages.round import Half, Upload
from secagg.transcript import CiphertextRoot

MAX_PART_BYTES: Final = 1024 * 1024
_HALVES: Final = (Half.C0, Half.C1)


@dataclass(frozen=True, kw_only=True)
class UploadKey:
    """Whose upload, and of which round."""

    job: JobId
    round: RoundNumber
    client: ClientId

    def blob(self, half: Half) -> str:
        """Return the name of the blob of one half."""
        return f"{self.prefix}/{half.value}"

    @property
    def prefix(self) -> str:
        """Return what both halves lie beneath."""
        return f"{upload_prefix(self.job, self.round)}/clients/{self.client}"


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
    """The uploads of all rounds, within one bound of bytes.

    Space is reserved for a whole upload when it begins, so that what was begun can also end.

    Args:
        blobs: where the bytes lie.
        max_bytes: bound of all reservations together.
    """

    def __init__(self, blobs: BlobStore, *, max_bytes: int) -> None:
        self._blobs = blobs
        self._max_bytes = max_bytes
        self._reserved: dict[UploadKey, int] = {}
        self._writing: dict[UploadKey, threading.Lock] = {}
        self._lock = threading.Lock()

    @property
    def reserved_bytes(self) -> int:
        """Bytes that begun uploads may take on disk."""
        with self._lock:
            return sum(self._reserved.values())

    def reserve(self, key: UploadKey, half_bytes: int) -> None:
        """Set aside the space of both halves; the same again is harmless.

        Raises:
            BusyError: the spool would exceed its bound.
        """
        with self._lock:
            others = sum(size for other, size in self._reserved.items() if other != key)
            if others + 2 * half_bytes > self._max_bytes:
                raise BusyError(f"the upload spool is full ({self._max_bytes} bytes)")
            self._reserved[key] = 2 * half_bytes
            self._writing.setdefault(key, threading.Lock())

    def sizes(self, key: UploadKey) -> dict[Half, int]:
        """Return how many bytes of each half have arrived."""
        return {half: self._blobs.size(key.blob(half)) for half in _HALVES}

    def append(self, key: UploadKey, part: UploadPart) -> int:
        """Add a part at the end of its half; return how far the half has come. A repetition is harmless.

        Raises:
            UsageError: nothing was reserved, the part is empty, too large, damaged, leaves a gap, or goes beyond the plan.
            ConflictError: other bytes are there already.
        """
        with self._lock:
            writing = self._writing.get(key)
        if writing is None:
            raise UsageError(f"no upload of client {key.client} in round {key.round} has begun")
        with writing:
            with self._lock:
                reserved = self._reserved.get(key, 0)
            _check_part(part, reserved // 2)
            return self._blobs.append(key.blob(part.half), part.offset, part.data)

    def discard(self, key: UploadKey) -> None:
        """Forget one client's upload."""
        with self._lock:
            writing = self._writing.pop(key, None)
            self._reserved.pop(key, None)
        # A part that is being written is waited for, so that it does not outlive what it belongs to.
        with writing or nullcontext():
            self._blobs.delete_prefix(key.prefix)

    def delete_round(self, job: JobId, round: RoundNumber) -> None:
        """Forget everything that was sent in a round."""
        with self._lock:
            gone = [key for key in self._reserved if (key.job, key.round) == (job, round)]
        for key in gone:
            self.discard(key)
        self._blobs.delete_prefix(upload_prefix(job, round))

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
        with closing(self._blobs.open(key.blob(half))) as file:
            for index, chunk in enumerate(read_chunks(file, parameters)):
                root.add(chunk)
                try:
                    chunk_from_bytes(parameters, chunk)
                except HEError as error:
                    raise FaultyClientError(key.client, f"chunk {index} of its {half.value}: {error}") from error
        if not hmac.compare_digest(root.digest(), signed):
            raise FaultyClientError(key.client, f"the root of its {half.value} is not the one that it signed")
        self._blobs.sync(key.blob(half))
        return root.digests

    def total(
        self, job: JobId, round: RoundNumber, parameters: Parameters, clients: tuple[ClientId, ...]
    ) -> ResidueAccumulator:
        """Add up the c0 of these clients; memory of one vector, whatever their number."""
        accumulator = ResidueAccumulator(parameters)
        for client in clients:
            key = UploadKey(job=job, round=round, client=client)
            with closing(self._blobs.open(key.blob(Half.C0))) as file:
                for index, chunk in enumerate(read_chunks(file, parameters)):
                    accumulator.add_chunk(index, chunk_from_bytes(parameters, chunk))
        return accumulator


def _check_part(part: UploadPart, half_bytes: int) -> None:
    size = len(part.data)
    if not 0 < size <= MAX_PART_BYTES:
        raise UsageError(f"a part of {size} bytes: send 1 to {MAX_PART_BYTES}")
    if part.offset < 0 or part.offset + size > half_bytes:
        raise UsageError(f"bytes {part.offset} to {part.offset + size} of {part.half.value}: the plan has {half_bytes}")
    if not hmac.compare_digest(hashlib.sha256(part.data).digest(), part.digest):
        raise UsageError(f"the part at {part.offset} of {part.half.value} was damaged on its way")


def read_chunks(file: BinaryIO, parameters: Parameters) -> Iterator[bytes]:
    """Yield the chunks of one half, each of ``half_chunk_bytes``."""
    size = half_chunk_bytes(parameters)
    while chunk := file.read(size):
        yield chunk
