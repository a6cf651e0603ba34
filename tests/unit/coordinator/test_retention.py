"""The retention rule on both databases: what a purge leaves, what its receipt says, and whom it convinces."""

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from coordinator.contracts import PurgeReceipt, RequestRecord, RoundRecord, RoundStore, mean_name, upload_prefix
from coordinator.receipts import read_receipt
from coordinator.retention import DAY_SECONDS, MOST_FAILURES, Purger
from coordinator.store.blobs import DirectoryBlobStore
from coordinator.store.rounds import SqlRoundStore
from secagg import codec
from secagg.errors import SecAggError, StorageError
from secagg.ids import JobId, RoundNumber
from secagg.messages.round import Phase, RoundStatus
from tests.job_material import FIRST, JOB, a_job, a_move, an_opening
from tests.pki_material import COORDINATOR, NOW, Deployment, deployment
from tests.retention_material import (
    CLIENTS,
    ENDED_AT,
    MEAN,
    a_result,
    in_files,
    in_rows,
    keep,
    signed_record,
    traces_of,
)
from tests.services.shared import postgres_server

YEAR = 365
PURGED_AT = NOW.timestamp()
CONTENT = {"request_id": "r1", "digest": bytes(32)}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    return deployment(tmp_path_factory.mktemp("pki"), at=NOW)


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqlRoundStore]:
    sqlite = f"sqlite:///{tmp_path / 'data' / 'coordinator.db'}"
    (tmp_path / "data").mkdir()
    opened = SqlRoundStore(sqlite if request.param == "sqlite" else postgres_server().new_database())
    opened.create_job(a_job(), 1.0)
    yield opened
    opened.close()


@pytest.fixture
def blobs(tmp_path: Path) -> DirectoryBlobStore:
    return DirectoryBlobStore(tmp_path / "data" / "blobs")


@pytest.fixture
def purger(store: RoundStore, blobs: DirectoryBlobStore, made: Deployment) -> Purger:
    return Purger(store=store, blobs=blobs, signer=made.identity(COORDINATOR).signer, clock=lambda: PURGED_AT)


def purged(purger: Purger, days: int = YEAR) -> list[RoundNumber]:
    return [one.round for one in purger.purged_rounds(days, fail)]


def fail(job: JobId, round: RoundNumber, error: SecAggError) -> None:
    raise AssertionError(f"round {round} of {job}: {error}")


def publish(store: RoundStore, blobs: DirectoryBlobStore, made: Deployment, round: int = 1) -> RoundRecord:
    record = signed_record(made, round)
    assert record.mean_blob is not None
    blobs.write(record.mean_blob, [MEAN])
    keep(store, record)
    return record


# What is left


def test_nothing_of_a_client_outlives_a_purge(
    store: SqlRoundStore, blobs: DirectoryBlobStore, purger: Purger, made: Deployment, tmp_path: Path
) -> None:
    traces = traces_of(publish(store, blobs, made))
    look = partial(found_in, store, tmp_path / "data")
    assert look(traces) == traces
    assert purged(purger) == [1]
    assert look(traces) == []
    assert blobs.names("") == []
    status = store.round(JOB, FIRST).status
    assert status == RoundStatus(
        job=JOB,
        round=FIRST,
        phase=Phase.PUBLISHED,
        phase_started={Phase.KEYING: 1.5, Phase.OPEN: 2.25, status.phase: 9.0},
    )
    assert status.purged


def found_in(store: SqlRoundStore, directory: Path, traces: list[bytes]) -> list[bytes]:
    """SQLite's file holds more than its rows: free pages, and the log of what was written last."""
    with store._database.reading() as connection:
        rows = in_rows(traces, connection)
        if connection.dialect.name == "postgresql":
            return rows
    return [one for one in traces if one in rows or one in in_files([one], directory)]


def test_an_aborted_round_goes_like_a_published_one(store: SqlRoundStore, purger: Purger, made: Deployment) -> None:
    keep(store, signed_record(made, phase=Phase.ABORTED))
    assert purged(purger) == [1]
    assert store.round(JOB, FIRST).status.purged
    [receipt] = store.receipts()
    assert not read_receipt(receipt.content, trust=made.identity(COORDINATOR).trust).purged.published  # type: ignore[union-attr]


def test_numbers_are_not_used_again_and_the_jobs_counts_stay(
    store: RoundStore, blobs: DirectoryBlobStore, purger: Purger, made: Deployment
) -> None:
    publish(store, blobs, made, 1)
    keep(store, signed_record(made, 2, Phase.ABORTED))
    before = store.job(JOB)
    assert purged(purger) == [1, 2]
    assert store.job(JOB) == before
    assert (before.published_rounds, before.aborted_rounds) == (1, 1)
    assert store.next_round(JOB) == 3


@pytest.mark.parametrize(("days_ago", "due"), [(364.9, []), (365.1, [1])])
def test_a_round_is_due_when_the_rule_says_so(
    store: RoundStore, blobs: DirectoryBlobStore, made: Deployment, tmp_path: Path, days_ago: float, due: list[int]
) -> None:
    keep(store, signed_record(made))
    at = ENDED_AT + days_ago * DAY_SECONDS
    then = deployment(tmp_path / "renewed", at=datetime.fromtimestamp(at, UTC)).identity(COORDINATOR)
    early = Purger(store=store, blobs=blobs, signer=then.signer, clock=lambda: at)
    assert purged(early) == due


