"""A directory that nobody else looks into, and files in it that survive a loss of power."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from secagg.atomic_files import PRIVATE_DIRECTORY_MODE
from secagg.errors import StorageError

_OTHERS_WRITE: Final = stat.S_IWOTH | stat.S_ISVTX


def make_private(directory: Path) -> None:
    """Make a directory of mode 0700, or give an existing one that mode.

    Raises:
        StorageError: it is no directory of this user, or one that everybody writes to, such as ``/tmp``: others could have put
            something into it.
    """
    advice = "Name a directory of this client's own as state_dir"
    try:
        directory.mkdir(mode=PRIVATE_DIRECTORY_MODE, parents=True, exist_ok=True)
        found = directory.stat()
        if found.st_mode & _OTHERS_WRITE or found.st_uid != os.geteuid():
            raise StorageError(f"{directory} is not this client's alone", next_step=advice)
        if stat.S_IMODE(found.st_mode) != PRIVATE_DIRECTORY_MODE:
            directory.chmod(PRIVATE_DIRECTORY_MODE)
    except OSError as error:
        raise StorageError(f"{directory} cannot be used: {error.strerror}", next_step=advice) from error
