"""What every blob store promises (``coordinator.contracts.BlobStore``)."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from coordinator.contracts import BlobStore
from coordinator.store.blobs import DirectoryBlobStore
from coordinator.store.opening import open_blobs
from secagg.errors import ConfigError, ConflictError, NotFoundError, UsageError
from tests.services.s3 import CREDENTIALS
from tests.services.shared import s3_server

Opener = Callable[[], BlobStore]


@pytest.fixture(params=["directory", "s3"])
def opened(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Opener:
    """Open the same store again each time it is called, as a restart does."""
    if request.param == "directory":
        return lambda: open_blobs(tmp_path / "blobs")
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    url = s3_server().new_bucket()
    return lambda: open_blobs(url)


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


def test_writing_replaces_what_was_appended(blobs: BlobStore) -> None:
    blobs.append("a", 0, b"first")
    blobs.append("a", 5, b" and longer")
    blobs.write("a", [b"first"])
    assert blobs.read("a", 0, 100) == b"first"
    assert blobs.size("a") == 5


def test_a_write_that_fails_leaves_what_was_there(blobs: BlobStore) -> None:
    def broken() -> Iterator[bytes]:
        yield b"half" * 5_000_000
        raise RuntimeError

    blobs.write("a", [b"whole"])
    with pytest.raises(RuntimeError):
        blobs.write("a", broken())
    assert blobs.read("a", 0, 100) == b"whole"
    assert blobs.names("") == ["a"]


@pytest.mark.parametrize("size", [0, 1, 8 * 1024**2, 8 * 1024**2 + 1, 20_000_000])
def test_a_blob_of_any_size_is_written_whole(blobs: BlobStore, size: int) -> None:
    content = bytes(range(256)) * (size // 256 + 1)
    assert (
        blobs.write("a", (content[start : min(start + 3_000_000, size)] for start in range(0, size, 3_000_000))) == size
    )
    assert blobs.size("a") == size
    assert blobs.read("a", 0, size + 1) == content[:size]
    assert blobs.names("") == ["a"]


def test_parts_are_appended_in_order(blobs: BlobStore, opened: Opener) -> None:
    assert blobs.append("a/b", 0, b"abc") == 3
    assert blobs.append("a/b", 3, memoryview(b"def")) == 6
    blobs.sync("a/b")
    assert opened().read("a/b", 0, 100) == b"abcdef"
    assert opened().append("a/b", 6, b"ghi") == 9


@pytest.mark.parametrize(("offset", "data", "size"), [(0, b"abc", 6), (1, b"bcdef", 6), (4, b"efgh", 8), (6, b"", 6)])
def test_a_repeated_part_is_harmless(blobs: BlobStore, offset: int, data: bytes, size: int) -> None:
    blobs.append("a", 0, b"ab")
    blobs.append("a", 2, b"cdef")
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


def test_a_blob_is_read_as_a_file_with_seeks(blobs: BlobStore) -> None:
    for offset, part in ((0, b"abc"), (3, b"d"), (4, b"efgh")):
        blobs.append("a", offset, part)
    with blobs.open("a") as file:
        assert file.read(5) == b"abcde"
        file.seek(1)
        assert (file.read(3), file.tell()) == (b"bcd", 4)
        assert file.seek(-2, 2) == 6
        assert file.read() == b"gh"
        file.seek(100)
        assert file.read(1) == b""
        buffer = bytearray(8)
        file.seek(0)
        assert (file.readinto(buffer), bytes(buffer)) == (8, b"abcdefgh")  # type: ignore[attr-defined]


def test_what_is_not_there_has_no_bytes(blobs: BlobStore) -> None:
    assert blobs.size("none") == 0
    for use in (lambda: blobs.open("none"), lambda: blobs.read("none", 0, 1), lambda: blobs.sync("none")):
        with pytest.raises(NotFoundError):
            use()


def test_deleting_a_prefix_takes_what_is_beneath_and_nothing_beside(blobs: BlobStore) -> None:
    for name in ("uploads/job/1/alice", "uploads/job/1/bob/c0", "uploads/job/10/alice", "uploads/job2/1/alice"):
        blobs.write(name, [b"x"])
    blobs.append("uploads/job/1/carol", 0, b"x")
    blobs.delete_prefix("uploads/job/1")
    blobs.delete_prefix("uploads/job/1")
    assert blobs.names("") == ["uploads/job/10/alice", "uploads/job2/1/alice"]
    assert blobs.names("uploads/job") == ["uploads/job/10/alice"]
    blobs.delete_prefix("uploads/job/10/alice")
    assert blobs.names("uploads/job") == []


def test_what_was_deleted_can_be_made_again(blobs: BlobStore) -> None:
    blobs.append("a/b", 0, b"first")
    blobs.delete_prefix("a")
    assert blobs.append("a/b", 0, b"again") == 5
    assert blobs.read("a/b", 0, 10) == b"again"


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


@pytest.mark.parametrize("offset", [2**63 - 1, 2**63, 2**64 - 1])
def test_no_offset_that_fits_the_wire_is_too_large_to_be_asked_for(blobs: BlobStore, offset: int) -> None:
    blobs.write("means/digits/1", [b"bytes"])
    assert blobs.read("means/digits/1", offset, 10) == b""


@pytest.mark.parametrize("url", ["", "http://bucket", "S3://bucket", "s3://", "s3:///prefix"])
def test_a_url_that_names_no_bucket_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="blobs_url"):
        open_blobs(url)


def test_all_but_one_go_and_so_does_what_a_killed_writer_left(blobs: BlobStore) -> None:
    for name in ("means/j/1/a", "means/j/1/b", "means/j/2/a"):
        blobs.write(name, [b"mean"])
    if isinstance(blobs, DirectoryBlobStore):
        half = blobs._root / "means/j/1/.new-0123456789abcdef"
        half.write_bytes(b"me")
    blobs.keep_only("means/j/1", "means/j/1/b")
    blobs.keep_only("means/j/3", "means/j/3/a")
    assert blobs.names("") == ["means/j/1/b", "means/j/2/a"]
    assert blobs.read("means/j/1/b", 0, 9) == b"mean"
    if isinstance(blobs, DirectoryBlobStore):
        assert not half.exists()
