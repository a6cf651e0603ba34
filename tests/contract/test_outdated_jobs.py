"""A job that an older version made, with a plan that this one refuses: left out and named, in nobody's way, and purged in its time."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from coordinator.contracts import PurgeReceipt, RoundMove, RoundStore
from coordinator.store import jobs
from coordinator.store.rows import is_outdated
from he import parameters
from secagg import codec, plan
from secagg.errors import MessageError
from secagg.ids import JobId
from secagg.messages.round import Phase
from secagg.plan import CkksJob, JobSpec
from tests.job_material import FIRST, HOLDERS, JOB, a_job, a_plan, a_record, an_opening

OLD = JobId("of-an-older-version")


@contextmanager
def _older_version() -> Iterator[None]:
    """Without the check that refuses slots at ckks-8192."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(parameters, "check_encoding", lambda _: None)
        plan._parameters.cache_clear()
        yield
    plan._parameters.cache_clear()


def _old_job() -> JobSpec:
    return replace(a_job(), job=OLD, protocol=CkksJob(holders=HOLDERS, preset="ckks-8192", packing="real"))


@pytest.fixture
def upgraded(opened: Callable[[], RoundStore]) -> RoundStore:
    """A store with an old job, whose one round was published, and a job of today."""
    store = opened()
    with _older_version():
        spec = _old_job()
        store.create_job(spec, 1.0)
        store.open_round(an_opening(job=OLD))
        record = a_record(Phase.PUBLISHED, job=OLD, round=FIRST, plan=a_plan(spec))
        store.advance_round(RoundMove(job=OLD, round=FIRST, at=6.0, record=record))
        store.close_round(OLD, FIRST)
    store.create_job(a_job(), 1.0)
    jobs._tell_outdated.cache_clear()
    return store


def test_it_is_left_out_of_what_runs_and_named_once(upgraded: RoundStore, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert [one.spec.job for one in upgraded.running_jobs()] == [JOB]
        assert [one.spec.job for one in upgraded.jobs("", 10)] == [JOB]
    told = capsys.readouterr().out
    assert told.count("job left out") == 1
    assert OLD in told


def test_who_asks_for_it_is_told_why(upgraded: RoundStore) -> None:
    with pytest.raises(MessageError, match="take packing coefficients"):
        upgraded.job(OLD)


def test_its_rounds_are_shown_without_their_plan_and_purged(upgraded: RoundStore) -> None:
    status = upgraded.round(OLD, FIRST).status
    assert (status.plan, status.phase, status.total_weight) == (None, Phase.PUBLISHED, 2.5)
    assert len(upgraded.rounds(OLD, 0, 10)) == 1
    assert upgraded.ended_before(100.0, 10) == [(OLD, FIRST)]
    upgraded.purge_round(PurgeReceipt(job=OLD, round=FIRST, at=100.0, content=b"receipt"))
    assert upgraded.ended_before(100.0, 10) == []


def test_a_plan_that_is_damaged_is_not_taken_for_an_old_one() -> None:
    with pytest.raises(MessageError) as damaged:
        codec.round_plan_from_bytes(b"\xff")
    assert not is_outdated(damaged.value)
