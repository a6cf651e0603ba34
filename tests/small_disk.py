"""Disks that fill up, and make space again, beneath a process that runs: a small file system, or a limit on what it may write."""

from __future__ import annotations

import os
import resource
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.live_process import LiveProcess

PAGE_BYTES = 4096
DISK_BYTES = 64 * 1024**2


class Mounted:
    """A small file system of its own."""

    words = "the disk is full"

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._filler = directory / "filler"
        directory.mkdir(mode=0o700, exist_ok=True)
        _mount("-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=0700", "none", str(directory))

    def fill(self, *, leaving_bytes: int = 0) -> None:
        pages = os.statvfs(self.directory).f_bavail - -(-leaving_bytes // PAGE_BYTES)
        with self._filler.open("ab", buffering=0) as file:
            for _ in range(pages):
                file.write(bytes(PAGE_BYTES))

    def make_space(self) -> None:
        self._filler.unlink(missing_ok=True)

    def make_read_only(self) -> None:
        _mount("-o", "remount,ro", str(self.directory))

    def make_writable(self) -> None:
        _mount("-o", "remount,rw", str(self.directory))

    def close(self) -> None:
        subprocess.run(["umount", "--lazy", str(self.directory)], check=False, capture_output=True)


class Limited:
    """A limit on the size of every file that a process writes; nobody needs to be root for it."""

    words = "File too large"

    def __init__(self, service: LiveProcess, limit_bytes: int) -> None:
        self._service = service
        self._limit_bytes = limit_bytes

    def _limit(self, size: int) -> None:
        assert self._service.process is not None
        resource.prlimit(self._service.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    def fill(self, *, leaving_bytes: int = 0) -> None:
        del leaving_bytes  # Each file has its limit for itself.
        self._limit(self._limit_bytes)

    def make_space(self) -> None:
        self._limit(resource.RLIM_INFINITY)

    def close(self) -> None:
        """Nothing is left of it: the process ends."""


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)


def can_mount() -> bool:
    """Whether this user, on this machine, may mount a file system; `Limited` works in any case."""
    with TemporaryDirectory() as directory:
        try:
            disk = Mounted(Path(directory))
        except (OSError, subprocess.CalledProcessError):
            return False
        disk.close()
        return True
