"""A process that keeps an event under a lease, and is slow to commit: ``URL OWNER TOKEN``."""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from sqlalchemy import event

from coordinator.contracts import Lease
from coordinator.store.rounds import SqlRoundStore
from tests.job_material import JOB, a_move, an_event

SLOW_SECONDS = 0.5


def _say_and_wait(_connection: object) -> None:
    print("written", flush=True)
    time.sleep(SLOW_SECONDS)


def main(url: str, owner: str, token: int) -> None:
    store = SqlRoundStore(url)
    event.listen(store._database._engine, "commit", _say_and_wait)
    store.advance_round(a_move(an_event(1)), Lease(job=JOB, owner=owner, token=token))
    store.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
