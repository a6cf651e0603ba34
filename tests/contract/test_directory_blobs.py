"""What is true of blobs in a directory alone: modes, mapping, full disks, what kills leave behind."""

import mmap
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from coordinator.store.blobs import DirectoryBlobStore
from secagg.errors import StorageError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def blobs(tmp_path: Path) -> DirectoryBlobStore:
    return DirectoryBlobStore(tmp_path / "blobs")


def test_a_blob_can_be_mapped(blobs: DirectoryBlobStore) -> None:
    blobs.append("a", 0, b"abcdef")
    with blobs.open("a") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert mapped[2:4] == b"cd"


def test_a_directory_that_cannot_be_used_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError):
        DirectoryBlobStore(tmp_path / "file" / "blobs")


def test_a_blob_cannot_be_where_a_prefix_is(blobs: DirectoryBlobStore) -> None:
    blobs.write("a/b", [b"x"])
    with pytest.raises(StorageError):
        blobs.write("a", [b"y"])
    with pytest.raises(StorageError):
        blobs.write("a/b/c", [b"y"])
    assert blobs.read("a/b", 0, 10) == b"x"


def test_nobody_else_may_read_blobs(blobs: DirectoryBlobStore, tmp_path: Path) -> None:
    blobs.write("a/b", [b"x"])
    blobs.append("a/c", 0, b"x")
    modes = {path.stat().st_mode & 0o077 for path in [tmp_path / "blobs", *(tmp_path / "blobs").rglob("*")]}
    assert modes == {0}


def test_what_a_kill_left_half_written_goes_when_it_is_old_and_no_sooner(tmp_path: Path) -> None:
    """Another coordinator may be writing it right now."""
    DirectoryBlobStore(tmp_path).write("a/b", [b"x"])
    old, new = tmp_path / "a" / ".new-0123", tmp_path / "a" / ".new-4567"
    for path in (old, new):
        path.write_bytes(b"half")
    long_ago = time.time() - 3601
    os.utime(old, (long_ago, long_ago))
    os.utime(tmp_path / "a" / "b", (long_ago, long_ago))
    assert DirectoryBlobStore(tmp_path).names("") == ["a/b"]
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"b", ".new-4567"}


def test_a_restart_does_not_break_a_write_of_another_process(tmp_path: Path) -> None:
    writer = DirectoryBlobStore(tmp_path)

    def parts() -> "list[bytes]":
        DirectoryBlobStore(tmp_path)
        return [b"x"]

    def slowly() -> "object":
        yield b"a"
        yield from parts()

    assert writer.write("a", slowly()) == 2  # type: ignore[arg-type]
    assert writer.read("a", 0, 10) == b"ax"


_ON_A_SMALL_DISK = """
import sys
from pathlib import Path
from coordinator.store.blobs import DirectoryBlobStore
from secagg.errors import StorageError
blobs = DirectoryBlobStore(Path(sys.argv[1]))
size = 0
try:
    while True:
        size = blobs.append("a", size, bytes(300_000))
except StorageError as error:
    print(error)
    assert blobs.size("a") == size, (blobs.size("a"), size)
try:
    blobs.write("b", [bytes(2_000_000)])
except StorageError as error:
    print(error)
print(blobs.names(""))
"""


def _with_small_disk(directory: Path, options: str) -> "subprocess.CompletedProcess[str]":
    """Run the script with a disk of its own, in a mount namespace that ends with it."""
    mount = f'mount -t tmpfs -o size=1m{options} none {directory} && exec {sys.executable} -c "$0" {directory}'
    command = ["unshare", "--mount", "sh", "-c", mount, _ON_A_SMALL_DISK]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a disk; the next tests show the same without one")
def test_a_full_disk_is_named_and_nothing_half_written_stays(tmp_path: Path) -> None:
    ran = _with_small_disk(tmp_path, "")
    if "unshare" in ran.stderr or "mount:" in ran.stderr:
        pytest.skip("this machine lets nobody mount")
    assert ran.stdout.count("the disk is full. Make space") == 2, ran.stderr
    assert ran.stdout.endswith("['a']\n")


def test_what_fits_of_a_part_is_taken_back(blobs: DirectoryBlobStore, tmp_path: Path) -> None:
    """A file-size limit ends a write in the middle, as a disk that fills up does."""
    assert blobs.append("a", 0, bytes(1000)) == 1000
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1500, hard))
    try:
        with pytest.raises(StorageError):
            blobs.append("a", 1000, bytes(1000))
        assert blobs.size("a") == 1000
        with pytest.raises(StorageError):
            blobs.write("b", [bytes(2000)])
        assert blobs.names("") == ["a"]
        assert blobs.append("a", 1000, bytes(300)) == 1300
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert blobs.append("a", 1300, bytes(1000)) == 2300
    assert {path.name for path in (tmp_path / "blobs").iterdir()} == {"a"}


@pytest.mark.parametrize(("name", "words"), [("ENOSPC", "full"), ("EDQUOT", "quota"), ("EROFS", "read-only")])
def test_a_disk_that_takes_nothing_is_named_with_the_way_out(
    blobs: DirectoryBlobStore, monkeypatch: pytest.MonkeyPatch, name: str, words: str
) -> None:
    def refuse(*_: object, **__: object) -> int:
        import errno

        raise OSError(getattr(errno, name), "raw words of the system")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(StorageError, match=f"{words}.*the round goes on when space is back"):
        blobs.append("a", 0, b"x")
