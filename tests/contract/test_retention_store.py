"""What outlives a round, and what does not (``RoundStore.purge_round``)."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import MetaData, create_engine, make_url, select

from coordinator.contracts import PurgeReceipt, RequestRecord, RoundStore
from coordinator.store.rounds import SqlRoundStore
from secagg.errors import ConflictError, WrongPhaseError
from secagg.ids import RoundNumber
from secagg.messages.round import Phase
from tests.job_material import FIRST, JOB, a_job, a_move, a_record, a_status, an_answer, an_audit, an_event, an_opening

NAMES = ("alice", "bob", "carol", "dan")
RECEIPT = PurgeReceipt(job=JOB, round=FIRST, at=50.0, content=b"signed receipt")


def _run(store: RoundStore, round: RoundNumber = FIRST, phase: Phase = Phase.PUBLISHED, at: float = 9.0) -> None:
    store.open_round(an_opening(round=round))
    joined = an_answer(b"welcome, alice", request_id=f"join-{round}")
    audits = (an_audit(round=round, client="alice"), an_audit("client-rejected", round, client="dan"))
    store.advance_round(a_move(an_event(1, b"alice joins"), round=round, audits=audits, request=joined))
    record = a_record(phase, round=round, phase_started={Phase.KEYING: 1.5, phase: at}, reason="dan lied")
    store.advance_round(a_move(round=round, record=record, request=an_answer(request_id=f"end-{round}")))
    store.close_round(JOB, round)


def _cells(url: str) -> list[str]:
    """Return every value of every table of a database, as text."""
    driver = make_url(url)
    engine = create_engine(driver.set(drivername="postgresql+psycopg") if "postgres" in url else driver)
    metadata = MetaData()
    metadata.reflect(engine)
    with engine.connect() as connection:
        found = [repr(row) for table in metadata.sorted_tables for row in connection.execute(select(table)).all()]
    engine.dispose()
    return found


def _named(url: str) -> list[str]:
    return [cell for cell in _cells(url) if any(name in cell for name in NAMES)]


def test_a_purge_leaves_no_clients_name_in_any_table(with_job: RoundStore, database_url: str) -> None:
    _run(with_job)
    assert len(_named(database_url)) > 5
    with_job.purge_round(RECEIPT)
    assert _named(database_url) == []


def test_a_purge_leaves_number_phase_times_and_receipt(with_job: RoundStore, opened: Callable[[], RoundStore]) -> None:
    _run(with_job)
    with_job.purge_round(RECEIPT)
    store = opened()
    left = store.round(JOB, FIRST)
    times = {Phase.KEYING: 1.5, Phase.PUBLISHED: 9.0}
    bare = {"joined": 0, "uploaded": 0, "approvals": 0, "answers": 0, "holders": (), "plan": None, "contributors": ()}
    assert left.status == a_status(phase_started=times, total_weight=0.0, **bare)
    assert (left.key, left.roster, left.result, left.mean_blob) == (None, None, None, None)
    assert (left.contributions, left.holders) == ((), ())
    assert store.receipts(JOB) == store.receipts() == [RECEIPT]
    assert store.next_round(JOB) == 2
    assert store.job(JOB).published_rounds == 1
    assert [one.event for one in store.events(JOB)] == ["job-created"]


def test_a_purge_takes_one_round_alone(with_job: RoundStore) -> None:
    _run(with_job)
    _run(with_job, RoundNumber(2))
    kept = with_job.round(JOB, RoundNumber(2)), with_job.events(JOB, RoundNumber(2))
    with_job.purge_round(RECEIPT)
    assert (with_job.round(JOB, RoundNumber(2)), with_job.events(JOB, RoundNumber(2))) == kept
    assert with_job.answer_to(an_answer(request_id="join-2").request) == b"welcome, alice"
    assert with_job.answer_to(an_answer(request_id="join-1").request) is None


def test_only_what_has_ended_and_is_cleaned_up_is_purged(with_job: RoundStore) -> None:
    with_job.open_round(an_opening())
    with pytest.raises(WrongPhaseError):
        with_job.purge_round(RECEIPT)
    with_job.advance_round(a_move(record=a_record()))
    with pytest.raises(WrongPhaseError):
        with_job.purge_round(RECEIPT)
    assert with_job.round(JOB, FIRST) == a_record()
    assert with_job.receipts() == []


def test_a_second_purge_changes_nothing(with_job: RoundStore) -> None:
    _run(with_job)
    with_job.purge_round(RECEIPT)
    with_job.purge_round(replace(RECEIPT, at=60.0, content=b"another"))
    assert with_job.receipts(JOB) == [RECEIPT]


def test_what_was_purged_does_not_come_back(with_job: RoundStore) -> None:
    _run(with_job)
    with_job.purge_round(RECEIPT)
    with pytest.raises(ConflictError):
        with_job.advance_round(a_move(record=a_record()))
    assert with_job.round(JOB, FIRST).contributions == ()


def test_rounds_that_ended_long_ago_are_found_oldest_first(with_job: RoundStore) -> None:
    for number, at in ((1, 30.0), (2, 10.0), (3, 20.0), (4, 40.0)):
        _run(with_job, RoundNumber(number), Phase.ABORTED, at)
    with_job.open_round(an_opening(round=5))
    with_job.open_round(an_opening(round=6))
    with_job.advance_round(a_move(round=RoundNumber(6), record=a_record(round=RoundNumber(6))))
    assert with_job.ended_before(40.0, 10) == [(JOB, 2), (JOB, 3), (JOB, 1)]
    assert with_job.ended_before(40.0, 2) == [(JOB, 2), (JOB, 3)]
    with_job.purge_round(replace(RECEIPT, round=RoundNumber(2)))
    assert with_job.ended_before(1e9, 10) == [(JOB, 3), (JOB, 1), (JOB, 4)]


def test_requests_go_when_they_are_old(with_job: RoundStore) -> None:
    for number in range(4):
        with_job.keep_answer(an_answer(request_id=f"r{number}"), 200.0 + number)
    assert with_job.purge_requests(202.0) == 3  # With the job's own, of 100.
    left = [with_job.answer_to(an_answer(request_id=f"r{number}").request) for number in range(4)]
    assert left == [None, None, b"answer", b"answer"]


def test_receipts_come_oldest_first(with_job: RoundStore) -> None:
    for number, at in ((1, 60.0), (2, 50.0)):
        _run(with_job, RoundNumber(number))
        with_job.purge_round(replace(RECEIPT, round=RoundNumber(number), at=at))
    assert [receipt.round for receipt in with_job.receipts()] == [2, 1]
    assert with_job.receipts(a_job(job="other").job) == []


def test_purged_bytes_are_not_found_in_sqlites_files(tmp_path: Path) -> None:
    store = SqlRoundStore(f"sqlite:///{tmp_path / 'rounds.db'}")
    store.create_job(a_job(), 1.0, RequestRecord(caller="operator/olga", request_id="r1", digest=b"\x01" * 32))
    _run(store)
    store.purge_round(RECEIPT)
    for path in tmp_path.iterdir():
        assert not any(name.encode() in path.read_bytes() for name in NAMES), path.name
    store.close()
