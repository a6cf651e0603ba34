"""Objects in an S3-compatible bucket, through boto3: every wait and every retry has a limit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from itertools import chain, islice
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from secagg.errors import ConfigError, NotFoundError, StorageError

PART_BYTES: Final = 8 * 1024**2
"""Bytes of one part of a multipart upload; all but the last must have 5 MiB or more."""
_KEYS_AT_ONCE: Final = 1000
_ABANDONED: Final = timedelta(hours=1)
_ADVICE: Final = "Use s3://BUCKET/PREFIX?endpoint=http://HOST:PORT&region=NAME; credentials stand in the environment"
_LIMITS: Final = Config(
    connect_timeout=5,
    read_timeout=30,
    retries={"mode": "standard", "total_max_attempts": 4},
    max_pool_connections=32,
    # Many compatible servers know no other checksums than the signature's.
    request_checksum_calculation="when_required",
    response_checksum_validation="when_required",
)
_CLIENT_ERRORS: Final = {
    "NoSuchBucket": "Make the bucket, or correct blobs_url",
    "404": "Make the bucket, or correct blobs_url",
    "AccessDenied": "Give these credentials the right to list, read, write and delete beneath the prefix",
    "403": "Give these credentials the right to list, read, write and delete beneath the prefix",
    "InvalidAccessKeyId": "Correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the profile",
    "SignatureDoesNotMatch": "Correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the profile",
    "QuotaExceeded": "Make space; the round goes on when space is back",
    "XMinioStorageFull": "Make space; the round goes on when space is back",
}


class Bucket:
    """The objects beneath a prefix of a bucket. Keys here are without the prefix; safe to use from several threads.

    Raises:
        ConfigError: the URL cannot be used.
        StorageError: the bucket cannot be reached, or does not let us in. So does every method.
    """

    def __init__(self, url: str) -> None:
        self._name, self._prefix, options = _parsed(url)
        try:
            self._client: Any = boto3.session.Session().client(
                "s3", endpoint_url=options.get("endpoint"), region_name=options.get("region"), config=_config(options)
            )
        except (BotoCoreError, ValueError) as error:
            raise ConfigError(f"blobs_url cannot be used: {error}", next_step=_ADVICE) from None
        with self._errors():
            self._client.list_objects_v2(Bucket=self._name, Prefix=self._prefix, MaxKeys=1)

    def objects(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Yield key and bytes of each object beneath a prefix, by key; no more than a page of them is in memory."""
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._name, Prefix=self._prefix + prefix, PaginationConfig={"PageSize": _KEYS_AT_ONCE}
        )
        with self._errors():
            for page in pages:
                for one in page.get("Contents", ()):
                    yield one["Key"].removeprefix(self._prefix), int(one["Size"])

    def get(self, key: str, offset: int, length: int) -> bytes:
        """Return bytes of an object; raises ``NotFoundError`` where there is none."""
        wanted = f"bytes={offset}-{offset + length - 1}"
        with self._errors():
            answer = self._client.get_object(Bucket=self._name, Key=self._prefix + key, Range=wanted)
            data: bytes = answer["Body"].read()
        if len(data) != length:
            raise StorageError(f"{key} is shorter than the bucket said", next_step="Try again; it is being replaced")
        return data

    def put(self, key: str, parts: Iterable[bytes]) -> int:
        """Store an object in one step, with no more than two parts of the upload in memory; return its bytes."""
        blocks = _blocks(parts)
        first = list(islice(blocks, 2))
        if len(first) > 1:
            return self._put_large(key, chain(_drained(first), blocks))
        data = first[0] if first else b""
        with self._errors():
            self._client.put_object(Bucket=self._name, Key=self._prefix + key, Body=data)
        return len(data)

    def put_new(self, key: str, data: memoryview) -> bool:
        """Store an object unless there is one; return whether there was none.

        Raises:
            StorageError: it failed, or another task stores that object right now.
        """
        try:
            with self._errors():
                self._client.put_object(Bucket=self._name, Key=self._prefix + key, Body=bytes(data), IfNoneMatch="*")
        except _AlreadyThereError:
            return False
        return True

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; harmless where there are none."""
        left = iter(keys)
        while some := [{"Key": self._prefix + key} for key in islice(left, _KEYS_AT_ONCE)]:
            with self._errors():
                answer = self._client.delete_objects(Bucket=self._name, Delete={"Objects": some, "Quiet": True})
            for failed in answer.get("Errors", ())[:1]:
                raise StorageError(f"objects could not be deleted from the bucket {self._name}: {failed.get('Code')}")

    def end_abandoned_uploads(self) -> None:
        """End what killed processes left half written; other processes' uploads of the last hour go on."""
        limit = datetime.now(UTC) - _ABANDONED
        pages = self._client.get_paginator("list_multipart_uploads").paginate(Bucket=self._name, Prefix=self._prefix)
        # Not every server lists them, and not everybody may: an expiry rule of the bucket does the same.
        with suppress(ClientError, BotoCoreError):
            for page in pages:
                for upload in page.get("Uploads", ()):
                    if upload["Initiated"] < limit:
                        self._abort(upload["Key"], upload["UploadId"])

    def _put_large(self, key: str, blocks: Iterable[bytes]) -> int:
        where = {"Bucket": self._name, "Key": self._prefix + key}
        with self._errors():
            where["UploadId"] = self._client.create_multipart_upload(**where)["UploadId"]
        try:
            return self._put_blocks(where, blocks)
        except BaseException:
            with suppress(ClientError, BotoCoreError):
                self._abort(where["Key"], where["UploadId"])
            raise

    def _put_blocks(self, where: dict[str, str], blocks: Iterable[bytes]) -> int:
        size = 0
        done: list[dict[str, object]] = []
        for number, block in enumerate(blocks, start=1):
            with self._errors():
                answer = self._client.upload_part(**where, PartNumber=number, Body=block)
            done.append({"PartNumber": number, "ETag": answer["ETag"]})
            size += len(block)
        with self._errors():
            self._client.complete_multipart_upload(**where, MultipartUpload={"Parts": done})
        return size

    def _abort(self, key: str, upload: str) -> None:
        self._client.abort_multipart_upload(Bucket=self._name, Key=key, UploadId=upload)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except NoCredentialsError as error:
            advice = "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
            raise StorageError("there are no credentials for the bucket", next_step=advice) from error
        except ClientError as error:
            raise self._client_error(error) from error
        except BotoCoreError as error:
            advice = "Check that the endpoint of blobs_url runs and is reachable; the round goes on when it is"
            raise StorageError(f"the bucket {self._name} cannot be used: {error}"[:500], next_step=advice) from error

    def _client_error(self, error: ClientError) -> Exception:
        code = str(error.response.get("Error", {}).get("Code", "unknown"))
        # 409: another task stores it right now, and may still fail.
        if code in {"PreconditionFailed", "412"}:
            return _AlreadyThereError()
        if code == "NoSuchKey":
            return NotFoundError("the blob is not there any more")
        return StorageError(f"the bucket {self._name} refused: {code[:80]}", next_step=_CLIENT_ERRORS.get(code))


