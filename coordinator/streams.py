"""Streams of bytes that wait on disk: appended in order, resumable, never larger than was set aside, gone after the round.

A client's upload is one stream or several: the halves of a ciphertext, or one masked vector. Everything here blocks; the asyncio
side calls it in an executor.
"""

from __future__ import annotations

import hashlib
import hmac
import threading
from collections.abc import Collection, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Final

from coordinator.contracts import BlobStore, upload_prefix
from secagg.errors import BusyError, UsageError
from secagg.ids import ClientId, JobId, RoundNumber

MAX_PART_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class UploadKey:
    """Whose upload, and of which round."""

    job: JobId
    round: RoundNumber
    client: ClientId

    def blob(self, stream: str) -> str:
        """Return the name of the blob of one stream."""
        return f"{self.prefix}/{stream}"

    @property
    def prefix(self) -> str:
        """Return what all streams lie beneath."""
        return f"{upload_prefix(self.job, self.round)}/clients/{self.client}"


@dataclass(frozen=True, kw_only=True)
class Part:
    """At most 1 MiB of one stream. ``digest``: SHA-256 of ``data``."""

    stream: str
    offset: int
    data: bytes
    digest: bytes


class Spool:
    """The uploads of all rounds, within one bound of bytes.

    Space is reserved for a whole upload when it begins, so that what was begun can also end.

    Args:
        blobs: where the bytes lie.
        max_bytes: bound of all reservations together.
    """

    def __init__(self, blobs: BlobStore, *, max_bytes: int) -> None:
        self._blobs = blobs
        self._max_bytes = max_bytes
        self._reserved: dict[UploadKey, Mapping[str, int]] = {}
        self._writing: dict[UploadKey, threading.Lock] = {}
        self._lock = threading.Lock()

    @property
    def reserved_bytes(self) -> int:
        """Bytes that begun uploads may take on disk."""
        with self._lock:
            return sum(sum(bounds.values()) for bounds in self._reserved.values())

    def reserve(self, key: UploadKey, bounds: Mapping[str, int]) -> None:
        """Set aside the bytes of each stream by its name; the same again is harmless.

        Raises:
            BusyError: the spool would exceed its bound.
        """
        with self._lock:
            others = sum(sum(known.values()) for other, known in self._reserved.items() if other != key)
            if others + sum(bounds.values()) > self._max_bytes:
                raise BusyError(f"the upload spool is full ({self._max_bytes} bytes)")
            self._reserved[key] = dict(bounds)
            self._writing.setdefault(key, threading.Lock())

    def size(self, key: UploadKey, stream: str) -> int:
        """Return how many bytes of a stream have arrived."""
        return self._blobs.size(key.blob(stream))

    def append(self, key: UploadKey, part: Part) -> int:
        """Add a part at the end of its stream; return how far the stream has come. A repetition is harmless.

        Raises:
            UsageError: nothing was reserved, the part is empty, too large, damaged, leaves a gap, or goes beyond the plan.
            ConflictError: other bytes are there already.
        """
        with self._lock:
            writing = self._writing.get(key)
        if writing is None:
            raise UsageError(f"no upload of client {key.client} in round {key.round} has begun")
        with writing:
            # Looked up again: it may have been discarded while another part was written.
            with self._lock:
                bound = self._reserved.get(key, {}).get(part.stream, 0)
            _check_part(part, bound)
            return self._blobs.append(key.blob(part.stream), part.offset, part.data)

    def discard(self, key: UploadKey) -> None:
        """Forget one client's upload."""
        with self._lock:
            writing = self._writing.pop(key, None)
            self._reserved.pop(key, None)
        # A part that is being written is waited for, so that it does not outlive what it belongs to.
        with writing or nullcontext():
            self._blobs.delete_prefix(key.prefix)

    def keep_only(self, job: JobId, round: RoundNumber, clients: Collection[ClientId]) -> None:
        """Forget the uploads in a round of all but these clients."""
        for key in self._of_round(job, round):
            if key.client not in clients:
                self.discard(key)

    def delete_round(self, job: JobId, round: RoundNumber) -> None:
        """Forget everything that was sent in a round."""
        self.keep_only(job, round, ())
        self._blobs.delete_prefix(upload_prefix(job, round))

    def _of_round(self, job: JobId, round: RoundNumber) -> list[UploadKey]:
        with self._lock:
            return [key for key in self._reserved if (key.job, key.round) == (job, round)]


def _check_part(part: Part, bound: int) -> None:
    size = len(part.data)
    if not 0 < size <= MAX_PART_BYTES:
        raise UsageError(f"a part of {size} bytes: send 1 to {MAX_PART_BYTES}")
    if part.offset < 0 or part.offset + size > bound:
        raise UsageError(f"bytes {part.offset} to {part.offset + size} of {part.stream}: the plan has {bound}")
    if not hmac.compare_digest(hashlib.sha256(part.data).digest(), part.digest):
        raise UsageError(f"the part at {part.offset} of {part.stream} was damaged on its way")
