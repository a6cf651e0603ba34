"""A process that kills itself when the database is told to commit: ``dying_writer.py URL STEP``."""

import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from sqlalchemy import event

from coordinator.contracts import PurgeReceipt
from coordinator.store.rounds import SqlRoundStore
from secagg.ids import JobId
from secagg.messages.round import Phase
from tests.job_material import FIRST, JOB, a_job, a_move, a_record, an_answer, an_audit, an_event, an_opening


def _take(store: SqlRoundStore, step: str) -> None:
    answer = an_answer(request_id="r8")
    whole = a_move(an_event(2), record=a_record(Phase.UPLOADING), audits=(an_audit(),), request=answer)
    if step == "open":
        store.open_round(an_opening(round=2))
    elif step == "advance":
        store.advance_round(whole)
    elif step == "end":
        store.advance_round(a_move(an_event(2), record=a_record(), request=answer))
    elif step == "create":
        store.create_job(a_job(job=JobId("other")), 1.0, answer.request)
    elif step == "answer":
        store.keep_answer(answer, 1.0)
    elif step == "lease":
        store.take_lease(JOB, "me", 60.0)


def main(url: str, step: str) -> None:
    store = SqlRoundStore(url)

    def die(_connection: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    event.listen(store._database._engine, "commit", die)
    if step == "purge":
        with store._database.writing() as connection:
            _purge_all_but_the_end(connection)
    _take(store, step)


def _purge_all_but_the_end(connection: object) -> None:
    from coordinator.store import moves, retention

    moves.advance_round(connection, a_move(record=a_record()))  # type: ignore[arg-type]
    moves.close_round(connection, JOB, FIRST)  # type: ignore[arg-type]
    retention.purge_round(connection, PurgeReceipt(job=JOB, round=FIRST, at=1.0, content=b"receipt"))  # type: ignore[arg-type]


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
