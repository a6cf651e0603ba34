"""A process that tries for the lease of every job when it is told to, and names those that it got: ``URL OWNER JOBS...``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from coordinator.store.rounds import SqlRoundStore
from secagg.ids import JobId


def main(url: str, owner: str, jobs: list[str]) -> None:
    store = SqlRoundStore(url)
    print("ready", flush=True)
    sys.stdin.readline()
    print(*(job for job in jobs if store.take_lease(JobId(job), owner, 600.0)))
    store.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