class _AlreadyThereError(Exception):
    """There is an object of that key; never leaves this module."""


def _parsed(url: str) -> tuple[str, str, dict[str, str]]:
    try:
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, strict_parsing=True)) if parts.query else {}
    except ValueError:
        raise ConfigError("blobs_url cannot be read", next_step=_ADVICE) from None
    if parts.scheme != "s3" or not parts.netloc:
        raise ConfigError("blobs_url names no bucket", next_step=_ADVICE)
    if "@" in parts.netloc or ":" in parts.netloc:
        raise ConfigError("blobs_url holds more than a bucket before its path", next_step=_ADVICE)
    if unknown := sorted(set(options) - {"endpoint", "region"}):
        raise ConfigError(f"blobs_url has an option that is none: {unknown[0][:40]}", next_step=_ADVICE)
    prefix = parts.path.strip("/")
    return parts.netloc, f"{prefix}/" if prefix else "", options


def _config(options: dict[str, str]) -> Config:
    # Servers other than Amazon's seldom have a name for each bucket.
    return _LIMITS.merge(Config(s3={"addressing_style": "path"})) if "endpoint" in options else _LIMITS


def _drained(blocks: list[bytes]) -> Iterator[bytes]:
    """Yield blocks and keep none."""
    while blocks:
        yield blocks.pop(0)


def _blocks(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the same bytes in blocks of :data:`PART_BYTES`; the last may be shorter."""
    waiting = bytearray()
    for part in parts:
        waiting += part
        while len(waiting) >= PART_BYTES:
            yield bytes(waiting[:PART_BYTES])
            del waiting[:PART_BYTES]
    if waiting:
        yield bytes(waiting)
