"""Where what a client uploads waits until it is sent: files that no one else can open.

Spool files have no name (they are unlinked as they are made), so nothing is left behind however the process ends. Only the
masked vector of a client with a ``state_dir`` has one (`secagg.client.keeping`).
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, Self

from secagg.atomic_files import PRIVATE_DIRECTORY_MODE
from secagg.errors import StorageError
from secagg.messages.round import Half

_VECTOR_ADVICE: Final = "Free space there (4 bytes for each value), or name another {}"


@dataclass(frozen=True, kw_only=True)
class Place:
    """A directory, for errors that say what could not be kept there and what to do about it."""

    directory: Path
    what: str
    advice: str

    def failed(self, error: OSError) -> StorageError:
        """Return the error to raise."""
        message = f"{self.what} cannot be kept in {self.directory}: {error.strerror}"
        return StorageError(message, next_step=self.advice)


def ciphertexts_in(directory: Path | None) -> Place:
    """Return where ciphertexts wait; None: the system's directory for temporary files."""
    advice = "Free space there (24 bytes for each value at ckks-4096, 48 with real packing), or name another spool_dir"
    return Place(directory=_or_temporary(directory), what="ciphertexts", advice=advice)


def vector_in(directory: Path | None) -> Place:
    """Return where a masked vector without a name waits; None: the system's directory for temporary files."""
    return Place(directory=_or_temporary(directory), what="a masked vector", advice=_VECTOR_ADVICE.format("spool_dir"))


def kept_vector_in(directory: Path) -> Place:
    """Return where a masked vector is kept that outlives its process."""
    return Place(directory=directory, what="a masked vector", advice=_VECTOR_ADVICE.format("state_dir"))


def _or_temporary(directory: Path | None) -> Path:
    return Path(tempfile.gettempdir()) if directory is None else directory


class SpoolFile:
    """A private file that grows at its end and is read anywhere. Blocking; the driver calls it in an executor.

    Args:
        file: open for reading and writing, unbuffered.
        place: where it lies.
    """

    def __init__(self, file: IO[bytes], place: Place) -> None:
        self._file = file
        self._place = place

    @classmethod
    def nameless(cls, place: Place) -> Self:
        """Make a file that no name leads to, and its directory when that is missing.

        Raises:
            StorageError: it cannot be made there.
        """
        try:
            place.directory.mkdir(mode=PRIVATE_DIRECTORY_MODE, parents=True, exist_ok=True)
            return cls(tempfile.TemporaryFile(dir=place.directory, buffering=0), place)
        except OSError as error:
            raise place.failed(error) from error

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._file.fileno()

    def append(self, data: bytes) -> None:
        """Add bytes at the end.

        Raises:
            StorageError: there is no space.
        """
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self.fileno(), view) :]
        except OSError as error:
            raise self._place.failed(error) from error

    def read(self, offset: int, length: int) -> bytes:
        """Return at most ``length`` bytes."""
        try:
            return os.pread(self.fileno(), length, offset)
        except OSError as error:
            raise self._place.failed(error) from error

    def sync(self) -> None:
        """Return once the bytes survive a loss of power."""
        try:
            os.fsync(self.fileno())
        except OSError as error:
            raise self._place.failed(error) from error

    def close(self) -> None:
        """Close it; without a name, its space is free again. Harmless when it was closed."""
        self._file.close()


class CiphertextSpool:
    """One file for each half of a ciphertext. Blocking; the driver calls it in an executor.

    Args:
        directory: where the files lie, made when missing; None: the system's directory for temporary files.

    Raises:
        StorageError: the files cannot be made there.
    """

    def __init__(self, directory: Path | None) -> None:
        place: Final = ciphertexts_in(directory)
        self._files: dict[Half, SpoolFile] = {}
        try:
            for half in Half:
                self._files[half] = SpoolFile.nameless(place)
        except StorageError:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def append(self, half: Half, data: bytes) -> None:
        """Add bytes at the end of a half; raises `StorageError` when there is no space."""
        self._files[half].append(data)

    def read(self, half: Half, offset: int, length: int) -> bytes:
        """Return at most ``length`` bytes of a half."""
        return self._files[half].read(offset, length)

    def close(self) -> None:
        """Give the space back; harmless when it was."""
        for file in self._files.values():
            file.close()
