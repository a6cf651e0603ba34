"""Parts of means: large while few download, and never more than the bound together."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from coordinator.downloads import DOWNLOAD_BYTES, LEAST_PART_BYTES, MOST_PART_BYTES, Downloads, part_bytes
from coordinator.store.blobs import DirectoryBlobStore

MEAN = bytes(range(256)) * (3 * MOST_PART_BYTES // 256 + 1)


@pytest.fixture
def downloads(tmp_path: Path) -> Downloads:
    blobs = DirectoryBlobStore(tmp_path)
    blobs.write("mean", [MEAN])
    return Downloads(blobs)


@pytest.mark.parametrize("count", [1, 16, 64, 200])
async def test_all_parts_together_stay_within_the_bound(downloads: Downloads, count: int) -> None:
    """Also of callers that read their first part when few others were there, and nothing since."""
    with ExitStack() as others:
        reads = [others.enter_context(downloads.begin("mean")) for _ in range(count)]
        parts = [await read(0) for read in reads]
        assert sum(map(len, parts)) == downloads.held
        assert downloads.held <= DOWNLOAD_BYTES + count * LEAST_PART_BYTES
        assert min(map(len, parts)) >= LEAST_PART_BYTES
    assert downloads.held == 0


def test_a_part_has_a_least_and_a_most_length() -> None:
    assert part_bytes(0) == MOST_PART_BYTES
    assert part_bytes(DOWNLOAD_BYTES) == part_bytes(2 * DOWNLOAD_BYTES) == LEAST_PART_BYTES


async def test_a_blob_is_read_to_its_end(downloads: Downloads) -> None:
    read = bytearray()
    with downloads.begin("mean") as part:
        while data := await part(len(read)):
            read += data
    assert read == MEAN


async def test_those_who_download_at_a_time_have_parts_alike(downloads: Downloads) -> None:
    with ExitStack() as others:
        reads = [others.enter_context(downloads.begin("mean")) for _ in range(50)]
        sizes = [[len(await read(0)) for read in reads] for _ in range(30)][-1]
    assert max(sizes) < 1.05 * min(sizes)
    assert sum(sizes) > DOWNLOAD_BYTES / 2
