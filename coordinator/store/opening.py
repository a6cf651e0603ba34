"""Which blob store a configuration means."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from coordinator.contracts import BlobStore
from coordinator.store.blobs import DirectoryBlobStore
from secagg.errors import ConfigError


def open_blobs(where: str | Path) -> BlobStore:
    """Open the blobs of a directory, of a URL ``file:///DIRECTORY``, or of ``s3://BUCKET/PREFIX?endpoint=...&region=...``.

    Raises:
        ConfigError: the URL cannot be used.
        StorageError: directory or bucket cannot be opened.
    """
    if isinstance(where, Path):
        return DirectoryBlobStore(where)
    if where.startswith("file:///"):
        return DirectoryBlobStore(Path(unquote(urlsplit(where).path)))
    if not where.startswith("s3://"):
        advice = "Use s3://BUCKET/PREFIX or file:///DIRECTORY, or leave blobs_url out: blobs stand in data_dir then"
        raise ConfigError("blobs_url is no URL of a bucket or directory", next_step=advice)
    # boto3 takes a while to load, and who has a directory needs none of it.
    from coordinator.store.s3 import S3BlobStore  # noqa: PLC0415

    return S3BlobStore(where)
