"""Directories that a party writes to: there, its own, writable, and with room; nothing is written to find out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from secagg.doctor.examination import Check
from secagg.doctor.findings import Finding, broken, ok, warning

LEAST_BYTES: Final = 64 * 1024**2
"""Below it a database may not even store that it has no room."""
LEAST_FILES: Final = 100
OTHERS_BITS: Final = 0o077


def directory_check(setting: str, directory: Path, *, wanted_bytes: int = 0, private: bool = True) -> Check:
    """Return the check of one directory.

    Args:
        setting: what the configuration calls it.
        directory: where it is.
        wanted_bytes: room that the configuration lets this party use.
        private: whether nobody else may look inside.
    """
    return Check(area="disk", subject=str(directory), run=lambda: _directory(setting, directory, wanted_bytes, private))


def _directory(setting: str, directory: Path, wanted_bytes: int, private: bool) -> Iterator[Finding]:  # noqa: FBT001
    standing = next(one for one in (directory, *directory.parents) if one.exists())
    if not standing.is_dir():
        yield broken("disk.no-directory", directory, f"{standing} is no directory", f"Name another {setting}")
        return
    if standing != directory:
        yield ok("disk.not-made", directory, "it does not exist yet; the first start makes it")
    elif private and directory.stat().st_mode & OTHERS_BITS:
        says = "other users of this machine may look inside"
        yield warning("disk.open", directory, says, f"Run `chmod 700 {directory}`")
    yield from _usable(setting, directory, standing, wanted_bytes)


def _usable(setting: str, directory: Path, standing: Path, wanted_bytes: int) -> Iterator[Finding]:
    found = os.statvfs(standing)
    free_bytes = found.f_bavail * found.f_frsize
    if found.f_flag & os.ST_RDONLY:
        advice = f"Mount it for writing (`mount -o remount,rw`), after `dmesg` has told why it is not, or name another {setting}"
        yield broken("disk.read-only", directory, "its file system is mounted read-only", advice)
    elif not os.access(standing, os.W_OK | os.X_OK, effective_ids=True):
        advice = (
            f"Make this user its owner (`chown`), or run this as the user of the service; or name another {setting}"
        )
        yield broken("disk.not-writable", directory, "this user may not write there", advice)
    elif free_bytes < LEAST_BYTES:
        says = f"{mebibytes(free_bytes)} are free: nothing can be stored reliably"
        yield broken("disk.full", directory, says, "Make room; a round that waits goes on when there is some")
    elif found.f_files and found.f_favail < LEAST_FILES:
        says = f"room for {found.f_favail} more files: the file system is out of inodes"
        yield broken("disk.full", directory, says, "Delete small files there, or use another file system")
    elif free_bytes < wanted_bytes:
        says = f"{mebibytes(free_bytes)} are free, and the limits let it use {mebibytes(wanted_bytes)}"
        advice = "Make room, or lower limits.spool_bytes to what is free: then clients are told to wait before the disk is full"
        yield warning("disk.small", directory, says, advice)
    else:
        yield ok("disk.room", directory, f"it may be written, {mebibytes(free_bytes)} are free")


def mebibytes(count: int) -> str:
    """Return bytes as a person reads them."""
    return f"{count / 1024**3:,.1f} GiB" if count >= 1024**3 else f"{count / 1024**2:,.0f} MiB"
