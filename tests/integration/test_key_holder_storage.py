"""A disk that is full or read-only: nothing is acknowledged that is not stored, and the holder goes on when there is space."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from secagg.errors import StorageError
from secagg.key_holder.server import KeyHolderServer
from tests.holder_material import ceremony_plan
from tests.key_holder_house import HOLDERS, NORTH, SECONDS, SPEC, House, opening_of, refused
from tests.pki_material import deployment

DISK_BYTES = 4 << 20


@dataclass
class SmallDisk:
    """A file system of 4 MiB, or where this process may not mount one, a limit of the size of every file."""

    directory: Path
    mounted: bool

    @contextmanager
    def full(self, *, left_bytes: int = 0) -> Iterator[None]:
        """Fill it up, but for some bytes."""
        if not self.mounted:
            soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (left_bytes, hard))
            try:
                yield
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            return
        filler = self.directory / "filler"
        state = os.statvfs(self.directory)
        with filler.open("wb", buffering=0) as file, suppress(OSError):
            for _ in range((state.f_bavail * state.f_frsize - left_bytes) // 4096):
                file.write(bytes(4096))
        try:
            yield
        finally:
            filler.unlink()

    def remount(self, how: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{how}", self.directory], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    directory = tmp_path / "holders"
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(directory)]
    mounted = os.geteuid() == 0 and subprocess.run(mount, check=False, capture_output=True).returncode == 0
    yield SmallDisk(directory=directory, mounted=mounted)
    if mounted:
        subprocess.run(["umount", str(directory)], check=True)


@pytest.fixture
async def house(disk: SmallDisk, tmp_path: Path) -> AsyncIterator[House]:
    made = House(directory=disk.directory, made=deployment(tmp_path / "pki"))
    for holder in HOLDERS:
        await made.start(holder)
    yield made
    await made.close()


async def test_nothing_is_approved_that_cannot_be_stored(house: House, disk: SmallDisk) -> None:
    opening = await opening_of(house)
    for left_bytes in (0, 64 << 10):  # too little for anything; enough for the ledger's line, too little for the sum
        with disk.full(left_bytes=left_bytes):
            await refused(opening.approve(NORTH), StorageError)
        assert opening.recorded(NORTH) is None
        assert not [*(house.directory / NORTH).glob("sums/*"), *(house.directory / NORTH).glob("sums/.*")]
    approvals = [await opening.approve(holder) for holder in HOLDERS]
    assert opening.recorded(NORTH) == opening.digest
    await opening.decrypt(NORTH, approvals)


async def test_nothing_is_begun_that_cannot_be_stored(house: House, disk: SmallDisk) -> None:
    plan = ceremony_plan(SPEC)
    calls = house.pool().calls[NORTH]
    with disk.full():
        await refused(calls.begin_ceremony(plan, timeout_seconds=SECONDS), StorageError)
    first = await calls.begin_ceremony(plan, timeout_seconds=SECONDS)
    assert (await calls.begin_ceremony(plan, timeout_seconds=SECONDS)).message == first.message


async def test_a_disk_that_cannot_be_written_is_told_at_the_start(house: House, disk: SmallDisk) -> None:
    for holder in HOLDERS:
        await house.stop(holder)
    if disk.mounted:
        disk.remount("ro")
        with pytest.raises(StorageError, match="Read-only"):
            KeyHolderServer(house.settings(NORTH))
        disk.remount("rw")
    await house.start(NORTH)
