"""A coordinator that keeps the retention rule by itself, on both databases."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from coordinator.contracts import RoundStore
from coordinator.periodic_purge import BATCH_ROUNDS, PeriodicPurge
from coordinator.retention import DAY_SECONDS, Purger, RetentionRule
from coordinator.store.blobs import DirectoryBlobStore
from coordinator.store.rounds import SqlRoundStore
from tests.job_material import FIRST, JOB, a_job, an_answer
from tests.pki_material import COORDINATOR, NOW, Deployment, deployment
from tests.retention_material import (
    CLIENTS,
    keep,
    signed_record,
)
from tests.services.shared import postgres_server

YEAR = 365
PURGED_AT = NOW.timestamp()
RULE = RetentionRule(record_days=YEAR, request_days=7)


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


async def wait_until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not await asyncio.to_thread(holds):  # noqa: ASYNC110 - what is waited for happens in a database
            await asyncio.sleep(0.01)


async def test_a_coordinator_purges_all_that_is_due_at_once(
    store: RoundStore, purger: Purger, made: Deployment
) -> None:
    count = 2 * BATCH_ROUNDS + 1
    for round in range(1, count + 1):
        keep(store, signed_record(made, round))
    forgotten: list[float] = []
    task = PeriodicPurge(purger, RULE, forget=forgotten.append, pause_seconds=60)
    task.start()
    await wait_until(lambda: len(store.receipts()) == count)
    await task.stop()
    assert forgotten == [PURGED_AT - YEAR * DAY_SECONDS]


async def test_a_coordinator_purges_again_what_becomes_due(store: RoundStore, purger: Purger, made: Deployment) -> None:
    task = PeriodicPurge(purger, RULE, forget=lambda _at: None, pause_seconds=0.02)
    task.start()
    for round in (1, 2):
        keep(store, signed_record(made, round))
        await wait_until(lambda count=round: len(store.receipts()) == count)  # type: ignore[misc]
    await task.stop()


class _Telling(DirectoryBlobStore):
    told: Callable[[], object]

    def delete_prefix(self, prefix: str) -> None:
        self.told()
        super().delete_prefix(prefix)


async def test_a_coordinator_that_ends_does_not_wait_for_all_that_is_due(
    store: RoundStore, made: Deployment, tmp_path: Path
) -> None:
    for round in range(1, 3 * BATCH_ROUNDS):
        keep(store, signed_record(made, round))
    telling, loop, begun = _Telling(tmp_path / "data" / "blobs"), asyncio.get_running_loop(), asyncio.Event()
    telling.told = lambda: loop.call_soon_threadsafe(begun.set)
    signer = made.identity(COORDINATOR).signer
    purger = Purger(store=store, blobs=telling, signer=signer, clock=lambda: PURGED_AT)
    task = PeriodicPurge(purger, RULE, forget=lambda _at: None, pause_seconds=60)
    task.start()
    await asyncio.wait_for(begun.wait(), 20)
    await task.stop()
    assert len(store.receipts()) <= BATCH_ROUNDS


async def test_a_rule_of_0_keeps_rounds_for_ever_and_no_answers(
    store: RoundStore, purger: Purger, made: Deployment
) -> None:
    record = signed_record(made)
    keep(store, record)
    old = an_answer(request_id="old", caller=f"client/{CLIENTS[1]}")
    store.keep_answer(old, PURGED_AT - 8 * DAY_SECONDS)
    recent = an_answer(request_id="recent")
    store.keep_answer(recent, PURGED_AT - 6 * DAY_SECONDS)
    rule = RetentionRule(record_days=0, request_days=7)
    task = PeriodicPurge(purger, rule, forget=lambda _at: None, pause_seconds=60)
    task.start()
    await wait_until(lambda: store.answer_to(old.request) is None)
    await task.stop()
    assert store.answer_to(recent.request) == b"answer"
    assert store.round(JOB, FIRST) == record
    assert store.receipts() == []


async def test_a_purge_that_fails_is_tried_again(
    store: RoundStore, blobs: DirectoryBlobStore, made: Deployment
) -> None:
    keep(store, signed_record(made))
    broken = [True]

    def clock() -> float:
        if broken:
            broken.clear()
            raise RuntimeError("the first time only")
        return PURGED_AT

    purger = Purger(store=store, blobs=blobs, signer=made.identity(COORDINATOR).signer, clock=clock)
    task = PeriodicPurge(purger, RULE, forget=lambda _at: None, pause_seconds=0.01)
    task.start()
    await wait_until(lambda: len(store.receipts()) == 1)
    await task.stop()
