"""Files that are either there in full, or not at all, whatever instant the power goes."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path
from typing import Final

from secagg.errors import StorageError

PRIVATE_FILE_MODE: Final = 0o600
PRIVATE_DIRECTORY_MODE: Final = 0o700
PUBLIC_FILE_MODE: Final = 0o644


def write_atomically(path: Path, data: bytes, *, mode: int) -> None:
    """Put the bytes at the path in one step, on disk before this returns.

    Args:
        path: the file; its directory must exist.
        data: the whole content.
        mode: permission bits, in force before the first byte is written.

    Raises:
        StorageError: it could not be written; what stood there before still does.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        _write_new(temporary, data, mode)
        temporary.replace(path)
        sync_directory(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise StorageError(f"{path} cannot be written: {error.strerror}") from error


def _write_new(path: Path, data: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)
        file.write(data)
        file.flush()
        os.fsync(descriptor)


def sync_directory(directory: Path) -> None:
    """Return once names made and removed there survive a loss of power; raises `OSError`."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
