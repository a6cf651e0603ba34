"""One coordinator at a time runs a job's rounds, and a former one writes nothing more (``RoundStore.take_lease``)."""

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from coordinator.contracts import Lease, RoundStore
from coordinator.store.rounds import SqlRoundStore
from secagg.errors import ElsewhereError, UsageError
from secagg.ids import JobId
from secagg.messages.round import Phase
from tests.job_material import FIRST, JOB, a_job, a_move, a_record, an_answer, an_audit, an_event, an_opening

ROOT = Path(__file__).resolve().parents[2]
LONG = 600.0
SHORT = 0.2
LIMIT = 20.0


def _taken(store: RoundStore, owner: str, seconds: float = LONG, address: str = "") -> Lease:
    lease = store.take_lease(JOB, owner, seconds, address=address)
    assert lease is not None
    return lease


def _taken_over(store: RoundStore, owner: str) -> Lease:
    """Wait for another's short lease to run out, and take it."""
    limit = time.monotonic() + LIMIT
    while (lease := store.take_lease(JOB, owner, LONG, address=f"{owner}:1")) is None:
        assert time.monotonic() < limit, "the lease never ran out"
    return lease


def test_a_lease_has_one_owner_that_others_can_find(with_job: RoundStore, opened: Callable[[], RoundStore]) -> None:
    assert with_job.lease_of(JOB) is None
    lease = _taken(with_job, "north", address="north:7443")
    assert lease == Lease(job=JOB, owner="north", token=1, address="north:7443")
    assert with_job.take_lease(JOB, "south", LONG) is None
    assert opened().lease_of(JOB) == lease


def test_each_job_has_a_lease_of_its_own(with_job: RoundStore) -> None:
    with_job.create_job(a_job(job=JobId("other")), 1.0)
    _taken(with_job, "north")
    assert with_job.take_lease(JobId("other"), "south", LONG) is not None


def test_its_owner_prolongs_a_lease_under_the_same_token(with_job: RoundStore) -> None:
    first = _taken(with_job, "north", SHORT)
    assert _taken(with_job, "north", LONG) == first
    time.sleep(SHORT)  # The first end has passed for certain.
    assert with_job.lease_of(JOB) == first
    assert with_job.take_lease(JOB, "south", LONG) is None


def test_a_lease_that_ran_out_goes_to_another_under_a_larger_token(with_job: RoundStore) -> None:
    first = _taken(with_job, "north", SHORT)
    second = _taken_over(with_job, "south")
    assert second.token > first.token
    assert with_job.lease_of(JOB) == second
    with_job.give_back(first)
    assert with_job.lease_of(JOB) == second


def test_a_lease_that_ran_out_is_nobodys_but_still_its_owners_to_prolong(with_job: RoundStore) -> None:
    first = _taken(with_job, "north", SHORT)
    limit = time.monotonic() + LIMIT
    while with_job.lease_of(JOB) is not None:
        assert time.monotonic() < limit
    with_job.open_round(an_opening(), first)
    assert _taken(with_job, "north") == first


def test_what_is_given_back_is_there_for_another_at_once(with_job: RoundStore) -> None:
    first = _taken(with_job, "north")
    with_job.give_back(first)
    with_job.give_back(first)
    assert with_job.lease_of(JOB) is None
    with pytest.raises(ElsewhereError):
        with_job.open_round(an_opening(), first)
    second = _taken(with_job, "south")
    third = second
    assert second.token > first.token
    with_job.give_back(second)
    third = _taken(with_job, "south")
    assert third.token > second.token


@pytest.mark.parametrize(("owner", "seconds"), [("", 1.0), ("north", 0.0), ("north", -1.0), ("north", float("nan"))])
def test_a_lease_that_is_none_is_refused(with_job: RoundStore, owner: str, seconds: float) -> None:
    with pytest.raises(UsageError):
        with_job.take_lease(JOB, owner, seconds)


