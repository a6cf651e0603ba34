"""One process at a time on a key holder's data directory."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Final

from secagg.atomic_files import PRIVATE_DIRECTORY_MODE, PRIVATE_FILE_MODE
from secagg.errors import ConfigError, StorageError

LOCK_NAME: Final = "in-use.lock"


class Claim:
    """Holds a data directory until `release`, or until the process ends, however it ends.

    Raises:
        ConfigError: another process holds it.
        StorageError: the directory cannot be made or written.
    """

    def __init__(self, directory: Path) -> None:
        path = directory / LOCK_NAME
        try:
            directory.mkdir(mode=PRIVATE_DIRECTORY_MODE, parents=True, exist_ok=True)
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE_MODE)
        except OSError as error:
            raise StorageError(f"{path} cannot be opened: {error.strerror}") from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.release()
            raise ConfigError(f"another process uses {directory}", next_step="Stop that one first") from None

    def release(self) -> None:
        """Let others have it; once more does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1
