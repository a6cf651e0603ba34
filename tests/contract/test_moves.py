"""A move is stored in one step, or not at all (``RoundStore.advance_round``)."""

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier

import pytest
from sqlalchemy import event, make_url

from coordinator.contracts import RoundStore
from coordinator.store.rounds import SqlRoundStore
from secagg.errors import ConflictError, UnknownRoundError
from secagg.ids import JobId
from secagg.messages.round import Phase
from tests.job_material import FIRST, JOB, a_job, a_move, a_record, an_answer, an_audit, an_event, an_opening

Opener = Callable[[], RoundStore]
ROOT = Path(__file__).resolve().parents[2]
SHARE = b"a share that a client revealed: " + bytes(range(1, 200))


@pytest.fixture
def running(with_job: RoundStore) -> RoundStore:
    with_job.open_round(an_opening())
    return with_job


def test_an_event_is_kept_with_all_that_came_of_it(running: RoundStore, opened: Opener) -> None:
    running.advance_round(a_move(an_event(1, b"one"), audits=(an_audit(client="alice"),), request=an_answer()))
    running.advance_round(a_move(an_event(2, b"two"), record=a_record(Phase.UPLOADING)))
    store = opened()
    assert store.kept_events(JOB, FIRST) == [an_event(1, b"one"), an_event(2, b"two")]
    assert store.round(JOB, FIRST) == a_record(Phase.UPLOADING)
    assert [(one.event, one.details) for one in store.events(JOB, FIRST)] == [("client-joined", {"client": "alice"})]
    assert store.answer_to(an_answer().request) == b"answer"


def test_a_round_may_open_with_an_event(with_job: RoundStore) -> None:
    with_job.open_round(
        replace(an_opening(), events=(an_event(1),), audits=(an_audit("opened"),), requests=(an_answer(),))
    )
    assert with_job.kept_events(JOB, FIRST) == [an_event(1)]
    assert [one.event for one in with_job.events(JOB, FIRST)] == ["opened"]
    assert with_job.answer_to(an_answer().request) == b"answer"


@pytest.mark.parametrize("sequence", [0, 1, 3, -1, 2**62])
def test_only_the_next_event_is_kept(running: RoundStore, sequence: int) -> None:
    running.advance_round(a_move(an_event(1)))
    move = a_move(an_event(sequence), record=a_record(), audits=(an_audit(),), request=an_answer())
    with pytest.raises(ConflictError, match="is 2, not"):
        running.advance_round(move)
    assert running.round(JOB, FIRST).status.phase is Phase.KEYING
    assert running.events(JOB, FIRST) == []
    assert running.answer_to(an_answer().request) is None


def test_the_events_go_with_the_end(running: RoundStore, opened: Opener) -> None:
    running.advance_round(a_move(an_event(1)))
    running.advance_round(a_move(an_event(2), record=a_record(Phase.ABORTED)))
    assert opened().kept_events(JOB, FIRST) == []


def test_nothing_follows_the_end(running: RoundStore) -> None:
    running.advance_round(a_move(record=a_record(Phase.ABORTED)))
    for late in (a_move(an_event(1)), a_move(record=a_record(Phase.PUBLISHED)), a_move()):
        with pytest.raises(ConflictError, match="ended"):
            running.advance_round(late)
    assert running.round(JOB, FIRST) == a_record(Phase.ABORTED)


def test_a_round_is_opened_before_it_moves(with_job: RoundStore) -> None:
    with pytest.raises(UnknownRoundError):
        with_job.advance_round(a_move(record=a_record()))


def test_of_many_writers_one_stores_the_next_event(running: RoundStore, database_url: str) -> None:
    others = [SqlRoundStore(database_url) for _ in range(3)]

    def work(number: int) -> bool:
        try:
            others[number % 3].advance_round(a_move(an_event(1, str(number).encode())))
        except ConflictError:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(work, range(12))) == 1
    assert len(running.kept_events(JOB, FIRST)) == 1
    for other in others:
        other.close()


