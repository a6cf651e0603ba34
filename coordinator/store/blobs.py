"""Blobs as files of a directory."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

from secagg.atomic_files import PRIVATE_DIRECTORY_MODE, PRIVATE_FILE_MODE, sync_directory
from secagg.errors import ConflictError, NotFoundError, StorageError, UsageError

_PART: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")
_MAX_PARTS: Final = 8
# No name that is allowed begins with a point.
_TEMPORARY: Final = ".new-"


class DirectoryBlobStore:
    """A :class:`~coordinator.contracts.BlobStore`: a blob is a file, a prefix a directory beneath ``directory``.

    One process uses a directory at a time, and one task appends to a blob at a time.

    Raises:
        StorageError: the directory cannot be made.
    """

    def __init__(self, directory: Path) -> None:
        self._root = directory
        with _storage_errors("the blob directory"):
            directory.mkdir(mode=PRIVATE_DIRECTORY_MODE, parents=True, exist_ok=True)
            for left_over in directory.rglob(f"{_TEMPORARY}*"):
                left_over.unlink()

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

    def delete_prefix(self, prefix: str) -> None:
        """Delete the blob of that name and every blob beneath it."""
        path = self._path(prefix)
        with _storage_errors(prefix):
            if path.is_dir():
                shutil.rmtree(path)
            elif path.exists():
                path.unlink()
            else:
                return
            sync_directory(path.parent)

    def _path(self, name: str) -> Path:
        parts = name.split("/")
        if len(parts) > _MAX_PARTS or not all(_PART.fullmatch(part) for part in parts):
            raise UsageError(f"{name[:80]!r} is not the name of a blob")
        return self._root.joinpath(*parts)

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
        raise StorageError(f"{name} could not be stored or read: {error.strerror}") from error


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
    _write_all(file, data[known:])
    return max(size, offset + data.nbytes)


def _write_all(file: BinaryIO, data: memoryview) -> None:
    """Write everything: an unbuffered write may take less than it was given."""
    done = 0
    while done < data.nbytes:
        done += file.write(data[done:])