def test_who_made_a_job_goes_by_the_same_rule_and_the_job_stays(store: RoundStore, purger: Purger) -> None:
    store.create_job(a_job(job=JobId("new")), PURGED_AT - DAY_SECONDS, RequestRecord(caller="operator/new", **CONTENT))
    store.create_job(
        a_job(job=JobId("old")), PURGED_AT - 3 * DAY_SECONDS, RequestRecord(caller="operator/old", **CONTENT)
    )
    assert purger.purge_trail(2) == 2
    assert store.events(JobId("old")) == []
    assert [one.details for one in store.events(JobId("new"))] == [{"by": "operator/new"}]
    assert store.job(JobId("old")).spec.job == "old"


def test_a_round_that_nobody_has_cleaned_up_after_is_left(store: RoundStore, purger: Purger, made: Deployment) -> None:
    keep(store, signed_record(made, 1))
    unclosed = signed_record(made, 2)
    store.open_round(an_opening(round=2))
    store.advance_round(a_move(round=RoundNumber(2), record=unclosed))
    assert purged(purger) == [1]
    assert store.round(JOB, RoundNumber(2)) == unclosed


def test_what_a_late_writer_left_among_the_uploads_goes_too(
    store: RoundStore, blobs: DirectoryBlobStore, purger: Purger, made: Deployment
) -> None:
    publish(store, blobs, made)
    blobs.write(f"{upload_prefix(JOB, FIRST)}/{CLIENTS[0]}", [b"late"])
    tenth = mean_name(JOB, RoundNumber(10), a_result().mean_digest)
    blobs.write(tenth, [MEAN])
    assert purged(purger) == [1]
    assert blobs.names("") == [tenth]


class _Unwilling(DirectoryBlobStore):
    def delete_prefix(self, prefix: str) -> None:
        raise StorageError(f"{prefix} stays")


def test_a_record_stays_until_its_blobs_are_gone(
    store: RoundStore, blobs: DirectoryBlobStore, purger: Purger, made: Deployment, tmp_path: Path
) -> None:
    record = publish(store, blobs, made)
    unwilling = _Unwilling(tmp_path / "data" / "blobs")
    failing = Purger(store=store, blobs=unwilling, signer=made.identity(COORDINATOR).signer, clock=lambda: PURGED_AT)
    told: list[RoundNumber] = []
    assert list(failing.purged_rounds(YEAR, lambda _job, round, _error: told.append(round))) == []
    assert told == [1]
    assert store.round(JOB, FIRST) == record
    assert store.receipts() == []
    # And is found again.
    assert purged(purger) == [1]


class _Choosy(DirectoryBlobStore):
    def delete_prefix(self, prefix: str) -> None:
        if "/2" in prefix:
            raise StorageError(f"{prefix} stays")
        super().delete_prefix(prefix)


def test_one_round_that_cannot_be_purged_keeps_no_other_one(
    store: RoundStore, made: Deployment, tmp_path: Path
) -> None:
    for round in (1, 2, 3):
        keep(store, signed_record(made, round))
    choosy = Purger(
        store=store,
        blobs=_Choosy(tmp_path / "data" / "blobs"),
        signer=made.identity(COORDINATOR).signer,
        clock=lambda: PURGED_AT,
    )
    told: list[RoundNumber] = []
    found = choosy.purged_rounds(YEAR, lambda _job, round, _error: told.append(round))
    assert [one.round for one in found] == [1, 3]
    assert told == [2]


def test_a_store_that_fails_is_not_asked_for_ever(store: RoundStore, made: Deployment, tmp_path: Path) -> None:
    for round in range(1, MOST_FAILURES + 4):
        keep(store, signed_record(made, round))
    unwilling = _Unwilling(tmp_path / "data" / "blobs")
    failing = Purger(store=store, blobs=unwilling, signer=made.identity(COORDINATOR).signer, clock=lambda: PURGED_AT)
    told: list[RoundNumber] = []
    with pytest.raises(StorageError):
        list(failing.purged_rounds(YEAR, lambda _job, round, _error: told.append(round)))
    assert len(told) == MOST_FAILURES + 1


def test_two_purgers_leave_one_receipt(
    store: RoundStore, blobs: DirectoryBlobStore, purger: Purger, made: Deployment
) -> None:
    publish(store, blobs, made)
    later = Purger(store=store, blobs=blobs, signer=made.identity(COORDINATOR).signer, clock=lambda: PURGED_AT + 5)
    first, second = purger.statement(JOB, FIRST, YEAR), later.statement(JOB, FIRST, YEAR)
    assert first is not None
    assert second is not None
    assert purged(purger) == [1]
    # The other one has read the round before, and writes after.
    content = codec.signed_to_bytes(codec.sign(second, made.identity(COORDINATOR).signer))
    store.purge_round(PurgeReceipt(job=JOB, round=FIRST, at=second.purged_at, content=content))
    assert later.purge(JOB, FIRST, YEAR) is None
    [receipt] = store.receipts()
    assert read_receipt(receipt.content, trust=made.identity(COORDINATOR).trust).purged == first
