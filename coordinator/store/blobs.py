"""Blobs as files of a directory."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

from coordinator.store.failures import SPACE
from coordinator.store.names import parts_of
from secagg.atomic_files import PRIVATE_DIRECTORY_MODE, PRIVATE_FILE_MODE, sync_directory
from secagg.errors import ConflictError, NotFoundError, StorageError, UsageError

_TEMPORARY: Final = ".new-"
_ABANDONED_SECONDS: Final = 3600.0
"""Age at which a temporary file is nobody's any more: another coordinator may write into the directory right now."""
_WORDS: Final = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the disk is read-only",
}
_DELETIONS: Final = 5


class DirectoryBlobStore:
    """A :class:`~coordinator.contracts.BlobStore`: a blob is a file, a prefix a directory beneath ``directory``.

    Several processes may use a directory; one task appends to a blob at a time.

    Raises:
        StorageError: the directory cannot be made.
    """

    def __init__(self, directory: Path) -> None:
        self._root = directory
        with _storage_errors("the blob directory"):
            directory.mkdir(mode=PRIVATE_DIRECTORY_MODE, parents=True, exist_ok=True)
            _delete_abandoned(directory)

    def write(self, name: str, parts: Iterable[bytes]) -> int:
        """Store a whole blob in one step, replacing what was there; return its bytes."""
        path = self._made(name)
        temporary = path.with_name(f"{_TEMPORARY}{secrets.token_hex(8)}")
        try:
            with _storage_errors(name):
                size = _write_new(temporary, parts)
                temporary.replace(path)
                sync_directory(path.parent)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        return size

    def append(self, name: str, offset: int, data: bytes | memoryview) -> int:
        """Add bytes at the end, return the new size; a repeat is harmless."""
        path = self._made(name)
        with _storage_errors(name):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, PRIVATE_FILE_MODE)
            with os.fdopen(descriptor, "r+b", buffering=0) as file:
                return _append(file, name, offset, memoryview(data))

    def sync(self, name: str) -> None:
        """Put what was appended on disk."""
        with self.open(name) as file, _storage_errors(name):
            os.fsync(file.fileno())
            sync_directory(self._path(name).parent)

    def size(self, name: str) -> int:
        """Return the bytes of a blob; 0 where there is none."""
        path = self._path(name)
        with _storage_errors(name):
            return path.stat().st_size if path.is_file() else 0

    def read(self, name: str, offset: int, length: int) -> bytes:
        """Return at most ``length`` bytes from ``offset`` on."""
        if offset < 0 or length < 0:
            raise UsageError("offset and length are 0 or more")
        with self.open(name) as file, _storage_errors(name):
            # A file system may refuse to seek far beyond the end, and seek() takes no number of 64 bits.
            file.seek(min(offset, os.fstat(file.fileno()).st_size))
            return file.read(length)

    def open(self, name: str) -> BinaryIO:
        """Open a blob for reading; the caller closes it."""
        path = self._path(name)
        with _storage_errors(name):
            if not path.is_file():
                raise NotFoundError(f"there is no blob {name}")
            return path.open("rb")

    def names(self, prefix: str) -> list[str]:
        """Return the names of the blobs beneath a prefix, sorted."""
        start = self._path(prefix) if prefix else self._root
        with _storage_errors(prefix):
            files = [start] if start.is_file() else [path for path in start.rglob("*") if path.is_file()]
        names = (path.relative_to(self._root) for path in files if not path.name.startswith(_TEMPORARY))
        return sorted(name.as_posix() for name in names)

    def keep_only(self, prefix: str, name: str) -> None:
        """Delete every blob beneath a prefix but one, and what killed writers left half written there."""
        kept, directory = self._path(name), self._path(prefix)
        with _storage_errors(prefix):
            for path in [path for path in directory.rglob("*") if path.is_file() and path != kept]:
                path.unlink(missing_ok=True)
            if directory.is_dir():
                sync_directory(directory)

    def delete_prefix(self, prefix: str) -> None:
        """Delete the blob of that name and every blob beneath it."""
        path = self._path(prefix)
        with _storage_errors(prefix):
            if path.is_dir():
                _delete_directory(path)
            elif path.exists():
                path.unlink(missing_ok=True)
            else:
                return
            sync_directory(path.parent)

    def _path(self, name: str) -> Path:
        return self._root.joinpath(*parts_of(name))

    def _made(self, name: str) -> Path:
        """Return a blob's path after making the directories above it, on disk too."""
        path = self._path(name)
        missing = [one for one in path.parents if one.is_relative_to(self._root) and not one.is_dir()]
        with _storage_errors(name):
            for directory in reversed(missing):
                directory.mkdir(mode=PRIVATE_DIRECTORY_MODE, exist_ok=True)
                sync_directory(directory.parent)
        return path


@contextlib.contextmanager
def _storage_errors(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        words = _WORDS.get(error.errno or 0)
        reason = f"{name} could not be stored or read: {words or error.strerror}"
        raise StorageError(reason, next_step=None if words is None else SPACE) from error


def _delete_abandoned(directory: Path) -> None:
    """Delete what killed processes left half written."""
    limit = time.time() - _ABANDONED_SECONDS
    for folder, _, files in os.walk(directory):
        for path in (Path(folder, name) for name in files if name.startswith(_TEMPORARY)):
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime < limit:
                    path.unlink()


def _delete_directory(path: Path) -> None:
    """Delete a directory, where another process may be deleting it too."""
    for _ in range(_DELETIONS):
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(path)
        if not path.exists():
            return


def _write_new(path: Path, parts: Iterable[bytes]) -> int:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, PRIVATE_FILE_MODE)
    with os.fdopen(descriptor, "wb") as file:
        for part in parts:
            file.write(part)
        file.flush()
        os.fsync(descriptor)
        return file.tell()


def _append(file: BinaryIO, name: str, offset: int, data: memoryview) -> int:
    size = file.seek(0, os.SEEK_END)
    if not 0 <= offset <= size:
        raise UsageError(f"{name} has {size} bytes, so nothing can be added at {offset}", next_step=f"Go on at {size}")
    known = min(size - offset, data.nbytes)
    file.seek(offset)
    if known and file.read(known) != data[:known]:
        raise ConflictError(f"{name} holds other bytes at {offset}")
    try:
        _write_all(file, data[known:])
    except OSError:
        # What fitted must not stay: the same bytes come again, and are counted from the length that was acknowledged.
        with contextlib.suppress(OSError):
            file.truncate(size)
        raise
    return max(size, offset + data.nbytes)


def _write_all(file: BinaryIO, data: memoryview) -> None:
    """Write everything: an unbuffered write may take less than it was given."""
    done = 0
    while done < data.nbytes:
        done += file.write(data[done:])
