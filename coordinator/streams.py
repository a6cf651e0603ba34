"""Streams of bytes that wait on disk: appended in order, resumable, never larger than was set aside, gone after the round.

A client's upload is one stream or several: the halves of a ciphertext, or one masked vector. Everything here blocks; the asyncio
side calls it in an executor.
"""

from __future__ import annotations

import hashlib
import hmac
import threading
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from coordinator.contracts import BlobStore, upload_prefix
from coordinator.pushback import seconds_until_free
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


RoundKey: TypeAlias = tuple[JobId, RoundNumber]


@dataclass(frozen=True, kw_only=True)
class _Share:
    """What a round has of the spool. ``since``: the clock when it began."""

    bytes: int
    since: float


class Spool:
    """The uploads of all rounds, within one bound of bytes.

    Space is set aside for all uploads of a round when the first one begins: what was begun can also end, and two rounds never
    wait for each other's space. A round that is larger than the spool gets all of it.

    Args:
        blobs: where the bytes lie.
        max_bytes: bound of all reservations together.
        clock: seconds that only grow.
    """

    def __init__(self, blobs: BlobStore, *, max_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._blobs = blobs
        self._max_bytes = max_bytes
        self._clock = clock
        self._shares: dict[RoundKey, _Share] = {}
        self._reserved: dict[UploadKey, Mapping[str, int]] = {}
        self._writing: dict[UploadKey, threading.Lock] = {}
        self._lock = threading.Lock()

    @property
    def reserved_bytes(self) -> int:
        """Bytes that the uploads of begun rounds may take on disk."""
        with self._lock:
            return sum(share.bytes for share in self._shares.values())

    def reserve(self, key: UploadKey, bounds: Mapping[str, int], *, clients: int = 1) -> None:
        """Set aside the bytes of each stream by its name; the same again is harmless.

        Args:
            key: whose upload.
            bounds: the most bytes of each stream.
            clients: how many uploads its round may bring.

        Raises:
            BusyError: the spool would exceed its bound.
        """
        with self._lock:
            self._share_out(key, sum(bounds.values()), clients)
            self._reserved[key] = dict(bounds)
            self._writing.setdefault(key, threading.Lock())

    def _share_out(self, key: UploadKey, size: int, clients: int) -> None:
        round = (key.job, key.round)
        left = self._max_bytes - sum(share.bytes for other, share in self._shares.items() if other != round)
        known = self._shares.get(round)
        used = self._used(round, but=key) + size
        wanted = max(used, min(clients * size, self._max_bytes))
        # A round that has begun takes what is left when that is not enough for all of it.
        granted = wanted if known is None else max(known.bytes, used, min(wanted, left))
        if granted > left:
            held = [self._clock() - share.since for share in self._shares.values()]
            raise BusyError(
                f"the upload spool of {self._max_bytes} bytes is full: {granted} are wanted, {max(left, 0)} are left",
                retry_after_seconds=seconds_until_free(held),
            )
        self._shares[round] = _Share(bytes=granted, since=self._clock() if known is None else known.since)

    def _used(self, round: RoundKey, *, but: UploadKey | None = None) -> int:
        """Return the bytes of the uploads of a round that have begun."""
        return sum(
            sum(bounds.values())
            for key, bounds in self._reserved.items()
            if (key.job, key.round) == round and key != but
        )

    def recall(self, job: JobId, round: RoundNumber, bounds: Mapping[str, int], *, clients: int = 0) -> None:
        """Set aside again what a round had: another process, or this one before it was restarted, took what lies on disk.

        Args:
            job: whose round.
            round: which.
            bounds: the most bytes of each stream.
            clients: how many uploads it may bring in all; 0 when no more may come.
        """
        prefix = f"{upload_prefix(job, round)}/clients"
        there = {name.removeprefix(f"{prefix}/").partition("/")[0] for name in self._blobs.names(prefix)}
        with self._lock:
            for client in there:
                key = UploadKey(job=job, round=round, client=ClientId(client))
                self._reserved[key] = dict(bounds)
                self._writing.setdefault(key, threading.Lock())
            if there:
                # Beyond the bound or not: it is there.
                wanted = min(clients * sum(bounds.values()), self._max_bytes)
                self._shares[job, round] = _Share(bytes=max(self._used((job, round)), wanted), since=self._clock())

    def forget_round(self, job: JobId, round: RoundNumber) -> None:
        """Let go of a round that another process goes on with; what lies on disk stays."""
        with self._lock:
            self._shares.pop((job, round), None)
            for key in [key for key in self._reserved if (key.job, key.round) == (job, round)]:
                # Its lock stays: a part may still be on its way to the disk when the round is taken up again.
                del self._reserved[key]

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
            self._give_up_share(key)
        # A part that is being written is waited for, so that it does not outlive what it belongs to.
        with writing or nullcontext():
            self._blobs.delete_prefix(key.prefix)

    def _give_up_share(self, key: UploadKey) -> None:
        size, round = sum(self._reserved.pop(key, {}).values()), (key.job, key.round)
        share = self._shares.get(round)
        if share is not None:
            self._shares[round] = replace(share, bytes=max(share.bytes - size, self._used(round)))

    def keep_only(self, job: JobId, round: RoundNumber, clients: Collection[ClientId]) -> None:
        """Forget the uploads in a round of all but these clients."""
        for key in self._of_round(job, round):
            if key.client not in clients:
                self.discard(key)
        with self._lock:
            # Nobody else uploads any more.
            if (job, round) in self._shares:
                self._shares[job, round] = replace(self._shares[job, round], bytes=self._used((job, round)))

    def delete_round(self, job: JobId, round: RoundNumber) -> None:
        """Forget everything that was sent in a round."""
        self.keep_only(job, round, ())
        self._blobs.delete_prefix(upload_prefix(job, round))
        with self._lock:
            self._shares.pop((job, round), None)

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