def test_events_that_are_stored_together_are_stored_in_their_order(running: RoundStore, opened: Opener) -> None:
    answers = (an_answer(b"a", "r1"), an_answer(b"b", "r2"))
    audits = (an_audit(client="alice"), an_audit(client="bob"))
    move = a_move(an_event(1, b"one"), an_event(2, b"two"), an_event(3, b"three"), audits=audits)
    running.advance_round(replace(move, requests=answers))
    store = opened()
    assert store.kept_events(JOB, FIRST) == list(move.events)
    assert [one.details["client"] for one in store.events(JOB, FIRST)] == ["alice", "bob"]
    assert [store.answer_to(one.request) for one in answers] == [b"a", b"b"]


@pytest.mark.parametrize("sequences", [(1, 3), (2, 1), (1, 1)])
def test_of_events_with_a_gap_none_is_stored(running: RoundStore, sequences: tuple[int, ...]) -> None:
    with pytest.raises(ConflictError, match="the next event"):
        running.advance_round(a_move(*map(an_event, sequences), request=an_answer()))
    assert running.kept_events(JOB, FIRST) == []
    assert running.answer_to(an_answer().request) is None


def test_a_request_with_another_content_keeps_out_everything_that_came_with_it(running: RoundStore) -> None:
    running.keep_answer(an_answer(), 1.0)
    other = replace(an_answer(), request=replace(an_answer().request, digest=b"\x08" * 32))
    new = an_answer(b"new", "r8")
    with pytest.raises(ConflictError):
        running.advance_round(replace(a_move(an_event(1), an_event(2)), requests=(new, other)))
    assert running.kept_events(JOB, FIRST) == []
    assert running.answer_to(new.request) is None


def test_two_jobs_that_claim_the_same_requests_in_another_order_do_not_wait_for_each_other(running: RoundStore) -> None:
    """Two clients send the same request ids to two jobs: a deadlock would fail everybody whose event is stored with theirs."""
    other = JobId("other")
    running.create_job(a_job(job=other), 100.0)
    running.open_round(an_opening(other))

    def move(job: JobId, turn: int, order: int, together: Barrier) -> None:
        answers = [an_answer(b"same", f"turn-{turn}", f"client/{number:02}") for number in range(64)]
        together.wait(20)
        running.advance_round(replace(a_move(), job=job, requests=tuple(answers[::order])))

    with ThreadPoolExecutor(2) as pool:
        for turn in range(5):
            together = Barrier(2)
            moves = [pool.submit(move, job, turn, order, together) for job, order in ((JOB, 1), (other, -1))]
            for one in moves:
                one.result()


def test_the_first_answer_stays(with_job: RoundStore, opened: Opener) -> None:
    first = an_answer(b"first")
    assert with_job.answer_to(first.request) is None
    assert with_job.keep_answer(first, 1.0) == b"first"
    assert with_job.keep_answer(an_answer(b"second"), 2.0) == b"first"
    assert opened().answer_to(first.request) == b"first"
    assert opened().keep_answer(an_answer(b"other's", caller="client/bob"), 3.0) == b"other's"


def test_a_request_id_stands_for_one_content(running: RoundStore) -> None:
    running.keep_answer(an_answer(), 1.0)
    other = replace(an_answer(), request=replace(an_answer().request, digest=b"\x08" * 32))
    uses: list[Callable[[], object]] = [
        lambda: running.answer_to(other.request),
        lambda: running.keep_answer(other, 2.0),
        lambda: running.advance_round(a_move(an_event(1), record=a_record(), request=other)),
        lambda: running.create_job(a_job(job="other"), 1.0, other.request),
    ]
    for use in uses:
        with pytest.raises(ConflictError):
            use()
    assert running.kept_events(JOB, FIRST) == []
    assert running.round(JOB, FIRST).status.phase is Phase.KEYING


