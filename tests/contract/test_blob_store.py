"""What every blob store promises (``coordinator.contracts.BlobStore``)."""

import mmap
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from coordinator.contracts import BlobStore
from coordinator.store.blobs import DirectoryBlobStore
from secagg.errors import ConflictError, NotFoundError, StorageError, UsageError

Opener = Callable[[], BlobStore]


@pytest.fixture(params=["directory"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    """Open the same store again each time it is called, as a restart does."""
    return {"directory": lambda: DirectoryBlobStore(tmp_path / "blobs")}[request.param]


@pytest.fixture
def blobs(opened: Opener) -> BlobStore:
    return opened()


def test_what_was_written_is_read_back_by_another_process(blobs: BlobStore, opened: Opener) -> None:
    assert blobs.write("means/job/1", iter([b"abc", b"", b"defg"])) == 7
    again = opened()
    assert again.read("means/job/1", 0, 100) == b"abcdefg"
    assert again.read("means/job/1", 2, 3) == b"cde"
    assert again.read("means/job/1", 7, 3) == b""
    assert again.size("means/job/1") == 7


def test_writing_replaces(blobs: BlobStore) -> None:
    blobs.write("a", [b"first and longer"])
    blobs.write("a", [b"second"])
    assert blobs.read("a", 0, 100) == b"second"


def test_a_write_that_fails_leaves_what_was_there(blobs: BlobStore) -> None:
    def broken() -> Iterator[bytes]:
        yield b"half"
        raise RuntimeError

    blobs.write("a", [b"whole"])
    with pytest.raises(RuntimeError):
        blobs.write("a", broken())
    assert blobs.read("a", 0, 100) == b"whole"
    assert blobs.names("") == ["a"]


def test_parts_are_appended_in_order(blobs: BlobStore, opened: Opener) -> None:
    assert blobs.append("a/b", 0, b"abc") == 3
    assert blobs.append("a/b", 3, memoryview(b"def")) == 6
    blobs.sync("a/b")
    assert opened().read("a/b", 0, 100) == b"abcdef"


@pytest.mark.parametrize(("offset", "data", "size"), [(0, b"abc", 6), (1, b"bcdef", 6), (4, b"efgh", 8), (6, b"", 6)])
def test_a_repeated_part_is_harmless(blobs: BlobStore, offset: int, data: bytes, size: int) -> None:
    blobs.append("a", 0, b"abcdef")
    assert blobs.append("a", offset, data) == size
    assert blobs.read("a", 0, 100) == b"abcdefgh"[:size]


def test_other_bytes_in_the_same_place_are_refused(blobs: BlobStore) -> None:
    blobs.append("a", 0, b"abcdef")
    with pytest.raises(ConflictError):
        blobs.append("a", 3, b"dXf")
    with pytest.raises(ConflictError):
        blobs.append("a", 5, b"Xgh")
    assert blobs.read("a", 0, 100) == b"abcdef"


@pytest.mark.parametrize("offset", [-1, 4])
def test_a_gap_is_refused_and_says_where_to_go_on(blobs: BlobStore, offset: int) -> None:
    blobs.append("a", 0, b"abc")
    with pytest.raises(UsageError, match="Go on at 3"):
        blobs.append("a", offset, b"x")
    assert blobs.size("a") == 3


def test_a_blob_can_be_mapped(blobs: BlobStore) -> None:
    blobs.append("a", 0, b"abcdef")
    with blobs.open("a") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert mapped[2:4] == b"cd"


def test_what_is_not_there_has_no_bytes(blobs: BlobStore) -> None:
    assert blobs.size("none") == 0
    for use in (lambda: blobs.open("none"), lambda: blobs.read("none", 0, 1), lambda: blobs.sync("none")):
        with pytest.raises(NotFoundError):
            use()


def test_deleting_a_prefix_takes_what_is_beneath_and_nothing_beside(blobs: BlobStore) -> None:
    for name in ("uploads/job/1/alice", "uploads/job/1/bob/c0", "uploads/job/10/alice", "uploads/job2/1/alice"):
        blobs.write(name, [b"x"])
    blobs.delete_prefix("uploads/job/1")
    blobs.delete_prefix("uploads/job/1")
    assert blobs.names("") == ["uploads/job/10/alice", "uploads/job2/1/alice"]
    assert blobs.names("uploads/job") == ["uploads/job/10/alice"]
    blobs.delete_prefix("uploads/job/10/alice")
    assert blobs.names("uploads/job") == []


@pytest.mark.parametrize(
    "name",
    ["", "/etc/passwd", "..", "a/../b", "a//b", "a/", ".hidden", "a\\b", "a\0b", "ä", "a" * 101, "/".join("abcdefghi")],
)
def test_no_name_leads_out_of_the_store(blobs: BlobStore, name: str) -> None:
    uses: list[Callable[[], object]] = [
        lambda: blobs.write(name, [b"x"]),
        lambda: blobs.append(name, 0, b"x"),
        lambda: blobs.read(name, 0, 1),
        lambda: blobs.size(name),
        lambda: blobs.open(name),
        lambda: blobs.delete_prefix(name),
    ]
    for use in uses:
        with pytest.raises(UsageError):
            use()


@pytest.mark.parametrize(("offset", "length"), [(-1, 1), (0, -1)])
def test_reading_starts_inside(blobs: BlobStore, offset: int, length: int) -> None:
    blobs.write("a", [b"x"])
    with pytest.raises(UsageError):
        blobs.read("a", offset, length)


def test_a_directory_that_cannot_be_used_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError):
        DirectoryBlobStore(tmp_path / "file" / "blobs")


def test_a_blob_cannot_be_where_a_prefix_is(blobs: BlobStore) -> None:
    blobs.write("a/b", [b"x"])
    with pytest.raises(StorageError):
        blobs.write("a", [b"y"])
    with pytest.raises(StorageError):
        blobs.write("a/b/c", [b"y"])
    assert blobs.read("a/b", 0, 10) == b"x"


def test_nobody_else_may_read_blobs(tmp_path: Path) -> None:
    blobs = DirectoryBlobStore(tmp_path / "blobs")
    blobs.write("a/b", [b"x"])
    blobs.append("a/c", 0, b"x")
    modes = {path.stat().st_mode & 0o077 for path in [tmp_path / "blobs", *(tmp_path / "blobs").rglob("*")]}
    assert modes == {0}


def test_what_a_kill_left_half_written_is_gone_after_a_restart(tmp_path: Path) -> None:
    DirectoryBlobStore(tmp_path).write("a/b", [b"x"])
    (tmp_path / "a" / ".new-0123").write_bytes(b"half")
    assert DirectoryBlobStore(tmp_path).names("") == ["a/b"]
    assert os.listdir(tmp_path / "a") == ["b"]  # noqa: PTH208 - names alone


@pytest.mark.parametrize("offset", [2**63 - 1, 2**63, 2**64 - 1])
def test_no_offset_that_fits_the_wire_is_too_large_to_be_asked_for(blobs: BlobStore, offset: int) -> None:
    blobs.write("means/digits/1", [b"bytes"])
    assert blobs.read("means/digits/1", offset, 10) == b""
