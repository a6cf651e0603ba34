"""What is true of blobs in a bucket alone: URLs, credentials, bounded memory, several processes, an unreachable server."""

import os
import time
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import boto3
import pytest

from coordinator.store import bucket
from coordinator.store.opening import open_blobs
from secagg.demo.processes import free_port
from secagg.errors import ConfigError, ConflictError, StorageError, UsageError
from tests.services.s3 import CREDENTIALS, REGION, S3Server
from tests.services.shared import s3_server


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def url() -> str:
    return s3_server().new_bucket()


@pytest.fixture
def client() -> Iterator[object]:
    client = boto3.client("s3", endpoint_url=s3_server().endpoint, region_name=REGION)
    yield client
    client.close()


def _bucket(url: str) -> str:
    return url.removeprefix("s3://").partition("/")[0]


def _keys(client: object, url: str) -> list[str]:
    return [one["Key"] for one in client.list_objects_v2(Bucket=_bucket(url)).get("Contents", ())]  # type: ignore[attr-defined]


def test_everything_stands_beneath_the_prefix(url: str, client: object) -> None:
    blobs = open_blobs(url)
    blobs.write("a", [b"x"])
    blobs.append("b/c", 0, b"y")
    blobs.append("b/c", 1, b"z")
    names = ["secagg/a/.whole", "secagg/b/c/.part-00000000000000000000", "secagg/b/c/.part-00000000000000000001"]
    assert _keys(client, url) == names


def test_two_prefixes_of_a_bucket_do_not_meet(url: str) -> None:
    first, second = open_blobs(url), open_blobs(url.replace("/secagg?", "/other?"))
    first.write("a", [b"first"])
    second.write("a", [b"second"])
    second.delete_prefix("a")
    assert (first.names(""), second.names("")) == (["a"], [])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("s3://key:secret@bucket/p", "more than a bucket"),
        ("s3://bucket/p?secret_key=hunter2", "secret_key"),
        ("s3://bucket/p?endpoint=nonsense", "cannot be used"),
        ("s3://bucket/p?endpoint", "cannot be read"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_and_not_repeated(change: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        open_blobs(change)
    assert "hunter2" not in str(caught.value)
    assert "secret@" not in str(caught.value)


def test_a_bucket_that_is_not_there_is_named_with_the_way_out(url: str) -> None:
    with pytest.raises(StorageError, match=r"nobodys-bucket.*NoSuchBucket.*Make the bucket"):
        open_blobs(f"s3://nobodys-bucket/p?{url.partition('?')[2]}")


def test_missing_credentials_are_named(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in CREDENTIALS:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    with pytest.raises(StorageError, match=r"no credentials.*AWS_ACCESS_KEY_ID"):
        open_blobs(url)


def test_a_server_that_is_not_there_is_an_error_within_a_limit() -> None:
    began = time.monotonic()
    with pytest.raises(StorageError, match="endpoint of blobs_url"):
        open_blobs(f"s3://bucket/p?endpoint=http://127.0.0.1:{free_port()}&region={REGION}")
    assert time.monotonic() - began < 60


def test_a_server_that_goes_away_is_a_storage_error() -> None:
    with S3Server() as server:
        blobs = open_blobs(server.new_bucket())
        blobs.append("a", 0, b"x")
    with pytest.raises(StorageError, match="cannot be used"):
        blobs.append("a", 1, b"y")


def test_large_blobs_are_written_and_read_with_bounded_memory(url: str) -> None:
    blobs = open_blobs(url)
    piece = bytes(range(256)) * 4096
    blobs.write("warm", [piece])
    tracemalloc.start()
    try:
        assert blobs.write("a", (piece for _ in range(60))) == 60 * len(piece)
        with blobs.open("a") as file:
            assert sum(len(part) for part in iter(lambda: file.read(100_000), b"")) == 60 * len(piece)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 44 * 1024**2


def test_of_tasks_that_append_different_bytes_one_wins(url: str) -> None:
    stores = [open_blobs(url) for _ in range(4)]

    def work(number: int) -> bytes | None:
        data = b"%d" % number * 10
        try:
            stores[number].append("a", 0, data)
        except ConflictError:
            return None
        return data

    with ThreadPoolExecutor(4) as pool:
        won = [data for data in pool.map(work, range(4)) if data is not None]
    assert won == [stores[0].read("a", 0, 100)]


def test_a_stray_part_behind_a_gap_does_not_count(url: str, client: object) -> None:
    blobs = open_blobs(url)
    blobs.append("a", 0, b"abc")
    client.put_object(Bucket=_bucket(url), Key="secagg/a/.part-00000000000000000009", Body=b"stray")  # type: ignore[attr-defined]
    assert (blobs.size("a"), blobs.read("a", 0, 100)) == (3, b"abc")
    blobs.delete_prefix("a")
    assert _keys(client, url) == []


def test_what_a_kill_left_of_a_write_before_does_not_count(url: str, client: object) -> None:
    """The whole is there and the parts of before are not gone yet."""
    blobs = open_blobs(url)
    blobs.write("a", [b"whole"])
    for offset in (0, 5):
        client.put_object(Bucket=_bucket(url), Key=f"secagg/a/.part-{offset:020d}", Body=b"parts")  # type: ignore[attr-defined]
    assert (blobs.size("a"), blobs.read("a", 0, 100)) == (5, b"whole")


def test_nothing_is_appended_to_what_was_written(url: str) -> None:
    blobs = open_blobs(url)
    blobs.write("a", [b"abc"])
    assert blobs.append("a", 0, b"abc") == 3
    with pytest.raises(UsageError, match="whole"):
        blobs.append("a", 3, b"d")


def test_more_blobs_than_a_page_holds_are_listed_and_deleted(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bucket, "_KEYS_AT_ONCE", 7)
    blobs = open_blobs(url)
    names = [f"uploads/job/1/client-{number:04d}" for number in range(25)]
    for name in names:
        blobs.write(name, [b"x"])
    assert blobs.names("uploads") == names
    blobs.delete_prefix("uploads")
    assert blobs.names("") == []


def test_an_upload_that_was_cut_off_leaves_nothing(url: str, client: object) -> None:
    def cut() -> Iterator[bytes]:
        yield bytes(20_000_000)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        open_blobs(url).write("a", cut())
    assert "Uploads" not in client.list_multipart_uploads(Bucket=_bucket(url))  # type: ignore[attr-defined]
    assert _keys(client, url) == []