def test_of_many_answers_all_get_the_first(with_job: RoundStore) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda number: with_job.keep_answer(an_answer(b"%d" % number), 1.0), range(24)))
    assert len(found) == 1


def test_a_jobs_request_waits_for_its_answer(with_job: RoundStore) -> None:
    request = replace(an_answer().request, request_id="new-job")
    with_job.create_job(a_job(job="other"), 1.0, request)
    assert with_job.answer_to(request) is None
    assert with_job.keep_answer(replace(an_answer(b"made"), request=request), 2.0) == b"made"
    assert with_job.answer_to(request) == b"made"


def test_a_move_without_a_record_costs_the_same_for_many_clients(running: RoundStore) -> None:
    """Counted in statements: none of them reads or writes a client's row."""
    statements: list[str] = []
    running.advance_round(a_move(record=a_record(Phase.UPLOADING)))
    event.listen(running._database._engine, "before_cursor_execute", lambda *args: statements.append(args[2]))  # type: ignore[attr-defined]
    running.advance_round(a_move(an_event(1), audits=(an_audit(),), request=an_answer()))
    inserted = [one for one in statements if one.startswith("INSERT")]
    assert [one.split()[2] for one in inserted] == ["kept_events", "events", "requests"]
    assert not any("contributions" in one or "DELETE" in one for one in statements)


@pytest.mark.parametrize("step", ["open", "advance", "end", "purge", "create", "answer", "lease"])
def test_a_kill_before_the_commit_leaves_nothing_of_a_step(
    running: RoundStore, opened: Opener, database_url: str, step: str
) -> None:
    running.advance_round(a_move(an_event(1)))
    before = _everything(running)
    script = str(Path(__file__).with_name("dying_writer.py"))
    died = subprocess.run([sys.executable, script, database_url, step], cwd=ROOT, timeout=60, check=False)
    assert died.returncode == -9
    assert _everything(opened()) == before


def _everything(store: RoundStore) -> list[object]:
    requests = (an_answer().request, an_answer(request_id="r8").request)
    return [
        store.jobs("", 10),
        store.rounds(JOB, 0, 10),
        store.round(JOB, FIRST),
        store.kept_events(JOB, FIRST),
        store.events(JOB),
        store.lease_of(JOB),
        store.receipts(),
        *map(store.answer_to, requests),
    ]


def test_revealed_shares_are_not_found_in_sqlites_files_after_the_end(tmp_path: Path) -> None:
    store = SqlRoundStore(f"sqlite:///{tmp_path / 'rounds.db'}")
    store.create_job(a_job(), 1.0)
    store.open_round(an_opening())
    for sequence in range(1, 30):
        store.advance_round(a_move(an_event(sequence, SHARE * sequence)))
    assert any(SHARE in path.read_bytes() for path in tmp_path.iterdir())
    store.advance_round(a_move(record=a_record()))
    assert {path.name for path in tmp_path.iterdir()} == {"rounds.db", "rounds.db-wal", "rounds.db-shm"}
    assert not any(SHARE[:40] in path.read_bytes() for path in tmp_path.iterdir())
    store.close()


def test_a_reader_in_the_way_does_not_stop_the_end(tmp_path: Path) -> None:
    store = SqlRoundStore(f"sqlite:///{tmp_path / 'rounds.db'}")
    store.create_job(a_job(), 1.0)
    store.open_round(an_opening())
    reader = sqlite3.connect(tmp_path / "rounds.db", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM rounds").fetchall()
    store.advance_round(a_move(record=a_record()))
    assert store.round(JOB, FIRST) == a_record()
    reader.close()
    store.close()


def test_the_urls_driver_is_ours(database_url: str) -> None:
    url = make_url(database_url)
    if url.get_backend_name() != "postgresql":
        return
    for name in ("postgresql", "postgresql+psycopg"):
        store = SqlRoundStore(url.set(drivername=name).render_as_string(hide_password=False))
        assert store.jobs("", 1) == []
        store.close()
