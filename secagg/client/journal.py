"""An append-only file of records, each on disk before `Journal.append` returns, that tells a torn end from damage.

A record is a head (kind u8, payload length u32, CRC-32 of both, little-endian), the payload, and a SHA-256 over the digest of
the record before, head and payload. Losing power while a record is appended leaves it short, or with zeros where its end should
be: nothing that depends on it was sent, and it is dropped. Anything else was changed later: believing the rest of it could mean
to mask a second vector, so it is an error.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import stat
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from secagg.atomic_files import PRIVATE_FILE_MODE, sync_directory
from secagg.errors import StorageError, UsageError

MAX_PAYLOAD_BYTES: Final = 1 << 26
_HEAD: Final = struct.Struct("<BII")
_DIGEST_BYTES: Final = 32
_FIRST: Final = hashlib.sha256(b"secagg client journal 1").digest()


@dataclass(frozen=True, kw_only=True)
class Record:
    """One entry. ``kind``: 1 to 255, the owner's."""

    kind: int
    payload: bytes = field(default=b"", repr=False)


class Journal:
    """An open journal that no other process can open. Blocking; made by `open`."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor
        self._digest = _FIRST
        self._end = 0
        self._records: tuple[Record, ...] = ()

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the journal at the path, made when missing, mode 0600, and drop a torn end.

        Raises:
            UsageError: another process, or another call in this one, has it open.
            StorageError: it cannot be opened, or it is damaged.
        """
        try:
            journal = cls(path, _locked(path))
        except OSError as error:
            raise StorageError(f"{path} cannot be opened: {error.strerror}") from error
        try:
            journal._read()
        except BaseException:
            journal.close()
            raise
        return journal

    @property
    def records(self) -> tuple[Record, ...]:
        """What was in it when it was opened."""
        return self._records

    @property
    def empty(self) -> bool:
        """Whether nothing is in it now."""
        return self._end == 0

    def append(self, record: Record) -> None:
        """Add a record; it is on disk when this returns.

        Raises:
            StorageError: it could not be written.
        """
        head = _head(record)
        digest = _chained(self._digest, head, record.payload)
        data = memoryview(b"".join((head, record.payload, digest)))
        with self._storing():
            written = 0
            while written < len(data):
                written += os.pwrite(self._descriptor, data[written:], self._end + written)
            os.fsync(self._descriptor)
        self._digest, self._end = digest, self._end + len(data)

    def clear(self) -> None:
        """Take everything out of it."""
        with self._storing():
            os.ftruncate(self._descriptor, 0)
            os.fsync(self._descriptor)
        self._digest, self._end, self._records = _FIRST, 0, ()

    def remove(self) -> None:
        """Take everything out of it and remove the file; close it in any case."""
        try:
            self.clear()
            with self._storing():
                self._path.unlink(missing_ok=True)
                sync_directory(self._path.parent)
        finally:
            self.close()

    def close(self) -> None:
        """Close it and leave it where it is; harmless when it was closed."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _read(self) -> None:
        with self._storing():
            data = _whole(self._descriptor)
        self._records, self._end, self._digest = _parsed(data, self._path)
        if self._end < len(data):
            with self._storing():
                os.ftruncate(self._descriptor, self._end)
                os.fsync(self._descriptor)

    @contextlib.contextmanager
    def _storing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StorageError(f"{self._path} cannot be written: {error.strerror}") from error


def _locked(path: Path) -> int:
    """Open and lock the file that the path names; a file that was removed meanwhile is not that one."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, PRIVATE_FILE_MODE)
        try:
            _lock(descriptor, path)
            os.fchmod(descriptor, PRIVATE_FILE_MODE)
            if _same_file(descriptor, path):
                sync_directory(path.parent)
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _lock(descriptor: int, path: Path) -> None:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise StorageError(f"{path} is no file", next_step="Name another state_dir")
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        advice = "Wait until it is done, or give each client a state_dir of its own"
        raise UsageError(f"a client is already taking part in this job with {path}", next_step=advice) from error


def _same_file(descriptor: int, path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), path.stat(follow_symlinks=False))
    return False


def _whole(descriptor: int) -> bytes:
    size, parts, offset = os.fstat(descriptor).st_size, [], 0
    while offset < size and (data := os.pread(descriptor, size - offset, offset)):
        parts.append(data)
        offset += len(data)
    return b"".join(parts)


def _head(record: Record) -> bytes:
    kind, size = record.kind, len(record.payload)
    return _HEAD.pack(kind, size, zlib.crc32(struct.pack("<BI", kind, size)))


def _chained(before: bytes, head: bytes, payload: bytes) -> bytes:
    return hashlib.sha256(b"".join((before, head, payload))).digest()


def _parsed(data: bytes, path: Path) -> tuple[tuple[Record, ...], int, bytes]:
    """Return the records, where they end, and the digest of the last one."""
    records: list[Record] = []
    digest, end = _FIRST, 0
    while end < len(data) and any(data[end:]):
        head = data[end : end + _HEAD.size]
        if len(head) < _HEAD.size:
            break
        kind, size, check = _HEAD.unpack(head)
        if check != zlib.crc32(struct.pack("<BI", kind, size)) or size > MAX_PAYLOAD_BYTES:
            raise _damaged(path)
        payload_end = end + _HEAD.size + size
        payload, found = data[end + _HEAD.size : payload_end], data[payload_end : payload_end + _DIGEST_BYTES]
        if len(found) < _DIGEST_BYTES or not any(data[payload_end:]):
            break
        digest = _chained(digest, head, payload)
        if digest != found:
            raise _damaged(path)
        records.append(Record(kind=kind, payload=payload))
        end = payload_end + _DIGEST_BYTES
    return tuple(records), end, digest


def _damaged(path: Path) -> StorageError:
    advice = "Remove it: this client drops out of that round, and takes part in the next; then check that disk"
    return StorageError(f"{path} is damaged, so what this client sent in a round is not known", next_step=advice)
