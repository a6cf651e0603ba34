"""Where a client's ciphertext waits between join and upload: two files that no one else can open.

The files have no name (they are unlinked as they are made), so nothing is left behind however the process ends.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import IO, Final, Self

from secagg.atomic_files import PRIVATE_DIRECTORY_MODE
from secagg.errors import StorageError
from secagg.messages.round import Half

_ADVICE: Final = "Free space there (48 bytes for each value at ckks-4096), or name another spool_dir"


class CiphertextSpool:
    """One file for each half of a ciphertext. Blocking; the driver calls it in an executor.

    Args:
        directory: where the files lie, made when missing; None: the system's directory for temporary files.

    Raises:
        StorageError: the files cannot be made there.
    """

    def __init__(self, directory: Path | None) -> None:
        self._directory = Path(tempfile.gettempdir()) if directory is None else directory
        self._files: dict[Half, IO[bytes]] = {}
        try:
            self._directory.mkdir(mode=PRIVATE_DIRECTORY_MODE, parents=True, exist_ok=True)
            for half in Half:
                self._files[half] = tempfile.TemporaryFile(dir=self._directory, buffering=0)  # noqa: SIM115 - `close` does
        except OSError as error:
            self.close()
            raise self._failed(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def append(self, half: Half, data: bytes) -> None:
        """Add bytes at the end of a half.

        Raises:
            StorageError: there is no space.
        """
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._files[half].fileno(), view) :]
        except OSError as error:
            raise self._failed(error) from error

    def read(self, half: Half, offset: int, length: int) -> bytes:
        """Return at most ``length`` bytes of a half."""
        try:
            return os.pread(self._files[half].fileno(), length, offset)
        except OSError as error:
            raise self._failed(error) from error

    def close(self) -> None:
        """Give the space back; harmless when it was."""
        for file in self._files.values():
            file.close()

    def _failed(self, error: OSError) -> StorageError:
        message = f"ciphertexts cannot be kept in {self._directory}: {error.strerror}"
        return StorageError(message, next_step=_ADVICE)
