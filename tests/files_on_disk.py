"""What lies on the disk of a service that goes on working, and deleting."""

import contextlib
import os
from pathlib import Path


def files_under(directory: Path) -> list[Path]:
    """Return every file. Of what goes meanwhile nothing is raised, as `Path.rglob` would."""
    return [Path(folder, name) for folder, _, names in os.walk(directory) for name in names]


def contents_under(directory: Path) -> dict[Path, bytes]:
    """Return what each file holds that did not go meanwhile."""
    found: dict[Path, bytes] = {}
    for path in files_under(directory):
        with contextlib.suppress(FileNotFoundError):
            found[path] = path.read_bytes()
    return found
