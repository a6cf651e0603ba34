"""What `secagg doctor` says of a real PostgreSQL and a real S3-compatible server, and that it leaves them as they were."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import boto3
import pytest
from sqlalchemy import insert, make_url

from coordinator.doctor_store import blob_check, database_check
from coordinator.store.opening import open_blobs
from coordinator.store.schema import open_database
from coordinator.store.tables import EVENTS, JOBS
from secagg.doctor.examination import Check, Examination, run_checks
from secagg.doctor.findings import Finding, Level
from tests.doctor_material import QUICK, bad, checks, off_by, the
from tests.services.s3 import CREDENTIALS
from tests.services.shared import postgres_server, s3_server


def _run(check: Check, examination: Examination = QUICK) -> list[Finding]:
    findings = run_checks([check], examination)
    assert all(one.advice for one in findings if one.level is not Level.OK)
    return findings


def _store(url: str, examination: Examination = QUICK) -> list[Finding]:
    findings = _run(database_check(url, examination), examination)
    assert str(make_url(url).password) not in repr(findings)
    return findings


# PostgreSQL


@pytest.fixture
def empty() -> str:
    return postgres_server().new_database()


@pytest.fixture
def database(empty: str) -> str:
    open_database(empty).dispose()
    return empty


def _execute(url: str, *statements: str) -> list[tuple[object, ...]]:
    with postgres_server().connect(url.rpartition("/")[2]) as connection:
        for statement in statements[:-1]:
            connection.execute(statement.encode())
        cursor = connection.execute(statements[-1].encode())
        return [] if cursor.description is None else cursor.fetchall()


def test_a_sound_database(database: str) -> None:
    findings = _store(database)
    assert not bad(findings)
    assert checks(findings) == {"store.schema-current", "store.writable", "clock.agrees"}


def test_an_empty_database_is_not_given_our_tables(empty: str) -> None:
    assert bad(_store(empty)) == {"store.schema-behind"}
    assert _execute(empty, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(0,)]


def test_a_database_of_a_newer_and_of_an_older_version(database: str) -> None:
    _execute(database, "UPDATE alembic_version SET version_num = '9999'")
    assert checks(_store(database), Level.BROKEN) == {"store.schema-newer"}
    _execute(database, "UPDATE alembic_version SET version_num = '0001'")
    assert checks(_store(database), Level.WARNING) == {"store.schema-behind"}
    assert _execute(database, "SELECT version_num FROM alembic_version") == [("0001",)]


def test_a_database_of_something_else(empty: str) -> None:
    _execute(empty, "CREATE TABLE songs (title TEXT)")
    assert checks(_store(empty), Level.BROKEN) == {"store.foreign"}


def test_a_database_that_only_reads(database: str) -> None:
    name = database.rpartition("/")[2]
    _execute(database, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    assert "may not write" in the(_store(database), "store.not-writable").says


def test_a_wrong_password_is_neither_taken_nor_shown(database: str) -> None:
    wrong = make_url(database).set(password="a-wrong-password").render_as_string(hide_password=False)
    finding = the(_store(wrong), "store.unusable")
    assert "authentication failed" in finding.says


@pytest.mark.parametrize(
    ("off", "check", "words"),
    [(timedelta(hours=-2), "clock.wrong", "behind"), (timedelta(seconds=40), "clock.differs", "s ahead of")],
)
def test_the_clock_of_the_database_is_compared_with(database: str, off: timedelta, check: str, words: str) -> None:
    assert words in the(_store(database, off_by(off)), check).says


def test_a_record_from_the_future_shows_a_clock_that_is_behind(database: str) -> None:
    later = (datetime.now(UTC) + timedelta(hours=1)).timestamp()
    engine = open_database(database)
    with engine.begin() as connection:
        connection.execute(insert(JOBS).values(job="mnist", spec=b"", state="running", created_at=later))
        connection.execute(insert(EVENTS).values(job="mnist", round=1, event="round-opened", details={}, at=later))
    engine.dispose()
    assert checks(_store(database), Level.BROKEN) == {"clock.behind"}


# A bucket


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    return s3_server().new_bucket()


def _keys(url: str) -> list[str]:
    client = boto3.client("s3", endpoint_url=s3_server().endpoint, region_name="eu-central-1")
    found = client.list_objects_v2(Bucket=urlsplit(url).netloc).get("Contents", [])
    client.close()
    return [one["Key"] for one in found]


def test_a_probe_leaves_nothing_in_a_bucket_and_compares_the_clock(bucket: str) -> None:
    open_blobs(bucket).write("mnist/1/mean", [b"mean"])
    before = _keys(bucket)
    findings = _run(blob_check(bucket, QUICK))
    assert checks(findings) == {"blobs.usable", "clock.agrees"}
    assert _keys(bucket) == before != []
    assert "clock.wrong" in bad(_run(blob_check(bucket, off_by(timedelta(hours=3))), QUICK))


def test_a_bucket_that_is_not_there(bucket: str) -> None:
    missing = bucket.replace("s3://test-", "s3://missing-")
    finding = the(_run(blob_check(missing, QUICK)), "blobs.unusable")
    assert (finding.level, finding.subject) == (Level.BROKEN, missing.partition("?")[0])
    assert "Make the bucket" in finding.advice


def test_credentials_that_nobody_gave(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in CREDENTIALS:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    assert "AWS_ACCESS_KEY_ID" in the(_run(blob_check(bucket, QUICK)), "blobs.unusable").advice
