"""What lies on the disk of a service that goes on working, and deleting."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


READINGS = 100


def files_under(directory: Path) -> list[Path]:
    """Return every file. Folders that go meanwhile have none, where `Path.rglob` raises."""
    return [Path(folder, name) for folder, _, names in os.walk(directory, onerror=_but_gone) for name in names]


def contents_under(directory: Path) -> dict[Path, bytes]:
    """Return what each file holds, of a reading during which none went: what is renamed is not missed."""
    return _read(lambda: {path: path.read_bytes() for path in files_under(directory)})


def matching(directory: Path, pattern: str) -> list[Path]:
    """Return what `Path.glob` finds, of a walk during which no folder went."""
    return _read(lambda: list(directory.glob(pattern)))


def _read(reading: Callable[[], T]) -> T:
    for _ in range(READINGS):
        with contextlib.suppress(FileNotFoundError):
            return reading()
    raise AssertionError(f"something went during each of {READINGS} readings")


def _but_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error
