"""Updates and means as ``.npz`` files: named arrays, and never anything that would be executed."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy_format
from numpy.lib.npyio import NpzFile

from secagg.atomic_files import PUBLIC_FILE_MODE, write_atomically
from secagg.errors import StorageError, UsageError

Arrays: TypeAlias = Mapping[str, npt.NDArray[Any]]

_ADVICE = "Write it with numpy.savez(FILE, name=array, ...), with arrays of numbers only"
# What numpy and zipfile raise on files that are damaged or of another kind.
_DAMAGED = (ValueError, EOFError, KeyError, NotImplementedError, zipfile.BadZipFile, zlib.error)


def read_arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Read every array of a ``.npz`` file.

    Raises:
        UsageError: there is no such file, it is of another kind or damaged, or an array holds Python objects.
    """
    try:
        # Opened here: numpy leaves the file of a damaged archive open.
        with path.open("rb") as file:
            stored = np.load(file, allow_pickle=False)
            if isinstance(stored, NpzFile):
                return {name: stored[name] for name in stored.files}
    except OSError as error:
        reason = error.strerror or "it is no file of arrays"
        raise UsageError(f"{path} cannot be read: {reason}", next_step="Name an .npz file that exists") from error
    except _DAMAGED as error:
        raise UsageError(f"{path} is no .npz file of plain arrays", next_step=_ADVICE) from error
    raise UsageError(f"{path} holds one array without a name", next_step=_ADVICE)


def write_arrays(path: Path, arrays: Arrays) -> None:
    """Write a ``.npz`` file that is there in full or not at all; any name will do, also those that ``numpy.savez`` keeps.

    Raises:
        StorageError: it could not be written; what stood there before still does.
    """
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                npy_format.write_array(member, np.asanyarray(array), allow_pickle=False)
    write_atomically(path, packed.getvalue(), mode=PUBLIC_FILE_MODE)


def check_writable(path: Path) -> None:
    """Raise :class:`StorageError` when a file could never be written there; said before a round, not after it."""
    if path.is_dir():
        raise StorageError(f"{path} is a directory", next_step="Name a file in it")
    if not path.absolute().parent.is_dir():
        raise StorageError(f"{path.absolute().parent} is no directory", next_step="Make it, or name another file")
