"""What every round store promises of jobs, rounds and the audit trail (``coordinator.contracts.RoundStore``)."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from coordinator.contracts import JobState, PurgeReceipt, RequestRecord, RoundRecord, RoundStore
from secagg.errors import ConflictError, UnknownJobError, UnknownRoundError, UsageError, WrongPhaseError
from secagg.ids import JobId, RoundNumber
from secagg.messages.round import Phase
from tests.job_material import FIRST, JOB, a_job, a_move, a_record, a_status, an_answer, an_event, an_opening

Opener = Callable[[], RoundStore]
REQUEST = RequestRecord(caller="operator/olga", request_id="r1", digest=b"\x01" * 32)
NOBODY = JobId("nobody")


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
    assert [one.event for one in with_job.events(JOB)] == ["job-created"]


def test_a_request_makes_one_job(with_job: RoundStore) -> None:
    with_job.create_job(a_job(), 200.0, REQUEST)
    with pytest.raises(ConflictError):
        with_job.create_job(a_job(job=JobId("other")), 200.0, replace(REQUEST, digest=b"\x02" * 32))
    assert [record.spec.job for record in with_job.jobs("", 10)] == [JOB]


def test_a_refused_job_takes_no_request_id(with_job: RoundStore) -> None:
    request = RequestRecord(caller="operator/olga", request_id="r2", digest=b"\x02" * 32)
    with pytest.raises(ConflictError):
        with_job.create_job(a_job(purpose="another"), 200.0, request)
    assert with_job.answer_to(replace(request, digest=b"\x03" * 32)) is None


def test_of_many_creators_all_get_the_one_job(store: RoundStore) -> None:
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: store.create_job(a_job(), 1.0, REQUEST), range(8))) == [None] * 8
    assert [one.event for one in store.events(JOB)] == ["job-created"]


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
    with_job.open_round(an_opening())
    assert with_job.next_round(JOB) == 2
    for number in (1, 3):
        with pytest.raises(ConflictError):
            with_job.open_round(an_opening(round=number))


@pytest.mark.parametrize("phase", [Phase.KEYING, Phase.OPEN])
def test_a_round_begins_in_the_phase_of_its_record(with_job: RoundStore, opened: Opener, phase: Phase) -> None:
    with_job.open_round(an_opening(phase=phase))
    assert opened().round(JOB, FIRST).status.phase_started == {phase: 5.0}
    assert opened().round(JOB, FIRST).status.phase is phase


def test_a_round_is_opened_with_its_own_record(with_job: RoundStore) -> None:
    with pytest.raises(UsageError):
        with_job.open_round(a_move())
    with pytest.raises(UsageError):
        with_job.open_round(a_move(record=an_opening(round=2).record))
    assert with_job.next_round(JOB) == 1


def test_what_only_a_masking_round_has_is_there_after_a_restart(with_job: RoundStore, opened: Opener) -> None:
    record = a_record(Phase.CONFIRMING, shared=4)
    confirmed = tuple(replace(one, confirmation=one.client.encode()) for one in record.contributions[:2])
    record = replace(record, contributions=(*confirmed, *record.contributions[2:]))
    with_job.open_round(an_opening(phase=Phase.OPEN))
    with_job.advance_round(a_move(record=record))
    stored = opened().round(JOB, FIRST)
    assert stored == record
    assert stored.status.shared == 4
    assert [one.confirmation for one in stored.contributions] == [b"alice", b"bob", None, None]


def test_everything_of_a_round_is_there_after_a_restart(with_job: RoundStore, opened: Opener) -> None:
    with_job.open_round(an_opening())
    with_job.advance_round(a_move(record=a_record()))
    assert opened().round(JOB, FIRST) == a_record()


def test_a_record_replaces_the_whole_record(with_job: RoundStore) -> None:
    with_job.open_round(an_opening())
    with_job.advance_round(a_move(record=a_record(Phase.UPLOADING)))
    bare = RoundRecord(status=a_status(Phase.ABORTED, holders=(), contributors=(), plan=None, reason="too few"))
    with_job.advance_round(a_move(record=bare))
    assert with_job.round(JOB, FIRST) == bare


def test_ends_are_counted(with_job: RoundStore) -> None:
    for number, phase in enumerate((Phase.PUBLISHED, Phase.ABORTED, Phase.PUBLISHED, Phase.UPLOADING), start=1):
        with_job.open_round(an_opening(round=number))
        record = a_record(phase, round=RoundNumber(number))
        with_job.advance_round(a_move(round=RoundNumber(number), record=record))
    record = with_job.job(JOB)
    assert (record.published_rounds, record.aborted_rounds) == (2, 1)


def test_rounds_come_in_pages_without_what_was_signed(with_job: RoundStore) -> None:
    for number in map(RoundNumber, (1, 2, 3)):
        with_job.open_round(an_opening(round=number))
        with_job.advance_round(a_move(round=number, record=a_record(round=number)))
    page = with_job.rounds(JOB, 1, 1)
    assert [record.status for record in page] == [a_status(round=RoundNumber(2))]
    assert page[0].contributions == ()
    assert [record.status.round for record in with_job.rounds(JOB, 1, 10)] == [2, 3]


def test_the_last_round(with_job: RoundStore) -> None:
    assert with_job.last_round(JOB) is None
    for number in (1, 2):
        with_job.open_round(an_opening(round=number))
    last = with_job.last_round(JOB)
    assert last is not None
    assert last.status.round == 2


def test_a_round_is_unclosed_until_it_has_ended_and_been_cleaned_up(with_job: RoundStore, opened: Opener) -> None:
    for number in map(RoundNumber, (1, 2, 3)):
        with_job.open_round(an_opening(round=number))
    for number in map(RoundNumber, (1, 2)):
        with_job.advance_round(a_move(round=number, record=a_record(round=number)))
    with_job.close_round(JOB, FIRST)
    with_job.close_round(JOB, FIRST)
    with pytest.raises(WrongPhaseError):
        with_job.close_round(JOB, RoundNumber(3))
    found = opened().unclosed_rounds(JOB)
    assert [record.status.round for record in found] == [2, 3]
    assert found[0] == a_record(round=RoundNumber(2))


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


def test_an_unknown_job_is_named(with_job: RoundStore) -> None:
    receipt = PurgeReceipt(job=NOBODY, round=FIRST, at=1.0, content=b"")
    uses: list[Callable[[], object]] = [
        lambda: with_job.job(NOBODY),
        lambda: with_job.complete_job(NOBODY, 1.0),
        lambda: with_job.next_round(NOBODY),
        lambda: with_job.open_round(an_opening(NOBODY)),
        lambda: with_job.rounds(NOBODY, 0, 1),
        lambda: with_job.round(NOBODY, FIRST),
        lambda: with_job.last_round(NOBODY),
        lambda: with_job.kept_events(NOBODY, FIRST),
        lambda: with_job.close_round(NOBODY, FIRST),
        lambda: with_job.unclosed_rounds(NOBODY),
        lambda: with_job.audit(NOBODY, FIRST, "x", {}, 1.0),
        lambda: with_job.events(NOBODY),
        lambda: with_job.take_lease(NOBODY, "me", 1.0),
        lambda: with_job.lease_of(NOBODY),
        lambda: with_job.purge_round(receipt),
    ]
    for use in uses:
        with pytest.raises(UnknownJobError, match="nobody"):
            use()


@pytest.mark.parametrize("number", [9, 2**63 - 1, 2**63, 2**64 - 1])
def test_an_unknown_round_is_named_whatever_number_the_wire_brings(with_job: RoundStore, number: int) -> None:
    with_job.open_round(an_opening())
    round = RoundNumber(number)
    receipt = PurgeReceipt(job=JOB, round=round, at=1.0, content=b"")
    uses: list[Callable[[], object]] = [
        lambda: with_job.round(JOB, round),
        lambda: with_job.kept_events(JOB, round),
        lambda: with_job.close_round(JOB, round),
        lambda: with_job.advance_round(a_move(an_event(1), round=round)),
        lambda: with_job.advance_round(a_move(round=round, record=a_record(round=round))),
        lambda: with_job.purge_round(receipt),
    ]
    for use in uses:
        with pytest.raises(UnknownRoundError, match=str(number)):
            use()
    assert with_job.rounds(JOB, number, 10) == []
    assert with_job.events(JOB, round) == []


def test_threads_may_use_a_store_at_once(with_job: RoundStore) -> None:
    def work(number: int) -> int:
        with_job.audit(JOB, FIRST, f"event-{number}", {}, float(number))
        with_job.keep_answer(an_answer(request_id=str(number)), 1.0)
        return len(with_job.jobs("", 10))

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(work, range(40))) == {1}
    assert len(with_job.events(JOB)) == 41


def test_of_many_callers_one_opens_the_round(with_job: RoundStore) -> None:
    def work(_number: int) -> bool:
        try:
            with_job.open_round(an_opening())
        except ConflictError:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(work, range(8))) == 1


@pytest.mark.parametrize("text", ["a\0b", "a\ud800b"])
def test_a_text_that_not_every_database_holds_is_refused(with_job: RoundStore, text: str) -> None:
    uses: list[Callable[[], object]] = [
        lambda: with_job.job(JobId(text)),
        lambda: with_job.audit(JOB, FIRST, text, {}, 1.0),
        lambda: with_job.keep_answer(an_answer(request_id=text), 1.0),
        lambda: with_job.take_lease(JOB, text, 1.0),
    ]
    for use in uses:
        with pytest.raises(UsageError, match="cannot be stored"):
            use()


def test_details_hold_any_character(with_job: RoundStore) -> None:
    with_job.audit(JOB, FIRST, "x", {"reason": "nul \0, half \ud800, ü"}, 1.0)
    assert with_job.events(JOB)[-1].details == {"reason": "nul \0, half \ud800, ü"}
