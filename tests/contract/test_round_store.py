"""What every round store promises (``coordinator.contracts.RoundStore``)."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from coordinator.contracts import JobState, RequestRecord, RoundRecord, RoundStore
from coordinator.store.rounds import SqlRoundStore
from secagg.errors import ConflictError, UnknownJobError, UnknownRoundError
from secagg.ids import JobId, RoundNumber
from secagg.messages.round import Phase
from tests.job_material import FIRST, JOB, a_job, a_record, a_status

Opener = Callable[[], RoundStore]
REQUEST = RequestRecord(caller="operator/olga", request_id="r1", digest=b"\x01" * 32)
NOBODY = JobId("nobody")


@pytest.fixture(params=["sqlite"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    """Open the same store again each time it is called, as a restart does."""
    urls = {"sqlite": f"sqlite:///{tmp_path / 'rounds.db'}"}
    stores: list[RoundStore] = []

    def opener() -> RoundStore:
        for store in stores:
            store.close()
        stores[:] = [SqlRoundStore(urls[request.param])]
        return stores[0]

    yield opener
    for store in stores:
        store.close()


@pytest.fixture
def store(opened: Opener) -> RoundStore:
    return opened()


@pytest.fixture
def with_job(store: RoundStore) -> RoundStore:
    store.create_job(a_job(), 100.0, REQUEST)
    return store


def test_a_job_is_there_after_a_restart(with_job: RoundStore, opened: Opener) -> None:
    record = opened().job(JOB)
    assert record.spec == a_job()
    assert (record.state, record.published_rounds, record.aborted_rounds) == (JobState.RUNNING, 0, 0)
    assert record.created_at == 100.0


def test_the_same_job_again_is_harmless_and_another_is_refused(with_job: RoundStore) -> None:
    with_job.create_job(a_job(), 200.0)
    assert with_job.job(JOB).created_at == 100.0
    with pytest.raises(ConflictError):
        with_job.create_job(a_job(purpose="another"), 200.0)
    assert with_job.job(JOB).spec == a_job()


def test_a_request_makes_one_job(with_job: RoundStore) -> None:
    with_job.create_job(a_job(), 200.0, REQUEST)
    with pytest.raises(ConflictError):
        with_job.create_job(a_job(job=JobId("other")), 200.0, replace(REQUEST, digest=b"\x02" * 32))
    assert [record.spec.job for record in with_job.jobs("", 10)] == [JOB]


def test_a_refused_job_takes_no_request_id(with_job: RoundStore) -> None:
    request = RequestRecord(caller="operator/olga", request_id="r2", digest=b"\x02" * 32)
    with pytest.raises(ConflictError):
        with_job.create_job(a_job(purpose="another"), 200.0, request)
    assert with_job.claim_request(replace(request, digest=b"\x03" * 32), 300.0)


def test_jobs_come_in_pages_by_name(store: RoundStore) -> None:
    for name in ("c", "a", "b"):
        store.create_job(a_job(job=JobId(name)), 1.0)
    assert [record.spec.job for record in store.jobs("", 2)] == ["a", "b"]
    assert [record.spec.job for record in store.jobs("b", 2)] == ["c"]
    assert store.jobs("c", 2) == []


def test_a_complete_job_does_not_run(with_job: RoundStore, opened: Opener) -> None:
    with_job.create_job(a_job(job=JobId("other")), 1.0)
    with_job.complete_job(JOB, 2.0)
    store = opened()
    assert [record.spec.job for record in store.running_jobs()] == ["other"]
    assert store.job(JOB).state is JobState.COMPLETE


def test_rounds_are_numbered_without_a_gap(with_job: RoundStore) -> None:
    assert with_job.next_round(JOB) == 1
    with_job.open_round(JOB, FIRST, 5.0)
    assert with_job.next_round(JOB) == 2
    for number in (1, 3):
        with pytest.raises(ConflictError):
            with_job.open_round(JOB, RoundNumber(number), 6.0)


def test_an_open_round_is_in_keying(with_job: RoundStore) -> None:
    with_job.open_round(JOB, FIRST, 5.0)
    status = with_job.round(JOB, FIRST).status
    assert (status.phase, status.phase_started) == (Phase.KEYING, {Phase.KEYING: 5.0})


def test_a_round_may_begin_in_another_phase(with_job: RoundStore, opened: Opener) -> None:
    with_job.open_round(JOB, FIRST, 5.0, Phase.OPEN)
    status = opened().round(JOB, FIRST).status
    assert (status.phase, status.phase_started) == (Phase.OPEN, {Phase.OPEN: 5.0})


def test_what_only_a_masking_round_has_is_there_after_a_restart(with_job: RoundStore, opened: Opener) -> None:
    record = a_record(Phase.CONFIRMING, shared=4)
    confirmed = tuple(replace(one, confirmation=one.client.encode()) for one in record.contributions[:2])
    record = replace(record, contributions=(*confirmed, *record.contributions[2:]))
    with_job.open_round(JOB, FIRST, 5.0, Phase.OPEN)
    with_job.save_round(record)
    stored = opened().round(JOB, FIRST)
    assert stored == record
    assert stored.status.shared == 4
    assert [one.confirmation for one in stored.contributions] == [b"alice", b"bob", None, None]


def test_everything_of_a_round_is_there_after_a_restart(with_job: RoundStore, opened: Opener) -> None:
    with_job.open_round(JOB, FIRST, 5.0)
    with_job.save_round(a_record())
    assert opened().round(JOB, FIRST) == a_record()


def test_saving_replaces_the_whole_record(with_job: RoundStore) -> None:
    with_job.open_round(JOB, FIRST, 5.0)
    with_job.save_round(a_record())
    bare = RoundRecord(status=a_status(Phase.ABORTED, holders=(), contributors=(), plan=None, reason="too few"))
    with_job.save_round(bare)
    assert with_job.round(JOB, FIRST) == bare


def test_a_round_is_opened_before_it_is_saved(with_job: RoundStore) -> None:
    with pytest.raises(UnknownRoundError):
        with_job.save_round(a_record())


def test_ends_are_counted(with_job: RoundStore) -> None:
    for number, phase in enumerate((Phase.PUBLISHED, Phase.ABORTED, Phase.PUBLISHED, Phase.UPLOADING), start=1):
        with_job.open_round(JOB, RoundNumber(number), 5.0)
        with_job.save_round(a_record(phase, round=RoundNumber(number)))
    record = with_job.job(JOB)
    assert (record.published_rounds, record.aborted_rounds) == (2, 1)


def test_rounds_come_in_pages_without_what_was_signed(with_job: RoundStore) -> None:
    for number in (1, 2, 3):
        with_job.open_round(JOB, RoundNumber(number), 5.0)
        with_job.save_round(a_record(round=RoundNumber(number)))
    page = with_job.rounds(JOB, 1, 1)
    assert [record.status for record in page] == [a_status(round=RoundNumber(2))]
    assert page[0].contributions == ()
    assert [record.status.round for record in with_job.rounds(JOB, 1, 10)] == [2, 3]


def test_the_last_round(with_job: RoundStore) -> None:
    assert with_job.last_round(JOB) is None
    for number in (1, 2):
        with_job.open_round(JOB, RoundNumber(number), 5.0)
    last = with_job.last_round(JOB)
    assert last is not None
    assert last.status.round == 2


def test_unfinished_rounds_of_all_jobs_are_found(with_job: RoundStore, opened: Opener) -> None:
    other = JobId("other")
    with_job.create_job(a_job(job=other), 1.0)
    with_job.open_round(JOB, FIRST, 5.0)
    with_job.save_round(a_record())
    with_job.open_round(JOB, RoundNumber(2), 6.0)
    with_job.open_round(other, FIRST, 6.0)
    found = opened().unfinished_rounds()
    assert [(record.status.job, record.status.round) for record in found] == [(JOB, 2), (other, 1)]


def test_a_request_is_claimed_once(store: RoundStore, opened: Opener) -> None:
    assert store.claim_request(REQUEST, 1.0)
    assert store.claim_request(replace(REQUEST, caller="operator/otto", digest=b"\x02" * 32), 1.0)
    again = opened()
    assert not again.claim_request(REQUEST, 2.0)
    with pytest.raises(ConflictError):
        again.claim_request(replace(REQUEST, digest=b"\x02" * 32), 2.0)


def test_the_audit_trail_keeps_its_order(with_job: RoundStore, opened: Opener) -> None:
    with_job.audit(JOB, FIRST, "client-joined", {"client": "alice", "count": 1, "late": False, "limit": None}, 7.0)
    with_job.audit(JOB, FIRST, "round-published", {"total_weight": 2.5}, 6.0)
    events = opened().events(JOB)
    assert [(one.event, one.round, one.at) for one in events] == [
        ("job-created", 0, 100.0),
        ("client-joined", 1, 7.0),
        ("round-published", 1, 6.0),
    ]
    assert events[0].details == {"by": "operator/olga"}
    assert events[1].details == {"client": "alice", "count": 1, "late": False, "limit": None}
    assert [one.event for one in opened().events(JOB, RoundNumber(0))] == ["job-created"]


def test_what_is_unknown_is_named(with_job: RoundStore) -> None:
    uses: list[Callable[[], object]] = [
        lambda: with_job.job(NOBODY),
        lambda: with_job.complete_job(NOBODY, 1.0),
        lambda: with_job.next_round(NOBODY),
        lambda: with_job.open_round(NOBODY, FIRST, 1.0),
        lambda: with_job.rounds(NOBODY, 0, 1),
        lambda: with_job.round(NOBODY, FIRST),
        lambda: with_job.last_round(NOBODY),
        lambda: with_job.audit(NOBODY, FIRST, "x", {}, 1.0),
        lambda: with_job.events(NOBODY),
    ]
    for use in uses:
        with pytest.raises(UnknownJobError, match="nobody"):
            use()
    with pytest.raises(UnknownRoundError, match="9"):
        with_job.round(JOB, RoundNumber(9))


def test_threads_may_use_a_store_at_once(with_job: RoundStore) -> None:
    def work(number: int) -> int:
        with_job.audit(JOB, FIRST, f"event-{number}", {}, float(number))
        with_job.claim_request(RequestRecord(caller="c", request_id=str(number), digest=b"x"), 1.0)
        return len(with_job.jobs("", 10))

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(work, range(40))) == {1}
    assert len(with_job.events(JOB)) == 41


def test_of_many_callers_one_opens_the_round(with_job: RoundStore) -> None:
    def work(_number: int) -> bool:
        try:
            with_job.open_round(JOB, FIRST, 1.0)
        except ConflictError:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(work, range(8))) == 1


@pytest.mark.parametrize("number", [2**63 - 1, 2**63, 2**64 - 1])
def test_no_number_that_fits_the_wire_is_too_large_to_be_asked_for(with_job: RoundStore, number: int) -> None:
    with pytest.raises(UnknownRoundError):
        with_job.round(JOB, RoundNumber(number))
    assert with_job.rounds(JOB, number, 10) == []
