"""Sums of c1 on disk, from the approval to the end of the round: a holder that was killed in between answers all the same.

A file holds residues, C-order little-endian uint32 (chunks, L, N). Its SHA-256 stands in the database, and nothing is read
from a file that has another.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Final

from he.ciphertext import half_chunk_bytes
from he.errors import FormatError
from he.parameters import Parameters
from he.residues import Residues, residues_from_bytes, residues_to_bytes
from secagg.atomic_files import PRIVATE_DIRECTORY_MODE, PRIVATE_FILE_MODE, sync_directory
from secagg.errors import StorageError
from secagg.faults import reach
from secagg.ids import Digest, KeyId
from secagg.key_holder.contributions import SumOfC1

BLOCK_BYTES: Final = 1 << 20
_SUFFIX: Final = ".sum"


def blocks_of(parameters: Parameters) -> list[tuple[int, int]]:
    """Return first and last (exclusive) chunk of every block of at most 1 MiB, or of one chunk."""
    step = max(1, BLOCK_BYTES // half_chunk_bytes(parameters))
    return [(start, min(start + step, parameters.chunks)) for start in range(0, parameters.chunks, step)]


class SumReader:
    """An open sum whose digest was verified; close it."""

    def __init__(self, file: BufferedReader, parameters: Parameters) -> None:
        self._file = file
        self._parameters = parameters

    def block(self, start: int, stop: int) -> Residues:
        """Return chunks start to stop (exclusive), uint32 (stop - start, L, N), canonical.

        Raises:
            StorageError: it cannot be read.
        """
        size, parameters = half_chunk_bytes(self._parameters), self._parameters
        try:
            data = os.pread(self._file.fileno(), (stop - start) * size, start * size)
            return residues_from_bytes(data, parameters.data_primes, stop - start, degree=parameters.degree)
        except (OSError, FormatError):
            raise StorageError("a stored sum cannot be read") from None

    def close(self) -> None:
        """Close the file."""
        self._file.close()


@dataclass(frozen=True, kw_only=True)
class KeptSum:
    """A sum on disk.

    Attributes:
        path: its file.
        parameters: what it was made under.
        digest: SHA-256 of the file.
    """

    path: Path
    parameters: Parameters
    digest: Digest

    def open(self) -> SumReader:
        """Open the sum; raise `StorageError` if it is not there in full, bit for bit."""
        try:
            file = self.path.open("rb")
        except OSError as error:
            raise StorageError(f"a stored sum cannot be read: {error.strerror}") from None
        try:
            self._verify(file)
        except BaseException:
            file.close()
            raise
        return SumReader(file, self.parameters)

    def _verify(self, file: BufferedReader) -> None:
        try:
            size = os.fstat(file.fileno()).st_size
            found = hashlib.file_digest(file, "sha256").digest()
        except OSError as error:
            raise StorageError(f"a stored sum cannot be read: {error.strerror}") from None
        expected = self.parameters.chunks * half_chunk_bytes(self.parameters)
        if size != expected or not hmac.compare_digest(found, self.digest):
            raise StorageError("a stored sum is damaged")


class SumFiles:
    """One file for each key whose sum was approved of; methods block and raise `StorageError`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def keep(self, key_id: KeyId, total: SumOfC1) -> KeptSum:
        """Put a sum on disk, durably, in place of one that lies there for the key; it takes memory for one block."""
        path = self._path(key_id)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        try:
            self._make_directory()
            digest = _write(temporary, total)
            temporary.replace(path)
            sync_directory(self._directory)
        except OSError as error:
            raise StorageError(f"a sum cannot be stored in {self._directory}: {error.strerror}") from error
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()
        reach("sum.stored")
        return KeptSum(path=path, parameters=total.parameters, digest=digest)

    def find(self, key_id: KeyId, parameters: Parameters, digest: Digest) -> KeptSum | None:
        """Return the sum of a key if it lies here in full."""
        kept = KeptSum(path=self._path(key_id), parameters=parameters, digest=digest)
        try:
            kept.open().close()
        except StorageError:
            return None
        return kept

    def remove(self, key_id: KeyId) -> None:
        """Delete the sum of a key; nothing happens if there is none."""
        self._remove(self._path(key_id))

    def sweep(self, known: Collection[KeyId]) -> None:
        """Delete what lies here of other keys than these, and what a process that was killed left half written."""
        kept = {self._path(key_id) for key_id in known}
        for path in self._files():
            if path not in kept:
                self._remove(path)

    def _files(self) -> Iterator[Path]:
        try:
            yield from sorted(self._directory.iterdir()) if self._directory.exists() else ()
        except OSError as error:
            raise StorageError(f"{self._directory} cannot be read: {error.strerror}") from error

    def _remove(self, path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f"{path} cannot be deleted: {error.strerror}") from error

    def _make_directory(self) -> None:
        if not self._directory.exists():
            self._directory.mkdir(mode=PRIVATE_DIRECTORY_MODE, exist_ok=True)
            sync_directory(self._directory.parent)

    def _path(self, key_id: KeyId) -> Path:
        return self._directory / f"{key_id.hex()}{_SUFFIX}"


def _write(path: Path, total: SumOfC1) -> Digest:
    digest = hashlib.sha256()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, PRIVATE_FILE_MODE)
    with os.fdopen(descriptor, "wb") as file:
        for start, stop in blocks_of(total.parameters):
            data = residues_to_bytes(total.block(start, stop))
            digest.update(data)
            file.write(data)
        file.flush()
        os.fsync(descriptor)
    return Digest(digest.digest())