def test_nothing_is_written_with_a_lease_that_another_took(with_job: RoundStore) -> None:
    stale = _taken(with_job, "north", SHORT)
    with_job.open_round(an_opening(), stale)
    with_job.advance_round(a_move(an_event(1)), stale)
    with_job.open_round(an_opening(round=2), stale)
    with_job.advance_round(a_move(round=2, record=a_record(round=2)), stale)
    fresh = _taken_over(with_job, "south")
    before = _everything(with_job)
    whole = a_move(an_event(2), record=a_record(Phase.UPLOADING), audits=(an_audit(),), request=an_answer())
    uses: list[Callable[[Lease], object]] = [
        lambda lease: with_job.open_round(an_opening(round=3), lease),
        lambda lease: with_job.advance_round(whole, lease),
        lambda lease: with_job.close_round(JOB, 2, lease),
        lambda lease: with_job.complete_job(JOB, 9.0, lease),
    ]
    for use in uses:
        for lease in (stale, replace(fresh, token=fresh.token + 1)):
            with pytest.raises(ElsewhereError, match="south:1") as caught:
                use(lease)
            assert (caught.value.job, caught.value.address) == (JOB, "south:1")
            assert _everything(with_job) == before
    for use in uses:
        use(fresh)


def test_a_lease_that_nobody_ever_took_is_refused(with_job: RoundStore) -> None:
    with pytest.raises(ElsewhereError):
        with_job.open_round(an_opening(), Lease(job=JOB, owner="north", token=0))
    with_job.give_back(Lease(job=JOB, owner="north", token=0))
    assert with_job.lease_of(JOB) is None


def test_the_lease_of_another_job_is_no_lease(with_job: RoundStore) -> None:
    with_job.create_job(a_job(job=JobId("other")), 1.0)
    other = with_job.take_lease(JobId("other"), "north", LONG)
    _taken(with_job, "north")
    with pytest.raises(UsageError):
        with_job.open_round(an_opening(), other)
    assert with_job.next_round(JOB) == 1


def test_of_processes_that_race_for_a_lease_one_gets_it(store: RoundStore, database_url: str) -> None:
    jobs = [JobId(f"job-{number}") for number in range(20)]
    for job in jobs:
        store.create_job(a_job(job=job), 1.0)
    script = str(Path(__file__).with_name("lease_racer.py"))
    racers = [
        subprocess.Popen([sys.executable, script, database_url, owner, *jobs], cwd=ROOT, stdin=-1, stdout=-1, text=True)
        for owner in ("north", "south", "west")
    ]
    try:
        for racer in racers:
            assert racer.stdout is not None
            assert racer.stdout.readline() == "ready\n"
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write("go\n")
            racer.stdin.flush()
        won = [racer.communicate(timeout=60)[0].split() for racer in racers]
    finally:
        for racer in racers:
            racer.kill()
            racer.communicate()
    assert sorted(job for jobs_of_one in won for job in jobs_of_one) == sorted(jobs)


def test_a_take_over_waits_for_a_write_that_has_begun(with_job: RoundStore, database_url: str) -> None:
    """Otherwise the write could be stored after the take-over: a fence with a hole."""
    stale = _taken(with_job, "north", SHORT)
    with_job.open_round(an_opening(), stale)
    script = str(Path(__file__).with_name("slow_writer.py"))
    arguments = [sys.executable, script, database_url, stale.owner, str(stale.token)]
    writer = subprocess.Popen(arguments, cwd=ROOT, stdin=-1, stdout=-1, text=True)
    other = SqlRoundStore(database_url)
    try:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "written\n"
        # It stands before its commit now, for half a second; its lease has run out by then.
        _taken_over(other, "south")
        assert [one.sequence for one in other.kept_events(JOB, FIRST)] == [1]
        assert writer.wait(LIMIT) == 0
    finally:
        writer.kill()
        writer.communicate()
        other.close()


def _everything(store: RoundStore) -> list[object]:
    parts = [store.round(JOB, number) for number in (1, 2)], store.kept_events(JOB, FIRST), store.events(JOB)
    return [
        store.job(JOB),
        store.next_round(JOB),
        *parts,
        store.unclosed_rounds(JOB),
        store.answer_to(an_answer().request),
    ]
