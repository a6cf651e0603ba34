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


@pytest.mark.parametrize("running", [1, 2, 10, 16, 17, 100, 256])
def test_all_parts_together_stay_within_the_bound(running: int) -> None:
    assert LEAST_PART_BYTES <= part_bytes(running) <= MOST_PART_BYTES
    assert running * part_bytes(running) <= DOWNLOAD_BYTES


def test_a_part_has_a_least_length_however_many_download() -> None:
    assert part_bytes(1_000_000) == LEAST_PART_BYTES
    assert part_bytes(1) == MOST_PART_BYTES


async def test_a_blob_is_read_to_its_end(downloads: Downloads) -> None:
    read = bytearray()
    with downloads.begin("mean") as part:
        while data := await part(len(read)):
            read += data
    assert read == MEAN


async def test_parts_shrink_while_others_download(downloads: Downloads) -> None:
    alone = 2 * DOWNLOAD_BYTES // MOST_PART_BYTES
    with ExitStack() as others:
        parts = [others.enter_context(downloads.begin("mean")) for _ in range(alone)]
        assert len(await parts[0](0)) == MOST_PART_BYTES // 2
    with downloads.begin("mean") as part:
        assert len(await part(0)) == MOST_PART_BYTES
